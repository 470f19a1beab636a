"""What an upstream is sent: one request, in which nobody but the sidecar says who the user is.

An input says the route, the peer and the lines of the client's head but for its Host, each ended by
a line feed. h11 reads what is sent.
"""

from __future__ import annotations

import re
from typing import Any, Final

import h11

from sidecar.core.claims import is_claim
from sidecar.core.envelope import EnvelopeRule
from sidecar.core.errors import BadRequest
from sidecar.core.forwarding import Peer, given_request_id, prepare_request
from sidecar.core.headers import HOP_BY_HOP
from sidecar.core.record import replace
from sidecar.core.request import FieldRule, RawFields, Request
from sidecar.core.route_table import UNROUTED, Route
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._requests import cut

API: Final = replace(
    UNROUTED,
    path="/api/",
    session="required",
    inject=True,
    envelope=EnvelopeRule(),
    on_unauthorized="logout",
    strip="/api",
    strip_segments=1,
    base="/v1",
    host=b"api.internal:4000",
    upstream_origins=("http://api.internal:4000",),
)
PAGE: Final = replace(API, path="/", kind="page", inject=False, envelope=None, strip="", host=None)
ROUTES: Final[tuple[Route, ...]] = (
    API,
    replace(PAGE, strip_segments=0, base=""),
    replace(API, fields=FieldRule(frozenset({b"x-custom"}), frozenset({b"x-user", b"a_b"}))),
)
PEERS: Final = (
    Peer("192.0.2.1", False, b"http"),
    Peer("10.0.0.1", True, b"http", is_proxy=lambda address: address.startswith("10.")),
    Peer("10.0.0.1", True, b"http", (b"https", b"app.example.com"), lambda _: True),
    Peer("", False, b"https"),
)
AUTHORIZATION: Final = b"Authorization: Bearer the-token-of-the-session\r\n"
COOKIE: Final = b"theme=dark"

_NAME: Final = re.compile(rb"[a-z0-9-]+").fullmatch
_ONCE: Final = frozenset(
    (b"host", b"authorization", b"cookie", b"x-forwarded-proto", b"x-forwarded-host", b"via")
)
_PROXIES: Final = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
_PROXIES_MAY: Final = (*_PROXIES, b"x-forwarded-port", b"x-forwarded-prefix")


def check(data: bytes) -> None:
    draw = Draw(data)
    route, peer = draw.pick(ROUTES), draw.pick(PEERS)
    is_injected, has_cookie = draw.byte() % 2 == 0, draw.byte() % 2 == 0
    first, *lines = draw.rest().split(b"\n")
    head = b"\r\n".join((first, b"Host: app.example.com", *filter(None, lines))) + b"\r\n\r\n"
    for read in cut(head, [len(head)]).found[:1]:
        try:
            http11 = read.version == "1.1"
            request = Request(read.method, read.target, read.fields, http11=http11)
        except BadRequest:
            return
        sent = prepare_request(
            request,
            route,
            peer,
            cookie=COOKIE if has_cookie else b"",
            authorization=AUTHORIZATION if is_injected else b"",
        )
        event = _by_h11(sent)
        assert event.method.decode() == request.method
        fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        _is_ours(fields, route, is_injected=is_injected, has_cookie=has_cookie)
        _is_the_peers(fields, peer, request)
        _passes(fields, read.fields, route)
        given_request_id(request)


def _by_h11(sent: bytes) -> Any:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(sent + b"Content-Length: 0\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request), (sent, event)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.next_event() in (h11.NEED_DATA, h11.PAUSED)
    assert not connection.trailing_data[0], "another request is behind it"
    return event


def _is_ours(
    fields: list[tuple[bytes, bytes]], route: Route, *, is_injected: bool, has_cookie: bool
) -> None:
    """What only the sidecar says."""
    names = [name for name, _ in fields]
    for name in _ONCE:
        assert names.count(name) <= 1, f"{name!r} stands there twice"
    told = dict(fields)
    assert (told.get(b"authorization") == b"Bearer the-token-of-the-session") == is_injected
    assert (b"authorization" in told) == is_injected
    assert told.get(b"cookie") == (COOKIE if has_cookie else None)
    assert route.host is None or told[b"host"] == route.host
    assert names.count(b"content-length") == 1, "the client's own framing passes"
    for name in names:
        passes = route.fields is not None and name in route.fields.passed
        assert passes or _NAME(name), f"{name!r} is read as another name by some"
        is_proxys = name in _PROXIES_MAY
        is_override = name.startswith(b"x-http-method") or name == b"x-method-override"
        assert passes or is_proxys or is_override or not is_claim(name), f"{name!r} passes"
        assert name not in HOP_BY_HOP or name in (b"connection", b"upgrade"), f"{name!r} passes"


def _is_the_peers(fields: list[tuple[bytes, bytes]], peer: Peer, request: Request) -> None:
    """What is said of the client comes from the peer, unless that is trusted."""
    told = dict(fields)
    assert told[b"x-forwarded-proto"] in (b"http", b"https")
    if peer.public is not None:
        assert (told[b"x-forwarded-proto"], told[b"x-forwarded-host"]) == peer.public
    if not peer.trusted:
        assert told.get(b"x-forwarded-for", b"").decode() == peer.address
        assert told.get(b"x-forwarded-host", b"") == request.host
        assert b"x-forwarded-port" not in told
        assert told[b"x-forwarded-proto"] == peer.scheme


def _passes(fields: list[tuple[bytes, bytes]], given: RawFields, route: Route) -> None:
    """Whatever else is sent has come from the client, as it came."""
    came = {(name.lower(), value.strip(b" \t")) for name, value in given}
    made = {b"content-length", b"host", b"via", b"cookie", b"authorization", b"accept-encoding"}
    made |= {b"if-match", b"if-none-match", b"max-forwards", b"connection", b"upgrade"}
    for name, value in fields:
        if name not in made and name not in _PROXIES_MAY and name != b"traceparent":
            assert (name, value) in came, (name, value)


_HEAD: Final = b"GET /api/x?y=z HTTP/1.1\n"
TARGET: Final = Target(
    check,
    words=[
        *(b"Authorization: Bearer mine\n", b"Cookie: a=b\n", b"Connection: ", b"close", b", "),
        *(b"X-User: root\n", b"X_User: root\n", b"X-Forwarded-For: 1.2.3.4\n", b"Via: 1.1 a"),
        *(b"X-Forwarded-Host: ", b"X-Forwarded-Proto: ", b"X-Forwarded-Prefix: /p", b"wss"),
        *(
            b"Forwarded: for=1.2.3.4;host=h\n",
            b"Remote-User: a\n",
            b"X-Original-Url: /admin\n",
        ),
        *(
            b"Content-Length: 0\n",
            b"Upgrade: websocket\n",
            b"Connection: Upgrade\n",
            b"TE: a",
        ),
        *(b"Sec-WebSocket-Key: a\n", b"Sec-WebSocket-Version: 13\n", b"Max-Forwards: 0\n"),
        *(b'If-Match: W/"a", "b"\n', b"If-None-Match: *\n", b"Accept-Encoding: br, gzip\n"),
        *(
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\n",
            b"X-Custom:",
        ),
        *(b"X-HTTP-Method-Override: DELETE\n", b"POST ", b"OPTIONS ", b"HEAD ", b" HTTP/1.0\n"),
        *(
            b"http://app.example.com",
            b"//",
            b"%2F",
            b"\n",
            b"\t",
            b" ",
            b"\xff",
            b"\xa0",
            b"a_b: c",
        ),
        *(
            b"Transfer-Encoding: chunked\n",
            b"Expect: 100-continue\n",
            b"host",
            b"authorization",
        ),
    ],
    seeds=[
        b"\0\0\0\0" + _HEAD + b"\n",
        b"\1\1\1\0" + _HEAD + b"X-Forwarded-For: 1.2.3.4\nX-Forwarded-Proto: wss\n\n",
        b"\0\2\0\1" + _HEAD + b"Connection: close, x-user, authorization, host\nX-User: a\n\n",
        b"\2\3\1\1" + _HEAD + b"X-User: a\nA_b: c\nX-Custom: d\nCookie: a=b\n\n",
        b"\0\0\0\0" + _HEAD + b'Accept-Encoding: br\nIf-Match: W/"a"\nVia: 1.0 b\n\n',
        b"\1\0\0\0" + _HEAD + b"Connection: Upgrade\nUpgrade: websocket\n\n",
        b"\0\1\0\0OPTIONS /api HTTP/1.0\nMax-Forwards: 3\n\n",
    ],
    longest=1024,
)
