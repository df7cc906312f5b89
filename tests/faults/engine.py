"""The proxy's inner side: everything here runs in the thread of its event loop."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable

from tests.faults.dialects import Dialect, Sent
from tests.faults.link import Link, reset
from tests.faults.rules import Act, Command, Hook, Phase, Rule
from tests.servers.ports import free_port

_PORT_TRIES = 20


class Engine:
    """Listens, connects clients with the target, and applies the faults that are on."""

    def __init__(
        self,
        target: tuple[str, int],
        dialect: type[Dialect],
        is_numbered: Callable[[str], bool] | None,
    ) -> None:
        self.port = 0
        self.delay = 0.0
        self.swallowing = False
        self.flow_to_server = asyncio.Event()
        self.flow_to_client = asyncio.Event()
        self.hook: Hook | None = None
        self.rules: list[Rule] = []
        # By direction (to the server or not): how many bytes may still pass, and what then.
        self.budgets: dict[bool, tuple[int, Act]] = {}
        self.counts: Counter[str] = Counter()
        self.numbered = 0
        self.accepted = 0
        self.links: dict[int, Link] = {}
        self.errors: list[BaseException] = []
        self.changed = threading.Condition()
        self._target = target
        self._dialect = dialect
        self._is_numbered = is_numbered or dialect.numbered
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open_flows()

    async def listen(self) -> None:
        """Listen on a free port, or again on the one it had."""
        if self._server is not None:
            return
        for _ in range(_PORT_TRIES):
            port = self.port or free_port()
            try:
                self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
            except OSError:
                continue
            self.port = port
            return
        raise OSError("The fault proxy found no free port on 127.0.0.1.")

    async def refuse(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is None:
            return
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            loop.remove_reader(listening)
        # An accept that has begun joins its server in the next round of the loop. If it finds it
        # closed, asyncio of Python 3.11 drops the connection without closing it.
        await asyncio.sleep(0)
        server.close()

    async def heal(self) -> None:
        """End all faults, forget all rules."""
        self.delay = 0.0
        self.swallowing = False
        self.rules.clear()
        self.budgets.clear()
        for link in list(self.links.values()):
            if link.spoiled:
                link.reset()
        self._open_flows()
        await self.listen()

    async def close(self) -> None:
        """Stop listening and end all connections, those too that are being accepted just now."""
        await self.refuse()
        ended: set[asyncio.Task[None]] = set()
        # A task that is cancelled before its first line closes nothing: `_tasks` has only those
        # past it, and the loop's own task of an accept is there until ours has been made.
        while asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks - ended:
                task.cancel()
            ended |= self._tasks
            await asyncio.sleep(0)

    def reset_all(self) -> None:
        """Send RST to both sides of every connection."""
        for link in list(self.links.values()):
            link.reset()

    def restart_numbers(self) -> None:
        """Number the next command 1, count from nothing."""
        self.numbered = 0
        self.counts.clear()

    def register(self, sent: Sent, connection: int) -> Command:
        """Count and number what a client has sent."""
        number = 0
        with self.changed:
            if sent.name:
                self.counts[sent.name] += 1
                if self._is_numbered(sent.name):
                    self.numbered += 1
                    number = self.numbered
            self.changed.notify_all()
        return Command(sent.name, number, connection, sent.arguments, sent.sql)

    def consult(self, command: Command, phase: Phase) -> Act:
        """Ask the rules, then the hook, what to do."""
        try:
            for rule in self.rules:
                act = rule.judge(command, phase)
                if act is not None:
                    return act
            if self.hook is not None:
                return self.hook(command, phase) or Act.FORWARD
        # A test's own code: all it can raise is raised again in its thread, by `stop()`.
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)
            return Act.RESET
        return Act.FORWARD

    def spend(self, size: int, *, to_server: bool) -> tuple[int, Act | None]:
        """Return how many of `size` bytes may pass, and what to do when not all may."""
        if to_server not in self.budgets:
            return size, None
        left, act = self.budgets[to_server]
        if size <= left:
            self.budgets[to_server] = left - size, act
            return size, None
        del self.budgets[to_server]
        return left, act

    def _open_flows(self) -> None:
        self.flow_to_server.set()
        self.flow_to_client.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Cancelled only by `close()`, which wants no more than the end of it.
        try:
            server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            # A refused connection cannot be imitated once it is accepted; this is the nearest.
            reset(writer)
            return
        with contextlib.suppress(asyncio.CancelledError):
            await self._carry((reader, writer), server)

    async def _carry(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.accepted += 1
        link = Link(self, self.accepted, self._dialect(), client, server)
        self._link_changed(link, present=True)
        try:
            await link.run()
        except Exception as error:  # noqa: BLE001
            # Raised in the test's thread by `stop()`.
            self.errors.append(error)
        finally:
            self._link_changed(link, present=False)

    def _link_changed(self, link: Link, *, present: bool) -> None:
        with self.changed:
            if present:
                self.links[link.number] = link
            else:
                del self.links[link.number]
            self.changed.notify_all()
