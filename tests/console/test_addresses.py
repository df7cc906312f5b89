"""Whose address counts, behind proxies and without."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from conveyor_console.kit.addresses import Addresses

PROXIES = ("10.0.0.0/8", "fd00::/8")


def request(peer: str | None, *forwarded: str) -> Request:
    return Request(
        {
            "type": "http",
            "client": None if peer is None else (peer, 1),
            "headers": [(b"x-forwarded-for", one.encode()) for one in forwarded],
        }
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),  # no proxy of ours said so
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1, 198.51.100.1",), "198.51.100.1"),  # 1.1.1.1 is the caller's word
        ("10.0.0.1", ("1.1.1.1", "198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", ("198.51.100.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("::ffff:10.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("::ffff:203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("fd00::1", ("2001:DB8::1",), "2001:db8::1"),
        ("10.0.0.1", (", ".join(["10.0.0.2"] * 50),), "10.0.0.2"),
        ("a socket", ("198.51.100.1",), "a socket"),
        (None, ("198.51.100.1",), ""),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has(
    peer: str | None, forwarded: tuple[str, ...], found: str
) -> None:
    assert Addresses(PROXIES).of(request(peer, *forwarded)) == found


def test_without_proxies_only_the_peer_counts() -> None:
    assert Addresses(()).of(request("10.0.0.1", "198.51.100.1")) == "10.0.0.1"
