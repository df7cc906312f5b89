"""Wakes idle workers: in this process directly, in others by a datagram on a Unix socket.

An idle worker leaves a mark before it looks for work one last time, so a task that comes after
the look finds the mark. Whoever makes a task available takes one mark of a worker that serves its
queue, and rings only for that one; a woken worker that leaves tasks behind rings for the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from conveyor.brokers.sqlite.posts import Posts
from conveyor.brokers.sqlite.transaction import Transaction


class Listener:
    """A worker on this event loop that wants to be woken."""

    def __init__(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any], posts: Posts | None
    ) -> None:
        self.worker = worker
        self.armed = False
        self._queues = queues
        self._ring = ring
        self._posts = posts
        self._loop = asyncio.get_running_loop()
        self._serving: frozenset[str] = frozenset()
        self._hungry = True
        self._left = False

    def serves(self, queue: str) -> bool:
        """Whether the worker takes tasks of `queue`."""
        return queue in self._serving

    def before_step(self) -> bool:
        """Leave the mark if the last step left the worker hungry; says whether it is there."""
        if self._hungry:
            serving = frozenset(self._queues)
            if serving != self._serving:
                self.disarm()
                self._serving = serving
            self.armed = True
            if self._posts is not None:
                # Also when it should be there: who took it may have died before ringing.
                self._posts.mark(self.worker, self._queues)
        return self.armed

    def after_step(self, *, sated: bool, marked: bool) -> None:
        """Take in what the step brought. One that found too little without having left the mark
        first may have missed a task: look again at once.
        """
        self._hungry = not sated
        if sated:
            self.disarm()
        elif not marked:
            self._loop.call_soon(self.ring)

    def disarm(self) -> None:
        """Take the mark away."""
        if self.armed:
            self.armed = False
            if self._posts is not None:
                self._posts.unmark(self.worker)

    def ring(self) -> None:
        """Wake the worker. On the loop only."""
        if not self._left:
            self._ring()

    def leave(self) -> None:
        """Be silent from now on."""
        self._left = True
        self.disarm()


class Doorbell:
    """All listeners of one broker, and the way to those of other processes."""

    def __init__(self, path: str | None) -> None:
        self._posts = None if path is None else Posts.of(path)
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, Listener] = {}
        self._owed: deque[tuple[str, str]] = deque()

    @property
    def reaches_others(self) -> bool:
        """Whether bells of other processes can be rung, and ours by them."""
        return self._posts is not None

    def enter(self, worker: str, queues: Sequence[str], ring: Callable[[], Any]) -> Listener:
        """Begin to listen."""
        listener = Listener(worker, queues, ring, self._posts)
        if self._posts is not None:
            self._posts.open(worker, listener.ring)
        self._listeners[worker] = listener
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop to listen."""
        listener.leave()
        if self._listeners.get(listener.worker) is listener:
            del self._listeners[listener.worker]
            if self._posts is not None:
                self._posts.shut(listener.worker)

    def find(self, worker: str) -> Listener | None:
        """Return the listener of a worker, if it is on this loop."""
        return self._listeners.get(worker)

    def ring_all_here(self) -> None:
        """Ring for every listener of this process. On the loop only."""
        for listener in list(self._listeners.values()):
            listener.ring()

    def close(self) -> None:
        """Let go of every socket."""
        for listener in list(self._listeners.values()):
            self.leave(listener)
        if self._posts is not None:
            self._posts.close()

    def rung(self, tx: Transaction) -> None:
        """Wake whom a transaction concerns that is about to be committed. In its thread, which
        calls `ring_owed` when it is.
        """
        for worker in tx.sated:
            listener = self._listeners.get(worker)
            if listener is not None:
                listener.disarm()
        if tx.wake_all:
            for listener in list(self._listeners.values()):
                self._wake(listener)
            if self._posts is not None:
                self._posts.wake_all()
            return
        for worker in tx.wake_workers:
            self._wake_worker(worker)
        for queue in tx.wake:
            self._wake_one(queue)

    def ring_owed(self) -> None:
        """Ring whom `rung` has found in other processes, if that is not done yet."""
        with suppress(IndexError):
            while self._posts is not None:
                self._posts.ring_or_next(*self._owed.popleft())

    def _wake_worker(self, worker: str) -> None:
        listener = self._listeners.get(worker)
        if listener is not None:
            self._wake(listener)
        elif self._posts is not None:
            self._posts.wake_worker(worker)

    def _wake_one(self, queue: str) -> None:
        for listener in list(self._listeners.values()):
            if listener.armed and listener.serves(queue):
                listener.disarm()
                self._wake(listener)
                return
        bell = None if self._posts is None else self._posts.take_mark(queue)
        if bell is not None:
            # Who is rung is woken on this very core, and would take it from the commit: the loop
            # rings while the disk writes, or this thread after it, if the loop has no time.
            self._owed.append((bell, queue))
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.ring_owed)

    def _wake(self, listener: Listener) -> None:
        # A loop that was closed took its workers along.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(listener.ring)
