"""The framing parsers of the fault proxy: pure, no sockets."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import resp
from tests.faults.dialects import Answer, Postgres, Resp, Sent
from tests.faults.pgwire import BackendScanner, FrontendScanner, Message
from tests.faults.rules import Command

REPLIES = [
    b"+OK\r\n",
    b"-ERR wrong\r\n",
    b":-17\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*2\r\n*1\r\n:1\r\n*0\r\n",
    b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n%1\r\n+k\r\n$1\r\nv\r\n,3.14\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
    b"~2\r\n#t\r\n(12345678901234567890\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
    b"=6\r\ntxt:hi\r\n",
    b"!5\r\nERR x\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n*1\r\n:1\r\n",
]


def requests(*commands: tuple[bytes, ...]) -> bytes:
    return b"".join(
        b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in command)
        for command in commands
    )


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def opening(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(body) + 8, code) + body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=30)


class TestResp:
    @given(replies=st.lists(st.sampled_from(REPLIES), max_size=12), places=CUTS)
    def test_replies_are_found_however_the_bytes_come(
        self, replies: list[bytes], places: list[int]
    ) -> None:
        scanner = resp.FrameScanner()
        found = [f for part in cut(b"".join(replies), places) for f in scanner.feed(part)]
        assert found == replies

    @given(
        commands=st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=5),
        places=CUTS,
    )
    def test_requests_keep_their_words(
        self, commands: list[list[bytes]], places: list[int]
    ) -> None:
        scanner = resp.FrameScanner()
        data = requests(*(tuple(command) for command in commands))
        found = [f for part in cut(data, places) for f in scanner.feed(part)]
        assert b"".join(found) == data
        assert [resp.words(frame) for frame in found] == commands

    def test_inline_commands(self) -> None:
        sent = list(Resp().from_client(b"\r\nping\r\nSET a b\r\n"))
        assert [(s.name, s.arguments) for s in sent] == [
            ("", ()),
            ("PING", ()),
            ("SET", (b"a", b"b")),
        ]

    def test_replies_answer_commands_in_order_and_pushes_answer_none(self) -> None:
        dialect = Resp()
        get, incr = (Command(name, 1, 1) for name in ("GET", "INCR"))
        dialect.awaits(get)
        dialect.awaits(incr)
        push = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
        assert list(dialect.from_server(b"$-1\r\n" + push + b":1\r\n+late\r\n")) == [
            Answer(b"$-1\r\n", (get,)),
            Answer(push),
            Answer(b":1\r\n", (incr,)),
            Answer(b"+late\r\n"),
        ]

    @pytest.mark.parametrize("kind", [b"*", b">"])
    def test_a_subscription_is_answered_by_its_confirmation(self, kind: bytes) -> None:
        dialect = Resp()
        subscribe, ping = Command("SUBSCRIBE", 1, 1), Command("PING", 2, 1)
        confirmation = kind + b"3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
        published = kind + b"3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        dialect.awaits(subscribe)
        assert list(dialect.from_server(confirmation)) == [Answer(confirmation, (subscribe,))]
        dialect.awaits(ping)
        assert list(dialect.from_server(published + b"+PONG\r\n")) == [
            Answer(published),
            Answer(b"+PONG\r\n", (ping,)),
        ]


STARTUP = opening(196608, b"user\0me\0\0")
READY = message(b"Z", b"I")


class TestPostgresFraming:
    CONVERSATION = (
        (opening(80877103), "SSLRequest", ()),
        (STARTUP, "StartupMessage", ()),
        (message(b"p", b"secret\0"), "Password", ()),
        (message(b"Q", b"SELECT 1\0"), "Query", (b"SELECT 1",)),
        (message(b"P", b"s1\0SELECT $1\0\0\0"), "Parse", (b"s1", b"SELECT $1")),
        (message(b"B", b"\0s1\0\0\0\0\0\0\0"), "Bind", (b"", b"s1")),
        (message(b"E", b"\0\0\0\0\0"), "Execute", (b"",)),
        (message(b"S"), "Sync", ()),
        (message(b"X"), "Terminate", ()),
    )

    @given(places=CUTS)
    def test_messages_of_the_client_are_found_however_the_bytes_come(
        self, places: list[int]
    ) -> None:
        scanner = FrontendScanner()
        data = b"".join(raw for raw, _, _ in self.CONVERSATION)
        found = [m for part in cut(data, places) for m in scanner.feed(part)]
        assert found == [Message(*expected) for expected in self.CONVERSATION]

    @given(places=CUTS)
    def test_messages_of_the_server_are_found_however_the_bytes_come(
        self, places: list[int]
    ) -> None:
        scanner = BackendScanner()
        scanner.expect_single_byte()
        expected = [b"N", message(b"R", b"\0\0\0\0"), message(b"D", b"x" * 300), READY]
        found = [m for part in cut(b"".join(expected), places) for m in scanner.feed(part)]
        assert found == expected


class TestPostgresRounds:
    def dialect(self) -> Postgres:
        dialect = Postgres()
        list(dialect.from_client(STARTUP))
        return dialect

    def await_all(self, dialect: Postgres, sent: list[Sent]) -> list[Command]:
        commands = [Command(s.name, 0, 1, s.arguments, s.sql) for s in sent]
        for command in commands:
            dialect.awaits(command)
        return commands

    def test_execute_knows_its_sql(self) -> None:
        data = b"".join(raw for raw, name, _ in TestPostgresFraming.CONVERSATION[4:7])
        sent = list(self.dialect().from_client(data))
        assert [s.sql for s in sent] == ["SELECT $1"] * 3

    def test_an_answer_is_held_back_until_the_server_is_ready(self) -> None:
        dialect = self.dialect()
        data = b"".join(raw for raw, _, _ in TestPostgresFraming.CONVERSATION[4:8])
        commands = self.await_all(dialect, list(dialect.from_client(data)))
        row, done = message(b"D", b"row"), message(b"C", b"SELECT 1\0")
        assert list(dialect.from_server(row)) == []
        assert list(dialect.from_server(done)) == []
        assert list(dialect.from_server(READY)) == [Answer(row + done + READY, tuple(commands))]

    def test_an_error_answers_all_up_to_the_sync_and_no_more(self) -> None:
        dialect = self.dialect()
        data = b"".join(raw for raw, _, _ in TestPostgresFraming.CONVERSATION[4:8])
        first = self.await_all(dialect, list(dialect.from_client(data)))
        second = self.await_all(dialect, list(dialect.from_client(message(b"Q", b"SELECT 2\0"))))
        error = message(b"E", b"no\0")
        answers = list(dialect.from_server(error + READY + READY))
        assert answers == [Answer(error + READY, tuple(first)), Answer(READY, tuple(second))]

    def test_what_comes_unasked_passes_at_once(self) -> None:
        notification = message(b"A", b"\0\0\0\1channel\0payload\0")
        assert list(self.dialect().from_server(notification)) == [Answer(notification)]

    def test_copy_in_is_asked_for_at_once_and_answered_at_the_end(self) -> None:
        dialect = self.dialect()
        copy = self.await_all(dialect, list(dialect.from_client(message(b"Q", b"COPY t\0"))))
        go_on, done = message(b"G", b"\0\0\0"), message(b"C", b"COPY 1\0")
        assert list(dialect.from_server(go_on)) == [Answer(go_on)]
        self.await_all(dialect, list(dialect.from_client(message(b"d", b"1\n") + message(b"c"))))
        answers = list(dialect.from_server(done + READY))
        assert answers == [Answer(done), Answer(READY, tuple(copy))]

    def test_flush_lets_answers_pass_before_the_server_is_ready(self) -> None:
        dialect = self.dialect()
        parse = message(b"P", b"\0SELECT 1\0\0\0")
        commands = self.await_all(dialect, list(dialect.from_client(parse + message(b"H"))))
        parsed = message(b"1")
        assert list(dialect.from_server(parsed)) == [Answer(parsed)]
        sync = self.await_all(dialect, list(dialect.from_client(message(b"S"))))
        assert list(dialect.from_server(READY)) == [Answer(READY, (commands[0], *sync))]
