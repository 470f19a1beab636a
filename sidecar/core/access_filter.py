"""Which requests get a line in the access log."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class AccessFilter(msgspec.Struct, frozen=True):
    """A request that fails always gets one; one that meets a minimum does; others by chance.

    `sample` is the fraction of the others. `min_duration` is in seconds.
    """

    min_status: int | None
    min_duration: float | None
    sample: float

    @property
    def takes_all(self) -> bool:
        """Whether every request gets a line."""
        return self.sample >= 1.0

    def takes(
        self, status: int, seconds: float, *, is_broken: bool, draw: Callable[[], float]
    ) -> bool:
        """Whether a request gets a line that was answered as `status` and took so many seconds.

        `is_broken`: its response ended before its end. `draw` returns a number in [0, 1).
        """
        if status >= 500 or is_broken:
            return True
        if self.min_status is not None and status >= self.min_status:
            return True
        if self.min_duration is not None and seconds >= self.min_duration:
            return True
        return draw() < self.sample


def access_filter(
    min_status: int | None, min_duration: float | None, sample: float | None
) -> AccessFilter:
    """The rule as it is written: without a `sample`, all get a line unless there is a minimum."""
    if sample is None:
        sample = 1.0 if min_status is None and min_duration is None else 0.0
    return AccessFilter(min_status, min_duration, sample)
