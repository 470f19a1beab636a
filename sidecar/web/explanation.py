"""What would become of a request: the route, the session and each decision, in words.

Nothing is sent, stored or logged. The words name cookies and claims that are there, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypedDict

import msgspec

from sidecar.core.access import AccessRule, lets_in, why_not
from sidecar.core.actions import leads_to_logout
from sidecar.core.client import Client
from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, read_credential
from sidecar.core.errors import BadRequest, CsrfRejected, loggable
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.request import Request
from sidecar.core.route_table import Route
from sidecar.explain import Explanation, explain
from sidecar.policy import Policy

MOST_BYTES: Final = 256 * 1024
"""Of a request and its Cookie header together that are looked at."""
_FORM: Final = "must be METHOD /path, such as 'GET /api/orders'; header lines may follow"


class RequestExplanation(Explanation):
    """With what becomes of a request. `cookies` are the names in the header, with their bytes."""

    request: AskedRequest


class AskedRequest(TypedDict):
    """The members of `request`. `session` is the fingerprint, if there is a session."""

    method: str
    path: str
    client: str
    route: str | None
    kind: str | None
    upstream: str | None
    endpoint: str | None
    session: str | None
    cookies: list[tuple[str, int]]
    decisions: list[str]


class SessionFacts(msgspec.Struct, frozen=True):
    """What only a running sidecar knows of a session: its fingerprint, and whether it has ended."""

    fingerprint: str
    is_dead: bool


Known = Callable[[Reading], SessionFacts | None]


def explain_request(
    policy: Policy,
    request: str,
    cookie_header: str,
    now: float,
    known: Known = lambda _: None,
) -> RequestExplanation:
    """What becomes of a request, given as its text. Raises `BadRequest` if it is none."""
    asked = read_request(policy, request, cookie_header)
    endpoint = policy.endpoints.get(asked.route_path)
    route = endpoint.route if endpoint is not None else policy.routes.match(asked.route_path)
    allowed = [
        source
        for at, source in enumerate(policy.sources)
        if route is None or route.sources is None or at in route.sources
    ]
    whole = explain(allowed, cookie_header, now)
    jar = CookieJar.parse(asked.cookie.decode("latin-1"))
    reading = read_credential(allowed, jar, now)
    session = known(reading) if reading.result is Result.OK else None
    case = _Case(policy, asked, route, jar, reading, session)
    return {
        **whole,
        "request": {
            "method": asked.method,
            "path": loggable(asked.path),
            "client": asked.client.value,
            "route": None if route is None or endpoint is not None else route.path,
            "kind": None if route is None or endpoint is not None else route.kind,
            "upstream": None if route is None or endpoint is not None else route.upstream,
            "endpoint": None if endpoint is None else endpoint.name,
            "session": None if session is None else session.fingerprint,
            "cookies": [(loggable(name.strip()), len(value)) for name, value, _ in jar.pairs],
            "decisions": list(_decisions(case, None if endpoint is None else endpoint.name)),
        },
    }


def read_request(policy: Policy, text: str, cookie_header: str) -> Request:
    """The request of its first line, and of header lines if some follow. Raises `BadRequest`.

    `cookie_header` stands above a Cookie line; the host is the public one if none is named.
    """
    octets = text.encode("utf-8", "surrogatepass")
    line, *rest = octets.strip().splitlines() or [b""]
    parts = line.decode("latin-1").split()
    if not 2 <= len(parts) <= 3 or not parts[1].startswith(("/", "http://", "https://")):
        raise BadRequest(_FORM)
    fields = list(_fields(rest))
    if cookie_header:
        cookie = cookie_header.encode("utf-8", "surrogatepass")
        fields = [one for one in fields if one[0].lower() != b"cookie"]
        fields.append((b"Cookie", cookie))
    if not any(name.lower() == b"host" for name, _ in fields):
        origin = policy.public_origin or b"http://localhost"
        fields.append((b"Host", origin.partition(b"://")[2]))
    return Request(parts[0].upper(), parts[1], fields, http11=True)


def _fields(lines: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Raises `BadRequest`."""
    for line in lines:
        name, colon, value = line.partition(b":")
        if line.strip() and not (colon and name.strip()):
            raise BadRequest(_FORM)
        if line.strip():
            yield name.strip(), value.strip()


class _Case(msgspec.Struct, frozen=True):
    """A request, where it leads, and the session that it presents."""

    policy: Policy
    request: Request
    route: Route | None
    jar: CookieJar
    reading: Reading
    session: SessionFacts | None

    @property
    def is_live(self) -> bool:
        """Whether a session can be used, as far as is known."""
        is_dead = self.session is not None and self.session.is_dead
        return self.reading.result is Result.OK and not is_dead

    @property
    def public_origin(self) -> bytes:
        """That of the configuration, else of the Host."""
        return self.policy.public_origin or b"http://%b" % self.request.host


def _decisions(case: _Case, endpoint: str | None) -> Iterator[str]:
    if endpoint is not None:
        yield f"The sidecar answers this path itself ({endpoint}); no upstream is asked."
        return
    if case.route is None:
        yield "No route matches the path: 404 no_route."
        return
    yield from _of_route(case.route)
    yield from _of_session(case, case.route)
    is_refused = False
    for line in _of_refusal(case, case.route):
        is_refused = True
        yield line
    if not is_refused:
        yield from _of_forwarding(case, case.route)
        yield from _of_response(case, case.route)


def _of_route(route: Route) -> Iterator[str]:
    yield (
        f"The route {route.path} matches: kind {route.kind}, session {route.session}, upstream "
        f"{route.upstream}."
    )


def _of_session(case: _Case, route: Route) -> Iterator[str]:
    if route.session == "none":
        yield "The route takes no session, whatever the cookies hold."
    elif case.session is not None and case.session.is_dead:
        yield "The session has ended here: its cookies count as none."
    elif case.is_live:
        source, cookie = case.reading.source, case.reading.cookie
        yield f"A session of the source {source} counts (cookie {cookie})."
    else:
        yield f"No session counts: {case.reading.why or case.reading.result.value}."


def _of_refusal(case: _Case, route: Route) -> Iterator[str]:
    """Why no upstream is asked; nothing if one is."""
    own = b"authorization" in case.request.facts and route.authorization is not None
    if route.session == "required" and not case.is_live and not own:
        answer = _led(case, route)
        yield f"The route requires a session: no upstream is asked, and the answer is {answer}."
    elif case.is_live and route.session != "none":
        if route.vouches:
            try:
                case.policy.csrf.check(case.request, case.public_origin)
            except CsrfRejected as error:
                yield f"403 csrf_rejected: {loggable(error.detail)}."
        for rules in _rules(case, route):
            if not lets_in(rules, case.reading.claim):
                yield f"403 not_allowed: {why_not(rules, case.reading.claim)}."


def _rules(case: _Case, route: Route) -> Iterator[Sequence[AccessRule]]:
    """The lists of rules that must each let the user in."""
    login = case.policy.login
    if login is not None and isinstance(case.reading, LoginReading):
        yield login.client.allow
    yield from (gate.rules for gate in route.gates)


def _led(case: _Case, route: Route) -> str:
    """The answer to a 401 that counts."""
    client = case.request.client
    if client is Client.PREFETCH:
        return "401 prefetch_unauthenticated"
    has_login = case.policy.login is not None
    if leads_to_logout(client, route, is_live=case.is_live, has_login=has_login):
        return f"303 to {case.policy.logout.path}"
    return f"401 {'token_rejected' if case.is_live else 'session_required'}"


def _of_forwarding(case: _Case, route: Route) -> Iterator[str]:
    injects = case.is_live and route.inject and route.session != "none"
    own = b"authorization" in case.request.facts
    if injects:
        yield "Authorization is set to the session's token."
    elif own and (route.authorization is not None or not route.inject):
        yield "The client's own Authorization passes."
    else:
        yield "No Authorization is sent."
    if route.identity and case.is_live:
        told = [one.name.decode() for one in route.identity if one.line(case.reading.claim)]
        yield f"Fields that name the user: {', '.join(told) or 'none, as no claim is there'}."
    named = case.jar.named(case.policy.session_names)
    names = sorted({loggable(case.jar.pairs[at][0].strip()) for at in named})
    if names:
        fate = "are taken out" if route.strip_cookies or not case.is_live else "pass"
        yield f"Session cookies {fate}: {', '.join(names)}."
    if route.strip:
        yield f"{route.strip} is taken off the path."


def _of_response(case: _Case, route: Route) -> Iterator[str]:
    if case.is_live and route.inject and route.on_unauthorized != "pass":
        renewal = "the token is renewed if that is possible, else " if case.reading.tokens else ""
        end = f"the session ends, and the answer is {_led(case, route)}"
        yield f"On a 401 of the upstream {renewal}{end}."
    else:
        yield "A 401 of the upstream passes as any other answer."
    yield (
        "JSON is wrapped in the envelope."
        if route.envelope is not None
        else "Bodies are not wrapped."
    )
