"""Logout, decided: may this request end the session, and where does its client go next?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, quote

from sidecar.core.client import Client
from sidecar.core.errors import CsrfRejected
from sidecar.core.protection import CsrfRule
from sidecar.core.request import Request
from sidecar.core.target import is_local_path
from sidecar.core.tickets import Ticket

_OWN_SITE: Final = (b"same-origin", b"none")
RETURN_PARAM: Final = "return"  # carries the page's path from a 401 through logout to the login


class Verdict(StrEnum):
    """What a request to the logout path does."""

    END = "end"  # ends the session
    CHANGED = "changed"  # the ticket is about another session: ends nothing
    CONFIRM = "confirm"  # a cross-site navigation: ask first
    REFUSE = "refuse"  # 405: a GET that proves nothing


@dataclass(frozen=True, slots=True)
class LogoutRule:
    """Contract section 6, compiled. `redirect_to` is a local path or an allowed absolute URL.

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
        if back is not None and self.return_param is not None and is_local_path(back):
            location += f"&{RETURN_PARAM}={quote(back, safe='')}"
        return location

    def next_location(self, parameters: dict[str, str], *, is_asked_for: bool = False) -> str:
        """Where a document goes after logout: the caller's local path, else the login."""
        for name in ("next", "callbackUrl"):
            wanted = parameters.get(name)
            if wanted is not None and is_local_path(wanted):
                return wanted
        back = parameters.get(RETURN_PARAM)
        if back is not None and self.return_param is not None and is_local_path(back):
            target, hash_mark, fragment = self.redirect_to.partition("#")
            mark = "&" if "?" in target else "?"
            query = f"{mark}{self.return_param}={quote(back, safe='')}"
            return f"{target}{query}{hash_mark}{fragment}"
        return self.home if is_asked_for and self.home is not None else self.redirect_to


def parameters(query: str) -> dict[str, str]:
    """The query's parameters; the first of a name counts, bytes that are no UTF-8 void a value."""
    found: dict[str, str] = {}
    pairs = parse_qsl(query.lstrip("?"), keep_blank_values=True, errors="surrogateescape")
    for name, value in pairs[:64]:
        found.setdefault(name, value)
    return found


def judge(
    request: Request,
    *,
    ticket: Ticket | None,
    live: str | None,
    csrf: CsrfRule,
    public_origin: bytes,
) -> Verdict:
    """Decides what a request to the logout path may do.

    `ticket` is a valid one or None; `live` the fingerprint of the live session presented, None
    where there is none (absent, expired, unreadable or already dead).
    Raises `CsrfRejected` for a POST from elsewhere.
    """
    if request.method == "POST":
        if not csrf.is_trusted_origin(request, public_origin):
            raise CsrfRejected("logout is asked for from another origin")
        return Verdict.END
    if request.method != "GET":
        return Verdict.REFUSE
    if ticket is not None:
        return Verdict.END if live is None or live == ticket.fingerprint else Verdict.CHANGED
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
    if _comes_from_elsewhere(request, public_origin):
        return Verdict.CONFIRM if client is Client.DOCUMENT else Verdict.REFUSE
    return Verdict.END


def _comes_from_elsewhere(request: Request, public_origin: bytes) -> bool:
    """Whether Origin or Referer name another origin (browsers without Sec-Fetch headers)."""
    origin = request.facts.get(b"origin")
    if origin is not None and origin != public_origin:
        return True
    referer = request.facts.get(b"referer")
    if referer is None:
        return False
    return referer != public_origin and not referer.startswith(public_origin + b"/")
