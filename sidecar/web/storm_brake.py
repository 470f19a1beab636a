"""The brake on storms of 401 (`core.brake`): what it is told of requests, and its alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.formats.login_session import LoginReading
from sidecar.core.headers import is_for_everybody
from sidecar.core.proof import Proof

if TYPE_CHECKING:
    from sidecar.core.brake import Brake
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.core.view import OpenedSession
    from sidecar.runtime import Runtime
    from sidecar.web.flow import Flow

BRAKED: Final = "braked"  # the decision, in logs and metrics


def note_success(flow: Flow, head: UpstreamHead) -> None:
    """Notes that an upstream has accepted a session, if its route is watched.

    Responses that a shared cache may give to everybody say nothing of a session (RFC 9111 3.5).
    """
    runtime, session = flow.runtime, flow.presented.session(flow.live)
    if session is None or is_for_everybody(head.fact(b"cache-control")):
        return
    now, route, is_sealed = runtime.loop.time(), flow.route.path, _is_sealed(flow, session)
    brake = runtime.brakes.watched.get((route, is_sealed))
    if brake is None:
        return
    was_engaged = brake.is_engaged
    brake.accept(_user(session), session.fingerprint, now)
    runtime.brakes.look(route, now, is_sealed=is_sealed)
    if was_engaged and not brake.is_engaged:
        _report_release(runtime, route)


def is_vain(flow: Flow) -> bool:
    """Whether a renewal of the session would only be one more for the provider."""
    session = flow.presented.session(flow.live)
    if session is None or flow.recoveries:
        return False
    brake = flow.runtime.brakes.watched.get((flow.route.path, _is_sealed(flow, session)))
    return brake is not None and brake.was_renewed(_user(session), flow.runtime.loop.time())


def spares(flow: Flow) -> bool:
    """Notes that an upstream has rejected a session. Returns whether the session lives on.

    A session that nothing speaks for may be anybody's invention. It is no evidence.
    """
    runtime, session = flow.runtime, flow.presented.session(flow.live)
    if session is None or runtime.revocations.is_dead(flow.live, runtime.clock.now()):
        return False
    brakes, route = runtime.brakes, flow.route.path
    proof = runtime.revocations.evidence.of(session)
    if proof is Proof.NONE:
        return brakes.is_engaged(route)
    is_sealed = proof is Proof.VOUCHED
    brake = brakes.watch(route, is_sealed=is_sealed)
    if brake is None:
        return False
    was_engaged = brake.is_engaged
    is_spared = brake.reject(
        _user(session),
        session.fingerprint,
        runtime.loop.time(),
        is_renewed=flow.recoveries > 0,
    )
    if brake.is_engaged and not was_engaged:
        _report(flow, brake, is_sealed=is_sealed)
    return is_spared or (not is_sealed and brakes.is_engaged(route, is_sealed=True))


def _is_sealed(flow: Flow, session: OpenedSession) -> bool:
    return flow.runtime.revocations.evidence.of(session) is Proof.VOUCHED


def _user(session: OpenedSession) -> str:
    """Whom a session names, else the session itself: nobody counts for more than one."""
    reading = session.reading
    subject = reading.subject
    if isinstance(reading, LoginReading) and reading.session is not None:
        subject = reading.session.subject
    return session.fingerprint if subject is None else f"{session.source} {subject}"


def _report(flow: Flow, brake: Brake, *, is_sealed: bool) -> None:
    """Alarms, and sees to it that the release is noticed though nobody asks for anything."""
    runtime, route = flow.runtime, flow.route
    runtime.log.error(
        "brake engaged",
        route=route.path,
        upstream=route.upstream,
        address=runtime.policy.upstreams[route.upstream].origin,
        detail=f"the upstream answered {flow.upstream_status or 401} to {brake.rejected} of "
        f"{brake.judged} users lately: nobody else is logged out; it may expect another audience, "
        "issuer or key, or its clock is wrong",
    )
    _look_later(runtime, route.path, is_sealed=is_sealed)


def _look_later(runtime: Runtime, route: str, *, is_sealed: bool) -> None:
    rule = runtime.brakes.rule
    if rule is not None:
        runtime.loop.call_later(rule.window, lambda: _look(runtime, route, is_sealed=is_sealed))


def _look(runtime: Runtime, route: str, *, is_sealed: bool) -> None:
    if not runtime.brakes.is_engaged(route, is_sealed=is_sealed):
        return  # reported already
    runtime.brakes.look(route, runtime.loop.time(), is_sealed=is_sealed)
    if runtime.brakes.is_engaged(route, is_sealed=is_sealed):
        _look_later(runtime, route, is_sealed=is_sealed)
    else:
        _report_release(runtime, route)


def _report_release(runtime: Runtime, route: str) -> None:
    runtime.log.warning(
        "brake released", route=route, detail="sessions that the upstream rejects end again"
    )
