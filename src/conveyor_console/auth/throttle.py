"""Slows guessing down, without a lock that an attacker could close on somebody else.

Failures are counted per address, and per account *and* address: who guesses from elsewhere makes
nobody wait but himself. An account that is guessed at from everywhere at once gets slower for
addresses that never signed in to it, never for those that did.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from conveyor_console.kit.clock import Clock

FREE, LONGEST = 5, 900.0
"""Failures without a wait; the longest wait, seconds."""
FREE_PER_ADDRESS, FREE_PER_ACCOUNT = 20, 50
FORGOTTEN = 3_600.0
_MOST = 100_000


@dataclass(slots=True)
class _Failures:
    count: int = 0
    at: float = 0.0


class Throttle:
    """What this process remembers of failed sign-ins."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._friends: OrderedDict[str, None] = OrderedDict()

    def wait(self, account: str, ip: str) -> float:
        """Return the seconds until this may be tried; 0 when now."""
        now = self._clock.monotonic()
        return max(
            0.0,
            *(self._opens(key, free) - now for key, free in self._keys(account, ip)),
        )

    def failed(self, account: str, ip: str) -> None:
        """Count a failure."""
        now = self._clock.monotonic()
        for key, _ in self._keys(account, ip):
            entry = self._failures.setdefault(key, _Failures())
            if now - entry.at > FORGOTTEN:
                entry.count = 0
            entry.count += 1
            entry.at = now
            self._failures.move_to_end(key)
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, ip: str) -> None:
        """Forget the failures of this account from here."""
        pair = f"{account} {network(ip)}"
        self._failures.pop(pair, None)
        self._friends[pair] = None
        self._friends.move_to_end(pair)
        if len(self._friends) > _MOST:
            self._friends.popitem(last=False)

    def _keys(self, account: str, ip: str) -> list[tuple[str, int]]:
        place = network(ip)
        pair = f"{account} {place}"
        keys = [(pair, FREE), (place, FREE_PER_ADDRESS)]
        if pair not in self._friends:
            keys.append((account, FREE_PER_ACCOUNT))
        return keys

    def _opens(self, key: str, free: int) -> float:
        entry = self._failures.get(key)
        if entry is None or entry.count < free:
            return 0.0
        return entry.at + min(LONGEST, 2.0 ** min(entry.count - free, 20))


def network(ip: str) -> str:
    """What one customer of a provider has: an IPv4 address, or a /64 of IPv6."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address.ipv4_mapped if address.version == 6 else address)
