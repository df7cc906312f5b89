"""How a task definition has changed over time, and what of its calls is secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.errors import InvalidOption

if TYPE_CHECKING:
    from conveyor.core.signature import Signature

Upcaster = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]
"""From the plain arguments of one version to those of the next."""


class Evolution(msgspec.Struct, frozen=True, kw_only=True):
    """`version` counts incompatible changes of the signature; `migrate[n]` turns the arguments of
    version n into those of n + 1 (versions without one need no change). `aliases` are names the
    task had before. `encrypt` names parameters that are sealed with the app's keys.
    """

    version: int = 1
    migrate: Mapping[int, Upcaster] = {}
    aliases: tuple[str, ...] = ()
    encrypt: tuple[str, ...] = ()

    def check(self, name: str, signature: Signature) -> None:
        """Raise `InvalidOption` for what cannot be meant."""
        version: Any = self.version
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise InvalidOption(f"version={version!r} of {name!r}: a whole number from 1")
        for step, upcaster in self.migrate.items():
            if step not in range(1, version) or not callable(upcaster):
                raise InvalidOption(
                    f"migrate={{{step!r}: …}} of {name!r}: keys from 1 to version - 1, values that "
                    "are functions of (args, kwargs)"
                )
        if wrong := [alias for alias in self.aliases if not alias or alias == name]:
            raise InvalidOption(f"aliases={wrong!r} of {name!r}: names that the task had before")
        if unknown := [field for field in self.encrypt if field not in signature.names]:
            raise InvalidOption(
                f"encrypt={unknown!r} of {name!r}: names of its parameters, "
                f"which are {', '.join(signature.names) or 'none'}"
            )


def names_of(value: object, option: str) -> tuple[str, ...]:
    """Return names as a tuple. Raises `InvalidOption`, also for a single text: its letters would
    be taken for names."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidOption(f"{option}={value!r}: a list of names, e.g. {option}=['one']")
    names = tuple(value)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InvalidOption(f"{option}: {wrong[0]!r} is no name")
    return names
