"""Framing of the PostgreSQL protocol, version 3: messages of the client and of the server."""

import struct
from dataclasses import dataclass

_NAMES = {
    b"Q": "Query",
    b"P": "Parse",
    b"B": "Bind",
    b"E": "Execute",
    b"D": "Describe",
    b"C": "Close",
    b"S": "Sync",
    b"H": "Flush",
    b"F": "FunctionCall",
    b"X": "Terminate",
    b"d": "CopyData",
    b"c": "CopyDone",
    b"f": "CopyFail",
    b"p": "Password",
}
_OPENING = {80877102: "CancelRequest", 80877103: "SSLRequest", 80877104: "GSSENCRequest"}
# Messages that start with so many zero-terminated strings worth knowing.
_STRINGS = {"Query": 1, "Parse": 2, "Bind": 2, "Execute": 1}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a client: its bytes, its name, and the strings at its beginning."""

    raw: bytes
    name: str
    strings: tuple[bytes, ...] = ()


class FrontendScanner:
    """Cuts what a client sends into messages; before StartupMessage they have no type byte."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> list[Message]:
        """Add `data`; return the messages that are now whole."""
        self._buffer += data
        messages: list[Message] = []
        while (message := self._next()) is not None:
            messages.append(message)
            del self._buffer[: len(message.raw)]
        return messages

    def _next(self) -> Message | None:
        raw = _take(self._buffer, type_bytes=int(self._started))
        if raw is None:
            return None
        if not self._started:
            name = _OPENING.get(struct.unpack_from("!I", raw, 4)[0], "StartupMessage")
            self._started = name == "StartupMessage"
            return Message(raw, name)
        name = _NAMES.get(raw[:1], raw[:1].decode("latin-1"))
        count = _STRINGS.get(name, 0)
        return Message(raw, name, tuple(raw[5:].split(b"\0", count)[:count]))


class BackendScanner:
    """Cuts what a server sends into messages; the answer to SSLRequest is a single byte."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._single_bytes = 0

    def expect_single_byte(self) -> None:
        """The next thing to come is the answer to an SSLRequest or GSSENCRequest."""
        self._single_bytes += 1

    def feed(self, data: bytes) -> list[bytes]:
        """Add `data`; return the messages that are now whole."""
        self._buffer += data
        messages: list[bytes] = []
        while (raw := self._next()) is not None:
            messages.append(raw)
            del self._buffer[: len(raw)]
        return messages

    def _next(self) -> bytes | None:
        if self._single_bytes and self._buffer:
            self._single_bytes -= 1
            return bytes(self._buffer[:1])
        return _take(self._buffer, type_bytes=1)


def _take(buffer: bytearray, *, type_bytes: int) -> bytes | None:
    if len(buffer) < type_bytes + 4:
        return None
    size = type_bytes + struct.unpack_from("!I", buffer, type_bytes)[0]
    return bytes(buffer[:size]) if len(buffer) >= size else None
