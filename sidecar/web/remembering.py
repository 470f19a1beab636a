"""What of a request is remembered for people on call, once it has failed or touched a session.

Nothing here runs for a request that is served as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.cookies import CookieJar, first_cookies
from sidecar.core.credential import Result
from sidecar.core.errors import loggable
from sidecar.core.proof import Proof
from sidecar.core.request import UNREAD
from sidecar.observation.counters import answered
from sidecar.observation.failure_log import COOKIES, REFUSAL_CODES, REFUSALS
from sidecar.observation.first_seen import KIND
from sidecar.observation.status_model import RefusedRow, SessionEvent, TroubleRow
from sidecar.web.origin import public_origin

if TYPE_CHECKING:
    from sidecar.core.view import OpenedSession
    from sidecar.runtime import Runtime
    from sidecar.web.flow import Flow

_UPSTREAMS: Final = frozenset(("upstream_unreachable", "upstream_protocol", "upstream_timeout"))
_MOST_BYTES: Final = 65536
"""Of a Cookie header whose names are told."""


def remember_failure(flow: Flow, now: float) -> None:
    """Remembers a request that was refused, or that failed; others leave no trace."""
    if flow.status in REFUSALS and flow.code in REFUSAL_CODES:
        flow.runtime.recorder.failures.refused(_refused(flow, now))
    elif flow.status >= 500 or flow.decision == "broken":
        _remember_trouble(flow, now)


def _remember_trouble(flow: Flow, now: float) -> None:
    runtime, route = flow.runtime, flow.route
    failures = runtime.recorder.failures
    method, path = _line(flow)
    cause = flow.cause or flow.detail or _relayed(flow)
    failures.trouble(
        TroubleRow(
            at=now,
            request_id=_request_id(flow),
            status=flow.status,
            upstream_status=flow.upstream_status or None,
            code=flow.code or "upstream_error",
            cause=cause,
            route=route.path,
            upstream=route.upstream or None,
            method=method,
            path=path,
            milliseconds=round((now - flow.began) * 1000, 3),
            session=flow.presented.fingerprint,
        )
    )
    if flow.code in _UPSTREAMS:
        count = answered(runtime.metrics, runtime.policy.routes_of(route.upstream))
        failures.blame(route.upstream, cause, flow.upstream_address, count, now)


def _relayed(flow: Flow) -> str:
    return f"the upstream answered {flow.upstream_status}" if flow.upstream_status else flow.reason


def _refused(flow: Flow, now: float) -> RefusedRow:
    method, path = _line(flow)
    origin: str | None = None
    allowed: tuple[str, ...] = ()
    size: int | None = None
    cookies: tuple[tuple[str, int], ...] = ()
    if flow.status == 403 and flow.request is not UNREAD:
        told = flow.request.facts.get(b"origin")
        origin = None if told is None else loggable(told.decode("latin-1"))
        trusted = (public_origin(flow), *sorted(flow.runtime.policy.csrf.origins))
        allowed = tuple(loggable(one.decode("latin-1")) for one in trusted)
    if flow.status == 431:
        size = sum(len(name) + len(value) + 4 for name, value in flow.raw_fields)
        cookies = _cookies(flow)
    return RefusedRow(
        at=now,
        request_id=_request_id(flow),
        status=flow.status,
        code=flow.code,
        route=flow.route.path,
        method=method,
        path=path,
        detail=flow.cause or flow.detail,
        session=flow.presented.fingerprint,
        client=flow.connection.peer.client(flow.request),
        origin=origin,
        allowed=allowed,
        header_bytes=size,
        cookies=cookies,
    )


def _cookies(flow: Flow) -> tuple[tuple[str, int], ...]:
    """The names of the first cookies that were presented, by size: the largest first.

    What has no name, or too long a one, may be a value, and has none here.
    """
    presented = first_cookies(flow.facts.get(b"cookie", b"")[:_MOST_BYTES])
    jar = CookieJar.parse(presented.decode("latin-1"))
    sizes: dict[str, int] = {}
    for name, value, _ in jar.pairs:
        shown = loggable(name) if 0 < len(name) <= 64 else "(no name)"
        sizes[shown] = sizes.get(shown, 0) + len(value)
    return tuple(sorted(sizes.items(), key=lambda one: -one[1])[:COOKIES])


def note_ended(flow: Flow, session: OpenedSession, reason: str) -> None:
    """Remembers that a request has ended a session."""
    proof = flow.runtime.revocations.evidence.of(session)
    source = session.reading.source
    is_proven = proof is not Proof.NONE
    note(flow, "ended", session.fingerprint, reason, source=source, is_proven=is_proven)


def note_ended_by_name(runtime: Runtime, session: OpenedSession, reason: str) -> None:
    """Remembers that a session has ended that no request presented."""
    event = SessionEvent(
        at=runtime.clock.now(),
        kind="ended",
        session=session.fingerprint,
        reason=reason,
        source=session.reading.source,
    )
    runtime.recorder.sessions.add(event, is_proven=True)


def note_presented(flow: Flow, kind: str, reason: str = "", detail: str = "") -> None:
    """Remembers what happened to the session that a request presents."""
    view = flow.presented
    session = view.session(view.fingerprint)
    if session is not None:
        proof = flow.runtime.revocations.evidence.of(session)
        source = session.reading.source
        is_proven = proof is not Proof.NONE
        note(flow, kind, session.fingerprint, reason, detail, source=source, is_proven=is_proven)


def note_first_seen(flow: Flow) -> None:
    """Remembers the first request of a live session, unless it is remembered."""
    first, session = flow.runtime.recorder.first_seen, flow.presented.session(flow.live)
    if session is None or first.knows(session.fingerprint):
        return
    event = SessionEvent(
        at=flow.runtime.clock.now(),
        kind=KIND,
        session=session.fingerprint,
        request_id=_request_id(flow),
        route=flow.route.path,
        source=session.reading.source,
    )
    proof = flow.runtime.revocations.evidence.of(session)
    first.note(event, is_proven=proof is not Proof.NONE)


def note_missing(flow: Flow) -> None:
    """Remembers that a request needed a session, and that its cookies hold none."""
    reading = flow.presented.reading
    if reading.result is Result.NO_SESSION:
        return
    result, fingerprint = reading.result.value, flow.presented.fingerprint
    flow.runtime.metrics.sessions.missing[result] += 1
    source, why = reading.source, reading.why
    note(flow, "missing", fingerprint, result, why, source=source, is_proven=False)


def note_renewed(flow: Flow, when: str) -> None:
    """Remembers that the session that a request presents has new tokens, if it has."""
    if flow.presented.has_credential:
        note_presented(flow, "renewed", when)


def note(
    flow: Flow,
    kind: str,
    session: str | None,
    reason: str = "",
    detail: str = "",
    *,
    source: str | None = None,
    is_proven: bool = True,
) -> None:
    """Remembers an event of a session (`SessionEvent`)."""
    method, path = _line(flow)
    event = SessionEvent(
        at=flow.runtime.clock.now(),
        kind=kind,
        session=session,
        reason=reason,
        request_id=_request_id(flow),
        route=flow.route.path,
        method=method,
        path=path,
        source=source,
        status=flow.upstream_status or flow.status or None,
        detail=loggable(detail),
    )
    flow.runtime.recorder.sessions.add(event, is_proven=is_proven)


def _line(flow: Flow) -> tuple[str | None, str | None]:
    """Method and path, never the query; None if they could not be read."""
    if flow.request is UNREAD:
        return None, None
    return flow.request.method, flow.told_path


def _request_id(flow: Flow) -> str:
    return flow.request_id.decode("latin-1")
