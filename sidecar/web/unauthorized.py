"""The response to a 401 that counts: towards the logout, or an error in the client's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.actions import leads_to_logout
from sidecar.core.client import Client
from sidecar.core.error_body import error_shape
from sidecar.core.errors import PrefetchUnauthenticated, ProxyError, SessionRequired, TokenRejected
from sidecar.core.logout_rule import way_back
from sidecar.core.rejections import IN_A_ROW
from sidecar.web import storm_brake
from sidecar.web.remembering import note_missing, note_presented
from sidecar.web.rescue import rescue
from sidecar.web.responses import redirect

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

MOST_RECOVERIES: Final = 2  # once with a newer token that is there, and once with a fresh one


def unauthorized(flow: Flow) -> None:
    """Responds to a 401 that counts, or a required session that is missing (behaviour: 401).

    If the session has a refresh token, a renewal is tried first (rules 1 and 2). In a storm of 401
    nothing ends (`web.storm_brake`).
    """
    flow.decision = "unauthorized"
    if flow.request.client is Client.PREFETCH:
        rescue(flow, PrefetchUnauthenticated())
        return
    is_live = flow.live is not None
    if is_live and _may_recover(flow):
        note_presented(flow, "rejected", "token rejected by the upstream")
        flow.spawn(flow.handler.recover)
        return
    if is_live and storm_brake.spares(flow):
        flow.decision = storm_brake.BRAKED
        flow.reason = "token rejected by the upstream"
        note_presented(flow, "rejected", "one of a storm of 401: the session goes on")
        rescue(flow, TokenRejected())
        return
    if is_live:
        _revoke_rejected(flow)
    elif flow.runtime.revocations.is_dead(flow.presented.fingerprint, flow.began):
        flow.reason = "session ended"
    else:
        flow.reason = f"session {flow.presented.reading.result}"
        note_missing(flow)
    _answer(flow, error_of(flow))


def error_of(flow: Flow) -> ProxyError | None:
    """The error that a client is told whose request may not pass, or was rejected.

    None if the client is led to the logout.
    """
    client, is_live = flow.request.client, flow.live is not None
    if client is Client.PREFETCH:
        return PrefetchUnauthenticated()
    has_login = flow.runtime.policy.login is not None
    if leads_to_logout(client, flow.route, is_live=is_live, has_login=has_login):
        return None
    return TokenRejected() if is_live else SessionRequired()


def bridged_error_of(flow: Flow) -> ProxyError | None:
    """The same of a page's request whose session is dead."""
    return TokenRejected() if flow.request.client is Client.ROUTER else None


def logout_location(flow: Flow, ticket: str) -> str:
    """Where a client is led to the logout."""
    return flow.runtime.policy.logout.location(ticket, way_back(flow.request))


def _answer(flow: Flow, error: ProxyError | None) -> None:
    if error is None:
        _send_to_logout(flow)
    else:
        rescue(flow, error)


def _may_recover(flow: Flow) -> bool:
    """Whether the request is repeated with a newer token, or a fresh one."""
    can_renew = flow.runtime.coordinator.can_renew(flow.presented)
    return can_renew and flow.recoveries < MOST_RECOVERIES and not storm_brake.is_vain(flow)


def _revoke_rejected(flow: Flow) -> None:
    """A real 401 has proved the session dead; of many that come together one ends it."""
    runtime, now = flow.runtime, flow.runtime.clock.now()
    flow.reason = "token rejected by the upstream"
    if not runtime.revocations.is_dead(flow.presented.fingerprint, now):
        runtime.metrics.sessions_ended["token_rejected"] += 1
        note_presented(flow, "ended", "token_rejected")
        _watch_rejections(flow, now)
    session = flow.presented.session(flow.live)
    if session is not None:
        runtime.revocations.revoke(session, now)


def _watch_rejections(flow: Flow, now: float) -> None:
    """Warns if an upstream rejects every token: users would log in again and again."""
    runtime, route, fingerprint = flow.runtime, flow.route, flow.presented.fingerprint
    successes = runtime.metrics.successes(route.path)
    if fingerprint is not None and runtime.rejections.add(
        route.path, fingerprint, successes=successes, now=now
    ):
        runtime.log.warning(
            "every token is rejected",
            route=route.path,
            upstream=route.upstream,
            address=runtime.policy.upstreams[route.upstream].origin,
            detail=f"the last {IN_A_ROW} sessions were answered as {flow.upstream_status or 401}; "
            "if their logins are fresh, the upstream expects another audience, issuer or key, or "
            "its clock is wrong",
        )


def bridged(flow: Flow) -> None:
    """Responds to a page's request whose session is dead: a document is led to the logout, and a
    router to load the document (behaviour: 401, server-render bridge).
    """
    flow.decision = "unauthorized"
    flow.reason = "session ended"
    _answer(flow, bridged_error_of(flow))


def _send_to_logout(flow: Flow) -> None:
    request, policy = flow.request, flow.runtime.policy
    ticket = policy.signer.ticket(
        flow.presented.fingerprint,
        flow.began,
        flow.route.sources,
        error_shape(flow.route, request),
    )
    redirect(flow, logout_location(flow, ticket))
