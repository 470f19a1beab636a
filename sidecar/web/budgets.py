"""How many requests of each kind may be under way at a time (`limits.in_flight`).

Pages, api calls and streams have budgets of their own, since a page waits for its own api calls
through the same sidecar. Requests whose body is still coming are in none of them: whoever sends
slowly keeps nobody out but others who do.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.core.errors import Overloaded

if TYPE_CHECKING:
    from sidecar.core.config.model import InFlight

STREAM: Final = "stream"  # the budget of event streams, WebSockets, and whatever lasts
BODY: Final = "body"  # requests of which the end of the body is not here yet


class Body(Protocol):
    """The body of a request while it comes, or of a response while it goes."""

    @property
    def rate(self) -> float:
        """How fast its client sends or takes it, in bytes a second (`core.pace`)."""

    def give_up(self, why: str) -> None:
        """Waits no longer, and says why."""


class Budgets:
    """Counts requests, by kind: `in_flight` are under way, `limits` may be at a time."""

    __slots__ = ("_coming", "_going", "in_flight", "limits")

    def __init__(self, limits: InFlight) -> None:
        self.limits: Final[dict[str, int]] = {
            "api": limits.api,
            "page": limits.page,
            STREAM: limits.stream,
            BODY: limits.api + limits.page + limits.stream,
        }
        self._coming: Final[set[Body]] = set()
        self._going: Final[set[Body]] = set()  # those that count as streams
        self.in_flight: Final[dict[str, int]] = dict.fromkeys(self.limits, 0)

    def take(self, kind: str) -> None:
        """Counts a request in. Raises `Overloaded`."""
        if self.in_flight[kind] >= self.limits[kind]:
            raise Overloaded(f"budget of {kind} requests is used up")
        self.in_flight[kind] += 1

    def take_late(self, kind: str) -> None:
        """Counts a request in whose body has come to its end: its upstream has it, so it stays."""
        self.in_flight[kind] += 1

    def move_to_streams(self, kind: str, response: Body | None = None) -> bool:
        """Counts a request as a stream from now on. Returns False if their budget is used up.

        `kind` is empty if its body is still coming. A `response` is one that lasts for its client's
        sake, until `goes_no_more`. If these are most of the streams, the slowest make room for it:
        where it is it would keep others out.
        """
        limit = self.limits[STREAM]
        if self.in_flight[STREAM] >= limit and response and 2 * len(self._going) > limit:
            for slow in _slowest(self._going):
                self._going.remove(slow)
                slow.give_up("the client takes its response too slowly, as many others do")
        if self.in_flight[STREAM] >= limit:
            return False
        if response is not None:
            self._going.add(response)
        if kind:
            self.in_flight[kind] -= 1
        self.in_flight[STREAM] += 1
        return True

    def release(self, kind: str) -> None:
        """Counts a request out."""
        self.in_flight[kind] -= 1

    def goes_no_more(self, response: Body) -> None:
        """A response has gone to its end."""
        self._going.discard(response)

    def comes(self, body: Body) -> None:
        """Counts a request in whose body comes.

        If there are too many, the slowest are given up (408).
        """
        self._coming.add(body)
        self.in_flight[BODY] += 1
        if self.in_flight[BODY] <= self.limits[BODY]:
            return
        for slow in _slowest(self._coming):
            self.comes_no_more(slow)
            slow.give_up("the request body comes too slowly, and many others come")

    def comes_no_more(self, body: Body) -> None:
        """Counts a request out whose body has come, or does not come."""
        if body in self._coming:
            self._coming.remove(body)
            self.in_flight[BODY] -= 1


def _slowest(bodies: Collection[Body]) -> list[Body]:
    """Those to be given up: some at once, since each look goes through all of them."""
    return nsmallest(max(1, len(bodies) // 100), bodies, key=lambda one: one.rate)
