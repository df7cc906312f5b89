"""Requests to addresses that users gave reach nothing of our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator

import pytest

from conveyor_console.kit import outgoing
from conveyor_console.kit.outgoing import LARGEST_ANSWER, NotSent, Outgoing, Refused, unmapped
from tests.console.receiver import Receiver, receiving

INSIDE = [
    "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "127.0.0.1", "localhost",
    "①②⑦.⓪.⓪.①", "１２７.０.０.１", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "100.64.0.1", "100.127.255.254",
    "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "[fec0::1]", "10.0.0.1", "172.16.0.1",
    "192.168.1.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "[ff02::1]", "[2001:db8::1]", "0.0.0.0", "127.0.0.1.", "[64:ff9b:1::1]",
    "[64:ff9b::8.8.8.8]", "[2002:808:808::1]", "[::8.8.8.8]", "[2001:0:808:808::]",
    "[::ffff:0:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[fe80::1%25lo]", "0x7f.1", "017700000001",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[100::1]", "[5f00::1]", "192.88.99.1",
]  # fmt: skip


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


def _to(receiver: Receiver, *networks: str, **more: object) -> Outgoing:
    return Outgoing(networks or ("127.0.0.0/8",), (receiver.port,), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", INSIDE)
async def test_nothing_is_sent_into_private_networks(receiver: Receiver, host: str) -> None:
    sender = Outgoing((), (receiver.port,))
    with pytest.raises((Refused, NotSent)) as failed:
        await sender.post(f"http://{host}:{receiver.port}/", b"", {})
    # A name that this machine cannot resolve is no way in either; an address is refused as such.
    if failed.type is NotSent:
        assert "no address" in str(failed.value)
    assert not receiver.got


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_public_may_be_reached(host: str) -> None:
    assert outgoing.is_public(unmapped(ipaddress.ip_address(host)))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "https://"),
        ("gopher://127.0.0.1/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("//example.com", "https://"),
        ("http://", "name a host"),
        ("http://user:word@example.com/", "user name"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:99999/", "port"),
        ("http://[::1/", "URL"),
        ("\n", "URL"),
        ("http://169.254.169.254/latest", "private"),
    ],
)
def test_urls_that_make_no_sense_are_refused_when_they_are_given(url: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        Outgoing().checked(url)


async def test_a_name_is_resolved_once_and_that_address_is_used(receiver: Receiver) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    sender = _to(receiver, "127.0.0.1/32", resolve=rebinding)
    answer = await sender.post(f"http://rebind.test:{receiver.port}/x?y=1", b"{}", {"X-A": "b"})
    assert (answer.status, answer.body, answer.good) == (200, b"ok", True)
    assert asked == ["rebind.test"]
    got = receiver.got[0]
    assert got.line == "POST /x?y=1 HTTP/1.1"
    assert (got.headers["host"], got.headers["x-a"]) == (f"rebind.test:{receiver.port}", "b")
    with pytest.raises(Refused, match="private"):
        await sender.post(f"http://rebind.test:{receiver.port}/", b"", {})


async def test_one_private_address_among_public_ones_is_enough(receiver: Receiver) -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    with pytest.raises(Refused):
        await Outgoing((), (receiver.port,), resolve=mixed).post(
            f"http://mixed.test:{receiver.port}/", b"", {}
        )


async def test_redirects_are_an_answer_and_not_followed(receiver: Receiver) -> None:
    receiver.answers(302, "Location: http://169.254.169.254/latest/meta-data")
    answer = await _to(receiver).post(receiver.url, b"", {})
    assert (answer.status, answer.good, len(receiver.got)) == (302, False, 1)


async def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await _to(receiver).post(receiver.url, b"", {})).good


async def test_a_large_answer_is_cut(receiver: Receiver) -> None:
    receiver.answers(200, body="x" * (LARGEST_ANSWER + 100_000))
    assert len((await _to(receiver).post(receiver.url, b"", {})).body) == LARGEST_ANSWER


async def test_who_does_not_answer_is_left(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "TIMEOUT", 0.05)
    receiver.silent = True
    with pytest.raises(NotSent, match="did not answer"):
        await _to(receiver).post(receiver.url, b"", {})


async def test_who_does_not_listen_or_talks_nonsense_gets_nothing(receiver: Receiver) -> None:
    receiver.answer = b"SSH-2.0-OpenSSH\r\n\r\n"
    with pytest.raises(NotSent):
        await _to(receiver).post(receiver.url, b"", {})
    with pytest.raises(NotSent):
        await _to(receiver).post(receiver.url.replace("http:", "https:"), b"", {})
    with pytest.raises(NotSent):
        await Outgoing(("127.0.0.0/8",), (9,)).post("http://127.0.0.1:9/", b"", {})

    async def nowhere(host: str, port: int) -> list[str]:
        return []

    with pytest.raises(NotSent, match="no address"):
        await Outgoing(resolve=nowhere).post("http://nowhere.test/", b"", {})
    await asyncio.sleep(0)


async def test_certificates_are_read_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []

    def create(**_: object) -> ssl.SSLContext:
        made.append(ssl.create_default_context())
        return made[-1]

    monkeypatch.setattr("httpx.create_ssl_context", create)
    sender = _to(receiver)
    for _ in range(3):
        await sender.post(receiver.url, b"x", {})
    assert (len(receiver.got), len(made)) == (3, 1)
