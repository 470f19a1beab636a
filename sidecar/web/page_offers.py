"""What the sidecar's own pages offer to their readers: who is logged in, links and buttons."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from sidecar.core.access import EMAIL
from sidecar.core.errors import NotAllowed, ProxyError, SessionRequired, TokenRejected
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.logout_rule import RETURN_PARAM, way_back
from sidecar.core.request import UNREAD
from sidecar.core.target import local_reference

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

SWITCH: Final = "switch"
"""A parameter of a login that asks the provider for another user than the one it knows."""

_TRY_AGAIN: Final = frozenset((408, 429, 500, 502, 503, 504))
_WAY_OUT: Final = (
    '<form method="post" action="{action}?clear=cookies"><button>Remove the cookies</button></form>'
)
_CONFIRM: Final = '<form method="post" action="{action}"><button>Log out</button></form>'


class Offer(NamedTuple):
    """Parts of a page, as HTML (`core.own_pages`)."""

    details: str = ""
    actions: str = ""


NOTHING: Final = Offer()


def offer_of(flow: Flow, error: ProxyError) -> Offer:
    """What a page about an error offers."""
    if error.status == 431:
        action = escape(flow.runtime.policy.logout.path)
        return Offer(actions=_WAY_OUT.format(action=action))
    if isinstance(error, NotAllowed):
        return offer_switch(flow, _who(flow), way_back(flow.request))
    if isinstance(error, TokenRejected):
        return _again(flow, _link(flow.runtime.policy.logout.path, "Log out"))
    if isinstance(error, SessionRequired):
        back = way_back(flow.request) or ""
        login = flow.runtime.policy.logout.next_location({RETURN_PARAM: back})
        return Offer(actions=_link(login, "Log in"))
    return _again(flow) if error.status in _TRY_AGAIN else NOTHING


def _again(flow: Flow, more: str = "") -> Offer:
    """The place that was asked for once more, if a link leads there, and `more` actions."""
    place = None if flow.request is UNREAD else way_back(flow.request)
    place = None if place is None else local_reference(place)
    return Offer(actions=more if place is None else _link(place, "Try again") + more)


def _who(flow: Flow) -> str:
    """What the user of the session is called, if it says so."""
    reading = flow.presented.reading
    if isinstance(reading, LoginReading) and reading.session is not None:
        profile = reading.session.profile
        return profile.email or profile.name or ""
    who = reading.claim(EMAIL) or reading.claim(("name",))
    return who if isinstance(who, str) else ""


def offer_switch(flow: Flow, who: str, wanted: str | None) -> Offer:
    """Who is logged in, and the way to be somebody else. `wanted` is where to go then."""
    policy = flow.runtime.policy
    known = f"<p>You are logged in as <strong>{escape(who)}</strong>.</p>" if who else ""
    if policy.login is None:
        return Offer(known, _link(policy.logout.path, "Log out"))
    link = f"{policy.login.base}/login?{SWITCH}=1"
    link += "" if wanted is None else f"&next={quote(wanted, safe='/')}"
    return Offer(known, _link(link, "Log in as somebody else"))


def offer_login(flow: Flow, description: str, wanted: str | None) -> Offer:
    """What the provider said of a login that failed, and another try."""
    policy = flow.runtime.policy.login
    assert policy is not None
    again = f"{policy.base}/login"
    again += "" if wanted is None else f"?next={quote(wanted, safe='/')}"
    details = f"<p>{escape(description)}</p>" if description else ""
    return Offer(details, _link(again, "Try again"))


def offer_logout(action: str) -> Offer:
    """The button that ends the session. `action` is a path and query without `"` and `<`."""
    return Offer(actions=_CONFIRM.format(action=escape(action)))


def _link(href: str, text: str) -> str:
    return f'<p><a class="button" href="{escape(href)}">{text}</a></p>'
