"""The sidecar's own login: the endpoints below `oidc.path` (behaviour: own login).

None of them is cached, reveals to other sites where it was reached from, or holds a token.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.client import Client
from sidecar.core.cookies import CookieJar, with_set_cookies
from sidecar.core.envelope import fault
from sidecar.core.error_body import JSON_TYPE
from sidecar.core.errors import (
    BadRequest,
    BodyTooLarge,
    LoginUnavailable,
    MethodNotAllowed,
    NotAllowed,
    PrefetchUnauthenticated,
    ProxyError,
    SessionRequired,
    StoreUnavailable,
    forget_frames,
    loggable,
)
from sidecar.core.formats.login_session import TYPE as OWN
from sidecar.core.formats.login_session import LoginReading, LoginSession, presented_names
from sidecar.core.headers import media_type
from sidecar.core.jws import InvalidToken
from sidecar.core.login_loop import MOST, LoginTrace
from sidecar.core.logout_rule import parameters
from sidecar.core.oidc.attempt import ENTROPY, authorization_url, begin_attempt
from sidecar.core.oidc.authorization_response import answer_parameters, unexpected_answer
from sidecar.core.oidc.provider_logout import (
    LOGOUT_TOKEN,
    LogoutToken,
    read_front_channel,
    read_logout_token,
)
from sidecar.core.oidc.relying_party import LoginFailed, LoginRefused
from sidecar.core.own_pages import LOGIN_FAILED
from sidecar.core.record import replace
from sidecar.core.target import local_reference, normal_origin
from sidecar.net.provider import ProviderUnavailable
from sidecar.web import logout_endpoint as logout
from sidecar.web.body import RequestBody
from sidecar.web.client_limits import admit
from sidecar.web.origin import public_origin
from sidecar.web.page_offers import SWITCH, offer_login, offer_switch
from sidecar.web.remembering import note, note_ended
from sidecar.web.responses import common_lines, page, redirect_head, set_cookies
from sidecar.web.session_end import count_ended

if TYPE_CHECKING:
    from sidecar.core.view import SessionView
    from sidecar.runtime import LoginParts
    from sidecar.web.flow import Flow

MOVED: Final = "moved"  # a parameter of a login that was led to the public host
FORM_BYTES: Final = 65536  # of a logout token's form
FORM_TYPE: Final = b"application/x-www-form-urlencoded"

_PRIVATE: Final = b"Referrer-Policy: no-referrer\r\n"  # addresses here may hold a code
_FRAMED_TYPE: Final = (
    b"Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: default-src 'none'\r\n"
)
_FRAMED: Final = b"<!doctype html><title>Logged out</title>\n"
_NOT_DONE: Final = "The login failed"
_OUTCOMES: Final = {
    "login_expired": "expired",
    "login_misconfigured": "misconfigured",
    "login_loop": "loop",
    "bad_answer": "bad_answer",
    "session_too_large": "too_large",
    NotAllowed.code: NotAllowed.code,
}
"""What failed logins are counted as; what else the provider says is `refused`."""


def _parts(flow: Flow) -> LoginParts:
    parts = flow.runtime.login
    assert parts is not None, "endpoints of oidc are there only with it"
    return parts


def _demand(flow: Flow, *methods: str) -> None:
    """Raises `MethodNotAllowed`, and for prefetches, which touch nothing, their refusal."""
    if flow.method not in methods:
        raise MethodNotAllowed(*methods)
    if flow.request.client is Client.PREFETCH:
        raise PrefetchUnauthenticated


def _go_on(flow: Flow, work: Callable[[Flow], Coroutine[Any, Any, None]]) -> None:
    """Responds as a task of the request. Raises `Overloaded` if there are too many."""
    flow.admit(flow.route.kind)
    flow.spawn(work)


def _jar(flow: Flow) -> CookieJar:
    return CookieJar.parse(flow.request.cookie.decode("latin-1"))


def _origin(flow: Flow) -> str:
    return public_origin(flow).decode("latin-1")


def _scope(flow: Flow) -> Scope:
    """The sidecar's own cookies are for this host alone."""
    return Scope(https=_origin(flow).startswith("https:"))


def _redirect(flow: Flow, location: str, lines: Sequence[bytes]) -> None:
    flow.respond(redirect_head(flow, location) + _PRIVATE + set_cookies(lines), b"", status=303)


# -- a login begins -------------------------------------------------------------------------------


def begin(flow: Flow) -> None:
    """`/login?next=`: leads a document to the provider.

    A script could not follow there. Raises `SessionRequired` for it, and as `_demand`.
    """
    _demand(flow, "GET", "HEAD")
    client, facts = flow.request.client, flow.request.facts
    is_plain = client is Client.FETCH and b"sec-fetch-mode" not in facts
    if client is not Client.DOCUMENT and not is_plain:
        raise SessionRequired("a login is for documents")
    admit(flow, "login")
    _as_page(flow)
    if _is_elsewhere(flow):
        _move(flow)
    else:
        _go_on(flow, _begin)


def _is_elsewhere(flow: Flow) -> bool:
    """Whether the browser asked another origin than the public one, to which the provider leads.

    Its cookies would not come along. Once moved it is not moved again: a proxy in front may hide
    the host that the browser asked. Only a trusted proxy's word is taken for the scheme.
    """
    public = flow.runtime.policy.public_origin
    if public is None or MOVED in parameters(flow.request.query):
        return False
    peer, request = flow.connection.peer, flow.request
    scheme = peer.asked_scheme(request) or public.partition(b":")[0]
    return normal_origin(b"%b://%b" % (scheme, peer.asked_host(request))) != public


def _move(flow: Flow) -> None:
    """Leads a login to the public host, where it begins."""
    flow.decision, flow.reason = "login", "begun under another host"
    wanted = _wanted(flow)
    place = None if wanted is None else local_reference(wanted)
    query = "" if place is None else f"next={quote(place, safe='/')}&"
    query += f"{SWITCH}=1&" if SWITCH in parameters(flow.request.query) else ""
    _redirect(flow, f"{_origin(flow)}{_parts(flow).policy.base}/login?{query}{MOVED}=1", ())


def _as_page(flow: Flow) -> None:
    """What goes wrong is for a person to read, if one is there."""
    if flow.request.client is Client.DOCUMENT:
        flow.route = replace(flow.route, kind="page")


async def _begin(flow: Flow) -> None:
    parts = _parts(flow)
    flow.decision = "login"
    try:
        metadata = await parts.provider.metadata()
    except ProviderUnavailable as trouble:
        raise LoginUnavailable(trouble.detail) from None
    now, jar, scope = flow.runtime.clock.now(), _jar(flow), _scope(flow)
    attempts, trace, wanted = (
        parts.policy.attempts,
        parts.policy.trace.read(jar, scope),
        _wanted(flow),
    )
    vain = 0 if trace is None else await _vain(flow, trace, now)
    if trace is not None and vain >= MOST:
        _failed(flow, _loop(flow, trace), wanted, parts.policy.trace.gone(jar, scope))
        return
    callback = f"{_origin(flow)}{parts.policy.base}/callback"
    attempt = begin_attempt(os.urandom(ENTROPY), wanted, callback, now, vain)
    try:
        location = authorization_url(
            metadata,
            parts.policy.client,
            attempt,
            attempts.state(attempt),
            as_another=SWITCH in parameters(flow.request.query),
        )
    except LoginFailed as error:
        raise LoginUnavailable(error.detail) from None
    _redirect(flow, location, attempts.lines(jar, attempt, scope, now))


async def _vain(flow: Flow, trace: LoginTrace, now: float) -> int:
    """How many logins of this browser in a row were of no use; none if its session is alive."""
    vain = trace.vain_at(now)
    if vain:
        with suppress(StoreUnavailable):  # then it is unknown, and the login goes on
            await _present(flow)
            return 0 if flow.live is not None else vain
    return 0


def _loop(flow: Flow, trace: LoginTrace) -> LoginFailed:
    """Why logins go round in circles, as far as it is known."""
    runtime = flow.runtime
    if runtime.revocations.is_dead(trace.fingerprint, runtime.clock.now()):
        route = runtime.rejections.route_of(trace.fingerprint)
        where = "an upstream" if route is None else f"the upstream of route {route}"
        detail = (
            f"{trace.vain + 1} logins in a row, each ended at once: {where} rejects the token of a "
            "fresh login; it may expect another audience, issuer or key, or its clock is wrong"
        )
        return LoginFailed("login_loop", detail, 502)
    detail = (
        f"{trace.vain + 1} logins in a row, and the session cookie that each set did not come back "
        f"({_transport(flow)}): it is refused if it is Secure and the site is opened over http, in "
        "a frame of another site (SameSite), or if it is too large"
    )
    return LoginFailed("login_loop", detail)


def _transport(flow: Flow) -> str:
    """How a request came, beside how the site is said to be reached."""
    scheme = flow.connection.peer.told_scheme(flow.request).decode("latin-1")
    return f"the site is {_origin(flow)}, the request came over {scheme}"


def _wanted(flow: Flow) -> str | None:
    """Where the user wants to go after the login; not to where another one, or a logout, begins."""
    policy = flow.runtime.policy
    given = parameters(flow.request.query)
    names = ("next", "callbackUrl", policy.logout.return_param)
    wanted = next((given[name] for name in names if name in given), None)
    if wanted is None or wanted.partition("?")[0].partition("#")[0] in policy.endpoints:
        return None
    return wanted


# -- it comes back --------------------------------------------------------------------------------


def callback(flow: Flow) -> None:
    """`/callback`: the provider's response. Raises as `_demand`."""
    _demand(flow, "GET")
    admit(flow, "callback")
    _as_page(flow)
    flow.decision = "login_answer"
    _go_on(flow, _finish)


async def _finish(flow: Flow) -> None:
    runtime, parts, scope, jar = flow.runtime, _parts(flow), _scope(flow), _jar(flow)
    given = answer_parameters(flow.request.query)
    state = given.get("state", "")
    attempt = parts.policy.attempts.find(jar, state, scope, flow.began)
    await _present(flow)
    if (
        attempt is None
        and flow.live is not None
        and isinstance(flow.presented.reading, LoginReading)
    ):
        flow.reason = "logged in already"  # the response is loaded again
        _redirect(flow, parts.policy.attempts.place(state) or "/", ())
        return
    try:
        if attempt is None:
            raise unexpected_answer(given, _why_nothing_waits(flow, jar))
        session = await parts.logins.complete(attempt, given, https=scope.https)
    except LoginFailed as error:
        wanted = parts.policy.attempts.place(state) if attempt is None else attempt.next
        _failed(flow, error, wanted, parts.policy.attempts.gone(jar, state, scope))
        return
    except ProxyError:
        runtime.metrics.logins["unavailable"] += 1
        raise
    _replace(flow, session)
    runtime.metrics.logins["done"] += 1
    runtime.log.info("login", session=session.fingerprint)
    note(flow, "login", session.fingerprint, source=OWN)
    source = parts.policy.source
    lines = [
        *parts.policy.attempts.gone(jar, state, scope),
        *source.lines(session, presented_names(source, jar), scope),
        parts.policy.trace.line(LoginTrace(flow.began, session.fingerprint, attempt.vain), scope),
    ]
    runtime.large.look(lines)
    # Known from now on: of logins in several tabs one cookie stays, and a logout ends them all.
    after = with_set_cookies(flow.request.cookie.decode("latin-1"), lines, flow.began)
    runtime.directory.present(after.encode("latin-1"), flow.began)
    flow.reason = "logged in"
    _redirect(flow, attempt.next, lines)


def _why_nothing_waits(flow: Flow, jar: CookieJar) -> str:
    """Why a response belongs to no login that this browser has begun."""
    if _parts(flow).policy.attempts.is_any(jar):
        return "no login of this browser is waiting for it"
    return (
        "the browser sent no cookie of a login: it began in another browser or too long ago, or "
        f"its cookies do not come back ({_transport(flow)})"
    )


async def _present(flow: Flow) -> None:
    """The session that the request presents, as the store knows it. Raises `StoreUnavailable`."""
    runtime = flow.runtime
    presented = runtime.directory.present(flow.request.cookie, flow.began)
    presented = await runtime.coordinator.checked(presented, by_cookie=True)
    flow.presented = presented
    flow.live = runtime.revocations.live_fingerprint(presented, runtime.clock.now())


def _replace(flow: Flow, session: LoginSession) -> None:
    """Ends the login session that this browser had before: its cookies are replaced.

    Its tokens are left alone if both may belong to one session at the provider: revoking the old
    ones would end the new ones too.
    """
    runtime, reading = flow.runtime, flow.presented.reading
    old = reading.session if isinstance(reading, LoginReading) else None
    if old is None or flow.live is None or flow.live == session.fingerprint:
        return
    is_another = old.subject != session.subject or (
        None not in (old.sid, session.sid) and old.sid != session.sid
    )
    ended = flow.presented.session(flow.live)
    assert ended is not None
    runtime.revocations.revoke(ended, runtime.clock.now())
    runtime.metrics.sessions_ended["new_login"] += 1
    note_ended(flow, ended, "new_login")
    runtime.logout_tasks.begin(ended, "new_login", revokes=is_another)


def _failed(flow: Flow, error: LoginFailed, wanted: str | None, lines: Sequence[bytes]) -> None:
    """Says that the login did not succeed, and how to try again."""
    forget_frames(error)
    runtime, status = flow.runtime, error.status
    request_id = flow.request_id.decode("latin-1")
    runtime.metrics.logins[_OUTCOMES.get(error.code, "refused")] += 1
    is_loop = error.code == "login_loop"
    is_warning = status < 500 or is_loop
    tell = runtime.log.warning if is_warning else runtime.log.error
    event = "login loop" if is_loop else "login failed"
    tell(event, request_id=request_id, code=error.code, detail=loggable(error.detail))
    flow.reason = error.code
    head = common_lines(flow, status) + _PRIVATE
    head += b"".join(b"Set-Cookie: %b\r\n" % line for line in lines)
    if flow.route.kind == "page":
        offer = (
            offer_switch(flow, error.who, wanted)
            if isinstance(error, LoginRefused)
            else offer_login(flow, error.description, wanted)
        )
        type_line, body = page(flow, status, error.code, group=LOGIN_FAILED, offer=offer)
    else:
        message = NotAllowed.message if isinstance(error, LoginRefused) else _NOT_DONE
        type_line, body = JSON_TYPE, fault(status, message, error.code, request_id)
    flow.respond(head + type_line, body, status=status)


# -- who is it ------------------------------------------------------------------------------------


def session(flow: Flow) -> None:
    """`/session`: whether there is a session, whose, and until when. It is not prolonged by it."""
    _demand(flow, "GET", "HEAD")
    flow.decision = "session"
    _go_on(flow, _tell)


async def _tell(flow: Flow) -> None:
    await _present(flow)
    body = msgspec.json.encode(_facts(flow.presented, flow))
    head = common_lines(flow, 200) + b"Vary: Cookie\r\n" + JSON_TYPE
    flow.respond(head, body, status=200)


def _facts(presented: SessionView, flow: Flow) -> dict[str, Any]:
    """What a page may know. Dates are Unix seconds by the server's clock, null if unknown.

    `expiresAt` is when the session ends if it goes on as it is: once it is idle for too long, or
    with its token if nothing renews it.
    """
    reading = presented.reading
    session = (
        reading.session if flow.live is not None and isinstance(reading, LoginReading) else None
    )
    idle = ends = None
    expires = reading.expires_at if flow.live is not None and reading.tokens is None else None
    if session is not None:
        lifetimes = _parts(flow).policy.source.lifetimes
        idle, ends = session.idle_ends_at(lifetimes), session.absolute_end(lifetimes)
        expires = idle if expires is None else min(expires, idle)
    return {
        "authenticated": flow.live is not None,
        "subject": None if session is None else session.subject,
        "name": None if session is None else session.profile.name,
        "email": None if session is None else session.profile.email,
        "picture": None if session is None else session.profile.picture,
        "expiresAt": expires,
        "idleExpiresAt": idle,
        "absoluteExpiresAt": ends,
        "serverTime": flow.runtime.clock.now(),
    }


# -- the provider ends sessions -------------------------------------------------------------------


def back_channel(flow: Flow) -> None:
    """`/backchannel-logout`: the provider reports that a session has ended (Back-Channel 2.5)."""
    _demand(flow, "POST")
    flow.decision = "backchannel_logout"
    _go_on(flow, _back_channel)


async def _back_channel(flow: Flow) -> None:
    runtime, parts = flow.runtime, _parts(flow)
    counts = runtime.metrics.backchannel_logouts
    form = answer_parameters((await _read_form(flow)).decode("latin-1"))
    now = runtime.clock.now()
    try:
        verified = await parts.provider.verify(form.get("logout_token", ""), LOGOUT_TOKEN)
        said = read_logout_token(verified, parts.policy.client, now=now)
        if await parts.sessions.is_used(said.jti, said.ends_at):
            raise InvalidToken("it was used before")
        # The caller may leave before the response; what has begun is done.
        ending = runtime.background.begin(_end_named(flow, said))
        ended = await asyncio.shield(ending)
    except InvalidToken as error:
        forget_frames(error)
        counts["refused"] += 1
        flow.reason = str(error)
        body = {"error": "invalid_request", "error_description": str(error)}
        head = common_lines(flow, 400) + JSON_TYPE
        flow.respond(head, msgspec.json.encode(body), status=400)
        return
    except (ProviderUnavailable, ProxyError) as trouble:
        counts["unavailable"] += 1
        if isinstance(trouble, ProxyError):
            raise
        raise LoginUnavailable(trouble.detail) from None
    counts["done" if ended else "nothing"] += 1
    flow.respond(common_lines(flow, 200), b"", status=200)


async def _end_named(flow: Flow, said: LogoutToken) -> int:
    """Ends the sessions that a logout token names. Returns how many. Raises `StoreUnavailable`."""
    runtime = flow.runtime
    reason = "backchannel"
    note = partial(count_ended, runtime, reason=reason)
    ended = await runtime.termination.end_named(said.subject, said.sid, note, reason)
    await _parts(flow).sessions.use_up(said.jti, said.ends_at)
    return ended


async def _read_form(flow: Flow) -> bytes:
    """The body of a form, whose request counts again from then on.

    Raises `BadRequest`, `BodyTooLarge` and `Overloaded`.
    """
    facts, raw = flow.request.facts, flow.request.fields.raw
    types = [value for name, value in raw if name.lower() == b"content-type"]
    if [media_type(value) for value in types] != [FORM_TYPE]:
        raise BadRequest("the body is no form")
    if int(facts.get(b"content-length", b"0")) > FORM_BYTES:
        raise BodyTooLarge(f"the form is above {FORM_BYTES}", close=True)
    form = bytearray()
    with RequestBody(flow) as body:
        body.invite()
        while data := await body.read():
            form += data
            if len(form) > FORM_BYTES:
                raise BodyTooLarge(f"the form is above {FORM_BYTES}", close=True)
    flow.admit(flow.route.kind)
    return bytes(form)


def front_channel(flow: Flow) -> None:
    """`/frontchannel-logout?iss=&sid=`: framed by the provider's page (Front-Channel 2).

    The browser need not send this site's cookies from there, so the session is found by its name.
    """
    _demand(flow, "GET")
    flow.decision = "frontchannel_logout"
    _go_on(flow, _front_channel)


async def _front_channel(flow: Flow) -> None:
    parts = _parts(flow)
    sid = read_front_channel(answer_parameters(flow.request.query), parts.policy.client)
    if sid is None:
        raise BadRequest("it does not name a session of the provider")
    entries = await parts.sessions.find(None, sid)
    note = partial(count_ended, flow.runtime, reason="frontchannel")
    ending = flow.runtime.termination.end_all(entries, note)
    await asyncio.shield(flow.runtime.background.begin(ending))
    head = common_lines(flow, 200) + _PRIVATE + _FRAMED_TYPE
    flow.respond(head, _FRAMED, status=200)


ENDPOINTS: Final[Mapping[str, Callable[[Flow], None]]] = {
    "login": begin,
    "callback": callback,
    "session": session,
    "logout": logout.handle,
    "backchannel-logout": back_channel,
    "frontchannel-logout": front_channel,
}
"""What answers each endpoint (`policy.Endpoint`). All raise `ProxyError` for what they refuse."""
