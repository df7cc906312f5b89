"""The contract of a broker as a test suite: run it on your own.

In a test module, say how to connect to a fresh, migrated store and install the suite:

    import pytest
    from conveyor.testing.conformance import Capabilities, install

    @pytest.fixture
    def connect_broker(tmp_path):
        return lambda clock: MyBroker(tmp_path / "store", clock=clock)

    @pytest.fixture
    def capabilities():
        return Capabilities()

    install(globals())

`connect_broker` is called several times in a test, for several processes on one store; it returns
a broker that is not open yet. Each test needs an empty store. The tests are `async` and run with
anyio's pytest plugin: set `anyio_mode = "auto"` or `pytestmark = pytest.mark.anyio`.
"""

from __future__ import annotations

from importlib import import_module
from inspect import iscoroutinefunction
from pkgutil import iter_modules
from typing import Any

import pytest

_MODULES = [module.name for module in iter_modules(__path__, prefix=f"{__name__}.")]
# Not this package itself: it is imported already, which pytest would warn of.
pytest.register_assert_rewrite(*_MODULES)

from conveyor.testing.conformance.rig import Capabilities, Rig, rig  # noqa: E402

__all__ = ["Capabilities", "Rig", "install"]


def install(namespace: dict[str, Any]) -> None:
    """Put the suite's tests and its fixture in the namespace of a test module.

    Raises `ValueError` when two tests have the same name: one would hide the other.
    """
    namespace["rig"] = rig
    for module in _MODULES:
        for name, value in vars(import_module(module)).items():
            if name.startswith("test_") and iscoroutinefunction(value):
                if name in namespace:
                    raise ValueError(f"two conformance tests are named {name}: rename one")
                namespace[name] = value
