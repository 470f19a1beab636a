"""A share of the event loop's time: long work gives way to other requests in between."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

SHARE: Final = 0.004  # seconds of work after which the others come first


class Turn:
    """Counts the time that work has taken since the others were last let in.

    The loop's own clock stands still while its callbacks run, so it is of no use here.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the others should come first now."""
        return perf_counter() - self._since > SHARE

    async def give_way(self) -> None:
        """Lets the others in if the turn is over; else returns at once."""
        if self.is_over:
            await asyncio.sleep(0)
            self._since = perf_counter()
