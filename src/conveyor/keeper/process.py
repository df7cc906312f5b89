"""What every long-running process of ours does: log to stderr, and hear the signals to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def signals_to(handler: Callable[[str], None]) -> Iterator[None]:
    """While entered, call `handler(name)` on the running loop for each signal that asks to stop."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # The loops there know no signals; the handler runs when the loop next wakes.
        previous = {
            number: signal.signal(
                number, lambda n, _: loop.call_soon_threadsafe(handler, signal.Signals(n).name)
            )
            for number in _NUMBERS
        }
        try:
            yield
        finally:
            for number, old in previous.items():
                signal.signal(number, old)
        return
    for number in _NUMBERS:
        loop.add_signal_handler(number, handler, number.name)
    try:
        yield
    finally:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)


def log_to_stderr(level: str) -> None:
    """Send log lines from `level` up to stderr, unless someone has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _Lines(logging.Formatter):
    """Says what ends the process as every command says it: `error: …`."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.CRITICAL and record.name.startswith("conveyor."):
            return f"error: {record.getMessage()}"
        return super().format(record)
