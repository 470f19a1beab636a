"""Who may use what: the rules of `allow`, judged once for each plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.access import lets_in, why_not
from sidecar.core.errors import NotAllowed
from sidecar.core.formats.login_session import LoginReading

if TYPE_CHECKING:
    from sidecar.web.flow import Flow


def check_allowed(flow: Flow) -> None:
    """Raises `NotAllowed` if no rule lets the user of the live session in.

    `oidc.allow` holds for sessions that began before it was written too, and for what the newest
    id_token says. What is open under such a session ends.
    """
    view, login, live = flow.presented, flow.runtime.policy.login, flow.live
    session = view.session(live)
    if live is None or session is None:
        return
    claim = session.reading.claim
    is_own = isinstance(session.reading, LoginReading)
    if login is not None and is_own and not lets_in(login.client.allow, claim):
        flow.runtime.revocations.close_attached(live)
        raise NotAllowed(f"oidc.allow: {why_not(login.client.allow, claim)}")
    for gate in flow.route.gates:
        if not gate.lets_in(claim, session.source):
            raise NotAllowed(f"allow of a route: {why_not(gate.rules, claim)}")
