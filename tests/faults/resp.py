"""Framing of RESP2 and RESP3: where a request or a reply ends."""

_STRINGS = b"$=!"
_AGGREGATES = b"*~>%|"
_PAIRED = b"%|"
_CRLF = b"\r\n"


class FrameScanner:
    """Cuts a stream of bytes into whole top-level frames, in either direction."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        # How many elements are still to come in each open array, the outermost first.
        self._open: list[int] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Add `data`; return the frames that are now whole, as they came."""
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        while self._step():
            if self._at_the_end_of_a_frame():
                frames.append(bytes(self._buffer[start : self._position]))
                start = self._position
        del self._buffer[:start]
        self._position -= start
        return frames

    def _step(self) -> bool:
        """Pass one element; return False when its bytes are not all there."""
        end = self._buffer.find(_CRLF, self._position)
        if end < 0:
            return False
        kind, after = self._buffer[self._position], end + 2
        if kind in _STRINGS:
            size = int(self._buffer[self._position + 1 : end])
            if size >= 0:
                after += size + 2
                if after > len(self._buffer):
                    return False
        elif kind in _AGGREGATES:
            self._enter(kind, int(self._buffer[self._position + 1 : end]))
        self._position = after
        return True

    def _enter(self, kind: int, count: int) -> None:
        if kind in _PAIRED:
            count *= 2
        if kind == ord("|"):
            # An attribute is followed by the value it describes; together they are one element.
            count += 1
        if count > 0:
            # One more, as the step that opens an array passes through the count below as well.
            self._open.append(count + 1)

    def _at_the_end_of_a_frame(self) -> bool:
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
        return True


def words(frame: bytes) -> list[bytes]:
    """Return the words of a request: an array of bulk strings, or an inline command."""
    if not frame.startswith(b"*"):
        return frame.split()
    found = []
    position = frame.index(_CRLF) + 2
    while position < len(frame):
        end = frame.index(_CRLF, position)
        size = int(frame[position + 1 : end])
        found.append(frame[end + 2 : end + 2 + size])
        position = end + 2 + size + 2
    return found


def first_word(frame: bytes) -> bytes:
    """Return the first bulk string of an array or push frame; empty when it has none there."""
    _, _, rest = frame.partition(_CRLF)
    if not rest.startswith(b"$"):
        return b""
    size, _, rest = rest[1:].partition(_CRLF)
    return rest[: int(size)]
