"""Everything a running console is made of, put together in one place and closed in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from conveyor import Conveyor
from conveyor_console.audit.recording import Auditor
from conveyor_console.audit.seal import Sealer
from conveyor_console.auth.access import Gate
from conveyor_console.auth.accounts import first_administrator
from conveyor_console.auth.passwords import Passwords
from conveyor_console.auth.principals import Principals
from conveyor_console.auth.sessions import Sessions
from conveyor_console.auth.throttle import Throttle
from conveyor_console.auth.tokens import Tokens
from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from conveyor_console.db.epoch import Epoch
from conveyor_console.db.firsts import Firsts
from conveyor_console.history.recorder import Recorder
from conveyor_console.kit.addresses import Addresses
from conveyor_console.kit.clock import Clock
from conveyor_console.kit.outgoing import Outgoing
from conveyor_console.kit.sealing import Vault
from conveyor_console.live import notices
from conveyor_console.live.live import Live
from conveyor_console.settings import Settings

log = logging.getLogger("conveyor.console")
T = TypeVar("T")


class Part(Protocol):
    """What a noun does beside its requests."""

    async def start(self) -> None:
        """Begin; the schema is checked by then."""

    async def close(self) -> None:
        """End within a few seconds."""


class Console:
    """The parts of one console process. `settings` must have a secret."""

    def __init__(
        self,
        queue: Conveyor,
        settings: Settings,
        clock: Clock,
        new_id: Callable[[], str],
        passwords: Passwords,
    ) -> None:
        self.queue = queue
        self.settings = settings
        self.clock = clock
        self.new_id = new_id
        self.database = Database(
            settings.database_for(queue.url), patience=settings.database_seconds
        )
        self.epoch = Epoch(self.database)
        self.tokens = Tokens(settings.secret, settings.access_seconds)
        self.passwords = passwords
        self.throttle = Throttle(self.database, clock)
        self.firsts = Firsts(self.database, clock, new_id)
        self.sessions = Sessions(self.tokens, settings.refresh_seconds, settings.session_seconds)
        self.gate = Gate(Principals(self.database, self.epoch, self.tokens), settings.secret, clock)
        self.recorder = Recorder(queue, self.database, clock, new_id, settings.history_days)
        self.addresses = Addresses(settings.trusted_proxies)
        self.sealer = Sealer(self.database, clock, new_id())
        self.auditor = Auditor(
            self.database, self.sealer, self.addresses, clock, new_id, tell=notices.add
        )
        former = [one.get_secret_value().encode() for one in settings.previous_secret_keys]
        self.vault = Vault(settings.secret, former)
        self.outgoing = Outgoing(settings.outgoing_networks, settings.outgoing_ports)
        self.live = Live(queue, self.database, clock)
        self._parts: dict[type[Any], Part] = {}

    def add_parts(self, kinds: Sequence[Callable[[Console], Part]]) -> None:
        """Make the parts that nouns bring along."""
        for kind in kinds:
            part = kind(self)
            self._parts[type(part)] = part

    def part(self, kind: type[T]) -> T:
        """Return the part of this kind."""
        return cast("T", self._parts[kind])

    async def open(self) -> None:
        """Check the schema (on SQLite bring it up to date) and make the first administrator;
        begin what works beside the requests. Raises `SchemaMismatch`, `InvalidOption`."""
        if self.database.is_sqlite:
            await schema.upgrade(self.database)
        await schema.check(self.database)
        await self._first_administrator()
        self.recorder.start()
        self.sealer.start()
        self.live.start()
        for part in self._parts.values():
            await part.start()

    async def _first_administrator(self) -> None:
        email, password = self.settings.admin_email, self.settings.admin_password
        if email is None or password is None:
            return
        async with self.database.writing() as db:
            made = await first_administrator(
                db,
                self.passwords,
                user_id=self.new_id(),
                email=email,
                password=password.get_secret_value(),
                now=self.clock.now(),
            )
        if made is not None:
            log.info("made the first administrator, %s", made.email)

    async def rest(self) -> None:
        """Stop what works beside the requests, while the queue is still open."""
        for part in reversed(self._parts.values()):
            await part.close()
        await self.live.close()
        await self.recorder.close()

    async def close(self) -> None:
        """Close what was opened; the queue's connections are its owner's."""
        await self.sealer.close()
        self.passwords.close()
        await self.epoch.close()
        await self.database.close()
