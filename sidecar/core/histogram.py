"""How long things took, counted in buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds in seconds of every histogram."""


class Histogram:
    """How long something took. `buckets` are not cumulative, unlike Prometheus's."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one that took so long."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


def total(parts: Iterable[Histogram]) -> Histogram:
    """What several have counted together."""
    whole = Histogram()
    for one in parts:
        whole.buckets = [sum(pair) for pair in zip(whole.buckets, one.buckets, strict=True)]
        whole.seconds += one.seconds
    return whole
