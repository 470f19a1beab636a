"""What is read from a request's head, what passes on, and who is taken to be asking."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import BadRequest
from sidecar.core.headers import REQUEST_FIELDS, Fate
from sidecar.core.request import UNREAD, FieldRule, Request

HOST = (b"Host", b"app.test")
Pairs = tuple[tuple[bytes, bytes], ...]


def fields(headers: dict[str, str]) -> Pairs:
    return (HOST, *((name.encode(), value.encode()) for name, value in headers.items()))


def request(*pairs: tuple[bytes, bytes], method: str = "GET", target: str = "/x") -> Request:
    return Request(method, target, (HOST, *pairs), http11=True)


def passed(asked: Request) -> list[tuple[bytes, bytes]]:
    """The field lines that pass on, after a look at their punctuation."""
    lines = asked.fields.lines
    assert lines[1::4] == [b": "] * (len(lines) // 4)
    assert lines[3::4] == [b"\r\n"] * (len(lines) // 4)
    return list(zip(lines[0::4], lines[2::4], strict=True))


# -- the request line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "query", "route_path"),
    [
        ("/", "/", "", "/"),
        ("/a?", "/a", "?", "/a"),
        ("/%61?x=%2f..", "/%61", "?x=%2f..", "/a"),
        ("/a%2fb?x?y", "/a%2fb", "?x?y", "/a%2Fb"),
    ],
)
def test_the_target_is_split(target: str, path: str, query: str, route_path: str) -> None:
    """Path and query as sent; routes see the normalised path."""
    asked = request(target=target)
    assert (asked.path, asked.query, asked.route_path) == (path, query, route_path)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PRI"])
def test_methods_that_are_no_proxys_business_are_refused(method: str) -> None:
    """A tunnel, an echo of the credential, a HTTP/2 preface (T15)."""
    with pytest.raises(BadRequest):
        request(method=method)


def test_long_targets_are_not_remembered() -> None:
    """Ten thousand of 60 KB would be gigabytes (clients choose them)."""
    tracemalloc.start()
    try:
        for number in range(200):
            request(target=f"/%2F{number}" + "a" * 30_000 + "?" + "b" * 30_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


# -- Host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ((b"Host", b""),),
        ((b"Host", b"a.test"), (b"Host", b"a.test")),
        ((b"Host", b"a.test"), (b"host", b"b.test")),
        ((b"Host", b"a.test, b.test"),),
        ((b"Host", b"user@a.test"),),
        ((b"Host", b"a.test/x"),),
        ((b"Host", b"\xff"),),
    ],
)
def test_a_host_is_demanded_and_must_be_one(pairs: Pairs) -> None:
    """RFC 9112 3.2: none, several or a bad one is 400 (T16)."""
    with pytest.raises(BadRequest):
        Request("GET", "/", pairs, http11=True)


def test_http10_needs_no_host() -> None:
    """nginx's default towards upstreams is HTTP/1.0, though it sends one."""
    assert Request("GET", "/", (), http11=False).host == b""
    assert Request("GET", "/", (HOST,), http11=False).host == b"app.test"
    assert UNREAD.path == "/"


# -- fields ----------------------------------------------------------------------------------------


def test_fields_pass_as_they_came() -> None:
    """Order, case, octets and repetitions; what is noted passes as well."""
    pairs = [
        (b"aCCept", b"text/html"),
        (b"X-A", b"1"),
        (b"Accept", b"*/*"),
        (b"X-A", b"caf\xe9"),
        (b"Range", b"bytes=0-1"),
        (b"Range", b"bytes=2-3"),
        (b"X-Empty", b""),
    ]
    asked = request(*pairs)
    assert passed(asked) == pairs
    assert asked.fact(b"accept") == b"text/html, */*"


def test_cookie_fields_are_joined_as_cookies_are() -> None:
    """RFC 6265 5.4; a comma would make one cookie of two."""
    assert request((b"Cookie", b"a=1"), (b"cookie", b"b=2")).cookie == b"a=1; b=2"
    assert request().cookie == b""


@pytest.mark.parametrize(
    "option",
    [
        b"Authorization",
        b"cookie",
        b"Host",
        b"content-length",
        b"X-Forwarded-For",
        b"X-Request-Id",
        b"Origin",
        b"Sec-Fetch-Site",
        b"Expect",
        b"If-Match",
    ],
)
def test_connection_takes_nothing_away_from_the_sidecar(option: bytes) -> None:
    """T4: what it reads itself stays read, though it does not pass on."""
    pairs = [(option, b"1"), (b"Connection", option)]
    asked = request(*(pair for pair in pairs if pair[0] != b"Host"))
    assert asked.fact(option.lower()) == (b"app.test" if option == b"Host" else b"1")
    assert option not in [name for name, _ in passed(asked)]


def test_what_connection_names_does_not_pass() -> None:
    """RFC 9110 7.6.1, in any case, in several fields, before or after."""
    asked = request(
        (b"X-A", b"1"),
        (b"Connection", b"x-a, Keep-Alive"),
        (b"x-A", b"2"),
        (b"X-B", b"3"),
        (b"connection", b"close,X-c"),
        (b"X-C", b"4"),
        (b"Accept", b"*/*"),
    )
    assert passed(asked) == [(b"X-B", b"3"), (b"Accept", b"*/*")]


@pytest.mark.parametrize("name", [b"X A", b"X:A", b"", b"X\r\nEvil", b"\xe9"])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    """T14: not dropped, since somebody meant something by it."""
    with pytest.raises(BadRequest):
        request((name, b"1"))


NAMES = st.sampled_from(
    [
        *(b"X-A", b"Accept", b"Origin", b"Cookie", b"Authorization", b"Connection", b"TE"),
        *(b"X-Forwarded-For", b"X-Forwarded-User", b"X_User", b"Upgrade", b"Expect", b"X-B"),
    ]
)
VALUES = st.sampled_from([b"", b"1", b"x-a", b"X-B, close", b"websocket", b"a=1", b"accept"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_only_what_may_pass_passes_and_only_once(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever the mixture, the lines are what the table and Connection leave, in order."""
    named = {
        option.strip().lower()
        for name, value in pairs
        if name == b"Connection"
        for option in value.split(b",")
    }
    wanted = [
        (name, value)
        for name, value in pairs
        if REQUEST_FIELDS.fate(name) in (Fate.PASS, Fate.NOTE) and name.lower() not in named
    ]
    assert passed(request(*pairs)) == wanted


WITHHELD = [(b"X_User", b"1"), (b"x-amzn-oidc-data", b"2"), (b"X-User", b"3"), (b"X-USER", b"4")]


@pytest.mark.parametrize(
    ("dropped", "passed", "lines"),
    [
        ((), (), [b"X-A", b"Accept"]),
        ((b"x-a",), (), [b"Accept"]),
        ((b"accept",), (b"x-user",), [b"X-A", b"X-User", b"X-USER"]),
        ((), (b"x_user", b"x-other"), [b"X-A", b"Accept", b"X_User"]),
    ],
)
def test_a_route_says_which_fields_pass_besides_and_which_do_not(
    dropped: tuple[bytes, ...], passed: tuple[bytes, ...], lines: list[bytes]
) -> None:
    """Names are compared without case, and `x_user` is not `x-user`."""
    asked = request((b"X-A", b"1"), *WITHHELD, (b"Accept", b"*/*"), (b"TE", b"x"))
    rule = FieldRule(frozenset(dropped), frozenset(passed))
    assert rule.lines(asked.fields)[::4] == lines
    assert asked.fields.lines[::4] == [b"X-A", b"Accept"]


def test_what_connection_names_does_not_pass_by_a_route_either() -> None:
    asked = request(*WITHHELD, (b"Connection", b"x-user"))
    rule = FieldRule(frozenset(), frozenset([b"x-user", b"x_user"]))
    assert rule.lines(asked.fields)[::4] == [b"X_User"]


HANDSHAKE = {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}


@pytest.mark.parametrize(
    ("method", "headers", "is_one"),
    [
        ("GET", HANDSHAKE, True),
        ("GET", {"Connection": "upgrade", "Upgrade": "websocket"}, True),
        ("GET", {**HANDSHAKE, "Content-Length": "0"}, True),
        ("GET", {**HANDSHAKE, "Content-Length": "5"}, False),
        ("GET", {**HANDSHAKE, "Transfer-Encoding": "chunked"}, False),
        ("POST", HANDSHAKE, False),
        ("HEAD", HANDSHAKE, False),
        ("GET", {"Upgrade": "websocket"}, False),
        ("GET", {"Connection": "keep-alive", "Upgrade": "websocket"}, False),
        ("GET", {"Connection": "Upgrade"}, False),
        ("GET", {"Connection": "Upgrade", "Upgrade": "h2c"}, False),
        ("GET", {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c, websocket"}, False),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket, websocket"}, False),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket/13"}, False),
        ("GET", {"Connection": "Upgrade", "Upgrade": "xwebsocket"}, False),
    ],
)
def test_what_is_a_websocket_handshake(method: str, headers: dict[str, str], is_one: bool) -> None:
    """RFC 6455 4.2.1; h2c and odd lists are not forwarded as upgrades (T18)."""
    asked = Request(method, "/x", fields(headers), http11=True)
    assert asked.is_websocket is is_one
    assert {b"Upgrade", b"Connection"}.isdisjoint(name for name, _ in passed(asked))


@pytest.mark.parametrize(
    ("headers", "is_one"),
    [
        ({"Accept": "text/event-stream"}, True),
        ({"Accept": "text/event-stream, */*"}, True),
        (HANDSHAKE, True),
        ({"Accept": "text/html"}, False),
        ({}, False),
    ],
)
def test_streams_are_known_beforehand(headers: dict[str, str], is_one: bool) -> None:
    """They have a budget of their own (behaviour: routes)."""
    assert Request("GET", "/x", fields(headers), http11=True).fields.is_stream is is_one


@pytest.mark.parametrize(
    ("value", "http11"),
    [(b"", True), (b"identity", True), (b"x, chunked", True), (b"chunked", False)],
)
def test_other_transfer_codings_are_refused(value: bytes, http11: bool) -> None:
    """Framing that two servers could read differently ends the connection (RFC 9112 6.1)."""
    with pytest.raises(BadRequest) as refused:
        Request("POST", "/", [(b"Host", b"h"), (b"Transfer-Encoding", value)], http11=http11)
    assert refused.value.close
