"""What would become of a request (`web.foresight`), in words.

The words name cookies, claims and fields that are there, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypedDict

import msgspec

from sidecar.core.client import Client
from sidecar.core.cookies import CookieJar
from sidecar.core.errors import (
    BadRequest,
    CsrfRejected,
    NoRoute,
    NotAllowed,
    StoreUnavailable,
    loggable,
)
from sidecar.core.request import KNOWN_METHODS, UNREAD, Request
from sidecar.core.route_table import UNROUTED, Route
from sidecar.explain import Explanation, facts_of
from sidecar.policy import Policy
from sidecar.web.foresight import Forecast, Foresight, Response
from sidecar.web.request_judge import Step

MOST_BYTES: Final = 256 * 1024
"""Of a request and its Cookie header together that are looked at."""
_LINE: Final = re.compile(
    r"\s*(?P<method>\S+)\s+(?P<target>(?:/|https?://)\S*)(?:\s+HTTP/[0-9]\.[0-9])?\s*"
)
_FORM: Final = "must be METHOD /path, such as 'GET /api/orders'; header lines may follow"


class RequestExplanation(Explanation):
    """With what becomes of a request. `cookies` are the names in the header, with their bytes."""

    request: AskedRequest


class AskedRequest(TypedDict):
    """The members of `request`. `session` is the fingerprint, if there is a session.

    `state` is what becomes of that: live, due, ended, or none. `status`, `code` and `location` are
    those of the sidecar's own response, None if the upstream is asked: for `upstream_path`, with
    the fields `sends`; a 401 of it then leads to `rejected` (status, code), None if it passes.
    """

    method: str
    path: str
    client: str
    route: str | None
    kind: str | None
    upstream: str | None
    endpoint: str | None
    session: str | None
    state: str
    status: int | None
    code: str | None
    location: str | None
    upstream_path: str | None
    sends: list[str]
    rejected: tuple[int, str | None] | None
    cookies: list[tuple[str, int]]
    decisions: list[str]


def explain_request(
    foresight: Foresight, text: str, cookie_header: str, now: float
) -> RequestExplanation:
    """What becomes of a request, given as its text, by what is known here.

    Raises `BadRequest` if the text is none.
    """
    asked = read_text(foresight.policy, text, cookie_header)
    try:
        return _explained(foresight.policy, foresight.now(asked.request(), now))
    except BadRequest as error:
        return _unread(foresight.policy, asked, error)


async def explain_asking(
    foresight: Foresight, text: str, cookie_header: str, now: float
) -> RequestExplanation:
    """The same with what the store says of its session. Raises `BadRequest`."""
    asked = read_text(foresight.policy, text, cookie_header)
    try:
        return _explained(foresight.policy, await foresight.asking(asked.request(), now))
    except BadRequest as error:
        return _unread(foresight.policy, asked, error)


def _unread(policy: Policy, asked: AskedText, error: BadRequest) -> RequestExplanation:
    """What becomes of a request that cannot be read: it is refused before anything else."""
    found = _explained(policy, Forecast(UNREAD, None, None, UNROUTED, own=Response(error)))
    path = loggable(asked.target.partition("?")[0])
    found["request"] |= {"method": asked.method, "path": path}
    return found


def _explained(policy: Policy, seen: Forecast) -> RequestExplanation:
    request, route = seen.request, seen.route
    is_routed = seen.step is not None and seen.endpoint is None
    jar = CookieJar.parse(request.cookie.decode("latin-1"))
    line, names = _head(seen.head)
    own, rejected = seen.own, seen.rejected
    return {
        **facts_of(seen.presented.reading),
        "request": {
            "method": request.method,
            "path": loggable(request.path),
            "client": request.client.value,
            "route": route.path if is_routed else None,
            "kind": route.kind if is_routed else None,
            "upstream": route.upstream if is_routed else None,
            "endpoint": seen.endpoint,
            "session": seen.presented.fingerprint,
            "state": _state(seen),
            "status": 204 if seen.step in _STEPS else None if own is None else own.status,
            "code": None if own is None else own.code,
            "location": _location(own),
            "upstream_path": line,
            "sends": names,
            "rejected": None if rejected is None else (rejected.status, rejected.code),
            "cookies": [(loggable(name.strip()), len(value)) for name, value, _ in jar.pairs],
            "decisions": list(_decisions(policy, seen, jar)),
        },
    }


def _location(own: Response | None) -> str | None:
    """Where a redirect leads, without the values of its query."""
    location = None if own is None else own.location
    return location and _VALUES.sub("=…", location)


def _state(seen: Forecast) -> str:
    if seen.is_dead:
        return "ended"
    if seen.live is None:
        return "none"
    return "due" if seen.is_due else "live"


def _head(head: bytes) -> tuple[str | None, list[str]]:
    """The path (without its query) and the names of the fields that the upstream is sent."""
    if not head:
        return None, []
    line, *fields = head.split(b"\r\n")
    target = line.split(b" ")[1].partition(b"?")[0]
    names = sorted(
        {field.partition(b":")[0].decode("latin-1").lower() for field in fields if field}
    )
    return loggable(target.decode("latin-1")), names


class AskedText(msgspec.Struct, frozen=True):
    """A request as it was written down."""

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]

    def request(self) -> Request:
        """The request, read as one that has come. Raises `BadRequest`."""
        if self.method not in KNOWN_METHODS:
            raise BadRequest(f"method {loggable(self.method)} is not known")
        if not self.target.isascii():  # which the parser refuses on the wire
            raise BadRequest("the request target holds characters beyond ASCII")
        return Request(self.method, self.target, self.fields, http11=True)


def read_text(policy: Policy, text: str, cookie_header: str) -> AskedText:
    """The request of its first line, and of header lines if some follow. Raises `BadRequest`.

    `cookie_header` stands above a Cookie line; the host is the public one if none is named.
    """
    octets = text.encode("utf-8", "surrogatepass")
    line, *rest = octets.strip().splitlines() or [b""]
    asked = _LINE.fullmatch(line.decode("latin-1"))
    if asked is None:
        raise BadRequest(_FORM)
    fields = list(_fields(rest))
    if cookie_header:
        cookie = cookie_header.encode("utf-8", "surrogatepass")
        fields = [one for one in fields if one[0].lower() != b"cookie"]
        fields.append((b"Cookie", cookie))
    if not any(name.lower() == b"host" for name, _ in fields):
        origin = policy.public_origin or b"http://localhost"
        fields.append((b"Host", origin.partition(b"://")[2]))
    return AskedText(asked["method"], asked["target"], tuple(fields))


def _fields(lines: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Raises `BadRequest`."""
    for line in lines:
        name, colon, value = line.partition(b":")
        if line.strip() and not (colon and name.strip()):
            raise BadRequest(_FORM)
        if line.strip():
            yield name.strip(), value.strip()


_VALUES: Final = re.compile(r"=[^&]*")
_STEPS: Final = {
    Step.PREFLIGHT: "The sidecar answers the preflight itself: 204.",
    Step.LAST_HOP: "The sidecar answers itself, since Max-Forwards is 0.",
}


def _decisions(policy: Policy, seen: Forecast, jar: CookieJar) -> Iterator[str]:
    if seen.step is None:
        assert seen.own is not None
        if isinstance(seen.own.error, NoRoute):
            yield f"No route matches the path: {_response(seen.own)}."
        else:
            yield f"The request is refused. {_because(seen.own)}"
    elif seen.step in _STEPS:
        yield _STEPS[seen.step]
    elif seen.endpoint is not None:
        yield f"The sidecar answers this path itself ({seen.endpoint}); no upstream is asked."
    else:
        yield from _of_route(seen.route)
        if seen.step is Step.OBSERVE:
            yield "The route is only observed: the request and its response pass as they came."
            return
        yield from _of_session(seen)
        if seen.own is not None:
            yield _refusal(seen.route, seen.own)
            return
        yield from _of_forwarding(policy, seen, jar)
        yield from _of_response(seen)


def _of_route(route: Route) -> Iterator[str]:
    yield (
        f"The route {route.path} matches: kind {route.kind}, session {route.session}, upstream "
        f"{route.upstream}."
    )


def _of_session(seen: Forecast) -> Iterator[str]:
    reading = seen.presented.reading
    if seen.route.session == "none":
        yield "The route takes no session, whatever the cookies hold."
    elif seen.is_dead:
        yield "The session has ended here: its cookies count as none."
    elif seen.live is not None and reading.cookie is None:
        yield "A session counts that the client's own bearer stands for."
    elif seen.live is not None:
        yield f"A session of the source {reading.source} counts (cookie {reading.cookie})."
    elif seen.presented.handles:
        yield "The store has not been asked: the cookies may hold a session that is kept there."
    else:
        yield f"No session counts: {reading.why or reading.result.value}."
    if seen.is_due:
        yield "Its token is due for renewal, which comes first; what is sent is then the new one."


def _refusal(route: Route, own: Response) -> str:
    """Why no upstream is asked."""
    error = own.error
    if isinstance(error, CsrfRejected | NotAllowed | StoreUnavailable | BadRequest):
        return _because(own)
    if route.session == "required":
        return (
            "The route requires a session: no upstream is asked, and the answer is "
            f"{_response(own)}."
        )
    return f"No upstream is asked, and the answer is {_response(own)}."


def _because(own: Response) -> str:
    assert own.error is not None
    return f"{own.status} {own.code}: {loggable(own.error.detail)}."


def _response(own: Response) -> str:
    if own.error is not None:
        return f"{own.status} {own.code}"
    return f"{own.status} to {(own.location or '').partition('?')[0]}"


def _of_forwarding(policy: Policy, seen: Forecast, jar: CookieJar) -> Iterator[str]:
    route, is_live = seen.route, seen.live is not None
    _, names = _head(seen.head)
    if "authorization" not in names:
        yield "No Authorization is sent."
    elif is_live and route.inject:
        yield "Authorization is set to the session's token."
    else:
        yield "The client's own Authorization passes."
    if route.identity and is_live:
        claim = seen.presented.reading.claim
        told = [one.name.decode() for one in route.identity if one.line(claim)]
        yield f"Fields that name the user: {', '.join(told) or 'none, as no claim is there'}."
    given = {loggable(jar.pairs[at][0].strip()) for at in jar.named(policy.session_names)}
    passing = _session_cookies(policy, seen.head)
    for fate, some in (("are taken out", given - passing), ("pass", given & passing)):
        if some:
            yield f"Session cookies {fate}: {', '.join(sorted(some))}."
    if route.strip:
        yield f"{route.strip} is taken off the path."


def _session_cookies(policy: Policy, head: bytes) -> set[str]:
    """The names of session cookies that the upstream is sent."""
    lines = (line for line in head.split(b"\r\n") if line.startswith(b"Cookie: "))
    jar = CookieJar.parse(next(lines, b"").partition(b": ")[2].decode("latin-1"))
    return {loggable(jar.pairs[at][0].strip()) for at in jar.named(policy.session_names)}


def _of_response(seen: Forecast) -> Iterator[str]:
    if seen.rejected is not None:
        renewal = "the token is renewed if that is possible, else " if seen.can_renew else ""
        end = f"the session ends, and the answer is {_response(seen.rejected)}"
        if seen.request.client is Client.PREFETCH:
            renewal, end = "", f"nothing ends, and the answer is {_response(seen.rejected)}"
        yield f"On a 401 of the upstream {renewal}{end}."
    else:
        yield "A 401 of the upstream passes as any other answer."
    yield (
        "JSON is wrapped in the envelope."
        if seen.route.envelope is not None
        else "Bodies are not wrapped."
    )
