"""The end of a session: the response to a 401 that counts, and the logout path itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.core.client import Client
from sidecar.core.cookies import (
    CookieJar,
    everywhere,
    first_cookies,
)
from sidecar.core.credential import Result
from sidecar.core.envelope import success
from sidecar.core.error_body import JSON_TYPE, error_body
from sidecar.core.errors import (
    CsrfRejected,
    MethodNotAllowed,
    SessionChanged,
    SessionExpired,
    SessionRequired,
    StoreUnavailable,
)
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.formats.raw import TYPE as RAW_TYPE
from sidecar.core.logout_rule import Verdict, judge, parameters
from sidecar.core.oidc.provider_logout import end_session_url
from sidecar.core.onward import PARAM as ONWARD_PARAM
from sidecar.core.onward import Onward
from sidecar.core.own_pages import CONFIRM, LOGOUT
from sidecar.core.record import replace
from sidecar.core.sweep import room_beside
from sidecar.web.client_limits import admit
from sidecar.web.origin import public_origin, scope_of
from sidecar.web.page_offers import offer_logout
from sidecar.web.rescue import rescue
from sidecar.web.responses import (
    common_lines,
    error_lines,
    page,
    redirect,
    redirect_head,
    set_cookies,
)
from sidecar.web.session_end import end_sessions, sweep_lines

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.core.tickets import Ticket
    from sidecar.core.view import OpenedSession
    from sidecar.web.flow import Flow

METHODS: Final = ("GET", "HEAD", "POST")  # of a logout path


def handle(flow: Flow) -> None:
    """Serves a request to a logout path (behaviour: logout).

    Raises `CsrfRejected` and `RateLimited`.
    """
    admit(flow, "logout")
    flow.presented = flow.runtime.directory.present(flow.request.cookie, flow.began)
    presented, coordinator = flow.presented, flow.runtime.coordinator
    if presented.handles or not presented.is_checked or coordinator.doubts(presented):
        flow.spawn(_load_and_handle)
    else:
        _handle(flow)


async def _load_and_handle(flow: Flow) -> None:
    """If the store cannot be asked for the session, the session is ended there later.

    Unless a ticket brings it here, since that may be about another session. Raises
    `StoreUnavailable` then.
    """
    try:
        flow.presented = await flow.runtime.coordinator.checked(flow.presented, by_cookie=True)
    except StoreUnavailable:
        if "ticket" in parameters(flow.request.query):
            raise
    await flow.runtime.coordinator.vouch_for(flow.presented)
    _handle(flow)


def _handle(flow: Flow) -> None:
    runtime, request = flow.runtime, flow.request
    policy = runtime.policy
    given = parameters(request.query)
    if request.method == "POST" and given.get("clear") == "cookies":
        clear(flow)
        return
    ticket = policy.signer.read_ticket(given.get("ticket", ""), flow.began)
    if ticket is not None:
        flow.route = replace(flow.route, errors=ticket.errors)
    flow.live = runtime.revocations.live_fingerprint(flow.presented, flow.began)
    verdict = judge(
        request,
        ticket=ticket,
        live=flow.live if ticket is None else _concerned(flow, ticket),
        has_cookie=policy.presents_session(request.cookie),
        csrf=policy.csrf,
        public_origin=public_origin(flow),
        goes_on=_onward(flow, given) is not None,
    )
    flow.decision = f"logout_{verdict.value}"
    if verdict is Verdict.END:
        _end(flow, request, given, ticket)
    elif verdict is Verdict.CHANGED:
        _changed(flow, request)
    elif verdict is Verdict.CONFIRM:
        _confirm(flow, given)
    elif verdict is Verdict.ONWARD:
        flow.reason = "ended by a script before"
        location = policy.logout.next_location(given, is_asked_for=True)
        redirect(flow, _by_way_of_the_provider(flow, location, given))
    elif verdict is Verdict.VOID:
        _void(flow, request, given)
    else:
        flow.reason = "a GET that proves nothing"
        rescue(flow, MethodNotAllowed(*METHODS))


def _end(flow: Flow, request: Request, given: dict[str, str], ticket: Ticket | None) -> None:
    runtime, rule = flow.runtime, flow.runtime.policy.logout
    flow.reason = "asked for" if ticket is None else "after a 401"
    end_sessions(flow, _ending(flow, ticket), "logout")
    runtime.metrics.logouts["user" if ticket is None else "unauthorized"] += 1
    if request.client is Client.DOCUMENT:
        location = rule.next_location(given, is_asked_for=ticket is None)
        if ticket is None:
            location = _by_way_of_the_provider(flow, location, given)
        head = redirect_head(flow, location)
        flow.respond(_swept(flow, head, ticket), b"", status=303)
        return
    links = {"loginUrl": rule.redirect_to, "logoutUrl": _logout_url(flow, given)}
    if ticket is None:
        status, lines, type_line = 200, common_lines(flow, 200), JSON_TYPE
        body = success(200, {"code": "logged_out", **links})
    else:
        error = SessionExpired()
        runtime.metrics.responses[error.code] += 1
        request_id = flow.request_id.decode("latin-1")
        status, lines = error.status, error_lines(flow, error)
        type_line, body = error_body(
            ticket.errors, status, error.message, error.code, request_id, **links
        )
    head = _swept(flow, lines + type_line, ticket)
    flow.respond(head, body, status=status)


def _swept(flow: Flow, head: bytes, ticket: Ticket | None) -> bytes:
    """The head of a logout's response, with what expires the session's cookies."""
    lines = sweep_lines(flow, room_beside(len(head)), is_asked_for=ticket is None)
    parts = flow.runtime.login
    if ticket is None and parts is not None:  # a user who logs out may log in again at once
        jar = CookieJar.parse(flow.request.cookie.decode("latin-1"))
        lines += parts.policy.trace.gone(jar, scope_of(flow))
    return head + set_cookies(lines)


def _ending(flow: Flow, ticket: Ticket | None) -> Sequence[OpenedSession]:
    """The sessions that a logout ends: all that are presented.

    A ticket ends the one that it names alone: another application's may live beside it. Anybody can
    write plain cookies, so of each such source one counts.
    """
    view = flow.presented
    if ticket is not None:
        named = view.session(ticket.fingerprint)
        return () if named is None else (named,)
    return [
        one
        for one in view.sessions
        if one.fingerprint in view.living or one.reading.source != RAW_TYPE
    ]


def _concerned(flow: Flow, ticket: Ticket) -> str | None:
    """The session that a ticket is judged by: the one that it names, if that is presented; else a
    living one of the sources that it is about.
    """
    if flow.presented.session(ticket.fingerprint) is not None:
        return ticket.fingerprint
    for one in flow.runtime.revocations.living(flow.presented, flow.began):
        is_concerned = ticket.sources is None or one.source in ticket.sources
        if is_concerned and one.reading.result is not Result.BAD_TOKEN:
            return one.fingerprint
    return None


def _onward(flow: Flow, given: Mapping[str, str]) -> Onward | None:
    """The ticket of a login session that a script has ended, if the request brings one."""
    parts = flow.runtime.login
    ticket = given.get(ONWARD_PARAM)
    return None if parts is None or ticket is None else parts.policy.onward.read(ticket, flow.began)


def _end_session_endpoint(flow: Flow) -> str | None:
    """Where the provider's sessions end, if it has said so; it is not waited for."""
    parts = flow.runtime.login
    metadata = None if parts is None else parts.provider.known
    return None if metadata is None else metadata.end_session_endpoint


def _logged_out(flow: Flow, given: Mapping[str, str]) -> Onward | None:
    """The login session whose logout this is: presented, or ended before; None if there is none."""
    for one in flow.presented.sessions:
        if isinstance(one.reading, LoginReading) and one.reading.session is not None:
            return Onward(one.reading.session.tokens.id_token, flow.began)
    return _onward(flow, given)


def _logout_url(flow: Flow, given: Mapping[str, str]) -> str:
    """Where a script's page goes to end what is left: the session at the provider, if there is one.

    By way of here, since no page may read the id_token that the provider wants to see.
    """
    parts, path = flow.runtime.login, flow.runtime.policy.logout.path
    logged_out = _logged_out(flow, given)
    if parts is None or logged_out is None or _end_session_endpoint(flow) is None:
        return path
    return f"{path}?{ONWARD_PARAM}={parts.policy.onward.write(logged_out.id_token, flow.began)}"


def _by_way_of_the_provider(flow: Flow, location: str, given: Mapping[str, str]) -> str:
    """Where a document goes whose login session has ended: the provider's session ends as well.

    RP-Initiated Logout 2, if the provider supports it.
    """
    parts, endpoint, logged_out = (
        flow.runtime.login,
        _end_session_endpoint(flow),
        _logged_out(flow, given),
    )
    if parts is None or endpoint is None or logged_out is None:
        return location
    if location.startswith("/"):
        location = public_origin(flow).decode("latin-1") + location
    return end_session_url(
        endpoint,
        parts.policy.client,
        id_token=logged_out.id_token,
        back_to=location,
    )


def is_way_out(flow: Flow) -> bool:
    """Whether a request whose head is too large is the button of the page that says so."""
    endpoint = flow.runtime.policy.endpoints.get(flow.request.route_path)
    return flow.request.method == "POST" and endpoint is not None and endpoint.name == "logout"


def clear(flow: Flow) -> None:
    """Ends the session and expires every cookie that was presented, no matter who set it.

    So a browser gets out that was given more cookies than any server takes (T28): by
    Clear-Site-Data, and for browsers without it by name, on this host and its parent domains.
    Raises `CsrfRejected` for a request from elsewhere.
    """
    policy, request, public = (
        flow.runtime.policy,
        flow.request,
        public_origin(flow),
    )
    if not policy.csrf.is_trusted_origin(request, public):
        raise CsrfRejected("clearing the cookies is asked for from another origin")
    flow.decision, flow.reason = "logout_clear", "too many cookies"
    cookies = first_cookies(request.cookie)  # the browser drops the others without their names
    flow.presented = flow.runtime.directory.present(cookies, flow.began)
    flow.live = flow.runtime.revocations.live_fingerprint(flow.presented, flow.began)
    end_sessions(flow, _ending(flow, None), "logout")
    flow.runtime.metrics.logouts["too_many_cookies"] += 1
    lines = [*sweep_lines(flow, inf, is_asked_for=True), *everywhere(cookies, policy.clearable)]
    head = redirect_head(flow, policy.logout.redirect_to)
    head += b'Clear-Site-Data: "cookies"\r\n' + set_cookies(lines)
    flow.connection.close_after()
    flow.respond(head, b"", status=303)


def _changed(flow: Flow, request: Request) -> None:
    flow.reason = "the ticket is about another session"
    if request.client is Client.DOCUMENT:
        redirect(flow, "/")
    else:
        rescue(flow, SessionChanged())


def _void(flow: Flow, request: Request, given: dict[str, str]) -> None:
    flow.reason = "a ticket from another site, without a session"
    if request.client is Client.DOCUMENT:
        redirect(flow, flow.runtime.policy.logout.next_location(given))
    else:
        rescue(flow, SessionRequired())


def _confirm(flow: Flow, given: dict[str, str]) -> None:
    flow.reason = "a navigation that may be another site's"
    action = flow.request.route_path  # one of the logout paths, which are configured
    wanted = given.get("next") or given.get("callbackUrl")
    if wanted is not None:
        action += f"?next={quote(wanted, safe='', errors='surrogateescape')}"
    type_line, body = page(flow, 200, CONFIRM, group=LOGOUT, offer=offer_logout(action))
    frame = b"X-Frame-Options: DENY\r\n"
    flow.respond(common_lines(flow, 200) + type_line + frame, body, status=200)
