"""Who may use what: the rules of `allow`, and what somebody is shown whom none lets in."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.core.access import EMAIL, lets_in, why_not
from sidecar.core.errors import NotAllowed
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.logout_rule import way_back

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

SWITCH: Final = "switch"
"""A parameter of a login that asks the provider for another user than the one it knows."""


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


def denied_html(flow: Flow) -> str:
    """What the page says to somebody who is logged in, and whom a route does not let in."""
    reading = flow.presented.reading
    who = reading.claim(EMAIL) or reading.claim(("name",))
    if isinstance(reading, LoginReading) and reading.session is not None:
        profile = reading.session.profile
        who = profile.email or profile.name
    return switch_html(flow, who if isinstance(who, str) else "", way_back(flow.request))


def switch_html(flow: Flow, who: str, wanted: str | None) -> str:
    """Who is logged in, and the way to be somebody else. `wanted` is where to go then."""
    policy = flow.runtime.policy
    known = f"<p>You are logged in as <strong>{escape(who)}</strong>.</p>" if who else ""
    if policy.login is None:
        return f'{known}<p><a href="{escape(policy.logout.path)}">Log out</a></p>'
    link = f"{policy.login.base}/login?{SWITCH}=1"
    link += "" if wanted is None else f"&next={quote(wanted, safe='/')}"
    return f'{known}<p><a href="{escape(link)}">Log in as somebody else</a></p>'
