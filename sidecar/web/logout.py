"""The end of a session: the answer to a 401 that counts, and the logout path itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from sidecar.core.cookies import CookieJar, expire_lines
from sidecar.core.envelope import fault, success
from sidecar.core.errors import (
    MethodNotAllowed,
    PrefetchUnauthenticated,
    SessionChanged,
    SessionExpired,
    SessionRequired,
    TokenRejected,
)
from sidecar.core.logout import Verdict, judge, parameters
from sidecar.core.request import Client
from sidecar.web.rescue import HTML_TYPE, JSON_TYPE, common_lines, page, rescue

if TYPE_CHECKING:
    from sidecar.core.request import Request
    from sidecar.core.tickets import Ticket
    from sidecar.web.flow import Flow

_CONFIRM_FORM = (
    '<p>Another site has asked to log you out.</p><form method="post" action="{action}">'
    "<button>Log out</button></form>"
)


def unauthorized(flow: Flow) -> None:
    """Answers a 401 that counts, or a required session that is missing (contract 5, rule 3)."""
    request, route, presented = flow.request, flow.route, flow.presented
    flow.decision = "unauthorized"
    client = request.client
    if client is Client.PREFETCH:
        rescue(flow, PrefetchUnauthenticated())
        return
    runtime = flow.runtime
    missing = flow.live is None
    if missing:
        flow.reason = f"session {presented.reading.result}"
    else:
        flow.reason = "token rejected by the upstream"
        now = runtime.clock.now()
        if not runtime.sessions.is_dead(presented.fingerprint, now):  # of many 401s one ends it
            runtime.metrics.sessions_ended["token_rejected"] += 1
        runtime.sessions.bury(presented, now)
    if client in (Client.ROUTER, Client.WEBSOCKET) or route.on_unauthorized != "logout":
        rescue(flow, SessionRequired() if missing else TokenRejected())
        return
    ticket = runtime.policy.signer.ticket(presented.fingerprint, flow.began)
    back = request.path + request.query if client is Client.DOCUMENT else None
    location = runtime.policy.logout.location(ticket, back)
    head = common_lines(flow, 303) + b"Location: %b\r\n" % location.encode()
    flow.proxy.respond(flow, head, b"", status=303)


def handle(flow: Flow) -> None:
    """Serves a request to the logout path (contract 6). Raises `CsrfRejected`."""
    runtime, request = flow.runtime, flow.request
    policy = runtime.policy
    given = parameters(request.query)
    ticket = policy.signer.read_ticket(given.get("ticket", ""), flow.began)
    flow.presented = runtime.sessions.present(request.cookie, flow.began)
    flow.live = runtime.sessions.live_fingerprint(flow.presented, flow.began)
    verdict = judge(
        request,
        ticket=ticket,
        live=flow.live,
        csrf=policy.csrf,
        public_origin=flow.proxy.public_origin(flow),
    )
    flow.decision = f"logout_{verdict.value}"
    if verdict is Verdict.END:
        _end(flow, request, given, ticket)
    elif verdict is Verdict.CHANGED:
        _changed(flow, request)
    elif verdict is Verdict.CONFIRM:
        _confirm(flow, given)
    else:
        flow.reason = "a GET that proves nothing"
        rescue(flow, MethodNotAllowed())


def _end(flow: Flow, request: Request, given: dict[str, str], ticket: Ticket | None) -> None:
    runtime, rule = flow.runtime, flow.runtime.policy.logout
    flow.reason = "asked for" if ticket is None else "after a 401"
    if flow.live is not None:
        runtime.sessions.bury(flow.presented, runtime.clock.now())
        runtime.metrics.sessions_ended["logout"] += 1
    runtime.metrics.logouts["user" if ticket is None else "unauthorized"] += 1
    swept = _swept_cookies(flow, request)
    if request.client is Client.DOCUMENT:
        location = rule.next_location(given).encode()
        head = common_lines(flow, 303) + b"Location: %b\r\n" % location + swept
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


def _swept_cookies(flow: Flow, request: Request) -> bytes:
    """Set-Cookie lines that expire every session cookie presented or possible."""
    policy = flow.runtime.policy
    jar = CookieJar.parse(request.cookie.decode("latin-1"))
    presented = [name for name in jar.names() if policy.session_names.matches(name)]
    https = flow.proxy.public_origin(flow).startswith(b"https:")
    sweep = policy.sweep
    lines = expire_lines(presented, sweep.names, sweep.domains, sweep.paths, https)
    return b"".join(b"Set-Cookie: %b\r\n" % line for line in lines)


def _changed(flow: Flow, request: Request) -> None:
    flow.reason = "the ticket is about another session"
    if request.client is Client.DOCUMENT:
        head = common_lines(flow, 303) + b"Location: /\r\n"
        flow.proxy.respond(flow, head, b"", status=303)
    else:
        rescue(flow, SessionChanged())


def _confirm(flow: Flow, given: dict[str, str]) -> None:
    flow.reason = "cross-site navigation"
    action = flow.runtime.policy.logout.path
    wanted = given.get("next") or given.get("callbackUrl")
    if wanted is not None:
        action += f"?next={quote(wanted, safe='', errors='surrogateescape')}"
    more = _CONFIRM_FORM.format(action=action)
    body = page(200, "Log out?", "confirm", flow.request_id.decode("latin-1"), more)
    frame = b"X-Frame-Options: DENY\r\n"
    flow.proxy.respond(flow, common_lines(flow, 200) + HTML_TYPE + frame, body, status=200)
