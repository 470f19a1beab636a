"""What becomes of a request, decided: its route, its session, and what its upstream is sent.

Nothing is done here, so who only wants to know asks the same (`web.foresight`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.core import max_forwards
from sidecar.core.client import Client
from sidecar.core.errors import ExpectationFailed, NoRoute, StoreUnavailable
from sidecar.core.forwarding import prepare_request
from sidecar.core.identity import identity_lines
from sidecar.core.record import replace
from sidecar.web.allowed import check_allowed
from sidecar.web.origin import public_origin

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.core.route_table import Route
    from sidecar.core.view import SessionView
    from sidecar.policy import Policy
    from sidecar.sessions.directory import SessionDirectory
    from sidecar.sessions.revocations import Revocations
    from sidecar.web.flow import Flow

# What a page is made of needs no good token: its session is renewed with the page itself.
_PARTS: Final = frozenset((b"script", b"style", b"image", b"font", b"audio", b"video", b"track"))


class Step(StrEnum):
    """Who has a request, once its route is known."""

    PREFLIGHT = "preflight"  # the sidecar: a browser asks what another origin may do
    ENDPOINT = "endpoint"  # the sidecar: logout or login
    LAST_HOP = "last_hop"  # the sidecar: Max-Forwards is 0
    OBSERVE = "observe"  # the upstream, as it came
    SESSION = "session"  # the upstream, by the rules of its route


class Judged(msgspec.Struct, frozen=True):
    """What the upstream is sent with a request: the Cookie value, and whole lines.

    `is_dead`: the session that was presented has ended. `is_bridged`: a page's response depends on
    whether its session lives; of a dead one it is not sent, but led to the logout.
    """

    cookie: bytes
    authorization: bytes
    is_dead: bool
    is_bridged: bool


def met_nobody(_flow: Flow) -> None:
    """Takes no notice of a session."""


class RequestJudge:
    """Decides by a policy and what is known of sessions.

    `met` is called with each request of a living session.
    """

    def __init__(
        self,
        policy: Policy,
        directory: SessionDirectory,
        revocations: Revocations,
        met: Callable[[Flow], None] = met_nobody,
    ) -> None:
        self._policy: Final = policy
        self._directory: Final = directory
        self._revocations: Final = revocations
        self._met: Final = met

    def step(self, flow: Flow, request: Request) -> Step:
        """Who has the request, which has its route from now on. Raises `NoRoute`."""
        policy = self._policy
        endpoint = policy.endpoints.get(request.route_path)
        route = policy.routes.match(request.route_path) if endpoint is None else endpoint.route
        if route is None:
            raise NoRoute
        flow.route = route
        is_observed = route.observes is not None
        if policy.cors.is_preflight(request) and (
            endpoint is not None
            or route.owns_cors
            or (policy.cors.allows(request.facts) and not is_observed)
        ):
            return Step.PREFLIGHT
        if endpoint is not None:
            return Step.ENDPOINT
        if max_forwards.is_last(request.method, request.facts):
            return Step.LAST_HOP
        return Step.OBSERVE if is_observed else Step.SESSION

    # -- the session ------------------------------------------------------------------------------

    def present(self, flow: Flow, route: Route) -> SessionView:
        """The session that the cookies hold, or that the client's own bearer stands for.

        Raises `CsrfRejected` for a handshake that takes session cookies to its upstream.
        """
        request = flow.request
        presented = self._directory.present(request.cookie, flow.began, route.sources)
        own = request.facts.get(b"authorization")
        if route.authorization == "session" and own is not None and not presented.reading.names:
            known = self._directory.recognise(own, flow.began, route.sources)
            if known is not None:
                flow.by_cookie = False
                presented = known
        flow.presented = presented
        if request.is_websocket and not route.strip_cookies and flow.route.observes is None:
            self.check_handshake(flow)
        return presented

    def check_handshake(self, flow: Flow) -> None:
        """A handshake that takes session cookies to its upstream acts with them.

        Raises `CsrfRejected`.
        """
        if self._policy.presents_session(flow.request.cookie):
            self._check_csrf(flow)

    def _check_csrf(self, flow: Flow) -> None:
        """Raises `CsrfRejected`. For most requests nobody need find out the site's origin."""
        if self._policy.csrf.concerns(flow.request):
            self._policy.csrf.check(flow.request, public_origin(flow))

    def must_wait(self, flow: Flow, presented: SessionView) -> bool:
        """Whether the store, or a renewal, is waited for before the session is used.

        Raises `CsrfRejected`: nothing is done for a request that may not act.
        """
        route, now = flow.route, flow.began
        # The store is asked if a credential is needed, or session cookies pass on.
        asks = route.session != "none" or not route.strip_cookies
        if not asks or presented.is_ready(now, renews=True):
            return False
        if presented.is_ready(now, renews=self.renews(flow, route)):
            return False
        if route.vouches and flow.by_cookie and presented.fingerprint is not None:
            self._check_csrf(flow)
        return True

    @staticmethod
    def renews(flow: Flow, route: Route) -> bool:
        """Whether a token is renewed for the request: it is injected, or a page is made with it.

        A prefetch renews no token, nor does a route without sessions.
        """
        request = flow.request
        if not flow.by_cookie or route.session == "none" or request.client is Client.PREFETCH:
            return False
        return route.inject or (
            route.kind == "page" and request.fact(b"sec-fetch-dest") not in _PARTS
        )

    @staticmethod
    def without_store(flow: Flow, presented: SessionView, error: StoreUnavailable) -> SessionView:
        """The session if the store does not answer. Raises `error` where sessions count."""
        if flow.route.session != "none":
            raise error
        # It is unknown which of them are dead, and a login must go on without them.
        return replace(presented, forwarded=presented.others)

    # -- what the upstream is sent ----------------------------------------------------------------

    def judge(self, flow: Flow, presented: SessionView) -> Judged | None:
        """What the upstream is sent once the session is known; None if that must not be.

        Then the route requires a session, and there is none. Raises `CsrfRejected`, `NotAllowed`
        and `BadRequest`.
        """
        request, route = flow.request, flow.route
        credential = self.credential(flow, presented)
        if credential is None:
            return None
        cookie, authorization = credential
        if flow.live is not None:
            self._met(flow)
            if route.session != "none":
                check_allowed(flow)
        is_dead = self._is_dead(flow, presented)
        is_bridged = (is_dead or flow.live is not None) and self._policy.bridge.concerns(
            request, route
        )
        if route.identity and flow.live is not None:
            authorization += identity_lines(route.identity, presented.reading.claim)
        return Judged(cookie, authorization, is_dead, is_bridged)

    def is_over(self, flow: Flow, presented: SessionView) -> bool:
        """Whether the request is a navigation whose session has ended, so that its cookies go."""
        is_dead = self._is_dead(flow, presented)
        return is_dead and self._policy.bridge.concerns(flow.request, flow.route)

    def _is_dead(self, flow: Flow, presented: SessionView) -> bool:
        return self._revocations.is_dead(presented.fingerprint, flow.began)

    def credential(self, flow: Flow, presented: SessionView) -> tuple[bytes, bytes] | None:
        """The Cookie value and the Authorization line for the upstream (behaviour: credential).

        None if the route requires a session and there is no session. Raises `CsrfRejected`.
        """
        request, route = flow.request, flow.route
        live = flow.live = self._revocations.live_fingerprint(presented, flow.began)
        flow.sweeps = self._is_dead(flow, presented) and self._policy.bridge.sweeps(request)
        cookie = self._forwarded_cookie(flow, presented)
        if live is not None and route.vouches and flow.by_cookie:
            self._check_csrf(flow)
        if live is not None and route.inject:
            flow.counts = route.on_unauthorized != "pass"
            return cookie, presented.authorization
        passes_own = route.authorization is not None or not route.inject
        own = request.own_authorization() if passes_own else None
        if own is not None and self._directory.is_dead_bearer(own, flow.began):
            own = None
        own_line = b"" if own is None else b"Authorization: %b\r\n" % own
        if route.session == "none" or live is not None:
            return cookie, own_line
        keeps_own = own is not None and route.authorization and not presented.reading.names
        if presented.fingerprint is not None and not flow.by_cookie:
            keeps_own = False  # the token of a session that is dead
        if route.session == "required" and not keeps_own:
            return None
        return cookie, own_line if keeps_own or not route.inject else b""

    def _forwarded_cookie(self, flow: Flow, presented: SessionView) -> bytes:
        """The Cookie value for the upstream: without session cookies, or with living ones alone."""
        route = flow.route
        # A session may have died while the request waited, and a bearer is of other cookies.
        is_outdated = not flow.by_cookie or self._revocations.has_lost(presented, flow.began)
        if presented.cookie is not None and not (is_outdated or route.strip_cookies):
            return presented.cookie
        here = presented
        if is_outdated:
            here = self._directory.present(flow.request.cookie, flow.began, route.sources)
        passes = here.is_checked and not route.strip_cookies
        return here.forwarded if passes else here.others


def upstream_head(flow: Flow, cookie: bytes, authorization: bytes, *, is_traced: bool) -> bytes:
    """The head for the upstream, up to the request's id. Raises `ExpectationFailed`."""
    request = flow.request
    expected = request.facts.get(b"expect")
    if expected is not None and expected.strip().lower() != b"100-continue":
        raise ExpectationFailed(close=True)
    return prepare_request(
        request,
        flow.route,
        flow.connection.peer,
        cookie=cookie,
        authorization=authorization,
        is_traced=is_traced,
    )


def as_it_came(request: Request) -> tuple[bytes, bytes]:
    """The Cookie value and the Authorization line of a request that is only observed."""
    own = request.facts.get(b"authorization")
    return request.cookie, b"" if own is None else b"Authorization: %b\r\n" % own
