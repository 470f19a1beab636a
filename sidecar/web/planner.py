"""The request half: from a request's head to what its upstream is to be sent.

    match → session → renewal → CSRF → prepare

A plan is made once for all requests alike of a connection, and holds as long as its session does.
What must be waited for first (the store's word on a session, its renewal) goes on as a task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.core.client import is_server_side
from sidecar.core.errors import (
    RefreshUnavailable,
    StoreUnavailable,
    TokenRefreshed,
    forget_frames,
)
from sidecar.core.forwarding import given_request_id
from sidecar.web import login_endpoints as login
from sidecar.web.budgets import STREAM
from sidecar.web.client_limits import renewals
from sidecar.web.flow import Flow, Plan
from sidecar.web.observing import note_request
from sidecar.web.origin import scope_of
from sidecar.web.remembering import note_first_seen, note_presented, note_renewed
from sidecar.web.request_judge import RequestJudge, Step, as_it_came, upstream_head
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
        self._judge: Final = RequestJudge(
            runtime.policy, runtime.directory, runtime.revocations, self._met
        )

    def holds(self, plan: Plan, now: float) -> bool:
        """Whether a remembered plan is still right: only its session can change."""
        view = plan.presented
        return (
            now < view.valid_until
            and now < view.renews_at
            and not view.leads_on
            and self._directory.is_current(view)
            and (plan.revision is None or plan.revision == self._revocations.revision)
        )

    def plan(self, flow: Flow, request: Request) -> Plan | None:
        """What is to be done with a request; None if it has its response, or waits for its session.

        Raises `ProxyError` for what is refused.
        """
        flow.request = request
        flow.request_id = given_request_id(request) or flow.request_id
        step = self._judge.step(flow, request)
        if step is not Step.SESSION:
            return self._other(flow, request, step)
        presented = self._judge.present(flow, flow.route)
        if self._judge.must_wait(flow, presented):
            flow.admit(_budget(request, flow.route))
            flow.spawn(self._wait, self._judge.renews(flow, flow.route))
            return None
        return self._plan_with(flow, presented)

    def _other(self, flow: Flow, request: Request, step: Step) -> Plan | None:
        """The same of a request that the sidecar answers itself, or only observes."""
        if step is Step.OBSERVE:
            return self._observe(flow, request)
        if step is Step.PREFLIGHT:
            answer_preflight(flow)
        elif step is Step.ENDPOINT:
            login.ENDPOINTS[self._policy.endpoints[request.route_path].name](flow)
        else:
            answer_options(flow)
        return None

    # -- the session ----------------------------------------------------------------------------

    def _met(self, flow: Flow) -> None:
        """Remembers when a living session was presented for the first time."""
        if flow.live is not None and not self._first_seen.knows(flow.live):
            note_first_seen(flow)

    async def _wait(self, flow: Flow, renews: bool) -> None:
        """Goes on once the session can be used. Raises `ProxyError`."""
        presented = flow.presented
        try:
            presented = await self._ready(flow, renews=renews)
        except RefreshUnavailable as error:
            note_presented(flow, "renewal_failed", detail=error.detail)
            if not _does_without(flow.route):
                raise
            forget_frames(error)
            # A page goes on with the session as it is, and without a token that has expired.
            presented = await self._ready(flow, renews=False)
            if flow.route.inject:
                presented = presented.expired()
        except StoreUnavailable as error:
            presented = self._judge.without_store(flow, presented, error)
            forget_frames(error)
        before, flow.presented = flow.presented, presented
        if before.reading.token not in (None, presented.reading.token):
            is_early = before.leads_on or flow.began < before.renews_at
            note_renewed(flow, "after a 401" if is_early else "before its expiry")
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
        try:
            flow.presented, is_last = await self._coordinator.recover(
                flow.presented, scope_of(flow), rejected=token, permit=renewals(flow)
            )
        except RefreshUnavailable as error:
            if not _does_without(flow.route) or flow.streaming_body:
                raise
            forget_frames(error)
            note_presented(flow, "renewal_failed", detail=error.detail)
            flow.counts = False  # for the repetition: a 401 says nothing of a session then
            flow.presented = flow.presented.expired()
            self._repeat(flow, "the token was rejected, and the session cannot be renewed now")
            return
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
            self._repeat(flow, "the token was rejected, and the session has another one")

    def _repeat(self, flow: Flow, why: str) -> None:
        """Sends the request once more. Raises `ProxyError`."""
        plan = self._plan_with(flow, flow.presented)
        if plan is not None:
            flow.retries += 1
            tell_retry(flow, why)
            send(flow, plan)

    # -- the plan -------------------------------------------------------------------------------

    def _observe(self, flow: Flow, request: Request) -> Plan:
        """The plan of a request that passes as it came. What its route would do is noted.

        That is judged by what this process knows: the store is not asked. Raises
        `ExpectationFailed`.
        """
        rules = flow.route.observes
        assert rules is not None
        presented = self._judge.present(flow, rules)
        renews = self._judge.renews(flow, rules)

        def credential() -> tuple[bytes, bytes] | None:
            if request.is_websocket and not rules.strip_cookies:
                self._judge.check_handshake(flow)
            return self._judge.credential(flow, presented)

        is_due = renews and presented.is_due(flow.began)
        note_request(flow, credential, is_due=is_due)
        return self._made(flow, presented, *as_it_came(request), is_bridged=False)

    def _plan_with(self, flow: Flow, presented: SessionView) -> Plan | None:
        """The plan once the session is known. None if the sidecar itself has responded."""
        judged = self._judge.judge(flow, presented)
        if judged is None:
            if not (self._judge.is_over(flow, presented) and self._bridge.lead(flow)):
                unauthorized(flow)
            return None
        is_bridged = judged.is_bridged
        if is_bridged and judged.is_dead:
            if self._bridge.lead(flow):
                return None
            is_bridged = False
        plan = self._made(
            flow, presented, judged.cookie, judged.authorization, is_bridged=is_bridged
        )
        route, is_dead = flow.route, judged.is_dead
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
        is_traced = self._runtime.tracer is not None
        head = upstream_head(flow, cookie, authorization, is_traced=is_traced)
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


def _does_without(route: Route) -> bool:
    """Whether a request is served though its session cannot be renewed now."""
    return route.session != "required" and (route.kind == "page" or not route.inject)


def _budget(request: Request, route: Route) -> str:
    """The budget that a request counts against."""
    return STREAM if request.fields.is_stream else route.kind
