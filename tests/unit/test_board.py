"""The flight board: what it shows, and that it survives its writer."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from conveyor.system import new_id
from conveyor.worker.board import NO_SLOT, Board, LocalBoard, slots_for
from tests.worker.harness import eventually

WRITER = """
import os, signal, sys
from conveyor.worker.board import Board
board = Board.attach(sys.argv[1])
ended = board.started(sys.argv[2], 7)
board.started(sys.argv[3], 8, alone=True)
board.ended(ended)
board.started(sys.argv[4], 9)
board.beat(1.5); board.stepped(2.5); board.publish(2, 1, 3)
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


@pytest.fixture(params=["shared", "local"])
def board(request: pytest.FixtureRequest) -> Iterator["Board | LocalBoard"]:
    if request.param == "local":
        yield LocalBoard()
        return
    board = Board.create(slots_for(2))
    yield board
    board.close()


def test_shows_what_was_started_and_has_not_ended(board: "Board | LocalBoard") -> None:
    first, second, third = new_id(), new_id(), new_id()
    slot = board.started(first, 1)
    board.started(second, 2, alone=True)
    board.ended(slot)
    board.started(third, 3)
    assert sorted(board.running_now()) == sorted([(second, 2, True), (third, 3, False)])


def test_shows_life_and_counts(board: "Board | LocalBoard") -> None:
    assert (board.last_beat, board.last_step) == (0.0, 0.0)
    board.beat(12.25)
    board.stepped(11.125)
    board.publish(5, 2, 1)
    assert (board.last_beat, board.last_step) == (12.25, 11.125)
    assert (board.running, board.stuck, board.stale) == (5, 2, 1)


def test_a_local_lease_never_ends_and_a_shared_one_is_over_until_renewed() -> None:
    assert LocalBoard().lease_until == inf
    board = Board.create(1)
    assert board.lease_until == 0.0
    board.lease_until = 99.5
    other = attached(board)
    assert other.lease_until == 99.5
    other.close()
    board.close()


def test_survives_the_death_of_its_writer() -> None:
    board = Board.create(slots_for(2))
    ids = [new_id() for _ in range(3)]
    subprocess.run(
        [sys.executable, "-c", WRITER, board.address, *ids],
        check=False,
        pass_fds=() if board.fd is None else (board.fd,),
    )
    assert sorted(board.running_now()) == sorted([(ids[1], 8, True), (ids[2], 9, False)])
    assert (board.last_beat, board.last_step) == (1.5, 2.5)
    assert (board.running, board.stuck, board.stale) == (2, 1, 3)
    board.close()


def test_a_full_board_blames_nobody() -> None:
    board = Board.create(2)
    slots = [board.started(new_id(), 1) for _ in range(3)]
    assert slots[2] == NO_SLOT
    assert len(board.running_now()) == 2
    for slot in slots:
        board.ended(slot)
    assert board.running_now() == []
    assert board.started(new_id(), 2) != NO_SLOT
    board.close()


def test_has_room_for_twice_the_concurrency() -> None:
    board = Board.create(slots_for(100))
    assert NO_SLOT not in [board.started(new_id(), 1) for _ in range(200)]
    board.close()


def test_leaves_no_file_behind() -> None:
    # Of other test processes there are files too, for a moment each: ours would stay.
    before = board_files()
    board = Board.create(1)
    if os.name == "posix":
        eventually(lambda: not board_files() - before)  # a kill from now on leaves nothing
    board.close()
    board.close()
    eventually(lambda: not board_files() - before)


def attached(board: Board) -> Board:
    """Map it again in this process."""
    return Board.attach(board.address if board.fd is None else f"fd:{os.dup(board.fd)}")


def board_files() -> set[Path]:
    folders = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    return {file for folder in folders for file in folder.glob("conveyor-board-*")}
