"""What may be said of a task at its definition or at enqueue, checked where it is said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from conveyor.core import defaults
from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.task import HIGHEST_PRIORITY, LOWEST_PRIORITY, PRIORITIES

_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}\Z")
MAX_KEY = 256
_NO_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of characters, separators of lines and paragraphs."""
MAX_NAME = 256
MAX_HEADERS = 8 * 1024
"""Characters of all headers of a task together."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved options of one enqueue."""

    queue: str = defaults.QUEUE
    priority: int = defaults.PRIORITY
    max_attempts: int = defaults.MAX_ATTEMPTS
    retry_base: float = defaults.RETRY_BASE
    retry_cap: float = defaults.RETRY_CAP
    timeout: float | None = None
    result_ttl: float = defaults.RESULT_TTL
    key: str | None = None
    delay: float | None = None
    due_at: float | None = None
    headers: dict[str, str] = {}


def task_name(value: object) -> str:
    """Return a usable name of a task definition. Raises `InvalidOption`."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_NAME
        or not value.isprintable()
        or value != value.strip()
    ):
        shown = repr(value)
        raise InvalidOption(
            f"name={shown if len(shown) <= 80 else shown[:79] + '…'}: 1 to {MAX_NAME} printable "
            "characters, without spaces around them"
        )
    return value


def queue_name(value: object) -> str:
    """Return a valid queue name. Raises `InvalidOption`."""
    if not isinstance(value, str) or not _QUEUE.match(value):
        raise InvalidOption(
            f"queue={value!r}: up to 100 letters, digits, '_', '-', '.' or ':', "
            "beginning with a letter, digit or '_'"
        )
    return value


def priority_level(value: object) -> int:
    """Return 0–9 for a number or one of low, normal, high, critical. Raises `InvalidOption`."""
    level = PRIORITIES.get(value) if isinstance(value, str) else value
    if (
        isinstance(level, bool)
        or not isinstance(level, int)
        or not LOWEST_PRIORITY <= level <= HIGHEST_PRIORITY
    ):
        raise InvalidOption(
            f"priority={value!r}: a whole number from 0 to 9 (9 runs first) or one of "
            f"{', '.join(PRIORITIES)}"
        )
    return level


def instant(value: object) -> float:
    """Return epoch seconds of an aware datetime. Raises `InvalidOption` for anything else."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidOption(f"at={value!r}: a datetime with a time zone, e.g. datetime.now(UTC)")
    return value.timestamp()


def when(delay: float | timedelta | None, at: datetime | None) -> dict[str, Any]:
    """Return `delay` (seconds) and `due_at` (epoch seconds), of which one is set, or nothing when
    neither was given. Raises `InvalidOption`, also when both were."""
    if delay is not None and at is not None:
        raise InvalidOption("delay= and at= both say when to start: give one of them")
    if delay is not None:
        return {"delay": seconds(delay, "delay"), "due_at": None}
    return {} if at is None else {"due_at": instant(at), "delay": None}


def idempotency_key(value: object) -> str:
    """Return a usable key. Raises `InvalidOption`."""
    if not isinstance(value, str):
        raise InvalidOption(f"key={value!r}: a text of 1 to {MAX_KEY} characters")
    if not value or len(value) > MAX_KEY:
        raise InvalidOption(f"key of {len(value)} characters: from 1 to {MAX_KEY}")
    return stored_text(value, "key")


def stored_text(value: object, name: str) -> str:
    """Return a text that every store can keep. Raises `InvalidOption`."""
    if not isinstance(value, str):
        raise InvalidOption(f"{name}={value!r}: a text")
    if "\0" in value or not _encodes(value):
        raise InvalidOption(f"{name}={value[:80]!r}: a NUL or half a character is no text")
    return value


def is_line(text: str) -> bool:
    """Whether a text is one line that every store can keep and no log is confused by."""
    return text.isprintable() or all(unicodedata.category(char) not in _NO_LINE for char in text)


def header_texts(value: object) -> dict[str, str]:
    """Return headers that may travel with a task. Raises `InvalidOption`."""
    if not isinstance(value, Mapping):
        raise InvalidOption(f"headers={value!r}: a dict of small texts")
    texts = {
        stored_text(k, "headers: a name"): stored_text(v, f"headers: {k!r}")
        for k, v in value.items()
    }
    size = sum(len(name) + len(text) for name, text in texts.items())
    if size > MAX_HEADERS:
        raise InvalidOption(f"headers of {size:,} characters: at most {MAX_HEADERS:,}")
    return texts


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
