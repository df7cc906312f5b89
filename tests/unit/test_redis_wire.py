"""One connection to Redis: what it makes of replies, of ends, and of what nobody asked for."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from conveyor.brokers.redis.address import Address, parse
from conveyor.brokers.redis.faults import translate
from conveyor.brokers.redis.wire import NotNow, ReplyError, Wire, code_of, open_wire, pack
from conveyor.core.errors import BrokerUnavailable
from tests.chaos.rigs import until
from tests.servers import ValkeyServer


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[Wire, asyncio.StreamWriter]]:
    """A server that says these things when it is spoken to, one after the other."""
    met: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set_result(writer)
        for answer in answers:
            await reader.read(1_000)
            writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = await open_wire(Address(kind="server"), "127.0.0.1", port)
    writer = await met
    try:
        yield wire, writer
    finally:
        wire.drop()
        writer.close()
        server.close()
        await server.wait_closed()


async def asked(wire: Wire) -> object:
    await wire.send([pack(("PING",))])
    return await wire.reply()


async def test_errors_are_replies_also_within_a_list() -> None:
    async with answering(b"-MOVED 7 a:1\r\n", b"*2\r\n:1\r\n-NOSCRIPT none\r\n") as (wire, _):
        moved = await asked(wire)
        assert code_of(moved) == "MOVED"
        assert str(moved) == "MOVED 7 a:1"
        mixed = await asked(wire)
        assert isinstance(mixed, list)
        assert (mixed[0], code_of(mixed[1]), code_of(mixed[0])) == (1, "NOSCRIPT", "")


async def test_a_server_that_takes_nothing_now_raises() -> None:
    async with answering(b"-LOADING Redis is loading the dataset in memory\r\n") as (wire, _):
        with pytest.raises(NotNow) as caught:
            await asked(wire)
    assert "still loading its data" in str(translate(caught.value, "there"))


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n"], ids=["end", "http"])
async def test_an_end_reaches_who_waits_and_who_comes_later(said: bytes) -> None:
    async with answering(said) as (wire, writer):
        await wire.send([pack(("PING",))])
        if not said:
            writer.close()
        with pytest.raises(ConnectionError):
            await wire.reply()
        assert not wire.is_usable()
        with pytest.raises(ConnectionError):
            await wire.send([pack(("PING",))])
        await wire.close()


@pytest.mark.parametrize("ends", [True, False], ids=["end", "stray reply"])
async def test_what_nobody_asked_for_is_seen_before_it_is_used_again(ends: bool) -> None:
    async with answering(b"+PONG\r\n") as (wire, writer):
        assert await asked(wire) == b"PONG"
        assert wire.is_usable()
        if ends:
            writer.transport.abort()
        else:
            writer.write(b"+HELLO\r\n")

        async def noticed() -> bool:
            return not wire.is_usable()

        await until(noticed)


async def test_more_than_fits_into_the_buffers_is_sent(valkey: ValkeyServer) -> None:
    wire = await open_wire(parse(valkey.url), *parse(valkey.url).hosts[0])
    large = bytes(20_000_000)
    async with asyncio.timeout(30):
        await wire.send([pack(("ECHO", large))])
        assert await wire.reply() == large
        await wire.close()
    assert not wire.is_usable()


async def test_a_login_that_is_refused() -> None:
    with ValkeyServer(password="right") as server:
        address = parse(server.url.replace("right", "wrong"))
        with pytest.raises(ReplyError) as caught:
            await open_wire(address, *address.hosts[0])
    told = translate(caught.value, "there")
    assert isinstance(told, BrokerUnavailable)
    assert "refused the login" in str(told)
    assert "WRONGPASS" not in str(told)


async def test_tls_trusts_only_whom_it_is_told_to_trust(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(own_certificate("localhost"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"+PONG\r\n")
        await reader.read(1_000)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        trusting = parse(f"rediss://localhost?ca={certificate}")
        wire = await open_wire(trusting, "localhost", port)
        assert await asked(wire) == b"PONG"
        assert wire.is_usable()
        await wire.close()
        for address, host in ((parse("rediss://localhost"), "localhost"), (trusting, "127.0.0.1")):
            with pytest.raises(ssl.SSLCertVerificationError):
                await open_wire(address, host, port)


def own_certificate(host: str) -> bytes:
    """A key and a certificate for a day, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
