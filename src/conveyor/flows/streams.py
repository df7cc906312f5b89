"""Results of a map, read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

import msgspec

from conveyor.context import running_task
from conveyor.core.advance import Keys
from conveyor.core.codec import decoder
from conveyor.core.errors import NotInTask
from conveyor.core.graph import successor_id
from conveyor.flows.results import PAGE, REFERENCE, succeeded
from conveyor.flows.runs import Rerun, read_rerun

if TYPE_CHECKING:
    from conveyor.flows.home import Home

T_co = TypeVar("T_co", covariant=True)


class Results(Generic[T_co]):
    """The results of a map's children in the order of its items, those that failed left out.

    Annotate the parameter of a reducer with `Results[int]`, and iterate with `async for` (in a
    function that is not async with `for`): a thousand results are in memory at a time.
    """

    def __init__(
        self, plain: Any, decode: Callable[[bytes], Any], home: Home | None = None
    ) -> None:
        self._plain = plain
        self._decode = decode
        self._home = home
        self._rerun: Rerun | None = None

    @staticmethod
    def from_plain(kind: Any, value: Any) -> Results[Any]:
        """Make one from what is in a task's arguments, typed as `kind` says."""
        arguments = get_args(kind)
        task = running_task()
        home = task.app if task is not None and isinstance(value, dict) else None
        return Results(value, decoder(arguments[0] if arguments else Any), home)

    @property
    def children(self) -> int:
        """How many children the map had."""
        return int(self._plain[REFERENCE][3]) if self._is_reference else len(self._plain)

    @property
    def _is_reference(self) -> bool:
        return isinstance(self._plain, dict)

    async def __aiter__(self) -> AsyncIterator[T_co]:
        if not self._is_reference:
            for value in self._plain:
                yield self._typed(value)
            return
        for start in range(0, self.children, PAGE):
            for value in await self._page(start):
                yield value

    def __iter__(self) -> Iterator[T_co]:
        if not self._is_reference:
            yield from map(self._typed, self._plain)
            return
        for start in range(0, self.children, PAGE):
            yield from self._at_home().run_sync(self._page(start))

    async def _page(self, start: int) -> list[Any]:
        run_id, node, generation, size, *chain = self._plain[REFERENCE]
        broker = (await self._at_home().client()).broker
        if self._rerun is None and chain:
            self._rerun = await read_rerun(broker, Keys(run_id, {}), node, tuple(chain))
        ids = [
            successor_id(
                run_id, node, index, self._rerun.generation(index) if self._rerun else generation
            )
            for index in range(start, min(start + PAGE, size))
        ]
        return [self._decode(result) for result in await succeeded(broker, ids)]

    def _at_home(self) -> Home:
        if self._home is None:
            raise NotInTask("results of a map are read by the task that gets them, when it runs")
        return self._home

    def _typed(self, value: Any) -> Any:
        return self._decode(msgspec.msgpack.encode(value))

    def __repr__(self) -> str:
        return f"<results of {self.children} children>"
