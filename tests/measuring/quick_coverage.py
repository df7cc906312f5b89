"""A plugin of coverage.py that takes time off it, a quarter of the suite's; the data are the same.

SQLAlchemy's async sessions run in greenlets, so a tracer's stack of frames must follow them. With
`concurrency = ["greenlet"]` the tracer looks up the running greenlet at every call and return, by
a dictionary written in Python. Here each greenlet has a tracer of its own, and the tracers are
swapped when the greenlets are.

And every process that ends notes all files below `src`, so that one which nobody ever imports
counts as not covered. It is enough that the first process does so: the suite starts thousands.

It stands beside `src` on the path of the environment (`dev-mode-dirs` in pyproject.toml), since
every child process that is measured loads it before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import greenlet
from coverage.collector import Collector
from coverage.inorout import InOrOut
from coverage.types import Tracer

if TYPE_CHECKING:
    from coverage.plugin_support import Plugins

_IS_CHILD = "COVERAGE_PROCESS_CONFIG" in os.environ
_start_tracer = Collector._start_tracer


class Swapping:
    """Swaps the tracers of one thread whenever its greenlets are switched."""

    def __init__(self, collector: Collector, tracer: Any) -> None:
        self._collector = collector
        self._tracers: WeakKeyDictionary[greenlet.greenlet, Any] = WeakKeyDictionary()
        self._tracers[greenlet.getcurrent()] = tracer
        self._idle: list[Any] = []

    def __call__(self, event: str, switch: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        """Trace the target of a switch by its own tracer; greenlet calls this."""
        origin, target = switch
        if origin.dead and origin in self._tracers:
            # All its frames have returned: the stack of its tracer is empty, and serves another.
            self._idle.append(self._tracers.pop(origin))
        if self._collector._collectors[-1:] == [self._collector]:
            self._tracers[target] = self._started(target)

    def _started(self, target: greenlet.greenlet) -> Any:
        known = self._tracers.get(target)
        tracer: Tracer | None = known or (self._idle.pop() if self._idle else None)
        if tracer is None:
            return _start_tracer(self._collector)
        tracer.start()
        return tracer


def _start_tracer_that_swaps(collector: Collector) -> Any:
    tracer = _start_tracer(collector)
    # Other cores keep no stack of frames, so they need no help.
    if collector.tracer_name() == "CTracer":
        greenlet.settrace(Swapping(collector, tracer))
    return tracer


def _no_files(_: InOrOut) -> Iterator[tuple[str, str | None]]:
    return iter(())


def coverage_init(plugins: Plugins, options: dict[str, str]) -> None:
    """Make coverage of this process quick; coverage.py calls this."""
    Collector._start_tracer = _start_tracer_that_swaps  # type: ignore[assignment,method-assign]
    if _IS_CHILD:
        InOrOut.find_possibly_unexecuted_files = _no_files  # type: ignore[assignment]
