"""Buckets of durations, 2^(1/4) apart: a percentile is off by 9 % at most. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2, sqrt

PER_OCTAVE = 4
SHORTEST = 1e-4
"""Seconds; what is shorter is in bucket 0."""
_LAST = 160
"""About 3 years."""
_STEP: float = 2 ** (1 / PER_OCTAVE)


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket whose upper bound is the first at or above `seconds`."""
    if seconds <= SHORTEST:
        return 0
    return min(_LAST, ceil(PER_OCTAVE * log2(seconds / SHORTEST)))


def upper_bound(bucket: int) -> float:
    """Return the longest duration of a bucket, seconds."""
    return SHORTEST * 2 ** (bucket / PER_OCTAVE)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration that `share` (0 to 1) of the counted ones do not exceed, in seconds: the
    geometric middle of its bucket. None when nothing was counted."""
    total = sum(counts.values())
    if total == 0:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            break
    return upper_bound(bucket) / sqrt(_STEP) if bucket else SHORTEST
