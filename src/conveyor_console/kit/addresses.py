"""Where a request really comes from: `X-Forwarded-For` counts from proxies we trust only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

_MOST_HOPS = 10


class Addresses:
    """Reads the address of the caller behind trusted proxies (networks in CIDR notation)."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted]

    def of(self, request: Request) -> str:
        """Return the last address that no trusted proxy has."""
        peer = request.client.host if request.client else ""
        if not self._trusted or not self._is_trusted(peer):
            return peer
        hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for hop in reversed(hops[-_MOST_HOPS:]):
            address = hop.strip()
            try:
                ipaddress.ip_address(address)
            except ValueError:
                return peer
            if not self._is_trusted(address):
                return address
            peer = address
        return peer

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)
