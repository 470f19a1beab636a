"""What a client is given of an upstream's head: one response, whose caching and policy are true.

An input says the route, what has happened to the session, and the upstream's fields, each ended by
a line feed. h11 reads what is given.
"""

from __future__ import annotations

from typing import Any, Final

import h11

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.forwarding import clean_response
from sidecar.core.headers import HOP_BY_HOP, is_for_everybody, is_targeted, list_members
from sidecar.core.record import replace
from sidecar.core.representation import stands_for_envelope
from sidecar.core.scan import scan_answer
from sidecar.core.upstream_head import UpstreamHead
from tests.fuzz import oracles
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets.forwarding import API, PAGE

ORIGIN: Final = "https://app.example.com"
NODE: Final = oracles.node()
OPTIONAL: Final = replace(API, session="optional")
ROUTES: Final = (
    API,
    OPTIONAL,
    PAGE,
    replace(PAGE, session="optional", kind="page"),
    replace(OPTIONAL, inject=False, envelope=None, kind="api"),
)
STATUSES: Final = (200, 201, 204, 206, 301, 304, 401, 404, 416, 500)
CORS: Final = (
    b"",
    None,
    b"Access-Control-Allow-Origin: https://b.example\r\nAccess-Control-Allow-Credentials: true\r\n",
)
DATE: Final = b"Thu, 01 Jan 1970 00:00:00 GMT"
_ENDS: Final = b"session=; Max-Age=0; Path=/"
_OF_THE_BODY: Final = (
    *(b"content-encoding", b"accept-ranges", b"content-md5", b"digest", b"content-digest"),
    *(b"repr-digest", b"content-disposition"),
)


def check(data: bytes) -> None:
    draw = Draw(data)
    route, status, cors = draw.pick(ROUTES), draw.pick(STATUSES), draw.pick(CORS)
    flags = draw.byte()
    wrapped = bool(flags & 1) and route.envelope is not None
    private, no_store, by_origin = bool(flags & 2), bool(flags & 4), bool(flags & 8)
    coding = b"gzip" if wrapped and flags & 16 else b"" if wrapped and flags & 32 else None
    lines = [line for line in draw.rest().split(b"\n") if line]
    head = _head(status, lines)
    if head is None:
        return
    cookies = [*head.cookies, *([_ENDS] if no_store else [])]
    given = [
        b"the-id".join(
            clean_response(
                head,
                route,
                wrapped=wrapped,
                private=private,
                cookies=cookies,
                no_store=no_store,
                date=DATE,
                cors=cors,
                by_origin=by_origin,
                coding=coding,
            )
        )
        for _ in range(2)
    ]
    assert given[0] == given[1]
    told = _by_h11(given[0])
    assert told.status_code == status
    fields = [(bytes(name), bytes(value)) for name, value in told.headers]
    names = [name for name, _ in fields]
    assert names.count(b"content-length") == 1, "the upstream's own framing passes"
    assert not set(names) & (HOP_BY_HOP - {b"connection"}), names
    for name in (b"date", b"cache-control", b"vary", b"x-request-id", b"via", b"content-type"):
        assert names.count(name) <= 1, f"{name!r} stands there twice"
    values = dict(fields)
    assert [value for name, value in fields if name == b"set-cookie"] == cookies
    _is_cached_by_nobody_else(values, private=private or route.is_private, no_store=no_store)
    _has_the_policy(values, cors, by_origin=by_origin)
    if route.kind == "api":
        assert values[b"x-content-type-options"] == b"nosniff"
    if wrapped:
        _is_of_an_envelope(values, status, coding)
    _leads_here(head, values)
    stands_for_envelope(head, {b"if-none-match": b'W/"a"'})


def _head(status: int, lines: list[bytes]) -> UpstreamHead | None:
    """The head, by the strict scan if that takes it; then it is remembered, and read once more."""
    fields = [
        (name, value.strip(b" \t")) for name, _, value in (one.partition(b":") for one in lines)
    ]
    text = (
        b"HTTP/1.1 %d Reason\r\n" % status + b"".join(b"%b\r\n" % line for line in lines) + b"\r\n"
    )
    try:
        scanned = scan_answer(text)
        if scanned is None:
            return UpstreamHead(status, fields, "Reason")
    except UpstreamProtocolError:
        return None
    again = scan_answer(text)
    assert again is not None
    head = scanned[0]
    assert (again[0].lines, again[0].facts, again[0].cookies) == (
        head.lines,
        head.facts,
        head.cookies,
    )
    return head


def _by_h11(given: bytes) -> Any:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="HEAD", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(given + b"Content-Length: 0\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Response), (given, event)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert not connection.trailing_data[0], "another response is behind it"
    return event


def _is_cached_by_nobody_else(values: dict[bytes, bytes], *, private: bool, no_store: bool) -> None:
    control = values.get(b"cache-control", b"")
    if no_store:
        assert control == b"no-store"
    if private or no_store:
        assert {b"private", b"no-store"} & set(list_members(control)), control
        assert not is_for_everybody(control), control
        assert not any(map(is_targeted, values)), "a shared cache is told otherwise"
    if private:
        assert {b"cookie", b"*"} & set(list_members(values[b"vary"]))


def _has_the_policy(values: dict[bytes, bytes], cors: bytes | None, *, by_origin: bool) -> None:
    allowed = values.get(b"access-control-allow-origin")
    if cors is None:
        assert b"access-control-allow-credentials" not in values
    else:
        assert allowed == (b"https://b.example" if cors else None)
    if by_origin:
        assert {b"origin", b"*"} & set(list_members(values[b"vary"]))


def _is_of_an_envelope(values: dict[bytes, bytes], status: int, coding: bytes | None) -> None:
    if coding:
        assert values.pop(b"content-encoding") == coding
    for name in _OF_THE_BODY:
        assert name not in values, f"{name!r} is of another body"
    assert status == 304 or values[b"content-type"] == b"application/json"
    assert values.get(b"etag", b"W/").startswith(b"W/"), "the tag is not weak"


def _leads_here(head: UpstreamHead, values: dict[bytes, bytes]) -> None:
    """A place that was mapped stays on the origin, as browsers read it."""
    for name in (b"location", b"content-location"):
        given, told = head.facts.get(name), values.get(name)
        assert (given is None) == (told is None)
        if given is not None and told is not None and given != told:
            reference = told.decode("latin-1")
            href = NODE.ask("url", text=reference, base=ORIGIN + "/a/b")
            assert str(href).startswith(ORIGIN + "/"), (reference, href)


TARGET: Final = Target(
    check,
    words=[
        *(b"Cache-Control: ", b"public, s-maxage=60\n", b"private\n", b"no-store\n", b"max-age=5"),
        *(b'private="Set-Cookie"', b"CDN-Cache-Control: public\n", b"Surrogate-Control: a\n", b"*"),
        *(
            b"Vary: ",
            b"Origin",
            b"Cookie",
            b"Authorization",
            b"Accept-Encoding",
            b", ",
            b"\n",
            b": ",
        ),
        *(b"Set-Cookie: a=b\n", b'ETag: "a"\n', b'ETag: W/"b"\n', b"Accept-Ranges: bytes\n"),
        *(b"Content-Type: application/json\n", b"Content-Encoding: gzip\n", b"Content-Length: 0\n"),
        *(b"Connection: close, x-a\n", b"Keep-Alive: timeout=5\n", b"X-A: b\n", b"Via: 1.0 c\n"),
        *(b"Location: ", b"http://api.internal:4000/v1/x", b"//api.internal:4000", b"/v1/", b"\\"),
        *(b"Access-Control-Allow-Origin: *\n", b"Access-Control-Allow-Credentials: true\n", b"\t"),
        *(
            b"WWW-Authenticate: Bearer\n",
            b"Content-Range: bytes */9\n",
            b"Digest: a\n",
            b"Date: d\n",
        ),
        *(
            b"Proxy-Authenticate: a\n",
            b"Upgrade: h2c\n",
            b"Trailer: a\n",
            b"X_A: b\n",
            b"\xff",
            b" ",
        ),
        *(b"X-Content-Type-Options: a\n", b"X-Request-Id: b\n", b"Transfer-Encoding: chunked\n"),
    ],
    seeds=[
        b'\0\0\0\3Content-Type: application/json\nContent-Length: 0\nETag: "a"\n',
        b"\0\0\0\3Cache-Control: public, s-maxage=60\nVary: Origin, Authorization\n",
        b"\1\0\1\2CDN-Cache-Control: public\nAccess-Control-Allow-Credentials: true\n",
        b"\2\4\2\10Location: http://api.internal:4000/v1/x\nContent-Length: 0\n",
        b"\3\0\1\0Set-Cookie: a=b\nSet-Cookie: c=d\nConnection: x-a\nX-A: b\n",
        b"\0\10\0\23Content-Range: bytes */9\nContent-Encoding: gzip\nDigest: a\n",
        b"\4\0\2\16Vary: *\nX-Content-Type-Options: a\nCache-Control: no-store\n",
        b"\0\4\0\0Location: /v1//evil.example\n",
    ],
    longest=1024,
)
