"""Which tasks are one: uniqueness and debounce as a definition states them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.keying import KeyFunction, key_of, must_be_function
from conveyor.core.task import Unique as UniqueTerm

_UNTIL = {"while_queued": "queued", "until_start": "start", "until_done": "done"}
_ON_CONFLICT = {"return_existing": "return", "replace": "replace", "raise": "raise"}
_KEEP = {"last": "replace", "first": "return"}
"""What a debounced enqueue does to the task that waits, by the arguments that are kept."""


class Unique(msgspec.Struct, frozen=True):
    """At most one such task at a time.

    `until` says how long a task keeps others out: `"while_queued"` (while it waits, also for a
    retry), `"until_start"`, `"until_done"`, or a number of seconds (or timedelta) from its enqueue.
    `key` is a function of the arguments; default: all of them. `on_conflict`: `"return_existing"`
    (the enqueue returns the other task, `created` is False), `"replace"` (one that still waits is
    cancelled in favour of this one) or `"raise"` (`NotUnique`).

    Raises `InvalidOption` when a value makes no sense.
    """

    until: str | float | timedelta = "until_done"
    key: KeyFunction | None = None
    on_conflict: str = "return_existing"

    def __post_init__(self) -> None:
        """Refuse what no store would understand."""
        if isinstance(self.until, str) and self.until not in _UNTIL:
            raise InvalidOption(
                f"unique={self.until!r}: {', '.join(_UNTIL)}, or seconds from the enqueue on"
            )
        if not isinstance(self.until, str):
            seconds(self.until, "unique", least=0.001)
        must_be_function(self.key, "key")
        if self.on_conflict not in _ON_CONFLICT:
            raise InvalidOption(
                f"Unique(on_conflict={self.on_conflict!r}): one of {', '.join(_ON_CONFLICT)}"
            )

    def term(
        self, payload: bytes, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> UniqueTerm:
        """Return the term of one call."""
        key = _unique_key(self.key, payload, name, args, kwargs)
        conflict = _ON_CONFLICT[self.on_conflict]
        if isinstance(self.until, str):
            return UniqueTerm(key, _UNTIL[self.until], on_conflict=conflict)
        period = seconds(self.until, "unique", least=0.001)
        return UniqueTerm(key, "period", period, on_conflict=conflict)


class Debounce(msgspec.Struct, frozen=True):
    """Run once after things have been quiet for `wait` seconds.

    Each enqueue with the same `key` starts the wait anew, but the task is due no later than `max`
    seconds after the first one (None: for ever). `key` is a function of the arguments; default:
    all tasks of the definition are one. `keep` says whose arguments it runs with: with `"last"`
    every enqueue replaces the task that waits, with `"first"` it puts that task off and returns it
    (`created` is False).

    Raises `InvalidOption` when a value makes no sense.
    """

    wait: float | timedelta
    max: float | timedelta | None = None
    key: KeyFunction | None = None
    keep: str = "last"

    def __post_init__(self) -> None:
        """Refuse waits that cannot be waited."""
        wait = seconds(self.wait, "debounce", least=0.001)
        if self.max is not None and seconds(self.max, "debounce max") < wait:
            raise InvalidOption(f"Debounce({wait:g}, max={self.max!r}): max is at least the wait")
        must_be_function(self.key, "key")
        if self.keep not in _KEEP:
            raise InvalidOption(f"Debounce(keep={self.keep!r}): one of {', '.join(_KEEP)}")

    @property
    def delay(self) -> float:
        """Seconds of silence."""
        return seconds(self.wait, "debounce", least=0.001)

    def term(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> UniqueTerm:
        """Return the term of one call."""
        key = "" if self.key is None else key_of(self.key, name, args, kwargs)
        longest = 0.0 if self.max is None else seconds(self.max, "debounce max")
        return UniqueTerm(
            f"debounce:{key}",
            "queued",
            self.delay,
            _KEEP[self.keep],
            debounce=True,
            longest=longest,
        )


def unique_of(unique: Unique | str | float | timedelta | None) -> Unique | None:
    """Return the rule that a short form stands for. Raises `InvalidOption`."""
    return unique if unique is None or isinstance(unique, Unique) else Unique(unique)


def keep_secret(unique: Unique | None) -> None:
    """Raise `InvalidOption` for a rule that would store a digest of sealed arguments."""
    if unique is not None and unique.key is None:
        raise InvalidOption("unique= beside encrypt= needs a key function of what is not secret")


def debounce_of(debounce: Any) -> Debounce | None:
    """Return it if it is a `Debounce` or None. Raises `InvalidOption`."""
    if debounce is not None and not isinstance(debounce, Debounce):
        raise InvalidOption(f"debounce={debounce!r}: a Debounce, e.g. Debounce(5, max=60)")
    return debounce


def _unique_key(
    function: KeyFunction | None,
    payload: bytes,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str:
    if function is None:
        return hashlib.sha256(payload).hexdigest()[:32]
    return f"key:{key_of(function, name, args, kwargs)}"
