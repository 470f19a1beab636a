"""What would become of a request, as `web.planner` decides it, without any of it being done.

The decisions are those of `web.request_judge`, made with a directory that looks on. Nothing is
sent, stored, counted, remembered or renewed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import msgspec

from sidecar.assembly.onlooking_sessions import onlooking_sessions
from sidecar.core.errors import ProxyError, StoreUnavailable
from sidecar.core.forwarding import Peer
from sidecar.core.route_table import UNROUTED, Route
from sidecar.core.view import NOTHING_PRESENTED, SessionView
from sidecar.sessions.coordinator import Foreseen
from sidecar.web.request_judge import RequestJudge, Step, as_it_came, upstream_head
from sidecar.web.unauthorized import bridged_error_of, error_of, logout_location

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.policy import Policy
    from sidecar.runtime import Runtime
    from sidecar.sessions.coordinator import SessionCoordinator
    from sidecar.sessions.directory import Onlooker
    from sidecar.web.flow import Flow

SOMEBODY: Final = "192.0.2.1"
"""The address that the request comes from (RFC 5737)."""
TICKET: Final = "…"
"""Stands for the ticket of a redirect."""
LED: Final = 303


class Response(msgspec.Struct, frozen=True):
    """A response of the sidecar's own: an error, or a redirect."""

    error: ProxyError | None
    location: str | None = None

    @property
    def status(self) -> int:
        """Its status."""
        return LED if self.error is None else self.error.status

    @property
    def code(self) -> str | None:
        """The code of an error."""
        return None if self.error is None else self.error.code


class Forecast(msgspec.Struct, frozen=True):
    """What would become of a request.

    `step` is None if it has no route. `own` is the sidecar's response if the upstream is not asked;
    else `head` is what the upstream is sent, up to its last lines, and `rejected` the response to a
    401 of the upstream, None if that passes. `presented` is the session, `live` its fingerprint if
    it lives, and `is_dead` whether it has ended. `is_due`: its token is renewed first.
    `can_renew`: a rejected token is renewed, too.
    """

    request: Request
    step: Step | None
    endpoint: str | None
    route: Route
    presented: SessionView = NOTHING_PRESENTED
    live: str | None = None
    is_dead: bool = False
    is_due: bool = False
    can_renew: bool = False
    own: Response | None = None
    head: bytes = b""
    rejected: Response | None = None


class _Looker(msgspec.Struct):
    """What decisions need of a flow (`web.flow.Flow`), and nothing to respond with."""

    runtime: _PolicyAlone
    connection: _PeerAlone
    request: Request
    began: float
    route: Route = UNROUTED
    presented: SessionView = NOTHING_PRESENTED
    live: str | None = None
    by_cookie: bool = True
    counts: bool = False
    sweeps: bool = False


class _PolicyAlone(msgspec.Struct, frozen=True):
    policy: Policy
    revocations: object


class _PeerAlone(msgspec.Struct, frozen=True):
    peer: Peer


class Foresight:
    """Looks at requests with what a process knows; without `runtime` that is the policy alone."""

    def __init__(
        self,
        policy: Policy,
        runtime: Runtime | None = None,
        leads: Callable[[Flow], bool] = lambda _: True,
    ) -> None:
        """`leads`: whether a page of a dead session is led to the logout (`Bridge.would_lead`)."""
        self.policy: Final = policy
        self._leads: Final = leads
        self._is_traced: Final = runtime is not None and runtime.tracer is not None
        self._coordinator: Final[SessionCoordinator | None] = (
            None if runtime is None else runtime.coordinator
        )
        directory = onlooking_sessions(policy) if runtime is None else runtime.directory
        self._by: Final[Onlooker] = directory.onlooking()
        self._judge: Final = RequestJudge(policy, self._by.directory, self._by.revocations)

    def now(self, request: Request, now: float) -> Forecast:
        """What would become of it by what is known here, at this Unix time."""
        return self._forecast(self._looker(request, now), None)

    async def asking(self, request: Request, now: float) -> Forecast:
        """The same with what the store says."""
        looker = self._looker(request, now)
        try:
            foreseen = await self._foreseen(looker)
        except ProxyError as error:
            return self._refused(looker, error)
        return self._forecast(looker, foreseen)

    def _looker(self, request: Request, now: float) -> Flow:
        policy = self.policy
        peer = Peer(
            SOMEBODY,
            bool(policy.config.trusted_proxies),
            b"https" if any(one.tls is not None for one in policy.config.listeners) else b"http",
            policy.public_authority,
            lambda address: address == SOMEBODY,
        )
        known = _PolicyAlone(policy, self._by.revocations)
        return cast("Flow", _Looker(known, _PeerAlone(peer), request, now))

    async def _foreseen(self, flow: Flow) -> Foreseen | None:
        """What the store says of the session, if it would be asked. Raises `ProxyError`."""
        if self._coordinator is None or self._judge.step(flow, flow.request) is not Step.SESSION:
            return None
        presented = self._judge.present(flow, flow.route)
        if not self._judge.must_wait(flow, presented):
            return Foreseen(presented)
        renews = self._judge.renews(flow, flow.route)
        try:
            return await self._coordinator.foresee(
                presented, self._by, renews=renews, by_cookie=flow.by_cookie
            )
        except StoreUnavailable as error:
            return Foreseen(self._judge.without_store(flow, presented, error))

    def _forecast(self, flow: Flow, foreseen: Foreseen | None) -> Forecast:
        try:
            step = self._judge.step(flow, flow.request)
            if step is Step.SESSION:
                presented = self._judge.present(flow, flow.route)
                if foreseen is None:
                    self._judge.must_wait(flow, presented)
                    foreseen = Foreseen(presented)
                return self._judged(flow, foreseen)
            head = b""
            if step is Step.OBSERVE:
                self._judge.present(flow, flow.route.observes or flow.route)
                head = upstream_head(flow, *as_it_came(flow.request), is_traced=self._is_traced)
            return self._made(flow, step, head=head)
        except ProxyError as error:
            return self._refused(flow, error)

    def _judged(self, flow: Flow, foreseen: Foreseen) -> Forecast:
        """Raises `ProxyError`."""
        presented = flow.presented = foreseen.view
        judged = self._judge.judge(flow, presented)
        if judged is None:
            is_led = self._judge.is_over(flow, presented) and self._leads(flow)
            error = bridged_error_of(flow) if is_led else error_of(flow)
            return self._made(flow, Step.SESSION, own=_response(flow, error))
        if judged.is_bridged and judged.is_dead and self._leads(flow):
            return self._made(flow, Step.SESSION, own=_response(flow, bridged_error_of(flow)))
        head = upstream_head(flow, judged.cookie, judged.authorization, is_traced=self._is_traced)
        rejected = _response(flow, error_of(flow)) if flow.counts else None
        return self._made(flow, Step.SESSION, is_due=foreseen.is_due, head=head, rejected=rejected)

    def _refused(self, flow: Flow, error: ProxyError) -> Forecast:
        step = None if flow.route is UNROUTED else Step.SESSION
        return self._made(flow, step, own=Response(error))

    def _made(
        self,
        flow: Flow,
        step: Step | None,
        *,
        is_due: bool = False,
        own: Response | None = None,
        head: bytes = b"",
        rejected: Response | None = None,
    ) -> Forecast:
        presented, by = flow.presented, self._by.revocations
        endpoint = self.policy.endpoints.get(flow.request.route_path)
        return Forecast(
            flow.request,
            step,
            None if endpoint is None else endpoint.name,
            flow.route,
            presented,
            by.live_fingerprint(presented, flow.began),
            by.is_dead(presented.fingerprint, flow.began),
            is_due,
            self._coordinator is not None and self._coordinator.can_renew(presented),
            own,
            head,
            rejected,
        )


def _response(flow: Flow, error: ProxyError | None) -> Response:
    return Response(error, None if error is not None else logout_location(flow, TICKET))
