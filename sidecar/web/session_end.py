"""What a request does that ends sessions: they are revoked, and their cookies expired."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.cookies import CookieJar, is_expiring, set_cookie_name
from sidecar.web.origin import scope_of
from sidecar.web.remembering import note_ended, note_ended_by_name

if TYPE_CHECKING:
    from sidecar.core.view import OpenedSession
    from sidecar.runtime import Runtime
    from sidecar.web.flow import Flow


def end_sessions(flow: Flow, sessions: Sequence[OpenedSession], reason: str) -> None:
    """Ends sessions of the request; counted are those that were alive until now."""
    runtime, now = flow.runtime, flow.runtime.clock.now()
    for session in sessions:
        if not runtime.revocations.is_dead(session.fingerprint, now):
            runtime.revocations.revoke(session, now)
            runtime.metrics.sessions_ended[reason] += 1
            note_ended(flow, session, reason)
        runtime.logout_tasks.begin(session, reason)
    if (
        flow.presented.handles and runtime.login is not None
    ):  # not loaded: the store could not be asked, or was not waited for
        ended = partial(runtime.logout_tasks.begin, reason=reason)
        runtime.termination.end_later(flow.presented.handles, ended)


def count_ended(runtime: Runtime, session: OpenedSession, reason: str) -> None:
    """Counts a session that was ended by its name, and begins what follows."""
    runtime.metrics.sessions_ended[reason] += 1
    note_ended_by_name(runtime, session, reason)
    runtime.logout_tasks.begin(session, reason)


def signed_out(flow: Flow, ended: Sequence[OpenedSession]) -> None:
    """Ends the sessions that the frontend's own response ends by expiring their cookies."""
    end_sessions(flow, ended, "signed_out")
    flow.sweeps = True


def sweep_lines(
    flow: Flow, room: float, besides: Sequence[bytes] = (), *, is_asked_for: bool = False
) -> list[bytes]:
    """Set-Cookie values that expire every session cookie presented or, within `room`, possible.

    Except those that the Set-Cookie values `besides` set: a response does not contradict itself.
    Unless the user asks for it, cookies stay of sessions that live on, such as another
    application's, and those that did not open because the right secret is missing.
    """
    policy, runtime = flow.runtime.policy, flow.runtime
    jar = CookieJar.parse(flow.request.cookie.decode("latin-1"))
    now = flow.runtime.clock.now()
    named = {set_cookie_name(one) for one in besides if not is_expiring(one, now)}
    living = () if is_asked_for else runtime.revocations.living(flow.presented, now)
    spared = () if is_asked_for else runtime.openings.spared(flow.presented)
    return policy.sweep.lines(
        jar.names(),
        scope_of(flow),
        room,
        lambda name: (
            name in named
            or runtime.directory.is_of(name, living)
            or any(matcher.matches(name) for matcher in spared)
        ),
    )
