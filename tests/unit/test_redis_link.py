"""Where a cluster sends us: hosts by name, by IPv6 address, and those that are left out."""

import pytest

from conveyor.brokers.redis.address import show
from conveyor.brokers.redis.link import completed, place_of
from conveyor.brokers.redis.wire import ReplyError


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("ASK 3999 10.0.0.7:6381", ("10.0.0.7", 6381)),
        ("ASK 3999 node.example:6381", ("node.example", 6381)),
        ("ASK 3999 2001:db8::7:6381", ("2001:db8::7", 6381)),
        ("ASK 3999 [2001:db8::7]:6381", ("2001:db8::7", 6381)),
        ("ASK 3999 :6381", ("::1", 6381)),
    ],
)
def test_an_ask_names_a_place_or_means_the_host_that_was_asked(
    said: str, place: tuple[str, int]
) -> None:
    assert place_of(completed(ReplyError(said), "::1")) == place


@pytest.mark.parametrize("reply", [b"ASK 3999 :6381", None, 7, ReplyError("MOVED 3999 :6381")])
def test_any_other_reply_stays_what_it_is(reply: object) -> None:
    assert completed(reply, "::1") is reply


def test_a_place_for_people_has_ipv6_in_brackets() -> None:
    assert [show("a", 1), show("::1", 2)] == ["a:1", "[::1]:2"]
