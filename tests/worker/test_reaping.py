"""Who is to blame for a dead process, and how its death is put into words (contract D12)."""

import asyncio
import sys
from collections.abc import Collection

import pytest

from conveyor.brokers.base import Holding, Note, Settlement
from conveyor.core.task import Counters, Lease, State
from conveyor.worker.board import Started
from conveyor.worker.frames import ATOMIC, FrameCutter, frame
from conveyor.worker.messages import Configure
from conveyor.worker.reaping import Blame, Death, crash_error, decide_all
from conveyor.worker.settings import WorkerSettings
from conveyor.worker.spawn import Exit, Spawned
from tests.worker.harness import lease_of

KILLED = Exit(-9, 512 * 2**20)


def death(started: Collection[Started], blame: Blame = Blame.TASKS) -> Death:
    return Death("w", KILLED, blame, started, {"tests.worker.apps.echo": "v1"})


def settle(lease: Lease, dead: Death) -> Settlement:
    holding = Holding(lease, Note(lease.task.id, "default", lease.execution, logs=("a line",)))
    (settlement,) = decide_all(dead, [holding], now=lease.leased_at + 3, dice=lambda: 0.5)
    return settlement


def test_a_started_task_has_crashed() -> None:
    lease = lease_of("echo")
    settlement = settle(lease, death([(lease.task.id, 1, False)]))
    assert settlement.transition.to is State.SCHEDULED
    assert settlement.transition.counters == Counters(attempts=1, crashes=1)
    record = settlement.execution
    assert record is not None
    assert (record.outcome, record.code_version, record.logs) == ("crashed", "v1", ("a line",))
    assert record.duration == pytest.approx(3)
    assert record.retry_in == settlement.transition.delay
    assert record.error is not None
    assert record.error.message == "its process was killed by signal 9 (SIGKILL), peak RSS 512 MiB"


def test_one_that_never_started_is_given_back_without_a_trace() -> None:
    lease = lease_of("echo")
    settlement = settle(lease, death([]))
    assert (settlement.transition.to, settlement.execution) == (State.QUEUED, None)
    assert settlement.transition.counters == Counters()


def test_an_older_execution_on_the_board_is_not_this_one() -> None:
    lease = lease_of("echo")
    assert settle(lease, death([(lease.task.id, 7, False)])).execution is None


def test_one_in_a_process_of_its_own_is_lost_and_not_blamed() -> None:
    lease = lease_of("echo")
    settlement = settle(lease, death([(lease.task.id, 1, True)]))
    assert settlement.transition.counters == Counters(losses=1)
    assert settlement.execution is not None
    assert settlement.execution.outcome == "lost"


def test_what_we_ended_is_interrupted() -> None:
    lease = lease_of("echo")
    settlement = settle(lease, death([(lease.task.id, 1, False)], Blame.US))
    assert settlement.transition.counters == Counters()
    assert settlement.execution is not None
    assert (settlement.execution.outcome, settlement.execution.error) == ("interrupted", None)


@pytest.mark.parametrize(
    ("exit_", "others", "words"),
    [
        (Exit(3), 0, "its process ended with exit code 3"),
        (Exit(-11, 2**20), 0, "was killed by signal 11 (SIGSEGV), peak RSS 1 MiB"),
        (Exit(-9, 2**20, at_most=True), 0, "peak RSS at most 1 MiB"),
        (Exit(-64), 0, "signal 64"),
        (Exit(1), 1, "its process, which also ran 1 other task, ended"),
        (Exit(1), 5, "its process, which also ran 5 other tasks, ended"),
    ],
)
def test_deaths_in_words(exit_: Exit, others: int, words: str) -> None:
    assert words in crash_error(exit_, others).message


# -- processes and pipes


async def test_the_last_words_of_a_process_come_before_its_end() -> None:
    heard: list[bytes] = []
    spawned = Spawned("tests.worker.last_words", heard.append)
    exit_ = await asyncio.shield(spawned.exited)
    assert exit_.code == 5
    assert [body[:1] for body in heard] == [b"\xda"] * 100
    assert not spawned.send("too late")
    spawned.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs wait4")
async def test_peak_memory_is_that_of_the_process() -> None:
    spawned = Spawned("tests.worker.last_words", lambda _: None)
    exit_ = await asyncio.shield(spawned.exited)
    assert exit_.peak_rss > 5 * 2**20


def test_frames_are_cut_wherever_the_stream_breaks() -> None:
    messages = [frame(text) for text in ("", "a", "b" * 70_000)]
    stream = b"".join(messages)
    for size in (1, 3, 1000, len(stream)):
        cutter = FrameCutter()
        bodies = [
            body
            for start in range(0, len(stream), size)
            for body in cutter.feed(stream[start : start + size])
        ]
        assert bodies == [message[4:] for message in messages]


def test_a_first_message_fits_into_an_empty_pipe() -> None:
    settings = WorkerSettings(target="a" * 200, url="b" * 500, queues=tuple("q" * 50 for _ in "x"))
    assert len(frame(Configure(settings, "t" * 36, "/dev/shm/" + "p" * 100))) < ATOMIC
