"""`conveyor limits` and `conveyor strikes`: hold tasks back, let them go, see what does."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.brokers.adapting import learned_rates
from conveyor.brokers.clock import broker_time
from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import NOT_FOUND, explained, fail
from conveyor.cli.output import as_json, moment, table
from conveyor.cli.queues import login
from conveyor.core.aimd import is_ours
from conveyor.core.limits import Concurrency, Rate
from conveyor.core.options import queue_name
from conveyor.core.strike import Comparison, Strike
from conveyor.core.task import Pause

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.brokers.gates import GateInfo
    from conveyor.core.aimd import Learned

limits = typer.Typer(help="List, pause, resume and tune limits.", no_args_is_help=True)
strikes = typer.Typer(help="Hold back tasks by name, queue or argument.", no_args_is_help=True)

Limit = Annotated[str, typer.Argument(metavar="LIMIT")]
Key = Annotated[str | None, typer.Option("--key", help="Only this key of the limit.")]
Reason = Annotated[str, typer.Option("--reason", help="Shown to everyone.")]
By = Annotated[str | None, typer.Option("--by", help="Default: your login name.")]
Seconds = Annotated[
    float | None, typer.Option("--for", min=0.001, help="Seconds; without it, until it is ended.")
]


@limits.command("list")
def list_limits(
    limit: Annotated[str | None, typer.Argument(metavar="[LIMIT]")] = None,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """List limits that are busy, in debt, paused or tuned."""

    async def look(broker: Broker) -> tuple[list[GateInfo], dict[str, Learned]]:
        return await broker.gates.look(limit), await learned_rates(broker)

    found, learned = with_broker(url, look)
    if as_json_:
        as_json(found)
        return
    table(
        ("limit", "key", "running", "whole burst (UTC)", "tuned", "paused"),
        (
            (
                info.limit,
                info.key,
                info.state.running or "",
                moment(info.state.tat or None),
                _tuned(info, learned.get(info.limit)),
                _paused(info),
            )
            for info in found
        ),
        empty="no limit is busy, paused or tuned",
    )


def _tuned(info: GateInfo, learned: Learned | None) -> str:
    state = info.state
    mark = " learned" if learned is not None and is_ours(learned, state.rate) else ""
    rate = [] if state.rate is None else [f"{state.rate:.6g}/s{mark}"]
    return ", ".join(rate if state.most is None else [*rate, f"{state.most} slots"])


def _paused(info: GateInfo) -> str:
    until = info.state.closed_until
    if info.pause is None or until <= time.time():
        return ""
    end = "" if until == inf else f" until {moment(until)}"
    by = f" (by {info.pause.by})" if info.pause.by else ""
    return f"{info.pause.reason or 'yes'}{end}{by}"


@limits.command("pause")
def pause_limit(
    limit: Limit,
    key: Key = None,
    seconds: Seconds = None,
    reason: Reason = "",
    by: By = None,
    url: Url = None,
) -> None:
    """Let no task of LIMIT start; what runs goes on."""

    async def close(broker: Broker) -> None:
        now = await broker_time(broker, time.time())
        until = None if seconds is None else now + seconds
        note = Pause(reason=reason, by=by or login(), at=now)
        await broker.gates.close(limit, key, until, note)

    with_broker(url, close)
    typer.echo(f"{_named(limit, key)} is paused")


@limits.command("resume")
def resume_limit(limit: Limit, key: Key = None, url: Url = None) -> None:
    """Take a pause of LIMIT back."""
    with_broker(url, lambda broker: broker.gates.open(limit, key))
    typer.echo(f"{_named(limit, key)} is running")


@limits.command("tune")
def tune_limit(
    limit: Limit,
    rate: Annotated[str | None, typer.Option("--rate", help="As in code: 50/s, 100/m.")] = None,
    most: Annotated[int | None, typer.Option("--most", help="Slots.")] = None,
    url: Url = None,
) -> None:
    """Use another rate or number of slots than the code says; with neither, the code's again."""
    with explained():
        per_second = None if rate is None else Rate(rate).per_second
        slots = None if most is None else Concurrency(most).most
    with_broker(url, lambda broker: broker.gates.tune(limit, rate=per_second, most=slots))
    typer.echo(f"limit {limit} is tuned" if rate or most else f"limit {limit} follows the code")


@strikes.command("list")
def list_all(url: Url = None, as_json_: Json = False) -> None:
    """List strikes."""
    from conveyor.brokers.strikes import list_strikes

    found = with_broker(url, list_strikes)
    if as_json_:
        as_json(found)
        return
    table(
        ("id", "holds back", "since (UTC)", "until (UTC)"),
        ((one.id, one.sentence(), moment(one.at), moment(one.until)) for one in found),
        empty="nothing is struck",
    )


@strikes.command("add")
def add(
    name: Annotated[
        str | None, typer.Option("--name", help="Task definition; * and ? are wild.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="'customer_id == 7'; may be repeated.")
    ] = None,
    seconds: Seconds = None,
    reason: Reason = "",
    by: By = None,
    url: Url = None,
) -> None:
    """Hold back tasks for which everything given holds; prints the strike's id."""
    from conveyor.brokers.strikes import forget_strikes, put_strike
    from conveyor.system import new_id

    now = time.time()
    with explained():
        made = Strike(
            id=new_id(),
            name=name,
            queue=None if queue is None else queue_name(queue),
            where=tuple(map(Comparison.parse, where or ())),
            reason=reason,
            by=by or login(),
            at=now,
            until=None if seconds is None else now + seconds,
        )

    async def put(broker: Broker) -> None:
        await forget_strikes(broker, now)
        await put_strike(broker, made)

    with_broker(url, put)
    typer.echo(made.id)


@strikes.command("lift")
def lift(strike_id: Annotated[str, typer.Argument(metavar="ID")], url: Url = None) -> None:
    """End a strike: what it held back may start."""
    from conveyor.brokers.strikes import lift_strike

    freed = with_broker(url, lambda broker: lift_strike(broker, strike_id))
    if freed is None:
        fail(f"no strike has the id {strike_id!r}: see conveyor strikes list", NOT_FOUND)
    typer.echo(f"{strike_id}  lifted, {freed} task(s) queued")


def _named(limit: str, key: str | None) -> str:
    return f"limit {limit}" if key is None else f"limit {limit}, key {key}"
