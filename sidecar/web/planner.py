"""The request half: from a request's head to what its upstream is to be sent.

    match → session → renewal → CSRF → prepare

A plan is made once for all requests alike of a connection, and holds as long as its session does.
What must be waited for first (the store's word on a session, its renewal) goes on as a task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.core import max_forwards
from sidecar.core.client import Client, is_server_side
from sidecar.core.errors import (
    ExpectationFailed,
    NoRoute,
    RefreshUnavailable,
    StoreUnavailable,
    TokenRefreshed,
)
from sidecar.core.forwarding import given_request_id, prepare_request
from sidecar.core.identity import identity_lines
from sidecar.core.record import replace
from sidecar.web import login_endpoints as login
from sidecar.web.allowed import check_allowed
from sidecar.web.budgets import STREAM
from sidecar.web.client_limits import renewals
from sidecar.web.flow import Flow, Plan
from sidecar.web.observing import note_request
from sidecar.web.origin import public_origin, scope_of
from sidecar.web.remembering import note_first_seen, note_presented, note_renewed
from sidecar.web.rescue import answer_options, answer_preflight, rescue, tell_retry
from sidecar.web.sending import send
from sidecar.web.unauthorized import unauthorized

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.core.route_table import Route
    from sidecar.core.view import SessionView
    from sidecar.runtime import Runtime
    from sidecar.web.page_bridge import Bridge

PLANS: Final = 8  # targets that a connection's repeated fields are remembered with
PLANS_BYTES: Final = 8192  # of their heads and targets together
# What a page is made of needs no good token: its session is renewed with the page itself.
_PARTS: Final = frozenset((b"script", b"style", b"image", b"font", b"audio", b"video", b"track"))


class Planner:
    """Plans requests by the runtime's policy."""

    def __init__(self, runtime: Runtime, bridge: Bridge) -> None:
        self._runtime: Final = runtime
        self._policy: Final = runtime.policy
        self._directory: Final = runtime.directory
        self._revocations: Final = runtime.revocations
        self._coordinator: Final = runtime.coordinator
        self._first_seen: Final = runtime.recorder.first_seen
        self._bridge: Final = bridge

    def holds(self, plan: Plan, now: float) -> bool:
        """Whether a remembered plan is still right: only its session can change."""
        view = plan.presented
        return (
            now < view.valid_until
            and now < view.renews_at
            and self._directory.is_current(view)
            and (plan.revision is None or plan.revision == self._revocations.revision)
        )

    def plan(self, flow: Flow, request: Request) -> Plan | None:
        """What is to be done with a request; None if it has its response, or waits for its session.

        Raises `ProxyError` for what is refused.
        """
        policy = self._policy
        flow.request = request
        flow.request_id = given_request_id(request) or flow.request_id
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
            answer_preflight(flow)
            return None
        if endpoint is not None:
            login.ENDPOINTS[endpoint.name](flow)
            return None
        if max_forwards.is_last(request.method, request.facts):
            answer_options(flow)
            return None
        if is_observed:
            return self._observe(flow, request)
        presented = flow.presented = self._present(flow, request, route)
        if request.is_websocket and not route.strip_cookies:
            self._check_handshake(flow, request)
        is_ready, now = self._coordinator.is_ready, flow.began
        if self._waits(route) and not is_ready(presented, now, renews=True):
            renews = flow.by_cookie and self._renews(request, route)
            if not is_ready(presented, now, renews=renews):
                if route.vouches and flow.by_cookie and presented.fingerprint is not None:
                    self._check_csrf(flow, request)  # before anything is done
                flow.admit(_budget(request, route))
                flow.spawn(self._wait, renews)
                return None
        return self._plan_with(flow, presented)

    # -- the session ----------------------------------------------------------------------------

    @staticmethod
    def _waits(route: Route) -> bool:
        """Whether the store is asked first: a credential is needed, or session cookies pass on."""
        return route.session != "none" or not route.strip_cookies

    def _present(self, flow: Flow, request: Request, route: Route) -> SessionView:
        """The session that the cookies hold, or that the client's own bearer stands for."""
        presented = self._directory.present(request.cookie, flow.began, route.sources)
        own = request.facts.get(b"authorization")
        if route.authorization == "session" and own is not None and not presented.reading.names:
            known = self._directory.recognise(own, flow.began, route.sources)
            if known is not None:
                flow.by_cookie = False
                return known
        return presented

    def _check_handshake(self, flow: Flow, request: Request) -> None:
        """A handshake that takes session cookies to its upstream acts with them.

        Raises `CsrfRejected`.
        """
        if self._policy.presents_session(request.cookie):
            self._check_csrf(flow, request)

    def _check_csrf(self, flow: Flow, request: Request) -> None:
        """Raises `CsrfRejected`. For most requests nobody need find out the site's origin."""
        if self._policy.csrf.concerns(request):
            self._policy.csrf.check(request, public_origin(flow))

    @staticmethod
    def _renews(request: Request, route: Route) -> bool:
        """Whether a token is renewed for the request: it is injected, or a page is made with it.

        A prefetch renews no token, nor does a route without sessions.
        """
        if route.session == "none" or request.client is Client.PREFETCH:
            return False
        return route.inject or (
            route.kind == "page" and request.fact(b"sec-fetch-dest") not in _PARTS
        )

    async def _wait(self, flow: Flow, renews: bool) -> None:
        """Goes on once the session can be used. Raises `ProxyError`."""
        presented = flow.presented
        try:
            presented = await self._ready(flow, renews=renews)
        except RefreshUnavailable as error:
            route = flow.route
            note_presented(flow, "renewal_failed", detail=error.detail)
            if route.session == "required" or (route.inject and route.kind != "page"):
                raise
            # A page goes on with the session as it is, and without a token that has expired.
            presented = await self._ready(flow, renews=False)
            if route.inject:
                presented = presented.expired()
        except StoreUnavailable:
            if flow.route.session != "none":
                raise
            # It is unknown which of them are dead, and a login must go on without them.
            presented = replace(presented, forwarded=presented.others)
        before, flow.presented = flow.presented, presented
        if before.reading.token not in (None, presented.reading.token):
            note_renewed(flow, "before its expiry")
        self._runtime.large.look_at(presented)
        plan = self._plan_with(flow, presented)
        if plan is not None:
            send(flow, plan)

    async def _ready(self, flow: Flow, *, renews: bool) -> SessionView:
        """The session of a request (`SessionCoordinator.ready`)."""
        return await self._coordinator.ready(
            flow.presented,
            scope_of(flow),
            renews=renews,
            by_cookie=flow.by_cookie,
            permit=renewals(flow),
        )

    async def recover(self, flow: Flow) -> None:
        """Repeats a request after a 401, once, with the newest token of its session.

        If that token is rejected too, the request is repeated once more with a fresh one. If
        the request cannot be repeated, the response says that the client may (behaviour: 401).
        Raises `ProxyError`.
        """
        if self._runtime.tracer is not None:
            self._runtime.tracer.responded(flow)
        token = flow.presented.reading.token
        flow.presented, is_last = await self._coordinator.recover(
            flow.presented, scope_of(flow), rejected=token, permit=renewals(flow)
        )
        flow.recoveries += 2 if is_last else 1
        self._runtime.large.look_at(flow.presented)
        now = self._runtime.clock.now()
        flow.live = self._revocations.live_fingerprint(flow.presented, now)
        if flow.live is None or flow.presented.reading.token == token:
            unauthorized(flow)
            return
        note_renewed(flow, "after a 401")
        if flow.streaming_body or not flow.by_cookie:
            # A client that has only a rejected token is not given another one.
            rescue(flow, TokenRefreshed())
        else:
            plan = self._plan_with(flow, flow.presented)
            if plan is not None:
                flow.retries += 1
                tell_retry(flow, "the token was rejected, and the session has another one")
                send(flow, plan)

    # -- the plan -------------------------------------------------------------------------------

    def _observe(self, flow: Flow, request: Request) -> Plan:
        """The plan of a request that passes as it came. What its route would do is noted.

        That is judged by what this process knows: the store is not asked. Raises
        `ExpectationFailed`.
        """
        rules = flow.route.observes
        assert rules is not None
        presented = flow.presented = self._present(flow, request, rules)
        renews = flow.by_cookie and self._renews(request, rules)

        def credential() -> tuple[bytes, bytes] | None:
            if request.is_websocket and not rules.strip_cookies:
                self._check_handshake(flow, request)
            return self._credential(flow, presented)

        is_due = renews and flow.began >= presented.renews_at
        note_request(flow, credential, is_due=is_due)
        own = request.facts.get(b"authorization")
        line = b"" if own is None else b"Authorization: %b\r\n" % own
        return self._made(flow, presented, request.cookie, line, is_bridged=False)

    def _plan_with(self, flow: Flow, presented: SessionView) -> Plan | None:
        """The plan once the session is known. None if the sidecar itself has responded."""
        request, route, policy = flow.request, flow.route, self._policy
        credential = self._credential(flow, presented)
        if credential is None:
            unauthorized(flow)
            return None
        if flow.live is not None:
            if not self._first_seen.knows(flow.live):
                note_first_seen(flow)
            if route.session != "none":
                check_allowed(flow)
        is_dead = self._revocations.is_dead(presented.fingerprint, flow.began)
        is_bridged = (is_dead or flow.live is not None) and policy.bridge.concerns(request, route)
        if is_bridged and is_dead:
            if self._bridge.lead(flow):
                return None
            is_bridged = False
        cookie, authorization = credential
        if route.identity and flow.live is not None:
            authorization += identity_lines(route.identity, presented.reading.claim)
        plan = self._made(flow, presented, cookie, authorization, is_bridged=is_bridged)
        is_lasting = self._directory.is_current(presented) and not is_dead
        if not (flow.by_cookie or route.strip_cookies):
            is_lasting = False  # the cookies hold other sessions than the one that is looked after
        if presented.fingerprint is None and route.authorization == "session":
            is_lasting = False  # its bearer may be known the next time
        if is_lasting:
            _remember(plan, flow)
        return plan

    def _made(
        self,
        flow: Flow,
        presented: SessionView,
        cookie: bytes,
        authorization: bytes,
        *,
        is_bridged: bool,
    ) -> Plan:
        """The plan with the head for the upstream. Raises `ExpectationFailed`."""
        request, route, policy = flow.request, flow.route, self._policy
        if b"expect" in request.facts:
            _check_expectation(request.facts[b"expect"])
        peer = flow.connection.peer
        head = prepare_request(
            request,
            route,
            peer,
            cookie=cookie,
            authorization=authorization,
            is_traced=self._runtime.tracer is not None,
        )
        return Plan(
            request=request,
            route=route,
            kind=_budget(request, route),
            presented=presented,
            live=flow.live,
            counts=flow.counts,
            head=head + b"X-Request-Id: ",
            request_id=given_request_id(request),
            expects_body=request.method != "HEAD",
            by_cookie=flow.by_cookie,
            watch=self._watch(flow, request, is_bridged=is_bridged),
            hold=self._bridge.hold if is_bridged and policy.bridge.holds(request) else None,
            revision=self._revocations.revision if b"authorization" in request.facts else None,
        )

    def _credential(self, flow: Flow, presented: SessionView) -> tuple[bytes, bytes] | None:
        """The Cookie value and the Authorization line for the upstream (behaviour: credential).

        None if the route requires a session and there is no session. Raises `CsrfRejected`.
        """
        request, route = flow.request, flow.route
        live = flow.live = self._revocations.live_fingerprint(presented, flow.began)
        is_dead = self._revocations.is_dead(presented.fingerprint, flow.began)
        flow.sweeps = is_dead and self._policy.bridge.sweeps(request)
        cookie = self._forwarded_cookie(flow, presented)
        if live is not None and route.vouches and flow.by_cookie:
            self._check_csrf(flow, request)
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

    def _watch(
        self, flow: Flow, request: Request, *, is_bridged: bool
    ) -> Callable[[Flow], None] | None:
        """What the bridge does with a request of a live session."""
        if is_bridged:
            return self._bridge.watch
        is_call = (
            flow.counts
            and self._policy.bridge.hold > 0
            and not request.fields.is_stream
            and is_server_side(request.facts)
        )
        return self._bridge.count if is_call else None


def _remember(plan: Plan, flow: Flow) -> None:
    """Keeps a plan for the next request alike, instead of all others if there is no room."""
    fields = plan.request.fields
    size = len(plan.head) + 3 * len(flow.target)  # as it came, and in parts
    if size > PLANS_BYTES:
        return
    if len(fields.plans) >= PLANS or fields.plan_bytes + size > PLANS_BYTES:
        fields.forget_plans()
    fields.plans[flow.method, flow.target] = plan
    fields.plan_bytes += size


def _budget(request: Request, route: Route) -> str:
    """The budget that a request counts against."""
    return STREAM if request.fields.is_stream else route.kind


def _check_expectation(value: bytes) -> None:
    if value.strip().lower() != b"100-continue":
        raise ExpectationFailed(close=True)
