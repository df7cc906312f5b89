"""Task definitions: functions that can be enqueued, typed end to end.

`TaskDefinition[P, T]` keeps the function's parameters (`P`) and result (`T`), so that wrong
arguments to `enqueue` fail the type checker, and `await handle.result()` is a `T`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from types import CodeType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

import msgspec

from conveyor.core.amounts import count, seconds
from conveyor.core.codec import decoder, encode
from conveyor.core.errors import InvalidArguments, InvalidOption
from conveyor.core.evolution import Evolution
from conveyor.core.options import (
    Options,
    header_texts,
    idempotency_key,
    priority_level,
    queue_name,
    when,
)
from conveyor.core.retry import MAX_ATTEMPTS, Retry
from conveyor.core.rules import Rules, with_uniqueness
from conveyor.core.signature import Signature
from conveyor.core.uniqueness import Debounce, Unique, keep_secret

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from conveyor.core.task import State, TaskInfo
    from conveyor.core.why import Reason

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
T_co = TypeVar("T_co", covariant=True)

Executor = Literal["auto", "process"]
AnySession: TypeAlias = "AsyncSession | Session | async_scoped_session[Any] | scoped_session[Any]"


class Handle(Protocol[T_co]):
    """What `enqueue` returns; see `conveyor.client.TaskHandle`."""

    id: str
    created: bool

    async def result(self, timeout: float | None = None) -> T_co:
        """Wait for the result."""

    def result_sync(self, timeout: float | None = None) -> T_co:
        """Wait for the result from synchronous code."""

    async def status(self) -> State:
        """Ask for the state."""

    async def cancel(self, reason: str = "") -> State:
        """Ask the task to stop."""

    async def reschedule(
        self, *, delay: float | timedelta | None = None, at: datetime | None = None
    ) -> bool:
        """Let it start at another time, if it is scheduled still."""

    def reschedule_sync(
        self, *, delay: float | timedelta | None = None, at: datetime | None = None
    ) -> bool:
        """Let it start at another time, from synchronous code."""

    async def info(self) -> TaskInfo:
        """Ask for everything known."""

    async def why(self) -> list[Reason]:
        """Ask why it is not running."""


class Dispatcher(Protocol):
    """The port through which a definition reaches the queue; the app is one."""

    async def dispatch(self, call: BoundTask[T]) -> Handle[T]:
        """Enqueue one call."""

    def dispatch_sync(self, call: BoundTask[T]) -> Handle[T]:
        """Enqueue one call from synchronous code."""


class BoundTask(Generic[T]):
    """A call that was not made yet: definition, options and arguments, ready to enqueue."""

    __slots__ = ("args", "definition", "kwargs", "options", "rules", "session")

    def __init__(
        self,
        definition: TaskDefinition[..., T, Any],
        options: Options,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        rules: Rules | None = None,
        session: object = None,
    ) -> None:
        self.session = session
        self.definition = definition
        self.options = options
        self.args = args
        self.kwargs = kwargs
        self.rules = rules

    def checked(self) -> Self:
        """Return this call, whose arguments came as JSON, once they fit the types of the function:
        JSON knows fewer types than Python. Raises `InvalidArguments`, `NotSerialisable`.
        """
        definition = self.definition
        payload = encode((self.args, self.kwargs), what=f"arguments of {definition.name}")
        try:
            definition.signature.decode(payload)
        except ValueError as exc:
            raise InvalidArguments(
                f"{definition.name}{definition.signature.text}: {exc}; nothing was enqueued"
            ) from None
        return self


class Enqueuer(Generic[P, T]):
    """A definition with the options of its next enqueue."""

    def __init__(
        self,
        definition: TaskDefinition[P, T, Any],
        options: Options,
        rules: Rules | None = None,
        session: object = None,
    ) -> None:
        self._session = session
        self._definition = definition
        self._options = options
        self._rules = rules

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundTask[T]:
        """Make a call to enqueue later, e.g. with `app.enqueue_many`.

        Raises `InvalidArguments` when the arguments do not fit the signature.
        """
        self._definition.signature.check(args, kwargs)
        return BoundTask(
            self._definition, self._options, args, kwargs, rules=self._rules, session=self._session
        )

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Store a task; when this returns it is durable (as the broker's URL says), or with a
        session, when that has committed.

        Raises `InvalidArguments`, `NotSerialisable`, `PayloadTooLarge`, `IdempotencyConflict`,
        `NotUnique`, `BrokerUnavailable` or `BrokerFull` (nothing was stored), or `EnqueueUnknown`.
        """
        return await self._definition.dispatcher.dispatch(self.bind(*args, **kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Do what `enqueue` does, from synchronous code: no event loop needed."""
        return self._definition.dispatcher.dispatch_sync(self.bind(*args, **kwargs))

    def with_options(
        self,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | str | None = None,
        key: str | None = None,
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        result_ttl: float | timedelta | None = None,
        headers: dict[str, str] | None = None,
        unique: Unique | str | float | timedelta | None = None,
        debounce: Debounce | None = None,
        session: AnySession | None = None,
    ) -> Enqueuer[P, T]:
        """Return the same definition with other options for the next enqueue.

        `delay` (seconds or timedelta) or `at` (aware datetime) say when it may start; `key` makes
        the enqueue idempotent: one task per (queue, name, key) until 24 h after its end.
        `timeout` and `result_ttl` are seconds or timedeltas; `headers` travel with the task.
        `unique` and `debounce` are as in `app.task`. With `session`, a SQLAlchemy `AsyncSession`
        (for `enqueue`) or `Session` (for `enqueue_sync`), the task is visible if and only if the
        session's transaction commits. Raises `InvalidOption` when a value makes no sense.
        """
        changes = when(delay, at)
        if queue is not None:
            changes["queue"] = queue_name(queue)
        if priority is not None:
            changes["priority"] = priority_level(priority)
        if key is not None:
            changes["key"] = idempotency_key(key)
        if max_attempts is not None:
            changes["max_attempts"] = count(max_attempts, "max_attempts", most=MAX_ATTEMPTS)
        if timeout is not None:
            changes["timeout"] = seconds(timeout, "timeout", least=0.001)
        if result_ttl is not None:
            changes["result_ttl"] = seconds(result_ttl, "result_ttl")
        if headers is not None:
            changes["headers"] = header_texts({**self._options.headers, **header_texts(headers)})
        options = msgspec.structs.replace(self._options, **changes)
        rules = self._rules
        if unique is not None or debounce is not None:
            rules = with_uniqueness(rules, unique, debounce)
        if rules is not None:
            _check_together(rules, options, self._definition.encrypt)
        return Enqueuer(
            self._definition, options, rules, self._session if session is None else session
        )


def _check_together(rules: Rules, options: Options, encrypt: tuple[str, ...]) -> None:
    if rules.debounce is not None and not options.delay is options.due_at is None:
        raise InvalidOption("delay= and at= do not go with debounce=, which says when to start")
    if encrypt:
        keep_secret(rules.unique)


class TaskDefinition(Enqueuer[P, T], Generic[P, T, C]):
    """A task function with its options. Calling it runs the function itself, here and now."""

    def __init__(
        self,
        fn: Callable[P, C],
        *,
        name: str,
        dispatcher: Dispatcher,
        options: Options,
        retry: Retry,
        executor: Executor = "auto",
        on_uncertain: Literal["stop", "continue"] = "stop",
        rules: Rules | None = None,
        evolution: Evolution | None = None,
        transactional: bool = False,
    ) -> None:
        super().__init__(self, options, rules)
        self.fn = fn
        self.name = name
        self.dispatcher = dispatcher
        self.options = options
        self.retry = retry
        self.rules = rules
        changes = evolution or Evolution()
        self.version = changes.version
        self.migrate = changes.migrate
        self.aliases = changes.aliases
        self.encrypt = changes.encrypt
        self.executor = executor
        self.transactional = transactional
        self.on_uncertain = on_uncertain
        self.is_async = inspect.iscoroutinefunction(fn)
        self.signature = Signature(fn, name)
        changes.check(name, self.signature)
        self.code_version = _code_version(fn)
        self.decode_result: Callable[[bytes], T] = decoder(self.signature.returns)
        self.__name__ = getattr(fn, "__name__", name)
        self.__qualname__ = getattr(fn, "__qualname__", name)
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run the function directly, without the queue."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def must_be_function(fn: Any) -> None:
    """Raise `InvalidOption` for what cannot become a task: an enqueued call has one end, so a
    generator's many values have nowhere to go."""
    if not callable(fn) or isinstance(fn, type):
        raise InvalidOption(f"{fn!r} is not a function: a task is made from one by @app.task")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise InvalidOption(f"{fn.__qualname__} is a generator: a task returns one value")


def _code_version(fn: Callable[..., Any]) -> str:
    """Eight hex digits that change when the function's own code does."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is None:
        return ""
    parts = (code.co_code, repr(code.co_names).encode(), repr(_constants(code)).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:8]


def _constants(code: CodeType) -> list[Any]:
    return [
        (item.co_code, item.co_names, _constants(item)) if isinstance(item, CodeType) else item
        for item in code.co_consts
    ]


class TaskDecorator(Protocol):
    """What `app.task(...)` returns: it turns a function into a definition of the same types."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskDefinition[P, T, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> TaskDefinition[P, T, T]: ...
