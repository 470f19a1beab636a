"""The server-render bridge, decided: which answers depend on their session's being alive.

A Server Component cannot touch cookies. So where its API call comes back 401 while its page is
being rendered, the sidecar gives the page's own request the answer (contract 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.client import Client
from sidecar.core.request import Request
from sidecar.core.routes import Route


@dataclass(frozen=True, slots=True)
class BridgeRule:
    """Compiled: `login` is the path of `redirect_to` on this site (None: it is elsewhere), `hold`
    how many seconds router data may be held.
    """

    login: str | None
    hold: float

    def concerns(self, request: Request, route: Route) -> bool:
        """Whether the answer becomes a way to the logout where its session is dead.

        Only navigations, by document or by router, and never the page that the logout leads to.
        """
        return (
            route.kind == "page"
            and route.session != "none"
            and request.method == "GET"
            and request.client in (Client.DOCUMENT, Client.ROUTER)
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
