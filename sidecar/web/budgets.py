"""How many requests of each kind may be under way at a time (`limits.in_flight`).

Pages, api calls and streams have budgets of their own, since a page waits for its own api calls
through the same sidecar. Requests whose body is still waited for are in none of them: whoever sends
slowly keeps nobody out but others who do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from sidecar.core.errors import Overloaded

if TYPE_CHECKING:
    from sidecar.core.config.model import InFlight

STREAM: Final = "stream"  # the budget of event streams, WebSockets, and whatever lasts


BODY: Final = "body"  # requests of which the end of the body, or a first part, is waited for

GiveUp: TypeAlias = Callable[[str], None]
"""Ends the wait for a client's body, and is told why."""


class Budgets:
    """Counts requests, by kind: `in_flight` are under way, `limits` may be at a time."""

    __slots__ = ("_waiting", "in_flight", "limits")

    def __init__(self, limits: InFlight) -> None:
        self.limits: Final[dict[str, int]] = {
            "api": limits.api,
            "page": limits.page,
            STREAM: limits.stream,
            BODY: limits.api + limits.page + limits.stream,
        }
        self._waiting: Final[dict[GiveUp, None]] = {}  # for bodies, the longest one first
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

    def wait(self, give_up: GiveUp) -> None:
        """Counts a request in whose body is waited for; `give_up` is its connection's.

        If there are too many, the one that is waited for longest is given up (408).
        """
        self._waiting[give_up] = None
        self.in_flight[BODY] += 1
        if self.in_flight[BODY] > self.limits[BODY]:
            longest = next(iter(self._waiting))
            self.wait_no_more(longest)
            longest("the request body comes too slowly, and many others wait")

    def wait_no_more(self, give_up: GiveUp) -> None:
        """Counts a request out whose body was waited for."""
        if give_up in self._waiting:
            del self._waiting[give_up]
            self.in_flight[BODY] -= 1
