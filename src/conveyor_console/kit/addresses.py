"""Where a request really comes from: `X-Forwarded-For` counts from proxies we trust only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

_MOST_HOPS = 10
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Addresses:
    """Reads the address of the caller behind trusted proxies (networks in CIDR notation)."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted]

    def of(self, request: Request) -> str:
        """Return the last address that no trusted proxy has."""
        peer = request.client.host if request.client else ""
        found = _parsed(peer)
        hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for hop in reversed(hops[-_MOST_HOPS:]):
            if found is None or not self._trusts(found):
                break
            # What a proxy of ours was told but cannot be an address is nobody's: it stays at that.
            if (next_one := _parsed(hop.strip())) is None:
                break
            found = next_one
        return peer if found is None else str(found)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> _Address | None:
    """Read an address; one of IPv4 that came by a socket of IPv6 (RFC 4291, 2.5.5.2) is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
