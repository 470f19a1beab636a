"""Tokens that an upstream rejects: whether it rejects every one, as with a wrong audience."""

from __future__ import annotations

from typing import Final

import msgspec

IN_A_ROW: Final = 3  # sessions rejected without one success between that are worth a warning
WITHIN: Final = 60.0  # seconds between two of them; and between two warnings of a route
KEPT: Final = 1000  # sessions of which it is remembered who rejected them


class _Row(msgspec.Struct):
    count: int = 0
    successes: int = 0
    last: float = float("-inf")
    warned: float = float("-inf")


class Rejections:
    """What was rejected lately, by route (of the configuration) and by session (bounded)."""

    def __init__(self) -> None:
        self._rows: Final[dict[str, _Row]] = {}
        self._routes: Final[dict[str, str]] = {}

    def add(self, route: str, fingerprint: str, *, successes: int, now: float) -> bool:
        """Notes that a session was rejected. True: it is time for a warning.

        `successes` is how many requests of the route have succeeded so far.
        """
        self._routes.pop(fingerprint, None)
        self._routes[fingerprint] = route
        if len(self._routes) > KEPT:
            del self._routes[next(iter(self._routes))]
        row = self._rows.setdefault(route, _Row())
        if row.successes != successes or now - row.last >= WITHIN:
            row.count = 0
        row.count, row.successes, row.last = row.count + 1, successes, now
        if row.count < IN_A_ROW or now - row.warned < WITHIN:
            return False
        row.warned = now
        return True

    def route_of(self, fingerprint: str) -> str | None:
        """The route on which a session was rejected, if that is remembered."""
        return self._routes.get(fingerprint)
