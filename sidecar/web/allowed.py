"""Who may use what: the rules of `allow`, judged once for each plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.access import lets_in, why_not
from sidecar.core.errors import NotAllowed
from sidecar.core.formats.login_session import LoginReading

if TYPE_CHECKING:
    from sidecar.core.route_table import Route
    from sidecar.core.view import OpenedSession
    from sidecar.web.flow import Flow


def check_allowed(flow: Flow) -> None:
    """Raises `NotAllowed` if no rule lets the user of the live session in.

    `oidc.allow` holds for sessions that began before it was written too, and for what the newest
    id_token says. What is open under such a session ends, in every process on the store; behind a
    route's `allow` what is open there.
    """
    if flow.runtime.policy.login is None and not flow.route.gates:
        return  # there are no rules
    session = flow.presented.session(flow.live)
    if session is None:
        return
    why = refused_here(flow, session)
    if why is not None:
        flow.runtime.revocations.refuse(session.fingerprint)
        raise NotAllowed(why)
    why = refused_by(flow.route, session)
    if why is not None:
        for gate in flow.route.gates:
            if not gate.lets_in(session.reading.claim, session.source):
                flow.runtime.revocations.refuse(session.fingerprint, gate.name)
        raise NotAllowed(why)


def refused_here(flow: Flow, session: OpenedSession) -> str | None:
    """Why `oidc.allow` does not let a user in, for the log; None if it does, or is not asked."""
    login, claim = flow.runtime.policy.login, session.reading.claim
    if login is None or not isinstance(session.reading, LoginReading):
        return None
    rules = login.client.allow
    return None if lets_in(rules, claim) else f"oidc.allow: {why_not(rules, claim)}"


def refused_by(route: Route, session: OpenedSession) -> str | None:
    """The same of a route's `allow`."""
    claim = session.reading.claim
    for gate in route.gates:
        if not gate.lets_in(claim, session.source):
            return f"allow of a route: {why_not(gate.rules, claim)}"
    return None
