"""From the options of `app.task(…)` to a definition, checked where they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict

from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.evolution import Evolution, Upcaster, names_of
from conveyor.core.keying import KeyFunction
from conveyor.core.limits import Concurrency, Rate
from conveyor.core.options import Options, priority_level, queue_name, task_name
from conveyor.core.retry import Retry
from conveyor.core.rules import rules_of
from conveyor.core.uniqueness import Debounce, Unique, keep_secret, unique_of
from conveyor.naming import module_name
from conveyor.packing import Packing
from conveyor.tasks import Dispatcher, Executor, TaskDefinition, must_be_function


class TaskOptions(TypedDict, total=False):
    """What `app.task(…)` takes; see there."""

    name: str | None
    queue: str
    priority: int | str
    retry: Retry | None
    timeout: float | timedelta | None
    result_ttl: float | timedelta | None
    executor: Executor
    on_uncertain: Literal["stop", "continue"]
    rate_limit: Rate | Sequence[Rate] | None
    concurrency: Concurrency | Sequence[Concurrency] | None
    fair_by: KeyFunction | None
    partition_by: KeyFunction | None
    unique: Unique | str | float | timedelta | None
    debounce: Debounce | None
    version: int
    migrate: Mapping[int, Upcaster] | None
    aliases: Sequence[str]
    encrypt: Sequence[str]
    transactional: bool


class Defaults(TypedDict):
    """What the app says for all of its tasks."""

    dispatcher: Dispatcher
    retry: Retry
    result_ttl: float
    packing: Packing


def definer(
    given: TaskOptions, defaults: Defaults
) -> Callable[[Callable[..., Any]], TaskDefinition[..., Any, Any]]:
    """Return what makes a definition of a function. Raises `InvalidOption`."""
    if unknown := sorted(set(given) - set(TaskOptions.__annotations__)):
        known = ", ".join(TaskOptions.__annotations__)
        raise InvalidOption(f"app.task(): no option is named {unknown[0]!r}; there are {known}")
    executor = _one_of(given.get("executor", "auto"), "executor", ("auto", "process"))
    on_uncertain = _one_of(given.get("on_uncertain", "stop"), "on_uncertain", ("stop", "continue"))
    policy = policy_of(given.get("retry"), defaults["retry"])
    options = _options(given, policy, defaults["result_ttl"])
    evolution = _evolution(given, defaults["packing"])
    rules = rules_of(
        rate_limit=given.get("rate_limit"),
        concurrency=given.get("concurrency"),
        fair_by=given.get("fair_by"),
        partition_by=given.get("partition_by"),
        unique=given.get("unique"),
        debounce=given.get("debounce"),
    )
    name = given.get("name")
    if name is not None:
        task_name(name)

    def define(function: Callable[..., Any]) -> TaskDefinition[..., Any, Any]:
        must_be_function(function)
        own = name or f"{module_name(function.__module__)}.{function.__qualname__}"
        return TaskDefinition(
            function,
            name=own,
            dispatcher=defaults["dispatcher"],
            options=options,
            retry=policy,
            executor=executor,
            on_uncertain=on_uncertain,
            rules=None if rules is None else rules.named(own),
            evolution=evolution,
            transactional=given.get("transactional", False),
        )

    return define


def policy_of(value: object, default: Retry) -> Retry:
    """Return a retry policy. Raises `InvalidOption` for anything else."""
    if value is None:
        return default
    if not isinstance(value, Retry):
        raise InvalidOption(f"retry={value!r}: a Retry, e.g. Retry(max_attempts=3)")
    return value


def _options(given: TaskOptions, policy: Retry, result_ttl: float) -> Options:
    timeout, ttl = given.get("timeout"), given.get("result_ttl")
    return Options(
        queue=queue_name(given.get("queue", "default")),
        priority=priority_level(given.get("priority", "normal")),
        max_attempts=policy.max_attempts,
        retry_base=policy.base,
        retry_cap=policy.cap,
        timeout=None if timeout is None else seconds(timeout, "timeout", least=0.001),
        result_ttl=result_ttl if ttl is None else seconds(ttl, "result_ttl"),
    )


def _evolution(given: TaskOptions, packing: Packing) -> Evolution:
    encrypt = names_of(given.get("encrypt") or (), "encrypt")
    if encrypt and packing.keys is None:
        raise InvalidOption("encrypt= needs keys: Conveyor(keys=Keyring({'id': key}))")
    if encrypt:
        keep_secret(unique_of(given.get("unique")))
    return Evolution(
        version=given.get("version", 1),
        migrate=given.get("migrate") or {},
        aliases=names_of(given.get("aliases") or (), "aliases"),
        encrypt=encrypt,
    )


def _one_of(value: Any, option: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise InvalidOption(f"{option}={value!r}: {' or '.join(map(repr, known))}")
    return value
