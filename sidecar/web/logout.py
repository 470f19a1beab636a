"""The end of a session: the answer to a 401 that counts, and the logout path itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from sidecar.core.client import Client
from sidecar.core.cookies import (
    CookieJar,
    Scope,
    everywhere,
    expire_lines,
    first_cookies,
    is_expiring,
    set_cookie_name,
)
from sidecar.core.credential import Result
from sidecar.core.envelope import fault, success
from sidecar.core.errors import (
    CsrfRejected,
    MethodNotAllowed,
    PrefetchUnauthenticated,
    SessionChanged,
    SessionExpired,
    SessionRequired,
    StoreUnavailable,
    TokenRejected,
)
from sidecar.core.formats.own import OwnReading
from sidecar.core.formats.raw import TYPE as RAW_TYPE
from sidecar.core.logout import Verdict, judge, parameters
from sidecar.core.oidc import end_session_url
from sidecar.core.rejections import IN_A_ROW
from sidecar.web.rescue import HTML_TYPE, JSON_TYPE, common_lines, page, rescue

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.core.tickets import Ticket
    from sidecar.core.view import OpenedSession
    from sidecar.web.flow import Flow

MOST_RECOVERIES = 2  # once with a newer token that is there, and once with a fresh one

_CONFIRM_FORM = (
    '<p>Do you want to log out?</p><form method="post" action="{action}">'
    "<button>Log out</button></form>"
)


def unauthorized(flow: Flow) -> None:
    """Answers a 401 that counts, or a required session that is missing (contract 5).

    Where the session holds what renews it, that is tried first (rules 1 and 2).
    """
    flow.decision = "unauthorized"
    if flow.request.client is Client.PREFETCH:
        rescue(flow, PrefetchUnauthenticated())
        return
    is_live, keeper = flow.live is not None, flow.runtime.keeper
    if is_live and flow.recoveries < MOST_RECOVERIES and keeper.can_renew(flow.presented):
        flow.spawn(flow.proxy.planner.recover)
        return
    if is_live:
        _bury_rejected(flow)
    elif flow.runtime.sessions.is_dead(flow.presented.fingerprint, flow.began):
        flow.reason = "session ended"
    else:
        flow.reason = f"session {flow.presented.reading.result}"
    if _leads_to_logout(flow):
        _send_to_logout(flow)
    else:
        rescue(flow, TokenRejected() if is_live else SessionRequired())


def _bury_rejected(flow: Flow) -> None:
    """A real 401 has proved the session dead; of many that come together one ends it."""
    runtime, now = flow.runtime, flow.runtime.clock.now()
    flow.reason = "token rejected by the upstream"
    if not runtime.sessions.is_dead(flow.presented.fingerprint, now):
        runtime.metrics.sessions_ended["token_rejected"] += 1
        _watch_rejections(flow, now)
    session = flow.presented.session(flow.live)
    if session is not None:
        runtime.sessions.bury(session, now)


def _watch_rejections(flow: Flow, now: float) -> None:
    """Says so if an upstream takes nobody's token: users would log in again and again."""
    runtime, route, fingerprint = flow.runtime, flow.route, flow.presented.fingerprint
    successes = runtime.metrics.successes(route.path)
    if fingerprint is not None and runtime.rejections.add(
        route.path, fingerprint, successes=successes, now=now
    ):
        runtime.log.warning(
            "every token is rejected",
            route=route.path,
            upstream=route.upstream,
            address=runtime.policy.upstreams[route.upstream].origin,
            detail=f"the last {IN_A_ROW} sessions were answered as {flow.upstream_status or 401}; "
            "if their logins are fresh, the upstream expects another audience, issuer or key, or "
            "its clock is wrong",
        )


def _leads_to_logout(flow: Flow) -> bool:
    """Whether the client is sent to the logout, or told 401 (contract 5, rule 3).

    With a login of the sidecar's own, a document goes there too whose page needs a session.
    """
    client, route = flow.request.client, flow.route
    if client in (Client.ROUTER, Client.WEBSOCKET):
        return False
    lacks_session = flow.live is None and client is Client.DOCUMENT and route.kind == "page"
    is_own = lacks_session and flow.runtime.own is not None and route.on_unauthorized == "pass"
    return is_own or route.on_unauthorized == "logout"


def bridged(flow: Flow) -> None:
    """Answers a page's request whose session is dead: a document is led to the logout, and a
    router to load the document (contract 5, server-render bridge).
    """
    flow.decision = "unauthorized"
    flow.reason = "session ended"
    if flow.request.client is Client.ROUTER:
        rescue(flow, TokenRejected())
    else:
        _send_to_logout(flow)


def _send_to_logout(flow: Flow) -> None:
    request, policy = flow.request, flow.runtime.policy
    ticket = policy.signer.ticket(flow.presented.fingerprint, flow.began, flow.route.sources)
    back = request.path + request.query if request.client is Client.DOCUMENT else None
    location = policy.logout.location(ticket, back)
    head = common_lines(flow, 303) + b"Location: %b\r\n" % location.encode()
    flow.proxy.respond(flow, head, b"", status=303)


def signed_out(flow: Flow, ended: Sequence[OpenedSession]) -> None:
    """Ends the sessions that the frontend's own answer ends by expiring their cookies."""
    _bury(flow, ended, "signed_out")
    flow.sweeps = True


def handle(flow: Flow) -> None:
    """Serves a request to a logout path (contract 6). Raises `CsrfRejected`."""
    flow.presented = flow.runtime.sessions.present(flow.request.cookie, flow.began)
    presented, keeper = flow.presented, flow.runtime.keeper
    if presented.handles or not presented.is_checked or keeper.doubts(presented):
        flow.spawn(_load_and_handle)
    else:
        _handle(flow)


async def _load_and_handle(flow: Flow) -> None:
    """Where the store cannot be asked for the session, it is ended there once it can.

    Unless a ticket brings it here, since that may be about another session. Raises
    `StoreUnavailable` then.
    """
    try:
        flow.presented = await flow.runtime.keeper.checked(flow.presented, by_cookie=True)
    except StoreUnavailable:
        if "ticket" in parameters(flow.request.query):
            raise
    await flow.runtime.keeper.vouch_for(flow.presented)
    _handle(flow)


def _handle(flow: Flow) -> None:
    runtime, request = flow.runtime, flow.request
    policy = runtime.policy
    given = parameters(request.query)
    if request.method == "POST" and given.get("clear") == "cookies":
        clear(flow)
        return
    ticket = policy.signer.read_ticket(given.get("ticket", ""), flow.began)
    flow.live = runtime.sessions.live_fingerprint(flow.presented, flow.began)
    verdict = judge(
        request,
        ticket=ticket,
        live=flow.live if ticket is None else _concerned(flow, ticket),
        has_cookie=policy.presents_session(request.cookie),
        csrf=policy.csrf,
        public_origin=flow.proxy.planner.public_origin(flow),
    )
    flow.decision = f"logout_{verdict.value}"
    if verdict is Verdict.END:
        _end(flow, request, given, ticket)
    elif verdict is Verdict.CHANGED:
        _changed(flow, request)
    elif verdict is Verdict.CONFIRM:
        _confirm(flow, given)
    elif verdict is Verdict.VOID:
        _void(flow, request, given)
    else:
        flow.reason = "a GET that proves nothing"
        rescue(flow, MethodNotAllowed())


def _end(flow: Flow, request: Request, given: dict[str, str], ticket: Ticket | None) -> None:
    runtime, rule = flow.runtime, flow.runtime.policy.logout
    flow.reason = "asked for" if ticket is None else "after a 401"
    _bury(flow, _ending(flow, ticket), "logout")
    runtime.metrics.logouts["user" if ticket is None else "unauthorized"] += 1
    lines = sweep_lines(flow)
    if ticket is None and runtime.own is not None:  # whoever logs out may log in again at once
        jar = CookieJar.parse(request.cookie.decode("latin-1"))
        https = flow.proxy.planner.public_origin(flow).startswith(b"https:")
        lines += runtime.own.login.trace.gone(jar, Scope(https=https))
    swept = b"".join(b"Set-Cookie: %b\r\n" % line for line in lines)
    if request.client is Client.DOCUMENT:
        location = rule.next_location(given, is_asked_for=ticket is None)
        if ticket is None:
            location = _by_way_of_the_provider(flow, location)
        head = common_lines(flow, 303) + b"Location: %b\r\n" % location.encode() + swept
        flow.proxy.respond(flow, head, b"", status=303)
        return
    links = {"loginUrl": rule.redirect_to, "logoutUrl": rule.path}
    if ticket is None:
        status, body = 200, success(200, {"code": "logged_out", **links})
    else:
        error = SessionExpired()
        request_id = flow.request_id.decode("latin-1")
        status = error.status
        body = fault(status, error.message, error.code, request_id, **links)
    flow.proxy.respond(flow, common_lines(flow, status) + JSON_TYPE + swept, body, status=status)


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
    for one in flow.runtime.sessions.living(flow.presented, flow.began):
        is_concerned = ticket.sources is None or one.source in ticket.sources
        if is_concerned and one.reading.result is not Result.BAD_TOKEN:
            return one.fingerprint
    return None


def _by_way_of_the_provider(flow: Flow, location: str) -> str:
    """Where a document goes whose own session has ended: the provider's session ends as well.

    RP-Initiated Logout 2, where the provider has said how; it is not waited for.
    """
    own = flow.runtime.own
    metadata = None if own is None else own.provider.known
    readings = (one.reading for one in flow.presented.sessions)
    reading = next((one for one in readings if isinstance(one, OwnReading) and one.session), None)
    if own is None or metadata is None or reading is None or reading.session is None:
        return location
    if metadata.end_session_endpoint is None:
        return location
    if location.startswith("/"):
        location = flow.proxy.planner.public_origin(flow).decode("latin-1") + location
    return end_session_url(
        metadata.end_session_endpoint,
        own.login.client,
        id_token=reading.session.tokens.id_token,
        back_to=location,
    )


def sweep_lines(flow: Flow, besides: Sequence[bytes] = ()) -> list[bytes]:
    """Set-Cookie values that expire every session cookie presented or possible.

    But for those of sessions that live on, and for those that the Set-Cookie values `besides` set:
    a response does not contradict itself.
    """
    policy, sessions = flow.runtime.policy, flow.runtime.sessions
    jar = CookieJar.parse(flow.request.cookie.decode("latin-1"))
    presented = [name for name in jar.names() if policy.session_names.matches(name)]
    https = flow.proxy.planner.public_origin(flow).startswith(b"https:")
    sweep = policy.sweep
    lines = expire_lines(presented, sweep.names, sweep.domains, sweep.paths, https)
    now = flow.runtime.clock.now()
    named = {set_cookie_name(one) for one in besides if not is_expiring(one, now)}
    living = sessions.living(flow.presented, now)
    return [
        line
        for line in lines
        if (name := set_cookie_name(line)) not in named and not sessions.is_of(name, living)
    ]


def is_way_out(flow: Flow) -> bool:
    """Whether a request whose head is too large is the button of the page that says so."""
    endpoint = flow.runtime.policy.endpoints.get(flow.request.route_path)
    return flow.request.method == "POST" and endpoint is not None and endpoint.name == "logout"


def clear(flow: Flow) -> None:
    """Ends the session and expires every cookie that was presented, whoever set it.

    So a browser gets out that was given more cookies than any server takes (threat 28): by
    Clear-Site-Data, and for browsers without it by name, on this host and its parent domains.
    Raises `CsrfRejected` for a request from elsewhere.
    """
    policy, request, public = (
        flow.runtime.policy,
        flow.request,
        flow.proxy.planner.public_origin(flow),
    )
    if not policy.csrf.is_trusted_origin(request, public):
        raise CsrfRejected("clearing the cookies is asked for from another origin")
    flow.decision, flow.reason = "logout_clear", "too many cookies"
    cookies = first_cookies(request.cookie)  # the browser drops the others without their names
    flow.presented = flow.runtime.sessions.present(cookies, flow.began)
    flow.live = flow.runtime.sessions.live_fingerprint(flow.presented, flow.began)
    _bury(flow, _ending(flow, None), "logout")
    flow.runtime.metrics.logouts["too_many_cookies"] += 1
    lines = [*sweep_lines(flow), *everywhere(cookies, policy.clearable)]
    head = b"".join(
        (
            common_lines(flow, 303),
            b"Location: %b\r\n" % policy.logout.redirect_to.encode(),
            b'Clear-Site-Data: "cookies"\r\n',
            *(b"Set-Cookie: %b\r\n" % line for line in lines),
        )
    )
    flow.connection.close_after()
    flow.proxy.respond(flow, head, b"", status=303)


def _bury(flow: Flow, sessions: Sequence[OpenedSession], reason: str) -> None:
    """Ends sessions of the request; counted are those that were alive until now."""
    runtime, now = flow.runtime, flow.runtime.clock.now()
    for session in sessions:
        if not runtime.sessions.is_dead(session.fingerprint, now):
            runtime.sessions.bury(session, now)
            runtime.metrics.sessions_ended[reason] += 1
        runtime.departures.begin(session, reason)
    if flow.presented.handles:  # not loaded: the store could not be asked, or was not waited for
        depart = partial(runtime.departures.begin, reason=reason)
        runtime.keeper.end_later(flow.presented.handles, depart)


def _changed(flow: Flow, request: Request) -> None:
    flow.reason = "the ticket is about another session"
    if request.client is Client.DOCUMENT:
        head = common_lines(flow, 303) + b"Location: /\r\n"
        flow.proxy.respond(flow, head, b"", status=303)
    else:
        rescue(flow, SessionChanged())


def _void(flow: Flow, request: Request, given: dict[str, str]) -> None:
    flow.reason = "a ticket from another site, without a session"
    if request.client is Client.DOCUMENT:
        location = flow.runtime.policy.logout.next_location(given)
        head = common_lines(flow, 303) + b"Location: %b\r\n" % location.encode()
        flow.proxy.respond(flow, head, b"", status=303)
    else:
        rescue(flow, SessionRequired())


def _confirm(flow: Flow, given: dict[str, str]) -> None:
    flow.reason = "a navigation that may be another site's"
    action = flow.request.route_path  # one of the logout paths, which are configured
    wanted = given.get("next") or given.get("callbackUrl")
    if wanted is not None:
        action += f"?next={quote(wanted, safe='', errors='surrogateescape')}"
    more = _CONFIRM_FORM.format(action=action)
    body = page(200, "Log out?", "confirm", flow.request_id.decode("latin-1"), more)
    frame = b"X-Frame-Options: DENY\r\n"
    flow.proxy.respond(flow, common_lines(flow, 200) + HTML_TYPE + frame, body, status=200)
