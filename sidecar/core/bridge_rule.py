"""The server-render bridge, decided: which answers depend on their session's being alive.

A Server Component cannot touch cookies. So where its API call comes back 401 while its page is
being rendered, the sidecar gives the page's own request the answer (behaviour: 401).
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.client import Client
from sidecar.core.request import Request
from sidecar.core.route_table import Route

AGAIN: Final = 10.0  # seconds within which a dead session's cookies lead to the logout once
KNOWN: Final = 600.0  # seconds that cookies which stay are known for, after they were last seen
MOST_KNOWN: Final = 4096  # cookies of dead sessions that are remembered, below 1 MiB


def _navigates(request: Request) -> bool:
    client = request.client
    return client is Client.DOCUMENT or (client is Client.ROUTER and request.method == "GET")


class BridgeRule(msgspec.Struct, frozen=True):
    """Compiled: `login` is the path of `redirect_to` on this site (None: it is elsewhere), `hold`
    how many seconds router data may be held.
    """

    login: str | None
    hold: float

    def concerns(self, request: Request, route: Route) -> bool:
        """Whether the answer becomes a way to the logout where its session is dead.

        Only navigations, by document (a form may post one) or by router, and never the page that
        the logout leads to.
        """
        return (
            route.kind == "page"
            and route.session != "none"
            and _navigates(request)
            and not self.is_login(request)
        )

    def is_login(self, request: Request) -> bool:
        """Whether the path is the one that a logout leads to."""
        return self.login is not None and request.route_path.rstrip("/") == self.login.rstrip("/")

    def sweeps(self, request: Request) -> bool:
        """Whether the answer takes dead session cookies away: the login page, drawn for a user.

        So the way through an identity provider and back is not taken for the dead session's.
        """
        return self.is_login(request) and request.client is Client.DOCUMENT

    def holds(self, request: Request) -> bool:
        """Whether the answer, a bridged one, may be held until server-side calls are back."""
        return self.hold > 0 and request.client is Client.ROUTER


class UndeletedCookies:
    """Finds dead sessions whose cookies the browser keeps, so that it is not led round for ever.

    A document that was led to the logout has its session's cookies expired there. The same cookies
    once more within `AGAIN` seconds mean that they were set for another path or domain. Of more
    than `MOST_KNOWN` the first are forgotten: their browser is led round once more. `cookies` is a
    number that stands for names and values.
    """

    __slots__ = ("_kept_until", "_led_at")

    def __init__(self) -> None:
        self._led_at: Final[dict[int, float]] = {}
        self._kept_until: Final[dict[int, float]] = {}

    def led(self, cookies: int, now: float) -> None:
        """Notes that a document that presented them is led to the logout."""
        _remember(self._led_at, cookies, now)

    def would_stay(self, cookies: int, now: float) -> bool:
        """Whether `is_known` or `is_found` would say so; nothing is noted."""
        led_at = self._led_at.get(cookies)
        is_found = led_at is not None and now - led_at < AGAIN
        return is_found or now < self._kept_until.get(cookies, now)

    def is_known(self, cookies: int, now: float) -> bool:
        """Whether they were found to stay."""
        if now >= self._kept_until.get(cookies, now):
            return False
        _remember(self._kept_until, cookies, now + KNOWN)
        return True

    def is_found(self, cookies: int, now: float) -> bool:
        """Whether it shows now that they stay; known from then on."""
        led_at = self._led_at.get(cookies)
        if led_at is None or now - led_at >= AGAIN:
            return False
        _remember(self._kept_until, cookies, now + KNOWN)
        return True


def _remember(known: dict[int, float], cookies: int, time: float) -> None:
    known.pop(cookies, None)
    known[cookies] = time
    if len(known) > MOST_KNOWN:
        del known[next(iter(known))]
