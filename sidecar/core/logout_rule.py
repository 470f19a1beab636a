"""Logout, decided: may this request end the session, and where does its client go next?"""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec

from sidecar.core.client import Client
from sidecar.core.csrf import CsrfRule
from sidecar.core.errors import CsrfRejected
from sidecar.core.request import Request
from sidecar.core.target import is_local_path, local_reference, normal_origin, origin_of
from sidecar.core.tickets import Ticket

_OWN_SITE: Final = (b"same-origin", b"none")
MAX_PARAMETERS: Final = 64  # of a query that are read
LONGEST_QUERY: Final = 32_768  # characters; no ticket and no place is as long
RETURN_PARAM: Final = "return"  # carries the page's path from a 401 through logout to the login


class Verdict(StrEnum):
    """What a request to the logout path does."""

    END = "end"  # ends the session
    CHANGED = "changed"  # the ticket is about another session: ends nothing
    CONFIRM = "confirm"  # a navigation that may be another site's: asks first
    ONWARD = "onward"  # ended here before: leads on to the provider's logout
    VOID = "void"  # another site brings a ticket and no session: ends and expires nothing
    REFUSE = "refuse"  # 405: a GET that proves nothing


class LogoutRule(msgspec.Struct, frozen=True):
    """The logout, compiled (behaviour: logout). `redirect_to`: a local path or an allowed URL.

    `home` is where a document goes that has asked for the logout and names no place: the login by
    default, but not one that would log the user in again at once.
    """

    path: str
    redirect_to: str
    return_param: str | None
    home: str | None = None

    def location(self, ticket: str, back: str | None) -> str:
        """Where a 401 sends its client: the logout path with the ticket, and the way back."""
        location = f"{self.path}?ticket={ticket}"
        place = None if back is None or self.return_param is None else local_reference(back)
        if place is not None:
            location += f"&{RETURN_PARAM}={quote(place, safe='')}"
        return location

    def next_location(self, parameters: dict[str, str], *, is_asked_for: bool = False) -> str:
        """Where a document goes after logout: the caller's local path, else the login."""
        for name in ("next", "callbackUrl"):
            place = _place(parameters.get(name, ""))
            if place is not None:
                return place
        back = local_reference(parameters.get(RETURN_PARAM, ""))
        if back is not None and self.return_param is not None:
            target, hash_mark, fragment = self.redirect_to.partition("#")
            mark = "&" if "?" in target else "?"
            query = f"{mark}{self.return_param}={quote(back, safe='')}"
            return f"{target}{query}{hash_mark}{fragment}"
        return self.home if is_asked_for and self.home is not None else self.redirect_to


def _place(wanted: str) -> str | None:
    """The caller's local path as a Location holds it; None for any other text.

    A query's decoded text has characters that no URI holds (RFC 3986 2): they are encoded again.
    """
    place = local_reference(wanted) if wanted.isprintable() else None
    return place if place is not None and is_local_path(place) else None


def way_back(request: Request) -> str | None:
    """The page that a user can go back to after the login: what fills the window, by GET.

    A form's address may know POST only, and a frame's is no page of its own. A service worker's
    navigations do not say which they are.
    """
    fills_window = request.facts.get(b"sec-fetch-dest", b"document") in (b"document", b"empty")
    is_page = request.method == "GET" and request.client is Client.DOCUMENT and fills_window
    return request.path + request.query if is_page else None


def parameters(query: str) -> dict[str, str]:
    """The query's parameters; the first of a name counts, bytes that are no UTF-8 void a value.

    A query above `LONGEST_QUERY` has none: it is read more than once.
    """
    if len(query) > LONGEST_QUERY:
        return {}
    found: dict[str, str] = {}
    first = "&".join(query.lstrip("?").split("&", MAX_PARAMETERS)[:MAX_PARAMETERS])
    for name, value in parse_qsl(first, keep_blank_values=True, errors="surrogateescape"):
        found.setdefault(name, value)
    return found


def judge(
    request: Request,
    *,
    ticket: Ticket | None,
    live: str | None,
    has_cookie: bool,
    csrf: CsrfRule,
    public_origin: bytes,
    goes_on: bool = False,
) -> Verdict:
    """Decides what a request to the logout path may do. HEAD is judged as GET.

    `ticket` is a valid one or None; `live` the fingerprint of the live session presented, None
    if there is none (absent, expired, unreadable or already dead); `has_cookie` whether any
    session cookie was presented; `goes_on` whether it proves that a login session ended here
    lately. Raises `CsrfRejected` for a POST from elsewhere, and for a script's without the field
    that `csrf.header` names.
    """
    if request.method == "POST":
        if not csrf.is_trusted_origin(request, public_origin):
            raise CsrfRejected("logout is asked for from another origin")
        if request.client is not Client.DOCUMENT:  # a form cannot send it
            csrf.check_header(request)
        return Verdict.END
    if request.method not in ("GET", "HEAD"):
        return Verdict.REFUSE
    if ticket is not None:
        if not has_cookie and _is_cross_site(request, public_origin):
            return Verdict.VOID  # a cookie with SameSite=Strict may have stayed at home
        return Verdict.END if live is None or live == ticket.fingerprint else Verdict.CHANGED
    if goes_on and live is None and request.client is Client.DOCUMENT:
        return Verdict.ONWARD  # there is nothing left to end here
    return _judge_bare_get(request, public_origin)


def _judge_bare_get(request: Request, public_origin: bytes) -> Verdict:
    client = request.client
    if client in (Client.PREFETCH, Client.ROUTER, Client.WEBSOCKET):
        return Verdict.REFUSE
    site = request.facts.get(b"sec-fetch-site")
    if site is not None:
        if client is not Client.DOCUMENT or request.fact(b"sec-fetch-dest") in (
            b"iframe",
            b"frame",
        ):
            return Verdict.REFUSE
        return Verdict.END if site in _OWN_SITE else Verdict.CONFIRM
    named = _named_origins(request)
    if client is Client.DOCUMENT:
        # Without Sec-Fetch headers (plain http) a link with rel=noreferrer names nobody either.
        return Verdict.END if named == {public_origin} else Verdict.CONFIRM
    return Verdict.END if named <= {public_origin} else Verdict.REFUSE


def _is_cross_site(request: Request, public_origin: bytes) -> bool:
    """Whether another site causes the request, so that cookies with SameSite stay at home."""
    site = request.facts.get(b"sec-fetch-site")
    if site is not None:
        return site == b"cross-site"
    return not _named_origins(request) <= {public_origin}


def _named_origins(request: Request) -> set[bytes]:
    """The origins that Origin and Referer name, for browsers without Sec-Fetch headers."""
    origin, referer = request.facts.get(b"origin"), request.facts.get(b"referer")
    named = set() if origin is None else {normal_origin(origin)}
    return named if referer is None else named | {origin_of(referer)}
