"""Quantiles out of the counts of buckets, as Prometheus's `histogram_quantile` works them out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from sidecar.core.histogram import BUCKETS
from sidecar.observation.status_model import Latency

BOUNDS_MS: Final = tuple(1000 * bound for bound in BUCKETS)
"""Upper bounds in milliseconds of every distribution of the document."""


def quantile(share: float, counts: Sequence[int]) -> float | None:
    """The value below which a `share` (0 to 1) of what was counted lies; None if nothing was.

    `counts` has one bucket more than `BOUNDS_MS`, for what is above all of them, of which nothing
    is known but that. Within a bucket values are taken to be spread evenly.
    """
    totals, bounds = list(accumulate(counts)), BOUNDS_MS
    if not totals or totals[-1] == 0:
        return None
    rank = share * totals[-1]
    at = bisect_left(totals, rank)
    if at >= len(bounds):
        return bounds[-1]
    low = bounds[at - 1] if at else 0.0
    below = totals[at - 1] if at else 0
    return round(low + (bounds[at] - low) * (rank - below) / counts[at], 3)


def latency(counts: Sequence[int], seconds: float) -> Latency:
    """What follows of how many were counted in each bucket, and how long all took together."""
    number = sum(counts)
    return Latency(
        counts=tuple(counts),
        mean=round(seconds * 1000 / number, 3) if number else None,
        p50=quantile(0.5, counts),
        p95=quantile(0.95, counts),
        p99=quantile(0.99, counts),
        seconds=round(seconds, 6),
    )


def added(*series: Sequence[int]) -> tuple[int, ...]:
    """The sums, place by place. Raises `ValueError` if the lengths differ."""
    for one, other in pairwise(series):
        if len(one) != len(other):
            raise ValueError("series of different lengths")
    return tuple(map(sum, zip(*series, strict=True)))
