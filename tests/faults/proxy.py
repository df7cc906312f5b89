"""The fault proxy: a TCP server in a thread of its own, steered from the test's thread."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.faults.dialects import Dialect, Postgres, Raw, Resp
from tests.faults.engine import Engine
from tests.faults.rules import Act, Command, Hook, Phase, Rule

Direction = Literal["to_server", "to_client"]
Protocol = Literal["resp", "postgres", "raw"]
_DIALECTS: dict[Protocol, type[Dialect]] = {"resp": Resp, "postgres": Postgres, "raw": Raw}


class FaultProxy:
    """A TCP proxy on 127.0.0.1 that injects faults and counts commands. No TLS.

    A context manager. All methods may be called from any thread, also from a hook, and have taken
    effect when they return; faults stay until `heal()`. `numbered` says which command names
    count for `k`; by default all of Redis but the handshake, Query and Execute of PostgreSQL.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        protocol: Protocol = "raw",
        numbered: Callable[[str], bool] | None = None,
        target_url: str = "",
    ) -> None:
        self._engine = Engine((host, port), _DIALECTS[protocol], numbered)
        self._target_url = target_url
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    @classmethod
    def before(cls, url: str, *, numbered: Callable[[str], bool] | None = None) -> "FaultProxy":
        """Return a proxy for the server of `url`; its own `url` differs in the address only."""
        parts = urlsplit(url)
        protocol: Protocol = "postgres" if parts.scheme.startswith("postgres") else "resp"
        host, port = parts.hostname or "127.0.0.1", parts.port or 0
        return cls(host, port, protocol=protocol, numbered=numbered, target_url=url)

    @property
    def port(self) -> int:
        """The port it listens on; it stays the same over `refuse()` and `heal()`."""
        return self._engine.port

    @property
    def url(self) -> str:
        """The URL given to `before()`, with the proxy's address in it."""
        return self.url_for(self._target_url)

    def url_for(self, url: str) -> str:
        """Return `url` (of any database of the target) with the proxy's address in it."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    # Faults

    def latency(self, seconds: float) -> None:
        """Delay everything by `seconds` in each direction; order and throughput stay."""
        self._call(lambda: setattr(self._engine, "delay", seconds))

    def half_open(self, *directions: Direction) -> None:
        """Stop forwarding (in both directions by default) without closing anything.

        What waits is delivered after `heal()`, as after an outage of the network.
        """
        if not directions or "to_server" in directions:
            self._call(self._engine.flow_to_server.clear)
        if not directions or "to_client" in directions:
            self._call(self._engine.flow_to_client.clear)

    def blackhole(self) -> None:
        """Accept and swallow everything; `heal()` resets the connections that lost bytes."""
        self._call(lambda: setattr(self._engine, "swallowing", True))

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on (see `reset()`)."""
        self._await(self._engine.refuse())

    def reset(self) -> None:
        """Reset (RST) all present connections, on both sides, once."""
        self._call(self._engine.reset_all)

    def cut_after(
        self, size: int, direction: Direction = "to_client", act: Act = Act.RESET
    ) -> None:
        """Let `size` more bytes pass in one direction, then end that connection; once."""
        self._call(lambda: self._engine.budgets.update({direction == "to_server": (size, act)}))

    def heal(self) -> None:
        """End all faults and forget all rules (not the hook); listen again on the same port."""
        self._await(self._engine.heal())

    # Commands

    @property
    def on_command(self) -> Hook | None:
        """A hook called at every command, before and after: `hook(command, phase) -> Act`."""
        return self._engine.hook

    @on_command.setter
    def on_command(self, hook: Hook | None) -> None:
        self._call(lambda: setattr(self._engine, "hook", hook))

    def at(self, number: int, phase: Phase, action: Act | Callable[[Command], Act | None]) -> Rule:
        """Do `action` once at the numbered command `number` (from 1, over all connections).

        `before`: the server has not seen the command. `after`: it has carried it out, and the
        whole reply is not yet forwarded (PostgreSQL: committed, at ReadyForQuery).
        `rule.fired` is a `threading.Event`.
        """
        rule = Rule(number, phase, action)
        self._call(lambda: self._engine.rules.append(rule))
        return rule

    def drop_reply(self, number: int, act: Act = Act.RESET) -> Rule:
        """Lose the reply of the numbered command `number`, and by default the connection."""
        return self.at(number, "after", act)

    @property
    def counts(self) -> Counter[str]:
        """How many commands of each name have come, a copy."""
        with self._engine.changed:
            return self._engine.counts.copy()

    @property
    def numbered(self) -> int:
        """How many numbered commands have come: the greatest `k` so far."""
        return self._engine.numbered

    def restart_numbers(self) -> None:
        """Number the next command 1, and count from nothing."""
        self._call(self._engine.restart_numbers)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._engine.links)

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._engine.accepted

    def wait_until(self, condition: Callable[["FaultProxy"], bool], timeout: float = 10.0) -> None:
        """Wait until `condition(proxy)`; it is looked at at every command and connection.

        Raises `TimeoutError`. Blocks: in an async test, call it by `asyncio.to_thread`.
        """
        with self._engine.changed:
            if not self._engine.changed.wait_for(lambda: condition(self), timeout):
                seen = dict(self._engine.counts)
                raise TimeoutError(f"The fault proxy waited {timeout} s in vain; seen: {seen}.")

    # Life

    def start(self) -> Self:
        """Listen; `port` and `url` are known when it returns."""
        self._thread.start()
        self._ready.wait()
        self._raise_error()
        return self

    def stop(self) -> None:
        """End all connections and the thread; raises what a hook has raised."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._raise_error()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BaseException:
            # The test's own failure says more than what followed from it.
            if error is None:
                raise

    def _run(self) -> None:
        # Always the plain loop: what a reset does must not depend on the one under test.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            await self._engine.listen()
        except OSError as error:
            self._engine.errors.append(error)
        self._ready.set()
        if not self._engine.errors:
            await self._stop.wait()
        await self._engine.close()

    def _call(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        if threading.current_thread() is self._thread or self._loop is None:
            action()
        else:
            self._await(act())

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("The fault proxy is not started; use it as a context manager.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        if threading.current_thread() is not self._thread:
            future.result(timeout=10)

    def _raise_error(self) -> None:
        if self._engine.errors:
            raise self._engine.errors[0]
