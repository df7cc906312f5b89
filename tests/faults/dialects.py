"""What passes over one connection: commands, and which bytes of the server answer them."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults import resp
from tests.faults.pgwire import BackendScanner, FrontendScanner
from tests.faults.rules import Command

# Without effect on data: not worth a place in a crash matrix.
_REDIS_HANDSHAKE = frozenset({"AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"})
_REDIS_READ_ONLY = frozenset({"CLUSTER", "COMMAND", "CONFIG", "INFO", "PING", "ROLE", "SCRIPT"})
_SUBSCRIPTIONS = frozenset(
    kind + word for kind in ("", "P", "S") for word in ("SUBSCRIBE", "UNSUBSCRIBE")
)
_PUSHED = frozenset({b"message", b"pmessage", b"smessage"})


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes of the client that belong together; `name` is empty when they are no command."""

    raw: bytes
    name: str = ""
    arguments: tuple[bytes, ...] = ()
    sql: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of the server that belong together, and the commands whose reply they complete."""

    raw: bytes
    to: tuple[Command, ...] = ()


class Dialect(ABC):
    """The protocol state of one connection."""

    @abstractmethod
    def from_client(self, data: bytes) -> Iterator[Sent]:
        """Yield the whole commands that the client has sent."""

    @abstractmethod
    def awaits(self, command: Command) -> None:
        """Note that `command` is on its way to the server."""

    @abstractmethod
    def from_server(self, data: bytes) -> Iterator[Answer]:
        """Yield the whole answers that the server has sent."""

    @staticmethod
    @abstractmethod
    def numbered(name: str) -> bool:
        """Whether a command of this name gets a number by default."""


class Raw(Dialect):
    """No protocol: bytes pass as they come."""

    def from_client(self, data: bytes) -> Iterator[Sent]:
        yield Sent(data)

    def awaits(self, command: Command) -> None:
        return

    def from_server(self, data: bytes) -> Iterator[Answer]:
        yield Answer(data)

    @staticmethod
    def numbered(name: str) -> bool:
        return False


class Resp(Dialect):
    """Redis and Valkey: replies come in the order of the commands, pushes come between them.

    A SUBSCRIBE is answered by its first confirmation. CLIENT REPLY and MONITOR are not followed.
    """

    def __init__(self) -> None:
        self._requests = resp.FrameScanner()
        self._replies = resp.FrameScanner()
        self._pending: deque[Command] = deque()
        self._subscribed = False

    def from_client(self, data: bytes) -> Iterator[Sent]:
        for frame in self._requests.feed(data):
            name, *arguments = resp.words(frame) or [b""]
            yield Sent(frame, name.decode("latin-1").upper(), tuple(arguments))

    def awaits(self, command: Command) -> None:
        self._subscribed = self._subscribed or command.name in _SUBSCRIPTIONS
        self._pending.append(command)

    def from_server(self, data: bytes) -> Iterator[Answer]:
        for frame in self._replies.feed(data):
            answered = self._pending and self._is_reply(frame, self._pending[0])
            yield Answer(frame, (self._pending.popleft(),) if answered else ())

    def _is_reply(self, frame: bytes, command: Command) -> bool:
        if frame.startswith(b">"):
            return resp.first_word(frame).upper() == command.name.encode()
        # RESP2 sends messages as ordinary arrays, on subscribed connections only.
        return not (self._subscribed and resp.first_word(frame) in _PUSHED)

    @staticmethod
    def numbered(name: str) -> bool:
        return name not in _REDIS_HANDSHAKE and name not in _REDIS_READ_ONLY


class Postgres(Dialect):
    """PostgreSQL: an answer is all that the server says up to ReadyForQuery.

    Only then has it committed. Until then its messages are held back, except where the client
    needs them to go on: COPY, Flush, and what comes unasked.
    """

    _ANSWERED = frozenset(
        {"Query", "Parse", "Bind", "Execute", "Describe", "Close", "Sync", "FunctionCall"}
    )
    _ENDS_A_ROUND = frozenset({"Query", "Sync", "FunctionCall"})
    _COPY_BEGINS = (b"G", b"H", b"W")

    def __init__(self) -> None:
        self._client = FrontendScanner()
        self._server = BackendScanner()
        self._pending: deque[Command] = deque()
        self._held = bytearray()
        self._flows = False
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}

    def from_client(self, data: bytes) -> Iterator[Sent]:
        for message in self._client.feed(data):
            sql = self._sql(message.name, message.strings)
            yield Sent(message.raw, message.name, message.strings, sql.decode(errors="replace"))

    def awaits(self, command: Command) -> None:
        if command.name in self._ANSWERED:
            self._pending.append(command)
        elif command.name == "Flush":
            self._flows = True
        elif command.name in {"SSLRequest", "GSSENCRequest"}:
            self._server.expect_single_byte()

    def from_server(self, data: bytes) -> Iterator[Answer]:
        for raw in self._server.feed(data):
            self._held += raw
            if raw.startswith(b"Z"):
                yield Answer(self._release(), self._end_of_round())
                continue
            self._flows = self._flows or raw.startswith(self._COPY_BEGINS)
            if self._flows or not self._pending:
                yield Answer(self._release())

    def _sql(self, name: str, strings: tuple[bytes, ...]) -> bytes:
        if name == "Query":
            return strings[0]
        if name == "Parse":
            self._statements[strings[0]] = strings[1]
            return strings[1]
        if name == "Bind":
            self._portals[strings[0]] = self._statements.get(strings[1], b"")
        return self._portals.get(strings[0], b"") if name in {"Bind", "Execute"} else b""

    def _release(self) -> bytes:
        raw = bytes(self._held)
        self._held.clear()
        return raw

    def _end_of_round(self) -> tuple[Command, ...]:
        self._flows = False
        answered = []
        while self._pending:
            answered.append(self._pending.popleft())
            if answered[-1].name in self._ENDS_A_ROUND:
                break
        return tuple(answered)

    @staticmethod
    def numbered(name: str) -> bool:
        return name in {"Query", "Execute"}
