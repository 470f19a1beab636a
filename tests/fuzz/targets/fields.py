"""Field values that strangers write are read in bounded time, and what passes on is true and clean.

Traceparent, Accept-Encoding, Accept, Range, If-Match, Forwarded, Origin, Vary, Cache-Control.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from sidecar.core.client import tell_apart
from sidecar.core.client_address import client_address, client_network
from sidecar.core.codings import accepts_gzip, content_coding, is_decodable
from sidecar.core.cookies import is_expiring
from sidecar.core.errors import BadRequest, loggable
from sidecar.core.headers import (
    at_least_private,
    decodable_codings,
    is_for_everybody,
    list_members,
    media_type,
    vary_by,
)
from sidecar.core.representation import strong_tags
from sidecar.core.request import Request
from sidecar.core.target import normal_origin, origin_of
from sidecar.core.trace_context import parse_traceparent, trace_id_of
from tests.fuzz.target import Draw, Target

_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"identity"))
_NAMES: Final = (
    *(
        b"Accept",
        b"Accept-Encoding",
        b"Range",
        b"If-Match",
        b"If-None-Match",
        b"Origin",
        b"Referer",
    ),
    *(b"Sec-Fetch-Mode", b"Sec-Fetch-Dest", b"X-Forwarded-For", b"Forwarded", b"Connection"),
    *(b"Upgrade", b"Content-Type", b"traceparent", b"Purpose", b"RSC", b"User-Agent", b"Cookie"),
)


def check(data: bytes) -> None:
    draw = Draw(data)
    name = draw.pick(_NAMES)
    value = re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", draw.rest()).strip(b" \t")
    _trace(value)
    _codings(value)
    _addresses(value)
    _caching(value)
    _tags(value)
    _origins(value)
    is_expiring(b"a=b; " + value, 1e9)
    media_type(value)
    assert loggable(value.decode("latin-1")).isprintable()
    try:
        request = Request("GET", "/x", [(b"Host", b"a"), (name, value)], http11=True)
    except BadRequest:
        return
    tell_apart(request.method, request.facts, request.path)
    for at in range(0, len(request.fields.lines), 4):
        assert request.fields.lines[at : at + 3] == [name, b": ", value]


def _trace(value: bytes) -> None:
    parent, trace_id = parse_traceparent(value), trace_id_of(value)
    assert (parent is None) == (trace_id == "")
    if parent is not None:
        assert parent.trace_id == int(trace_id, 16) > 0
        assert 0 < parent.parent_id < 1 << 64
        assert len(value) == 55


def _codings(value: bytes) -> None:
    """What an upstream is offered the client has offered, and can be decoded."""
    cut = decodable_codings(value)
    names = [one.split(b";")[0].strip().lower() for one in cut.split(b",")]
    assert set(names) <= _CODINGS, cut
    offered = {one.split(b";")[0].strip().lower() for one in value.split(b",")}
    assert set(names) <= offered | {b"identity"}
    assert decodable_codings(cut) == cut
    if accepts_gzip(value):
        assert {b"gzip", b"x-gzip", b"*"} & {
            one.split(b";")[0].strip() for one in list_members(value)
        }
    coding = content_coding(value)
    assert is_decodable(coding) == (coding in (b"", b"gzip", b"deflate"))


def _addresses(value: bytes) -> None:
    """What comes of it is an address; nobody but a trusted proxy is believed."""
    assert client_address("192.0.2.1", lambda _: False, value, [value]) == "192.0.2.1"
    found = client_address("192.0.2.1", lambda _: True, value, [value])
    ip_address(found.partition("%")[0])
    assert client_network(found) is not None
    other = client_address("192.0.2.1", lambda one: one == "192.0.2.1", b"", [value])
    ip_address(other.partition("%")[0])


def _caching(value: bytes) -> None:
    private = at_least_private(value)
    assert not is_for_everybody(private), private
    assert {b"private", b"no-store"} & set(list_members(private))
    varied = vary_by(value, cookie=True, origin=True, coding=True, is_injected=True)
    assert {b"cookie", b"*"} & set(list_members(varied))


def _tags(value: bytes) -> None:
    strong = strong_tags(value)
    assert value.replace(b"W/", b"") == strong.replace(b"W/", b""), "more than W/ is taken off"


def _origins(value: bytes) -> None:
    normal = normal_origin(value)
    assert normal_origin(normal) == normal
    assert origin_of(origin_of(value)) == origin_of(value)


TARGET: Final = Target(
    check,
    words=[
        *(
            b"gzip",
            b"x-gzip",
            b"deflate",
            b"identity",
            b"br",
            b"*",
            b";q=0",
            b";q=0.5",
            b"; q=1.000",
        ),
        *(
            b"text/html",
            b"text/event-stream",
            b"application/json",
            b"multipart/form-data; boundary=",
        ),
        *(
            b"bytes=0-",
            b"bytes=-5",
            b'W/"a"',
            b'"a"',
            b"private",
            b"public",
            b"s-maxage=5",
            b"no-store",
        ),
        *(
            b"Authorization",
            b"Cookie",
            b"for=",
            b'for="[2001:db8::1]:80"',
            b"192.0.2.7",
            b"::ffff:1.2.3.4",
        ),
        *(
            b"00-",
            b"-01",
            b"0af7651916cd43dd8448eb211c80319c",
            b"b7ad6b7169203331",
            b"https://A:443",
        ),
        *(
            b"navigate",
            b"websocket",
            b"upgrade",
            b"Expires=",
            b"Max-Age=",
            b"Thu, 01 Jan 1970 00:00:00 GMT",
        ),
        *(b", ", b"; ", b'"', b"\\", b"=", b"%", b"\xa0", b"\x85"),
    ],
    seeds=[
        b"\x0e00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"\x01gzip, deflate;q=0.5, br;q=1.0, *;q=0",
        b'\x03W/"a", "b"',
        b'\x0afor=192.0.2.60;proto=http;by=203.0.113.43, for="[2001:db8::1]:80"',
        b"\x09192.0.2.1, 10.0.0.1:80, [2001:db8::1]:443",
        b"\x05https://App.example.com:443",
        b"\x00text/html,application/xhtml+xml;q=0.9",
        b'\x12public, s-maxage=60, private="a"',
        b"\x12Max-Age=0; Expires=Thu, 01-Jan-70 00:00:00 GMT",
        b"\x0dmultipart/form-data; boundary=x",
    ],
    longest=512,
)
