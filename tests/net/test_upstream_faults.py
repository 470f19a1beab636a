"""Answers that are wrong: never passed on as right ones, never left for the next to find."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Clients, Start, Step, Upstream

API = "/api/a"
PAGE = "/page"
OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"Content-Type: text/plain\r\n"
JSON = b"Content-Type: application/json\r\n"


def both(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API whose answers are wrapped and pages that pass."""
    return {
        "upstreams": {"main": {"url": upstream.url, **more}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
    }


def in_segments(data: bytes, size: int | None) -> list[Step]:
    """One step, or one for each `size` bytes with a moment between them."""
    if size is None:
        return [data]
    return [step for at in range(0, len(data), size) for step in (data[at : at + size], 0.001)]


# -- heads -----------------------------------------------------------------------------------------

HEADS = {
    # status line (T21)
    "no HTTP": b"hello\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/3.7": b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n",
    "status +200": b"HTTP/1.1 +200 X\r\nContent-Length: 0\r\n\r\n",
    "status 2x0": b"HTTP/1.1 2x0 X\r\nContent-Length: 0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\n",
    "101 without Upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    # field lines
    "bare CR in a value": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control in a value": OK + b"X: a\x1bb\r\nContent-Length: 0\r\n\r\n",
    "control in a cookie": OK + b"Set-Cookie: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "control in Location": b"HTTP/1.1 302 X\r\nLocation: /\x01\r\nContent-Length: 0\r\n\r\n",
    "DEL in a value": OK + b"X: a\x7fb\r\nContent-Length: 0\r\n\r\n",
    "space in a name": OK + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "space before colon": OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"X\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "latin-1 in a name": OK + b"X\xe4: a\r\nContent-Length: 0\r\n\r\n",
    # framing
    "CL and TE": OK + JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\n\r\n",
    "two CLs": OK + JSON + b"Content-Length: 2\r\nContent-Length: 1\r\n\r\n{}",
    "CL list": OK + JSON + b"Content-Length: 2, 1\r\n\r\n{}",
    "CL -": OK + JSON + b"Content-Length: -2\r\n\r\n{}",
    "CL +": OK + JSON + b"Content-Length: +2\r\n\r\n{}",
    "CL hex": OK + JSON + b"Content-Length: 0x2\r\n\r\n{}",
    "CL text": OK + JSON + b"Content-Length: two\r\n\r\n{}",
    "CL empty": OK + JSON + b"Content-Length:\r\n\r\n{}",
    "CL overflow": OK + JSON + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "TE gzip": OK + JSON + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "TE chunked, gzip": OK + JSON + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "TE chunked twice": OK + JSON + b"Transfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("size", [None, 25])
@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize("name", HEADS)
async def test_head_that_cannot_be_understood_is_a_bad_gateway(
    sidecar: Start, upstream: Upstream, client: Clients, *, name: str, path: str, size: int | None
) -> None:
    """502, the connection is given up, and client and upstream go on."""
    upstream.answers([*in_segments(HEADS[name], size), 0.02, "close"])
    one = await client(await sidecar(both(upstream)))
    answer = await one.get(path)
    assert answer.status == 502, answer
    assert b"upstream_" in answer.body
    assert (await one.get(path)).status == 200
    assert upstream.connections == 2


LENIENT = {
    "bare LF": b"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n{}",
    "folded": OK + JSON + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "same CL twice": OK + JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "no reason": b"HTTP/1.1 200\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}",
    "reason with control": b"HTTP/1.1 200 O\x01K\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}",
    "reason in latin-1": b"HTTP/1.1 200 \xe4\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}",
    "spaces around value": OK + JSON + b"Content-Length:  2 \r\nX:\t a \t\r\n\r\n{}",
    "lower case": OK + JSON.lower() + b"content-length: 2\r\n\r\n{}",
    "upper case": OK + JSON.upper() + b"CONTENT-LENGTH: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("name", LENIENT)
async def test_odd_head_is_made_clean_or_refused(
    sidecar: Start, upstream: Upstream, client: Clients, name: str, size: int | None
) -> None:
    """What reaches the client is well formed, however the upstream wrote it."""
    upstream.answers([*in_segments(LENIENT[name], size), 0.02, "close"])
    answer = await (await client(await sidecar(both(upstream)))).get(API)
    if answer.status == 200:
        assert answer.json["data"] == {}
        assert answer.line.isprintable()
    else:
        assert (answer.status, answer.code) == (502, "upstream_protocol")
        assert name in ("bare LF", "folded", "same CL twice", "reason with control")


@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 2", OK, OK + b"X: a\r\n"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_connection_that_ends_before_the_head_does_is_a_bad_gateway(
    sidecar: Start, upstream: Upstream, client: Clients, *, head: bytes, path: str, end: Step
) -> None:
    """502, on a fresh connection asked once only."""
    upstream.default = [head, 0.01, end]
    one = await client(await sidecar(both(upstream)))
    assert (await one.get(path)).status == 502
    assert len(upstream.requests) == 1


# -- bodies that break off -------------------------------------------------------------------------

LENGTH = OK + TEXT + b"Content-Length: 100000\r\n\r\n"
CHUNKED = OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = OK + TEXT + b"\r\n"

BREAKS: dict[str, Sequence[Step]] = {
    "length, FIN": [LENGTH, b"x" * 50_000, "close"],
    "length, RST": [LENGTH, b"x" * 50_000, "reset"],
    "length, FIN at once": [LENGTH + b"x" * 50_000, "close"],
    "length, no body": [LENGTH, "close"],
    "length, one short": [LENGTH, b"x" * 99_999, "close"],
    "chunked, FIN within a chunk": [CHUNKED, b"8\r\nhello", "close"],
    "chunked, FIN between chunks": [CHUNKED, b"5\r\nhello\r\n", "close"],
    "chunked, FIN before last CRLF": [CHUNKED, b"5\r\nhello\r\n0\r\n", "close"],
    "chunked, RST": [CHUNKED, b"5\r\nhello\r\n", "reset"],
    "chunked, at once": [CHUNKED + b"5\r\nhello\r\n", "close"],
    "chunked, nothing": [CHUNKED, "close"],
    "bad chunk size": [CHUNKED, b"5\r\nhello\r\nxyz\r\n", 0.02, "close"],
    "negative chunk size": [CHUNKED, b"5\r\nhello\r\n-5\r\nhello\r\n0\r\n\r\n", 0.02, "close"],
    "chunk longer than its size": [CHUNKED, b"5\r\nhelloX\r\n0\r\n\r\n", 0.02, "close"],
    "chunk size overflow": [
        CHUNKED,
        b"5\r\nhello\r\n10000000000000005\r\nhello\r\n",
        0.05,
        "close",
    ],
    "until close, RST": [CLOSE, b"x" * 50_000, "reset"],
    "until close, RST at once": [CLOSE + b"hello", 0.01, "reset"],
}


@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize("gap", [0.0, 0.01])
@pytest.mark.parametrize("name", BREAKS)
async def test_body_that_breaks_off_never_looks_whole(
    sidecar: Start, upstream: Upstream, client: Clients, *, name: str, path: str, gap: float
) -> None:
    """A broken connection, or 502 where nothing had been sent yet (T55)."""
    upstream.answers([part for step in BREAKS[name] for part in (step, gap)])
    at = await sidecar(both(upstream))
    one = await client(at)
    one.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await one.answer_or_break()
    assert answer is None or answer.status == 502, answer
    assert (await (await client(at)).get(path)).status == 200


@pytest.mark.parametrize(("end", "broken"), [("close", False), ("reset", True)], ids=["FIN", "RST"])
@pytest.mark.parametrize("path", [API, PAGE])
async def test_close_delimited_body_is_whole_with_fin_only(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, end: Step, broken: bool
) -> None:
    upstream.answers([CLOSE + b"hello", 0.03, b" world", 0.03, end])
    one = await client(await sidecar(both(upstream)))
    one.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await one.answer_or_break()
    assert (answer is None) is broken
    if answer is not None:
        assert answer.body == b"hello world"
        assert (await one.get(path)).status == 200


@pytest.mark.parametrize("head", [JSON + b"Content-Length: 100\r\n\r\n", JSON + b"\r\n"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_truncated_json_is_never_a_success(
    sidecar: Start, upstream: Upstream, client: Clients, head: bytes, end: Step
) -> None:
    """T48: 502 while it is held in memory."""
    upstream.answers([OK + head + b'{"a":1', 0.02, end])
    answer = await (await client(await sidecar(both(upstream)))).get(API)
    assert (answer.status, answer.code, answer.json["isError"]) == (502, "upstream_protocol", True)


async def test_truncated_error_body_is_an_error_all_the_same(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The status is known; the client gets a whole answer that is no success."""
    upstream.answers([b"HTTP/1.1 500 X\r\n" + LENGTH[len(OK) :] + b"x" * 100, 0.02, "close"])
    answer = await (await client(await sidecar(both(upstream)))).get(API)
    assert answer.status in (500, 502)
    assert answer.json["isError"] is True


# -- more than was asked for -----------------------------------------------------------------------

EVIL = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n" + b'"evil"'
STRAYS = {"a second answer": EVIL, "bytes": b"evil", "half a head": b"HTTP/1.1 200 OK\r\nX: evil"}


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("gap", [0.0, 0.03])
@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize(
    "ends", [b"Content-Length: 3\r\n\r\n" + b'"a"', None], ids=["length", "chunked"]
)
async def test_bytes_behind_an_answer_reach_nobody(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    stray: str,
    gap: float,
    path: str,
    ends: bytes | None,
) -> None:
    """In the same segment or on the idle connection: the next request uses another (T20)."""
    body = ends or b'Transfer-Encoding: chunked\r\n\r\n3\r\n"a"\r\n0\r\n\r\n'
    first = OK + JSON + body
    upstream.answers([first + STRAYS[stray]] if gap == 0.0 else [first, gap, STRAYS[stray]])
    at = await sidecar(both(upstream))
    one, other = await client(at), await client(at)
    assert b"evil" not in (await one.get(path)).body
    await asyncio.sleep(0.05)
    for second in (other, one):
        answer = await second.get(path)
        assert answer.status == 200
        assert b"evil" not in answer.body
        assert b'{"a":1}' in answer.body
    assert upstream.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_body_of_an_answer_that_has_none_reaches_nobody(
    sidecar: Start, upstream: Upstream, client: Clients, head: bytes
) -> None:
    upstream.answers([head, 0.02, b"hello"])
    at = await sidecar(both(upstream))
    one = await client(at)
    answer = await one.get(PAGE)
    assert answer.status in (204, 304)
    await asyncio.sleep(0.05)
    assert (await one.get(PAGE)).body == b'{"a":1}'


EXCESS = {
    "HEAD": ("HEAD", OK + JSON + b"Content-Length: 5\r\n\r\n", b"hello"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"hello"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", b"hello"),
    "length": ("GET", OK + JSON + b"Content-Length: 3\r\n\r\n" + b'"a"', b"evil"),
    "chunked": (
        "GET",
        OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n3\r\n\x22a\x22\r\n0\r\n\r\n",
        b"evil",
    ),
    "204 bare LF": ("GET", b"HTTP/1.1 204 No Content\nContent-Length: 5\n\n", b"hello"),
    "length bare LF": (
        "GET",
        b"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 3\n\n" + b'"a"',
        b"evil",
    ),
    "length behind an interim one": (
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + JSON
        + b'Content-Length: 3\r\n\r\n"a"',
        b"evil",
    ),
    "chunked with trailers": (
        "GET",
        OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n3\r\n\x22a\x22\r\n00\r\nA: b\r\n\r\n",
        b"evil",
    ),
    "chunked in many pieces": (
        "GET",
        OK
        + JSON
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"1\r\n \r\n" * 4096
        + b"3\r\n\x22a\x22\r\n0\r\n\r\n",
        b"evil",
    ),
    "length, before a response that breaks": (
        "GET",
        OK + JSON + b'Content-Length: 3\r\n\r\n"a"',
        OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + b"4\r\nevil\r\n" * 60 + b"zz\r\n",
    ),
}


@pytest.mark.parametrize("gap", [0.0, 0.05])
@pytest.mark.parametrize("kind", EXCESS)
async def test_bytes_behind_an_answer_do_not_spoil_it(
    sidecar: Start, upstream: Upstream, client: Clients, *, kind: str, gap: float
) -> None:
    """It is whole without them, wherever a segment ends (RFC 9112 6.3)."""
    method, whole, excess = EXCESS[kind]
    upstream.answers([whole + excess] if gap == 0.0 else [whole, gap, excess])
    one = await client(await sidecar(both(upstream)))
    answer = await one.ask(method, PAGE)
    assert str(answer.status) == (kind[:3] if kind[:3].isdigit() else "200")
    assert answer.body.lstrip() == (b'"a"' if kind.startswith(("length", "chunked")) else b"")
    await asyncio.sleep(2 * gap)
    assert (await one.get(PAGE)).body == b'{"a":1}'
    assert upstream.connections == 2


async def test_status_below_100_is_no_interim_one(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """RFC 9110 15: nothing follows it, so nobody waits for that."""
    upstream.answers([b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"])
    answer = await (await client(await sidecar(both(upstream)))).get(API)
    assert (answer.status, answer.code) == (502, "upstream_protocol")


async def test_body_of_an_answer_to_head_reaches_nobody(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.answers([upstream.reply(b"hello")])
    one = await client(await sidecar(both(upstream)))
    assert (await one.ask("HEAD", PAGE)).status in (200, 502)
    await asyncio.sleep(0.03)
    assert (await one.get(PAGE)).body == b'{"a":1}'
    assert upstream.connections == 2


@pytest.mark.parametrize("path", [API, PAGE])
async def test_flood_of_interim_answers_is_cut(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """Bounded in number: 502, and the connection goes."""
    upstream.answers([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2000, "hang"])
    one = await client(await sidecar(both(upstream)))
    answer = await one.get(path)
    assert answer.status == 502
    assert b"upstream_protocol" in answer.body
    assert (await one.get(path)).status == 200


async def test_interim_answers_are_bounded_in_bytes(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Together, as one head is: what is read again once the final one is malformed stays short."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </" + b"a" * 40_000 + b">\r\n\r\n"
    final = OK + JSON + b"Content-Length: 2\r\n\r\n{}"
    one = await client(await sidecar(both(upstream)))
    upstream.answers([interim, 0.02, interim, 0.02, final], [interim * 20, 0.02, final])
    few, many = await one.get(PAGE), await one.get(PAGE)
    assert (few.status, few.interim, many.status) == (200, (103, 103), 502)
    assert b"upstream_protocol" in many.body
    assert (await one.get(PAGE)).status == 200


async def test_trailer_of_an_answer_reaches_nobody(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Neither this client nor the next one on the connection."""
    upstream.answers(
        OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
        b"Set-Cookie: evil=1\r\nX-Evil: 1\r\n\r\n"
    )
    at = await sidecar(both(upstream))
    one, other = await client(at), await client(at)
    answers = [await one.get(PAGE), await other.get(PAGE), await one.get(API)]
    assert [answer.status for answer in answers] == [200] * 3
    assert not any({"set-cookie", "x-evil"} & set(answer.names) for answer in answers)
