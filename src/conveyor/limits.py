"""The public door to limits: what definitions state, and what tasks and people do with them.

    from conveyor.limits import Concurrency, Rate, limit

    @app.task(rate_limit=Rate("50/s", burst=10, key=lambda tenant, i: tenant, name="crm"))
    async def call_api(tenant: str, i: int) -> None:
        try:
            ...
        except TooManyRequests as exc:
            await limit("crm", tenant).pause(exc.retry_after)
            raise

Inside a task, `await limit("crm", tenant).acquire()` draws from the very bucket that decides when
tasks start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import inf, isinf
from typing import TYPE_CHECKING, Any

from conveyor.brokers.adapting import slow_down
from conveyor.brokers.clock import broker_time
from conveyor.brokers.gates import GateInfo, Standing
from conveyor.context import current_task, running_task
from conveyor.core.aimd import Adapt
from conveyor.core.amounts import is_number, seconds
from conveyor.core.errors import InvalidArguments, InvalidOption
from conveyor.core.gates import Gate, GateState
from conveyor.core.keying import as_key
from conveyor.core.limits import Concurrency, Rate, limit_name
from conveyor.core.options import instant
from conveyor.core.task import Pause, Progress
from conveyor.core.uniqueness import Debounce, Unique

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.gates import Gates

__all__ = [
    "Adapt",
    "Concurrency",
    "Debounce",
    "Gate",
    "GateInfo",
    "GateState",
    "Limit",
    "Rate",
    "Standing",
    "Unique",
    "limit",
]

_ASK_AGAIN = 1.0
_WAITS = "waits "
_WORTH_SAYING = 0.5
"""Seconds of waiting from which on a task's progress says what it waits for."""


class Limit:
    """One limit, or one key of it. Made by `limit()`; holds no connection."""

    def __init__(self, app: Conveyor, name: str, key: str | None, rate: Rate | None) -> None:
        self._app = app
        self._stated = _stated(app, name) if rate is None else None
        self._rate = rate or self._stated
        self.name = name
        self.key = key

    async def acquire(self, n: float = 1) -> float:
        """Take `n` tokens and wait until they may be used; returns the seconds waited.

        The tokens are taken at once, in the order of the calls, so nobody is overtaken, and they
        are gone if the task dies while it waits. `n` may be above the burst: it is then waited for.
        While it waits, the task's progress says so; no connection is held. Raises `InvalidOption`
        when no rate is known for the limit, when tasks draw from its keys and none is given (or the
        other way round), or when `n` is not above 0.
        """
        if self._rate is None:
            raise InvalidOption(
                f"limit {self.name!r} has no rate here: name one in a task's rate_limit=, or pass "
                "rate= to limit()"
            )
        if not is_number(n) or not 0 < n < inf:
            raise InvalidOption(f"acquire({n!r}): above 0 tokens")
        self._must_exist()
        rate = self._rate
        gate = Gate(
            self.name, self.key or "", rate=rate.per_second, burst=float(rate.burst), cost=float(n)
        )
        gates = await self._gates()
        waited = 0.0
        while isinf(wait := await gates.reserve(gate)):
            # Paused without an end: nothing was taken, so it is asked for again.
            with self._said(_ASK_AGAIN):
                await asyncio.sleep(_ASK_AGAIN)
            waited += _ASK_AGAIN
        if wait > 0:
            with self._said(wait):
                await asyncio.sleep(wait)
        return waited + max(0.0, wait)

    def acquire_sync(self, n: float = 1) -> float:
        """Do what `acquire` does, from a task in a thread or from synchronous code."""
        waited: float = self._app.run_sync(self.acquire(n))
        return waited

    async def pause(
        self, until: float | timedelta | datetime | None = None, *, reason: str = "", by: str = ""
    ) -> None:
        """Let nothing through until then: seconds or a timedelta from now, an aware datetime, or
        None for until `resume()`. Survives restarts; costs no task an attempt. From a task, it
        never shortens a pause that is there: neither another task's nor a person's.
        """
        broker = (await self._app.client()).broker
        now = await broker_time(broker, self._app.clock.time())
        end: float | None = None
        if isinstance(until, datetime):
            end = instant(until)
        elif until is not None:
            end = now + seconds(until, "until")
        task = running_task()
        if task is not None:
            by = by or f"task {task.id}"
        note = Pause(reason, by, now)
        await broker.gates.close(self.name, self.key, end, note, extend=task is not None)

    def _must_exist(self) -> None:
        """Refuse a bucket beside those that tasks draw from: a key too many, or one that lacks."""
        stated = self._stated
        if stated is None:
            return
        if stated.key is not None and self.key is None:
            raise InvalidOption(f"limit {self.name!r} is one for each key: limit({self.name!r}, …)")
        if stated.key is None and self.key is not None:
            raise InvalidOption(
                f"limit {self.name!r} has no keys in rate_limit=: leave {self.key!r} out"
            )

    async def resume(self) -> None:
        """Take a pause back."""
        await (await self._gates()).open(self.name, self.key)

    async def slow_down(self) -> float | None:
        """Say that the other side asks for less; returns the tokens per second from now on, None
        when that was just said, or a person has tuned the rate. It recovers by itself, see `Adapt`;
        a limit without one goes by the defaults of `Adapt`. It holds for every key. Raises
        `InvalidOption` when no rate is known for the limit.
        """
        rate = self._rate
        if rate is None:
            raise InvalidOption(f"limit {self.name!r} has no rate here: pass rate= to limit()")
        broker = (await self._app.client()).broker
        now = await broker_time(broker, self._app.clock.time())
        return await slow_down(broker, self.name, rate.per_second, rate.adapt or Adapt(), now)

    async def tune(self, *, rate: str | None = None, most: int | None = None) -> None:
        """Use another rate (as in `Rate`) or number of slots for every key of the limit, whatever
        its tasks say; without both, the tasks' own count again. Raises `InvalidOption`.
        """
        per_second = None if rate is None else Rate(rate).per_second
        slots = None if most is None else Concurrency(most).most
        await (await self._gates()).tune(self.name, rate=per_second, most=slots)

    async def info(self) -> list[GateInfo]:
        """Return the keys of the limit that have a state: in debt, running, paused or tuned."""
        found = await (await self._gates()).look(self.name)
        return [info for info in found if self.key is None or info.key == self.key]

    async def _gates(self) -> Gates:
        return (await self._app.client()).broker.gates

    @contextmanager
    def _said(self, wait: float) -> Iterator[None]:
        """Show in the task's progress what it waits for, and take it back."""
        task = running_task()
        if task is None or wait < _WORTH_SAYING:
            yield
            return
        shown = task.note or Progress(0)
        before = "" if shown.message.startswith(_WAITS) else shown.message
        message = f"{_WAITS}{wait:.1f} s for limit {self.name!r}"
        if self.key:
            message += f" of {self.key!r}"
        task.progress(shown.done, shown.total, message)
        mine = task.note
        try:
            yield
        finally:
            if task.note is mine and not task.over:
                task.progress(shown.done, shown.total, before)

    def __repr__(self) -> str:
        key = "" if self.key is None else f" of {self.key!r}"
        return f"<limit {self.name!r}{key}>"


def limit(
    name: str, key: Any = None, *, rate: Rate | str | None = None, app: Conveyor | None = None
) -> Limit:
    """Return a limit by its name: one `key` of it, or without a key all of it.

    Inside a task the app is known; elsewhere pass it. `rate` is needed for `acquire` only when no
    task definition states a `Rate` of this name. Raises `NotInTask` without an app, `InvalidOption`
    for a name or key that cannot be one.
    """
    home: Conveyor = app if app is not None else current_task().app
    limit_name(name)
    if rate is not None and not isinstance(rate, Rate):
        rate = Rate(rate, name=name)
    try:
        text = None if key is None else as_key(key, name)
    except InvalidArguments as exc:
        raise InvalidOption(str(exc).removesuffix("; nothing was enqueued")) from None
    return Limit(home, name, text, rate)


def _stated(app: Conveyor, name: str) -> Rate | None:
    for definition in app.definitions.values():
        for rule in definition.rules.limits if definition.rules is not None else ():
            if isinstance(rule, Rate) and rule.name == name:
                return rule
    return None
