"""The pytest plugin: a fixture that puts an app under test.

async def test_welcome(conveyor_harness):
    async with conveyor_harness(app) as kit:
        await sign_up("ada@example.org")
        await kit.assert_enqueued(send_welcome, ["ada@example.org"])
        await kit.drain()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from conveyor.app import Conveyor
    from conveyor.testing.kit import Harness


@pytest.fixture
def conveyor_harness() -> Callable[[Conveyor], AbstractAsyncContextManager[Harness]]:
    """Return `conveyor.testing.harness`: an async context manager that takes the app."""
    from conveyor.testing.kit import harness

    return harness
