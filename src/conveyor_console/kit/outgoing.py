"""HTTP to addresses that users gave: it reaches what is public, and nothing of our own network.

The name is resolved once and the connection goes to one of those very addresses, so a name that
answers differently the second time gains nothing. Redirects and proxies of the environment are not
followed; an answer is cut after 64 KiB and everything ends after 5 s.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
TIMEOUT = 5.0
"""Seconds for everything together: name, connection, answer."""
LARGEST_ANSWER = 65_536
"""Bytes."""
_TUNNELS: tuple[Network, ...] = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("2002::/16"),  # 6to4, and its relays
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible
)
"""Where these lead depends on who routes them."""


class Refused(Exception):
    """This address is not one that we send to. The message says why, in a sentence."""


class NotSent(Exception):
    """It could not be sent, or the other side did not answer in time. `answered`: it did answer,
    with an error."""

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class Answer(NamedTuple):
    """What the other side said."""

    status: int
    body: bytes
    """Its first 64 KiB."""

    @property
    def good(self) -> bool:
        """Whether it took what was sent (2xx)."""
        return 200 <= self.status < 300


class Outgoing:
    """Sends requests. `networks` (CIDR) are private ones that may be reached all the same, `ports`
    those that may be used; `resolve` and `verify` replace the resolver and the trusted
    certificates."""

    def __init__(
        self,
        networks: Sequence[str] = (),
        ports: Sequence[int] = (80, 443),
        *,
        resolve: Resolve | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._networks: list[Network] = [
            ipaddress.ip_network(one, strict=False) for one in networks
        ]
        self._ports = frozenset(ports)
        self._resolve = resolve or _resolve
        self._verify = verify

    def checked(self, url: str) -> httpx.URL:
        """Return the URL if its form allows to send to it; names are not looked up yet. Raises
        `Refused`."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            raise Refused("this is not a URL") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise Refused("the URL must begin with https:// or http:// and name a host")
        if parsed.userinfo:
            raise Refused("the URL must not hold a user name or password")
        if _port(parsed) not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports)))
            raise Refused(f"port {_port(parsed)} is not allowed, only {allowed}")
        literal = _literal(parsed.host)
        if literal is not None:
            self._must_reach(parsed.host, [literal])
        return parsed

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body. Raises `Refused` and `NotSent`."""
        parsed = self.checked(url)
        try:
            async with asyncio.timeout(TIMEOUT):
                addresses = await self._addresses(parsed)
                return await self._post_to_first(parsed, addresses, body, headers)
        except TimeoutError:
            raise NotSent(f"{parsed.host} did not answer within {TIMEOUT:g} s") from None

    async def _addresses(self, url: httpx.URL) -> list[Address]:
        try:
            found = await self._resolve(url.host, _port(url))
        except (OSError, UnicodeError) as exc:
            raise NotSent(f"{url.host} has no address: {exc}") from None
        addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in found]
        if not addresses:
            raise NotSent(f"{url.host} has no address")
        self._must_reach(url.host, addresses)
        return addresses

    def _must_reach(self, host: str, addresses: Sequence[Address]) -> None:
        """Refuse a host if any of its addresses is not public: one would do for an attacker."""
        for address in addresses:
            plain = unmapped(address)
            if is_public(plain) or any(_within(plain, network) for network in self._networks):
                continue
            raise Refused(f"{host} is in a private network or reserved: nothing is sent there")

    async def _post_to_first(
        self, url: httpx.URL, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        failure = "no connection"
        for address in addresses[:3]:
            try:
                return await self._post_to(url, address, body, headers)
            except httpx.ConnectError as exc:
                failure = str(exc) or type(exc).__name__
            except (httpx.HTTPError, ssl.SSLError) as exc:
                raise NotSent(f"{url.host}: {str(exc) or type(exc).__name__}") from None
        raise NotSent(f"{url.host}: {failure}")

    async def _context(self) -> ssl.SSLContext:
        """Return the trusted certificates: reading them takes tens of milliseconds, so it is done
        once, and off the loop."""
        if self._verify is None:
            self._verify = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        return self._verify

    async def _post_to(
        self, url: httpx.URL, address: Address, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        pinned = url.copy_with(host=str(address))
        sent = {**headers, "Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(
                verify=await self._context(),
                trust_env=False,
                follow_redirects=False,
                # Ends on its own before we would cancel it: that closes the connection properly.
                timeout=TIMEOUT * 0.8,
            ) as client,
            # The certificate is checked against the name, not the address.
            client.stream(
                "POST", pinned, content=body, headers=sent, extensions={"sni_hostname": url.host}
            ) as answer,
        ):
            return Answer(answer.status_code, await _first_bytes(answer))


def unmapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one only writes otherwise (`::ffff:1.2.3.4`), else the
    address itself."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """Whether the whole internet means the same machine by this address. Tunnels between IPv4
    and IPv6 and groups (multicast) are not public."""
    if any(_within(address, tunnel) for tunnel in _TUNNELS):
        return False
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (site_local or address.is_multicast or address.is_reserved)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _first_bytes(answer: httpx.Response) -> bytes:
    body = b""
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) >= LARGEST_ANSWER:
            break
    return body[:LARGEST_ANSWER]
