"""Whether the broker's clock can be trusted to say that a lease is over (contract D25). Pure."""

from __future__ import annotations

TOLERANCE = 2.0
"""Seconds the two clocks may disagree between rounds, and the broker may be away."""


class ClockWatch:
    """Compares the broker's clock with a monotonic one from round to round.

    After a jump, or when the broker was away, a lease may look over whose worker is well: nobody
    is to be rescued before every worker has had the time to renew.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._away_since: float | None = None

    def failed(self, now: float) -> None:
        """A call found no broker, at monotonic `now`."""
        if self._away_since is None:
            self._away_since = now

    def followed(self) -> None:
        """Someone else leads: an outage until now is theirs to judge."""
        self._away_since = None

    def age(self, now: float) -> float:
        """Seconds since the clocks were last read together."""
        return float("inf") if self._last is None else now - self._last[1]

    def read(self, broker_time: float, now: float) -> None:
        """Take the clocks, read together, as they are: someone else leads and has judged."""
        self._last = (broker_time, now)

    def disturbed(self, broker_time: float, now: float) -> str | None:
        """Say in a few words why leases cannot be trusted in this round, or None. `broker_time` is
        the broker's clock, `now` the monotonic one, read together.
        """
        away = 0.0 if self._away_since is None else now - self._away_since
        jump = 0.0
        if self._last is not None:
            jump = (broker_time - self._last[0]) - (now - self._last[1])
        self._last = (broker_time, now)
        self._away_since = None
        if abs(jump) > TOLERANCE:
            return f"the broker's clock jumped by {jump:+.1f} s"
        if away > TOLERANCE:
            return f"the broker was away for {away:.1f} s"
        return None
