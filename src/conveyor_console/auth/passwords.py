"""Passwords: Argon2id (RFC 9106), off the event loop, few at a time."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers import HasherProtocol
from pwdlib.hashers.argon2 import Argon2Hasher

T = TypeVar("T")
SHORTEST, LONGEST = 12, 256
AT_A_TIME = min(4, max(1, (os.cpu_count() or 1) - 1))
"""Hashes at a time: each has a core to itself, and one core is left for everybody else."""
_MEMORY, _PASSES, _LANES = 19 * 1024, 2, 1
"""What OWASP's Password Storage Cheat Sheet asks for at least (memory in KiB): about 20 ms. RFC
9106's 64 MiB by four threads cost seven times that, and twenty people who signed in at once waited
for seconds."""
_NICE = 10


class Passwords:
    """Hashes and checks passwords in threads of its own."""

    def __init__(self, hasher: HasherProtocol | None = None) -> None:
        self._hash = PasswordHash((hasher or Argon2Hasher(_PASSES, _MEMORY, _LANES),))
        self._threads = ThreadPoolExecutor(
            AT_A_TIME, thread_name_prefix="conveyor-passwords", initializer=_step_back
        )

    async def hash(self, password: str) -> str:
        """Return what to store for a password."""
        return await self._away(self._hash.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether it is the password. Without a user (`stored` is None) it takes as long: to hash
        is all the work that to verify is."""
        if stored is None:
            await self.hash(password)
            return False
        return await self._away(self._hash.verify, password, stored)

    async def renewed(self, password: str, stored: str) -> str | None:
        """Return what to store from now on for a password that matched, when `stored` was made at
        another cost; None when it can stay."""
        if not self._hash.current_hasher.check_needs_rehash(stored):
            return None
        return await self.hash(password)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _away(self, function: Callable[..., T], *args: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _step_back() -> None:
    """Let this thread, and those that it starts, run when nobody else wants the core. Linux counts
    priorities by thread; elsewhere it would be the whole process."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
