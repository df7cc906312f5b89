"""Which errors are the same: type, message without its particulars, and where it arose. Pure."""

from __future__ import annotations

import hashlib
import re

_PARTICULARS = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    (re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}"), "<address>"),
    (re.compile(r"'[^'\n]{0,200}'|\"[^\"\n]{0,200}\""), "<text>"),
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{12,}\b"), "<hex>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
)
_FRAME = re.compile(r'^  File "([^"\n]{1,400})", line \d+, in (\S{1,200})', re.MULTILINE)
_LONGEST = 400
NOTHING = "0" * 16
"""Of a dead letter without an error: it was cancelled."""


def pattern_of(message: str) -> str:
    """Return a message without numbers, ids, addresses and quoted texts."""
    text = message[:_LONGEST]
    for particular, name in _PARTICULARS:
        text = particular.sub(name, text)
    return text


def fingerprint(error_type: str, message: str, traceback: str = "") -> str:
    """Return 16 characters that are the same for errors of the same kind from the same place."""
    frames = _FRAME.findall(traceback[-8_000:])
    place = ""
    if frames:
        file, function = frames[-1]
        place = f"{file.replace(chr(92), '/').rpartition('/')[2]}:{function}"
    text = "\n".join((error_type, pattern_of(message), place))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
