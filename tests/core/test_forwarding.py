"""Heads in both directions: what the upstream is told, what the client gets, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.envelope import EnvelopeRule
from sidecar.core.errors import BadRequest, UpstreamProtocolError
from sidecar.core.forwarding import (
    Peer,
    clean_response,
    given_request_id,
    prepare_request,
    reason_phrase,
    status_line,
)
from sidecar.core.record import replace
from sidecar.core.request import Request
from sidecar.core.route_table import UNROUTED, Route
from sidecar.core.upstream_head import UpstreamHead

Pairs: TypeAlias = list[tuple[bytes, bytes]]

API = replace(
    UNROUTED,
    path="/api/",
    strip="/api",
    strip_segments=1,
    host=b"api:4000",
    inject=True,
    envelope=EnvelopeRule(),
    upstream_origins=("http://api:4000",),
)
PAGE = replace(UNROUTED, path="/", kind="page", host=None, envelope=None)
CLIENT = Peer("192.0.2.7", trusted=False, scheme=b"http")
PROXY = Peer("10.0.0.1", trusted=True, scheme=b"http")
SOCKET = Peer("", trusted=False, scheme=b"http")
TRUSTED_SOCKET = Peer("", trusted=True, scheme=b"http")
BEARER = b"Authorization: Bearer good\r\n"
TARGETED = (
    *("CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Akamai-Cache-Control", "Edge-Control"),
    *("Surrogate-Control", "X-Accel-Expires", "X-LiteSpeed-Cache-Control", "Example-Cache-Control"),
)


def request(*pairs: tuple[str, str], target: str = "/api/x?q", method: str = "GET") -> Request:
    fields = [("Host", "app.test"), *pairs]
    raw = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
    return Request(method, target, raw, http11=True)


def sent(
    asked: Request,
    route: Route = API,
    peer: Peer = CLIENT,
    cookie: bytes = b"",
    authorization: bytes = b"",
) -> tuple[bytes, Pairs]:
    """The request line and the fields of the head for the upstream."""
    head = prepare_request(asked, route, peer, cookie=cookie, authorization=authorization)
    return split(head)


def split(head: bytes) -> tuple[bytes, Pairs]:
    assert head.endswith(b"\r\n")
    first, *lines = head[:-2].split(b"\r\n")
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    assert all(name for name, _ in fields)
    return first, fields


def values(fields: Pairs, name: bytes) -> list[bytes]:
    return [value for one, value in fields if one.lower() == name.lower()]


# -- towards the upstream -------------------------------------------------------------------------


def test_a_whole_head() -> None:
    """Line, Host, the client's own fields as they came, then the sidecar's."""
    line, fields = sent(
        request(("X-A", "1"), ("Accept-Encoding", "gzip, br"), ("If-None-Match", 'W/"x"')),
        cookie=b"theme=dark",
        authorization=BEARER,
    )
    assert line == b"GET /x?q HTTP/1.1"
    assert fields[:2] == [(b"Host", b"api:4000"), (b"X-A", b"1")]
    assert sorted(fields[2:]) == [
        (b"Accept-Encoding", b"gzip"),
        (b"Authorization", b"Bearer good"),
        (b"Cookie", b"theme=dark"),
        (b"If-None-Match", b'W/"x"'),
        (b"Via", b"1.1 sidecar"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Host", b"app.test"),
        (b"X-Forwarded-Prefix", b"/api"),
        (b"X-Forwarded-Proto", b"http"),
    ]


@pytest.mark.parametrize(
    ("told", "prefix"),
    [
        (["/a"], b"/a/api"),
        (["/a/"], b"/a/api"),
        (["/a", "/b"], b"/a/api"),
        (["/a, /b"], b"/a/api"),
        (["//evil.test"], b"/api"),
        (["https://evil.test"], b"/api"),
        (["a"], b"/api"),
        (["/"], b"/api"),
        ([""], b"/api"),
    ],
)
def test_the_prefix_of_a_proxy_in_front_is_one_path(told: list[str], prefix: bytes) -> None:
    """The first of several, and none that would lead to another host."""
    asked = request(*(("X-Forwarded-Prefix", one) for one in told))
    _, fields = sent(asked, peer=PROXY)
    assert values(fields, b"X-Forwarded-Prefix") == [prefix]


FORWARDED = ["Accept-Encoding", "If-Match", "If-None-Match", "Max-Forwards", "traceparent", "X-Own"]


@pytest.mark.parametrize("name", FORWARDED)
def test_fields_that_connection_names_go_no_further(name: str) -> None:
    """Those too that are read here and written anew (RFC 9110 7.6.1)."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    value = {"Max-Forwards": "5", "traceparent": trace, "Accept-Encoding": "gzip"}.get(name, '"x"')
    key, method = name.lower().encode(), "OPTIONS" if name == "Max-Forwards" else "GET"
    _, fields = sent(request((name, value), method=method))
    assert [one for one, _ in fields if one.lower() == key]
    _, fields = sent(request((name, value), ("Connection", f"close, {name}"), method=method))
    assert not [one for one, _ in fields if one.lower() == key]


def test_own_authorization_that_connection_names_is_none() -> None:
    asked = request(("Authorization", "Bearer own"), ("Connection", "authorization"))
    assert asked.own_authorization() is None


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("/api/a%2Fb/%7e?x=%2f..&y=%zz", b"GET /a%2Fb/%7e?x=%2f..&y=%zz HTTP/1.1"),
        ("/%61pi//x", b"GET //x HTTP/1.1"),
        ("/api", b"GET / HTTP/1.1"),
        ("/api/caf\u00e9", "GET /caf\u00e9 HTTP/1.1".encode()),
        ("/api/x?\udce9", b"GET /x?\xe9 HTTP/1.1"),
    ],
)
def test_the_target_arrives_byte_for_byte(target: str, line: bytes) -> None:
    """Behind `strip` nothing is decoded, encoded or put in order (behaviour: forwarding)."""
    assert sent(request(target=target))[0] == line


def test_the_credential_is_the_sidecars() -> None:
    """T1, T2, T4: the client's own never arrives, and nothing takes the right one off."""
    asked = request(
        ("Authorization", "Bearer evil"),
        ("authorization", "Bearer evil2"),
        ("Cookie", "access_token=evil"),
        ("Connection", "Authorization, Cookie, Host, X-Forwarded-For, Via"),
        ("X-User", "root"),
        ("X_User", "root"),
        ("X-Forwarded-User", "root"),
        ("Proxy-Authorization", "Basic x"),
    )
    _, fields = sent(asked, authorization=BEARER, cookie=b"a=1")
    assert values(fields, b"Authorization") == [b"Bearer good"]
    assert values(fields, b"Cookie") == [b"a=1"]
    assert values(fields, b"Host") == [b"api:4000"]
    assert values(fields, b"X-Forwarded-For") == [b"192.0.2.7"]
    assert not any(b"evil" in value or b"root" in value for _, value in fields)
    _, fields = sent(asked)
    assert values(fields, b"Authorization") == []
    assert values(fields, b"Cookie") == []


def test_pages_see_the_clients_host() -> None:
    """Frameworks build their own URLs from it; APIs get the upstream's (behaviour: forwarding)."""
    assert values(sent(request(), route=PAGE)[1], b"Host") == [b"app.test"]
    assert values(sent(request(), route=API)[1], b"Host") == [b"api:4000"]


SPOOFED = (
    ("X-Forwarded-For", "198.51.100.1, 203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "public.test"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Prefix", "/base"),
)


@pytest.mark.parametrize(
    ("peer", "pairs", "told"),
    [
        (CLIENT, (), {b"For": b"192.0.2.7", b"Proto": b"http", b"Host": b"app.test"}),
        (CLIENT, SPOOFED, {b"For": b"192.0.2.7", b"Proto": b"http", b"Host": b"app.test"}),
        (SOCKET, SPOOFED, {b"Proto": b"http", b"Host": b"app.test"}),
        (
            replace(CLIENT, scheme=b"https"),
            SPOOFED,
            {b"For": b"192.0.2.7", b"Proto": b"https", b"Host": b"app.test"},
        ),
        (PROXY, (), {b"For": b"10.0.0.1", b"Proto": b"http", b"Host": b"app.test"}),
        (
            PROXY,
            SPOOFED,
            {
                b"For": b"198.51.100.1, 203.0.113.9, 10.0.0.1",
                b"Proto": b"https",
                b"Host": b"public.test",
                b"Port": b"443",
                b"Prefix": b"/base/api",
            },
        ),
        (
            TRUSTED_SOCKET,
            SPOOFED[:2],
            {
                b"For": b"198.51.100.1, 203.0.113.9",
                b"Proto": b"https",
                b"Host": b"app.test",
            },
        ),
        (
            PROXY,
            (("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Host", "")),
            {b"For": b"10.0.0.1", b"Proto": b"http", b"Host": b"app.test"},
        ),
        (
            PROXY,
            (("X-Forwarded-Proto", "HTTPS, http"), ("X-Forwarded-Host", "a.test, b.test")),
            {b"For": b"10.0.0.1", b"Proto": b"https", b"Host": b"a.test"},
        ),
        (
            PROXY,
            (("X-Forwarded-Proto", "WSS"),),
            {b"For": b"10.0.0.1", b"Proto": b"https", b"Host": b"app.test"},
        ),
        (
            PROXY,
            (("X-Forwarded-Proto", "ws, https"),),
            {b"For": b"10.0.0.1", b"Proto": b"http", b"Host": b"app.test"},
        ),
    ],
)
def test_forwarded_fields_are_rewritten_not_believed(
    peer: Peer, pairs: tuple[tuple[str, str], ...], told: dict[bytes, bytes]
) -> None:
    """T3: only a trusted proxy's count, and they are extended."""
    told = {b"Prefix": b"/api", **told}  # what the route takes off
    _, fields = sent(request(*pairs), peer=peer)
    prefix = b"X-Forwarded-"
    said = {name[len(prefix) :]: value for name, value in fields if name.startswith(prefix)}
    assert said == told
    assert len([name for name, _ in fields if name.startswith(prefix)]) == len(told)


@pytest.mark.parametrize("peer", [CLIENT, PROXY, SOCKET])
def test_upstreams_are_told_the_public_origin_where_it_is_configured(peer: Peer) -> None:
    """Whatever the proxy in front says, or forgets to say."""
    public = replace(peer, public=(b"https", b"www.app.test"))
    _, fields = sent(request(*SPOOFED), peer=public, route=PAGE)
    assert values(fields, b"X-Forwarded-Proto") == [b"https"]
    assert values(fields, b"X-Forwarded-Host") == [b"www.app.test"]
    assert values(fields, b"X-Forwarded-Port") == []


@pytest.mark.parametrize(
    ("value", "wrapped", "plain"),
    [
        ('W/"a"', b'"a"', b'W/"a"'),
        ('"a"', b'"a"', b'"a"'),
        ('W/"a", "b",W/"c"', b'"a", "b","c"', b'W/"a", "b",W/"c"'),
        ("*", b"*", b"*"),
        ('"aW/b"', b'"aW/b"', b'"aW/b"'),
        ('W/"xW/"', b'"xW/"', b'W/"xW/"'),
        ('"a,W/", W/"b"', b'"a,W/", "b"', b'"a,W/", W/"b"'),
    ],
)
def test_the_mark_that_wrapping_made_is_taken_off_again(
    value: str, wrapped: bytes, plain: bytes
) -> None:
    """If-Match compares strongly (RFC 9110 13.1.1); what stands inside a tag stays."""
    asked = request(("If-Match", value))
    assert values(sent(asked, route=API)[1], b"If-Match") == [wrapped]
    assert values(sent(asked, route=PAGE)[1], b"If-Match") == [plain]
    asked = request(("If-None-Match", value))
    assert values(sent(asked, route=API)[1], b"If-None-Match") == [plain]


def test_only_wrapping_routes_cut_accept_encoding() -> None:
    """A page may be sent in any coding that its client takes."""
    asked = request(("Accept-Encoding", "br, gzip"))
    assert values(sent(asked, route=API)[1], b"Accept-Encoding") == [b"gzip"]
    assert values(sent(asked, route=PAGE)[1], b"Accept-Encoding") == [b"br, gzip"]
    assert values(sent(request(), route=API)[1], b"Accept-Encoding") == []


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ((("X-Request-Id", "abc-1.2:3/4+5=6@7"),), b"abc-1.2:3/4+5=6@7"),
        ((("X-Request-Id", "a" * 129),), b""),
        ((("X-Request-Id", "a b"),), b""),
        ((("X-Request-Id", "<script>"),), b""),
        ((("X-Request-Id", ""),), b""),
        ((("X-Request-Id", "a"), ("X-Request-Id", "b")), b""),
        ((), b""),
    ],
)
def test_a_well_formed_request_id_is_kept(pairs: tuple[tuple[str, str], ...], kept: bytes) -> None:
    """It goes to logs, pages and heads, so it is plain and short."""
    assert given_request_id(request(*pairs)) == kept


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given_by_client", "good"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        ("ff" + TRACE[2:], False),
        ("00-" + "0" * 32 + TRACE[35:], False),
        (TRACE[:36] + "0" * 16 + "-01", False),
        (TRACE + "-x", False),
        (TRACE + ", " + TRACE, False),
        ("", False),
    ],
)
def test_a_well_formed_trace_passes(given_by_client: str, good: bool) -> None:
    """W3C Trace Context 3.2.2; none is made up, which would switch an upstream's sampling off."""
    asked = request(("traceparent", given_by_client))
    assert values(sent(asked)[1], b"traceparent") == ([TRACE.encode()] if good else [])


def test_a_handshake_is_written_anew() -> None:
    """Connection-level fields are one connection's (RFC 6455 4.1); all others lose them."""
    asked = request(("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"))
    _, fields = sent(asked)
    assert values(fields, b"Connection") == [b"Upgrade"]
    assert values(fields, b"Upgrade") == [b"websocket"]
    _, fields = sent(request(("Connection", "Upgrade"), ("Upgrade", "h2c"), ("TE", "trailers")))
    for name in (b"Connection", b"Upgrade", b"TE"):
        assert values(fields, name) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "5"),
        ("Expect", "5"),
        ("Keep-Alive", "5"),
        ("Trailer", "5"),
    ],
)
def test_framing_is_left_to_whoever_owns_the_connection(name: str, value: str) -> None:
    """A client's framing never reaches the upstream as a field that passed."""
    assert values(sent(request((name, value), method="POST"))[1], name.encode()) == []


OCTETS = st.binary(max_size=6)


@given(
    name=st.one_of(st.sampled_from([b"X-A", b"Accept", b"X-Forwarded-For", b"Cookie"]), OCTETS),
    value=OCTETS,
    path=OCTETS,
)
def test_no_control_byte_comes_through_the_parser_into_a_head(
    name: bytes, value: bytes, path: bytes
) -> None:
    """What aiohttp's C parser lets through is rendered without a line that nobody sent."""
    raw = b"GET /api/%b HTTP/1.1\r\nHost: app.test\r\n%b: %b\r\n\r\n" % (path, name, value)
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 1024, auto_decompress=False)
        messages, _, _ = parser.feed_data(raw)
    except HttpProcessingError:
        return
    finally:
        loop.close()
    for message, _ in messages:
        try:
            asked = Request(message.method, message.path, message.raw_headers, http11=True)
        except BadRequest:
            continue
        head = prepare_request(asked, API, PROXY, cookie=asked.cookie, authorization=b"")
        lines = head[:-2].split(b"\r\n")
        assert not any(octet < 32 and octet != 9 for line in lines for octet in line)
        assert lines[0].count(b" ") == 2
        assert len(lines) <= 9


# -- towards the client ---------------------------------------------------------------------------


def answer(status: int, *pairs: tuple[str, str], reason: str = "") -> UpstreamHead:
    raw = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
    return UpstreamHead(status, raw, reason)


def given_out(
    head: UpstreamHead,
    route: Route = API,
    *,
    wrapped: bool = False,
    private: bool = False,
    no_store: bool = False,
    cookies: tuple[bytes, ...] = (),
) -> tuple[bytes, Pairs]:
    before, behind = clean_response(
        head,
        route,
        wrapped=wrapped,
        private=private,
        cookies=cookies,
        no_store=no_store,
        date=b"now",
    )
    return split(before + b"rid" + behind)


REPRESENTATION = (
    ("Content-Type", "application/json"),
    ("Content-Encoding", "gzip"),
    ("Content-Disposition", "inline"),
    ("Content-Range", "bytes 0-1/2"),
    ("ETag", '"v1"'),
    ("Accept-Ranges", "bytes"),
    ("Content-MD5", "x"),
    ("Digest", "x"),
    ("Content-Digest", "x"),
    ("Repr-Digest", "x"),
    ("X-Content-Type-Options", "nosniff"),
    ("WWW-Authenticate", "Bearer"),
)


def test_what_is_relayed_keeps_its_representation_fields() -> None:
    """Byte for byte, under their usual names."""
    _, fields = given_out(answer(200, *REPRESENTATION))
    wanted = {name.encode(): value.encode() for name, value in REPRESENTATION}
    assert {name: value for name, value in fields if name in wanted} == wanted


def test_what_is_wrapped_says_what_is_true_of_the_envelope() -> None:
    """Type, coding, digests and ranges were those of other bytes (T52; behaviour: envelope)."""
    _, fields = given_out(answer(200, *REPRESENTATION), wrapped=True)
    assert sorted(fields) == [
        (b"Content-Type", b"application/json"),
        (b"Date", b"now"),
        (b"ETag", b'W/"v1"'),
        (b"Vary", b"Cookie"),
        (b"Via", b"1.1 sidecar"),
        (b"WWW-Authenticate", b"Bearer"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Request-Id", b"rid"),
    ]
    _, fields = given_out(answer(200, ("ETag", 'W/"v1"')), wrapped=True)
    assert values(fields, b"ETag") == [b'W/"v1"']


def test_other_fields_pass_in_order_and_number() -> None:
    """Repetitions stay apart, case and octets stay, Date is the upstream's where it has one."""
    _, fields = given_out(
        answer(200, ("X-a", "1"), ("Link", "<a>"), ("Link", "<b>"), ("X-B", "\xe9"), ("Date", "d")),
        PAGE,
    )
    own = (b"Via", b"Date", b"X-Request-Id")
    assert [(name, value) for name, value in fields if name not in own] == [
        (b"X-a", b"1"),
        (b"Link", b"<a>"),
        (b"Link", b"<b>"),
        (b"X-B", b"\xe9"),
    ]
    assert values(fields, b"Date") == [b"d"]


def test_set_cookie_is_never_joined() -> None:
    """RFC 9110 5.3; and what is given out is what was admitted, not what came."""
    head = answer(200, ("Set-Cookie", "a=1; Expires=Wed, 21 Oct"), ("set-cookie", "b=2"))
    assert head.cookies == [b"a=1; Expires=Wed, 21 Oct", b"b=2"]
    _, fields = given_out(head, cookies=(b"b=2", b"c=3"))
    assert values(fields, b"Set-Cookie") == [b"b=2", b"c=3"]
    _, fields = given_out(head)
    assert values(fields, b"Set-Cookie") == []


def test_hop_by_hop_fields_end_here() -> None:
    """And those that Connection names, but for what the sidecar writes itself."""
    _, fields = given_out(
        answer(
            200,
            ("Connection", "X-Hop, Content-Type, X-Request-Id, close"),
            ("X-Hop", "1"),
            ("x-hop", "2"),
            ("Keep-Alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("Trailer", "X"),
            ("Proxy-Authenticate", "Basic"),
            ("Upgrade", "h2c"),
            ("X-Request-Id", "theirs"),
            ("Content-Type", "text/plain"),
            ("X-Stays", "1"),
        ),
        PAGE,
    )
    assert sorted(fields) == [
        (b"Content-Type", b"text/plain"),
        (b"Date", b"now"),
        (b"Via", b"1.1 sidecar"),
        (b"X-Request-Id", b"rid"),
        (b"X-Stays", b"1"),
    ]


@pytest.mark.parametrize(
    ("pairs", "private", "no_store", "control", "vary"),
    [
        ((), False, False, [], [b"Cookie"]),
        ((("Cache-Control", "public, max-age=9"),), False, False, [b"public, max-age=9"], None),
        ((("Vary", "Accept"),), False, False, [], [b"Accept, Cookie"]),
        ((("Vary", "*"),), False, False, [], [b"*"]),
        ((("Vary", "authorization"),), False, False, [], [b"Cookie"]),
        ((("Vary", "Authorization, Accept"),), True, False, None, [b"Accept, Cookie"]),
        ((), True, False, [b"private"], [b"Cookie"]),
        ((("Cache-Control", "public, max-age=9"),), True, False, [b"max-age=9, private"], None),
        ((("Cache-Control", 'private="a"'),), True, False, [b"private"], None),
        ((("Cache-Control", "a"), ("Cache-Control", "public")), True, False, [b"a, private"], None),
        ((("Vary", "Accept"), ("Vary", "Origin")), True, False, None, [b"Accept, Origin, Cookie"]),
        ((("Cache-Control", "public, max-age=9"),), False, True, [b"no-store"], [b"Cookie"]),
        ((("Cache-Control", "private"),), True, True, [b"no-store"], [b"Cookie"]),
    ],
)
def test_what_caches_are_told(
    pairs: tuple[tuple[str, str], ...],
    private: bool,
    no_store: bool,
    control: list[bytes] | None,
    vary: list[bytes] | None,
) -> None:
    """Private after injection, by cookie wherever one may be injected, no-store with a session's.

    Else a cache would hand the anonymous answer to a user who has logged in since.
    """
    _, fields = given_out(answer(200, *pairs), private=private, no_store=no_store)
    if control is not None:
        assert values(fields, b"Cache-Control") == control
    if vary is not None:
        assert values(fields, b"Vary") == vary


@pytest.mark.parametrize(
    "name",
    ["CDN-Cache-Control", "Surrogate-Control", "Vercel-CDN-Cache-Control", "X-Accel-Expires"],
)
@pytest.mark.parametrize(
    ("private", "no_store"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_no_other_word_for_caches_overrules_that(name: str, private: bool, no_store: bool) -> None:
    """RFC 9213 2.2: a CDN obeys its own field instead of Cache-Control."""
    _, fields = given_out(answer(200, (name, "max-age=600")), private=private, no_store=no_store)
    found = values(fields, name.encode())
    assert found == ([] if private or no_store else [b"max-age=600"])


@pytest.mark.parametrize("authorization", ["pass", "session"])
def test_where_a_clients_own_bearer_may_pass_answers_vary_by_both(authorization: str) -> None:
    """The API's own word stands beside the sidecar's."""
    route = replace(API, authorization=authorization)
    _, fields = given_out(answer(200, ("Vary", "Authorization")), route)
    assert values(fields, b"Vary") == [b"Authorization, Cookie"]


@pytest.mark.parametrize(
    ("said", "control"),
    [
        ((), b"private"),
        ((("Cache-Control", "public, s-maxage=600, max-age=9"),), b"max-age=9, private"),
        ((("Cache-Control", "no-store"),), b"no-store"),
        ((("Cache-Control", "private, max-age=1"),), b"private, max-age=1"),
    ],
)
@pytest.mark.parametrize("kind", ["page", "api"])
def test_what_needs_a_session_is_kept_by_no_shared_cache(
    said: tuple[tuple[str, str], ...], control: bytes, kind: str
) -> None:
    """Whatever its upstream says, in whichever field, and injected or not."""
    route = replace(PAGE, kind=kind, session="required")
    targeted = [(name, "max-age=600") for name in TARGETED]
    _, fields = given_out(answer(200, *said, *targeted, ("Vary", "Accept")), route)
    assert values(fields, b"Cache-Control") == [control]
    assert values(fields, b"Vary") == [b"Accept, Cookie"]
    assert not {name.lower().decode() for name, _ in fields} & {*map(str.lower, TARGETED)}


def test_a_page_for_everybody_says_itself_what_caches_may_do() -> None:
    """It is shown the cookies, and may not depend on them."""
    said = (("Cache-Control", "public"), ("CDN-Cache-Control", "max-age=9"), ("Vary", "Accept"))
    _, fields = given_out(answer(200, *said), PAGE)
    for name, value in said:
        assert values(fields, name.encode()) == [value.encode()]


@pytest.mark.parametrize("own", [[], ["nosniff"], ["nosniff", "nosniff"], ["x"]])
@pytest.mark.parametrize("wrapped", [False, True])
def test_api_answers_are_not_to_be_sniffed(own: list[str], wrapped: bool) -> None:
    """On whatever an API answers, once; a page says itself."""
    head = answer(200, *(("X-Content-Type-Options", value) for value in own))
    _, fields = given_out(head, API, wrapped=wrapped)
    assert values(fields, b"X-Content-Type-Options") == [b"nosniff"]
    if not wrapped:
        _, fields = given_out(head, PAGE)
        assert values(fields, b"X-Content-Type-Options") == [", ".join(own).encode()] * bool(own)


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("said", "given_location"),
    [
        ("http://api:4000/x", b"/api/x"),
        ("/x\xe9", b"/api/x\xe9"),
        ("https://idp.test/", b"https://idp.test/"),
    ],
)
def test_locations_are_mapped_back(name: str, said: str, given_location: bytes) -> None:
    """In both fields, octet for octet (behaviour: forwarding)."""
    _, fields = given_out(answer(201, (name, said)))
    assert values(fields, name.encode()) == [given_location]


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, "OK", b"HTTP/1.1 200 OK"),
        (200, "Fine by me", b"HTTP/1.1 200 Fine by me"),
        (404, "", b"HTTP/1.1 404 Not Found"),
        (299, "", b"HTTP/1.1 299 "),
        (200, "caf\xe9", b"HTTP/1.1 200 OK"),
        (200, "OK\r\nX-Evil: 1", b"HTTP/1.1 200 OK"),
        (200, "OK\tX", b"HTTP/1.1 200 OK"),
    ],
)
def test_the_status_line(status: int, reason: str, line: bytes) -> None:
    """The upstream's phrase where it is one; a control character never reaches the client."""
    assert given_out(answer(status, reason=reason))[0] == line
    assert status_line(status, reason) == line + b"\r\n"
    assert line.endswith(reason_phrase(status, reason).encode())


@pytest.mark.parametrize("status", [0, 99, 100, 102, 103, 199, 600, 999, -1])
def test_what_is_no_final_status_is_refused(status: int) -> None:
    """The response parser lets 099 and 999 through; interim answers never get here."""
    with pytest.raises(UpstreamProtocolError):
        answer(status)
    assert answer(101).status == 101


@pytest.mark.parametrize("name", ["X A", "", "X:A", "X\xe9", "X\r\nY", " X"])
def test_a_field_name_that_is_none_is_refused(name: str) -> None:
    """T21: 502, the first time and every time after."""
    for _ in range(2):
        with pytest.raises(UpstreamProtocolError):
            answer(200, (name, "1"))


BAD_VALUES = ["a\rb", "a\nb", "a\r\nX-Evil: 1", "a\0b", "\x1b", "\x7f", "\r\n", "\r", "\n"]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize(
    "name",
    [
        *("X-Passed", "Content-Type", "ETag", "Date", "Cache-Control", "Vary", "Location"),
        *("Content-Location", "WWW-Authenticate", "Set-Cookie", "X-Request-Id", "Connection"),
    ],
)
def test_a_control_character_in_any_field_is_refused(name: str, value: str) -> None:
    """Passed, read or dropped (T21): who sends it is not understood."""
    with pytest.raises(UpstreamProtocolError):
        answer(200, (name, value))


FIELD_NAMES = st.sampled_from(
    [
        *(b"X-A", b"Content-Type", b"Location", b"Set-Cookie", b"ETag", b"Vary", b"Connection"),
        *(b"Cache-Control", b"WWW-Authenticate", b"CDN-Cache-Control", b"Date", b"X-Request-Id"),
    ]
)


@given(
    st.lists(st.tuples(FIELD_NAMES, st.binary(max_size=8)), max_size=6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_rendered_head_holds_a_control_byte(
    pairs: Pairs, wrapped: bool, private: bool, no_store: bool
) -> None:
    """Whatever the upstream sent: as many lines as fields, or nothing at all."""
    try:
        head = UpstreamHead(200, pairs)
    except UpstreamProtocolError:
        return
    line, fields = given_out(
        head, wrapped=wrapped, private=private, no_store=no_store, cookies=tuple(head.cookies)
    )
    octets = line + b"".join(name + value for name, value in fields)
    assert not any(octet == 127 or (octet < 32 and octet != 9) for octet in octets)
    assert len(fields) <= len(pairs) + 7


def test_an_empty_answer_is_known_by_its_head() -> None:
    """Content-Length: 0, and only that."""
    assert answer(200, ("Content-Length", "0")).is_empty
    assert not answer(200, ("Content-Length", "1")).is_empty
    assert not answer(200).is_empty


@pytest.mark.parametrize(
    "told", ["[", "a:99999", "a/b", "a b", "u@a", "[::1]:x", "\xe9", "a:99999, app.example.com"]
)
def test_forwarded_host_that_is_none_is_not_believed(told: str) -> None:
    """T16: clients may have written it, and servers make URLs of it."""
    asked = request(("X-Forwarded-Host", told))
    assert PROXY.asked_host(asked) == asked.host
    _, fields = sent(asked, peer=PROXY)
    assert values(fields, b"X-Forwarded-Host") == [asked.host]


@pytest.mark.parametrize(
    ("port", "passes"),
    [("443", True), ("65535", True), ("65536", False), ("4 4", False), ("0x1", False)],
)
def test_forwarded_port_is_one(port: str, *, passes: bool) -> None:
    _, fields = sent(request(("X-Forwarded-Port", port)), peer=PROXY)
    assert values(fields, b"X-Forwarded-Port") == ([port.encode()] if passes else [])
