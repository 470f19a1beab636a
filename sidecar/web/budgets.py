"""How many requests of each kind may be under way at a time (`limits.in_flight`).

Pages, api calls and streams have budgets of their own, since a page waits for its own api calls
through the same sidecar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.errors import Overloaded

if TYPE_CHECKING:
    from sidecar.core.config.model import InFlight

STREAM: Final = "stream"  # the budget of event streams, WebSockets, and whatever lasts


class Budgets:
    """Counts requests, by kind: `in_flight` are under way, `limits` may be at a time."""

    __slots__ = ("in_flight", "limits")

    def __init__(self, limits: InFlight) -> None:
        self.limits: Final[dict[str, int]] = {
            "api": limits.api,
            "page": limits.page,
            STREAM: limits.stream,
        }
        self.in_flight: Final[dict[str, int]] = dict.fromkeys(self.limits, 0)

    def take(self, kind: str) -> None:
        """Counts a request in. Raises `Overloaded`."""
        if self.in_flight[kind] >= self.limits[kind]:
            raise Overloaded(f"budget of {kind} requests is used up")
        self.in_flight[kind] += 1

    def move_to_streams(self, kind: str) -> bool:
        """Counts a request as a stream from now on. Returns False if their budget is used up."""
        if self.in_flight[STREAM] >= self.limits[STREAM]:
            return False
        self.in_flight[kind] -= 1
        self.in_flight[STREAM] += 1
        return True

    def release(self, kind: str) -> None:
        """Counts a request out."""
        self.in_flight[kind] -= 1
