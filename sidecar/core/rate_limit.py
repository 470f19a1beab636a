"""How often each client may do something: the generic cell rate algorithm (ITU-T I.371).

A client may do it `count` times at once, and gets these back evenly over the rate's unit of time.
So it does it at most `count` times more than the rate says, over any span of time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from sidecar.core.config.units import Rate

MOST: Final = 8192  # clients of each kind that are remembered for one limit
NEWS: Final = 60.0  # seconds between two lines of the log about one limit
_TOLERANCE: Final = 1e-3  # of the time between two; what floating point may lose is far less


def take(whole_at: float, rate: Rate, now: float) -> tuple[float, float]:
    """Takes one. Returns when the allowance is whole again, and how long to wait if it is used up.

    `whole_at` is what the last call returned, or any time in the past. The wait is 0 if one was
    taken. All are seconds of one clock; one that was set back costs nobody more than a unit.
    """
    apart = rate.seconds / rate.count
    whole_at = min(max(whole_at, now), now + rate.seconds)
    wait = whole_at + apart - now - rate.seconds
    if wait > apart * _TOLERANCE:
        return whole_at, wait
    return whole_at + apart, 0.0


class RateLimit:
    """One limit, for each client by itself.

    What is remembered is bounded. A client whose allowance is whole is forgotten at no cost. If
    there are too many others, the one that was seen longest ago starts anew; those that have used
    more than half make room only for each other. So many addresses that are used once or twice do
    not make forgotten who is near the limit.
    """

    __slots__ = ("_few", "_many", "_silent_until", "rate")

    def __init__(self, rate: Rate, before: RateLimit | None = None) -> None:
        """`before` is that of the configuration that held until now."""
        self.rate: Final = rate
        self._few: Final[OrderedDict[bytes, float]] = OrderedDict()
        self._many: Final[OrderedDict[bytes, float]] = OrderedDict()
        self._silent_until = float("-inf")
        if before is not None:
            self._few.update(before._few)
            self._many.update(before._many)

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._few) + len(self._many)

    def take(self, client: bytes, now: float) -> float:
        """Takes one for a client. Returns 0, or the seconds to wait if it may not."""
        known = self._many.pop(client, None)
        if known is None:
            known = self._few.pop(client, now)
        whole_at, wait = take(known, self.rate, now)
        table = self._many if whole_at - now > self.rate.seconds / 2 else self._few
        table[client] = whole_at
        _make_room(table, now)
        return wait

    def is_news(self, now: float) -> bool:
        """Whether it is time for a line of the log."""
        if now < self._silent_until:
            return False
        self._silent_until = now + NEWS
        return True


def _make_room(table: OrderedDict[bytes, float], now: float) -> None:
    """Forgets clients that nothing is to be remembered of, and the oldest above `MOST`."""
    while len(table) > MOST or next(iter(table.values())) <= now:
        table.popitem(last=False)


def rate_limits(
    rates: Mapping[str, Rate | None], before: Mapping[str, RateLimit]
) -> Mapping[str, RateLimit]:
    """The limits that are on, by name; what `before` remembers goes on."""
    return {
        name: RateLimit(rate, before.get(name)) for name, rate in rates.items() if rate is not None
    }
