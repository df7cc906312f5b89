"""The background loop of synchronous callers."""

import asyncio
import os
import threading

import pytest

from conveyor.portal import Portal


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


def names() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "conveyor-portal"]


def test_it_starts_on_use_and_ends_when_closed() -> None:
    portal = Portal()
    assert not portal.started
    assert names() == []
    assert portal.run(answer(1)) == 1
    assert portal.run(answer(2)) == 2
    assert names() == ["conveyor-portal"]
    portal.close()
    portal.close()
    assert not portal.started
    assert names() == []


def test_it_starts_again_after_it_was_closed() -> None:
    portal = Portal()
    portal.run(answer(1))
    portal.close()
    assert portal.run(answer(3)) == 3
    portal.close()


def test_what_the_coroutine_raises_reaches_the_caller() -> None:
    async def fail() -> None:
        raise LookupError("there")

    portal = Portal()
    with pytest.raises(LookupError, match="there"):
        portal.run(fail())
    portal.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_gets_a_loop_of_its_own() -> None:
    portal = Portal()
    portal.run(answer(1))
    child = os.fork()
    if child == 0:
        try:
            code = 0 if not portal.started and portal.run(answer(5)) == 5 else 1
        except BaseException:  # noqa: BLE001 - the child must not run pytest's own end
            code = 2
        os._exit(code)
    _, status = os.waitpid(child, 0)
    portal.close()
    assert os.waitstatus_to_exitcode(status) == 0
