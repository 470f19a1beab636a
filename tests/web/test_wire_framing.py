"""Where one request ends and the next begins: T9 to T18, each in one segment and in many."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Received, Start, Upstream

HOST = "Host: app.example.com\r\n"
POST = f"POST /a HTTP/1.1\r\n{HOST}"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n"
FIVE = "5\r\nhello\r\n0\r\n\r\n"

DELIVERIES = [1 << 20, 1]  # bytes a segment


def echo(request: Received) -> bytes:
    """An answer that says what was asked, as an envelope already."""
    asked = {"line": request.line, "body": request.body.decode("latin-1")}
    told = {"isError": False, "message": None, "data": asked, "status": 200, "errorData": None}
    body = json.dumps(told).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


# -- what is refused -------------------------------------------------------------------------------

HEADS = {
    # both framings in either order, T9
    "CL and TE": f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{FIVE}",
    "TE and CL": f"{CHUNKED}Content-Length: 5\r\n\r\n{FIVE}",
    "TE and CL 0": f"{CHUNKED}Content-Length: 0\r\n\r\n{FIVE}",
    # obfuscated Transfer-Encoding, T10
    "TE space before colon": f"{POST}Transfer-Encoding : chunked\r\n\r\n{FIVE}",
    "TE xchunked": f"{POST}Transfer-Encoding: xchunked\r\n\r\n{FIVE}",
    "TE chunkedx": f"{POST}Transfer-Encoding: chunkedx\r\n\r\n{FIVE}",
    "TE identity": f"{POST}Transfer-Encoding: identity\r\n\r\n{FIVE}",
    "TE gzip": f"{POST}Transfer-Encoding: gzip\r\n\r\n{FIVE}",
    "TE chunked, identity": f"{POST}Transfer-Encoding: chunked, identity\r\n\r\n{FIVE}",
    "TE chunked, chunked": f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n{FIVE}",
    "TE twice": f"{CHUNKED}Transfer-Encoding: chunked\r\n\r\n{FIVE}",
    "TE twice, one other": f"{CHUNKED}Transfer-Encoding: identity\r\n\r\n{FIVE}",
    "TE quoted": f'{POST}Transfer-Encoding: "chunked"\r\n\r\n{FIVE}',
    "TE vertical tab": f"{POST}Transfer-Encoding: \x0bchunked\r\n\r\n{FIVE}",
    "TE NUL": f"{POST}Transfer-Encoding: chunked\0\r\n\r\n{FIVE}",
    "TE folded": f"{POST}Transfer-Encoding:\r\n chunked\r\n\r\n{FIVE}",
    "TE bare LF": f"{POST}X: y\nTransfer-Encoding: chunked\r\n\r\n{FIVE}",
    "TE bare CR": f"{POST}X: y\rTransfer-Encoding: chunked\r\n\r\n{FIVE}",
    "TE empty": f"{POST}Transfer-Encoding:\r\n\r\n{FIVE}",
    "TE of HTTP/1.0": f"POST /a HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{FIVE}",
    # a Content-Length, T11
    "CL +": f"{POST}Content-Length: +5\r\n\r\nhello",
    "CL -": f"{POST}Content-Length: -5\r\n\r\nhello",
    "CL hex": f"{POST}Content-Length: 0x5\r\n\r\nhello",
    "CL spaced": f"{POST}Content-Length: 5 5\r\n\r\nhello",
    "CL list": f"{POST}Content-Length: 5, 5\r\n\r\nhello",
    "CL list, two": f"{POST}Content-Length: 5, 6\r\n\r\nhello",
    "CL empty": f"{POST}Content-Length:\r\n\r\nhello",
    "CL superscript": f"{POST}Content-Length: \xb2\r\n\r\nhello",
    "CL underscore": f"{POST}Content-Length: 1_0\r\n\r\nhellohello",
    "CL fraction": f"{POST}Content-Length: 5.0\r\n\r\nhello",
    "CL overflow": f"{POST}Content-Length: 18446744073709551621\r\n\r\nhello",
    "CL two lines": f"{POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "CL same twice": f"{POST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL space before colon": f"{POST}Content-Length : 5\r\n\r\nhello",
    # line endings, T14
    "bare LF": "GET /a HTTP/1.1\nHost: a\n\n",
    "bare LF at the end": f"GET /a HTTP/1.1\r\n{HOST}\n",
    "bare CR in a value": f"GET /a HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n",
    "NUL in a value": f"GET /a HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n",
    "NUL in a name": f"GET /a HTTP/1.1\r\n{HOST}X\0: a\r\n\r\n",
    "control in a value": f"GET /a HTTP/1.1\r\n{HOST}X: a\x01b\r\n\r\n",
    "folded": f"GET /a HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n",
    "folded first": f"GET /a HTTP/1.1\r\n X: a\r\n{HOST}\r\n",
    "no colon": f"GET /a HTTP/1.1\r\n{HOST}Xab\r\n\r\n",
    "no name": f"GET /a HTTP/1.1\r\n{HOST}: a\r\n\r\n",
    "space in a name": f"GET /a HTTP/1.1\r\n{HOST}X Y: a\r\n\r\n",
    "parenthesis in a name": f"GET /a HTTP/1.1\r\n{HOST}X(): a\r\n\r\n",
    "latin-1 in a name": f"GET /a HTTP/1.1\r\n{HOST}X\xe4: a\r\n\r\n",
    # request line and target, T15
    "tab": f"GET\t/a HTTP/1.1\r\n{HOST}\r\n",
    "space in target": f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
    "space behind version": f"GET /a HTTP/1.1 \r\n{HOST}\r\n",
    "method is no token": f"G(T /a HTTP/1.1\r\n{HOST}\r\n",
    "HTTP/0.9": "GET /a\r\n\r\n",
    "HTTP/1.23": f"GET /a HTTP/1.23\r\n{HOST}\r\n",
    "HTTP/1.2 of a field": f"GET /a HTTP/1.1\r\nGET /b HTTP/1.2\r\n{HOST}\r\n",
    "HTTP/1.2 beside no method": f" /b HTTP/1.2\r\n{HOST}\r\n",
    "HTTP/2.0": f"GET /a HTTP/2.0\r\n{HOST}\r\n",
    "HTTP/11": f"GET /a HTTP/11\r\n{HOST}\r\n",
    "http/1.1": f"GET /a http/1.1\r\n{HOST}\r\n",
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\r\n\r\n",
    "absolute-form of another port": f"GET http://app.example.com:81/a HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form of another scheme": f"GET ftp://app.example.com/a HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form with a user": f"GET http://u@app.example.com/a HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form with dots": f"GET http://app.example.com/../a HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form without Host": "GET http://app.example.com/a HTTP/1.0\r\n\r\n",
    "absolute-form of no authority": f"GET http:///a HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form with a backslash": f"GET http://app.example.com\\@evil/ HTTP/1.1\r\n{HOST}\r\n",
    "absolute-form of another": f"GET https://evil.example/a HTTP/1.1\r\n{HOST}\r\n",
    "authority-form": f"GET evil.example:443 HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT": f"CONNECT evil.example:443 HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT of a path": f"CONNECT /a HTTP/1.1\r\n{HOST}\r\n",
    "TRACE": f"TRACE /a HTTP/1.1\r\n{HOST}\r\n",
    "asterisk": f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n",
    "fragment": f"GET /a#b HTTP/1.1\r\n{HOST}\r\n",
    "fragment in the query": f"GET /a?b#c HTTP/1.1\r\n{HOST}\r\n",
    "no slash": f"GET a HTTP/1.1\r\n{HOST}\r\n",
    "NUL in the target": f"GET /a\0 HTTP/1.1\r\n{HOST}\r\n",
    # the Host field, T16
    "no Host": "GET /a HTTP/1.1\r\n\r\n",
    "two Hosts": f"GET /a HTTP/1.1\r\n{HOST}Host: evil.example\r\n\r\n",
    "same Host twice": f"GET /a HTTP/1.1\r\n{HOST}{HOST}\r\n",
    "Host empty": "GET /a HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with path": "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with user": "GET /a HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "Host with space": "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host list": "GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host with port name": "GET /a HTTP/1.1\r\nHost: a:http\r\n\r\n",
    "Host with no port": "GET /a HTTP/1.1\r\nHost: a:99999\r\n\r\n",
    "absolute-form with no port": "GET http://a:99999/a HTTP/1.1\r\nHost: a:99999\r\n\r\n",
}


@pytest.mark.parametrize("size", DELIVERIES)
@pytest.mark.parametrize("name", HEADS)
async def test_ambiguous_request_is_refused_and_nothing_of_it_forwarded(
    sidecar: Start, upstream: Upstream, client: Clients, name: str, size: int
) -> None:
    """The connection ends with it where its framing is in doubt, and is never read on."""
    one = await client(await sidecar())
    async with one.sending(HEADS[name].encode("latin-1"), size):
        answer = await one.answer()
    assert answer.status in (400, 501, 505), answer
    assert answer.code == "bad_request"
    assert upstream.requests == []
    if name.startswith(("CL", "TE", "bare", "NUL", "HTTP")):
        assert answer.get("Connection") == "close"
        assert await one.ends() == b""


BODIES = {
    "size empty": "\r\nhello\r\n0\r\n\r\n",
    "size 0x": "0x5\r\nhello\r\n0\r\n\r\n",
    "size +": "+5\r\nhello\r\n0\r\n\r\n",
    "size -": "-5\r\nhello\r\n0\r\n\r\n",
    "size spaced": " 5\r\nhello\r\n0\r\n\r\n",
    "size no hex": "g\r\nhello\r\n0\r\n\r\n",
    "size overflow": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size bare LF": "5\nhello\r\n0\r\n\r\n",
    "size bare CR": "5\rhello\r\n0\r\n\r\n",
    "chunk longer": "5\r\nhelloX\r\n0\r\n\r\n",
    "chunk shorter": "5\r\nhell\r\n0\r\n\r\n",
    "chunk bare LF": "5\r\nhello\n0\r\n\r\n",
    "extension NUL": "5;a\0\r\nhello\r\n0\r\n\r\n",
    "extension bare LF": "5;a\nhello\r\n0\r\n\r\n",
    "last chunk bare LF": "5\r\nhello\r\n0\n\n",
    "trailer folded": "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailer no colon": "5\r\nhello\r\n0\r\nGET /b HTTP/1.1\r\n\r\n",
    "size of zeros": f"{'0' * 20_000}5\r\nhello\r\n0\r\n\r\n",
    "last size of zeros": f"5\r\nhello\r\n{'0' * 20_000}\r\n\r\n",
    "long extension": f"5;{'a' * 20_000}\r\nhello\r\n0\r\n\r\n",
    "long extensions": f"1;{'a' * 99}\r\nh\r\n" * 300 + "0\r\n\r\n",
    "trailer NUL": "5\r\nhello\r\n0\r\nX: a\0\r\n\r\n",
}


@pytest.mark.parametrize("size", DELIVERIES)
@pytest.mark.parametrize("name", BODIES)
async def test_malformed_chunk_never_makes_a_whole_request(
    sidecar: Start, upstream: Upstream, client: Clients, name: str, size: int
) -> None:
    """T13: 400, and the upstream sees a body that breaks off, or nothing."""
    one = await client(await sidecar())
    data = f"{CHUNKED}\r\n{BODIES[name]}".encode("latin-1")
    async with one.sending(data, size):
        answer = await one.answer()
    assert answer.status == 400
    assert answer.get("Connection") == "close"
    assert await one.ends() == b""
    assert upstream.requests == []


async def test_malformed_chunk_is_refused_wherever_a_segment_ends(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """At once, also behind a chunk whose end was still to come."""
    at = await sidecar()
    begun, malformed = f"{CHUNKED}\r\n5\r\nhello".encode(), b"\r\nzz\r\n"
    for cut in range(-4, len(malformed) - 2):
        data = begun + malformed
        one = await client(at)
        one.send(data[: len(begun) + cut])
        await asyncio.sleep(0.01)
        one.send(data[len(begun) + cut :])
        assert (await one.answer()).status == 400, cut
    assert upstream.requests == []


@pytest.mark.parametrize("size", DELIVERIES)
async def test_body_on_a_path_answered_here_is_never_a_request(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """CL.0 (T12): drained or closed, for logout, 404, 400 and 401."""
    smuggled = f"GET /smuggled HTTP/1.1\r\n{HOST}\r\n"
    framed = [
        f"Content-Length: {len(smuggled)}\r\n\r\n{smuggled}",
        f"Transfer-Encoding: chunked\r\n\r\n{len(smuggled):x}\r\n{smuggled}\r\n0\r\n\r\n",
    ]
    route = {"path": "/api", "kind": "api", "upstream": "main"}
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=[route])
    for path in ("/api/logout", "/nowhere", "/api/../x", "/api/a"):
        for rest in framed:
            one = await client(at)
            text = f"POST {path} HTTP/1.1\r\n{HOST}{rest}GET /api/b HTTP/1.1\r\n{HOST}"
            data = f"{text}Connection: close\r\n\r\n".encode()
            async with one.sending(data, size):
                assert (await one.answer()).status in (200, 303, 400, 404)
                second = await one.ends()
            assert second == b"" or second.startswith(b"HTTP/1.1 303 ")  # that of /api/b
            assert b"smuggled" not in second
            assert second.count(b"HTTP/1.1") <= 1
    assert upstream.requests == []


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "TLS/1.0", "foo/2", "websocket"])
async def test_upgrade_that_is_no_handshake_is_not_forwarded(
    sidecar: Start, upstream: Upstream, client: Clients, upgrade: str
) -> None:
    """T18; a websocket that Connection does not name, or a POST, is none either."""
    upstream.default = echo
    at = await sidecar()
    fields = [f"Upgrade: {upgrade}"]
    fields += ["Connection: Upgrade, HTTP2-Settings"] if upgrade != "websocket" else []
    one = await client(at)
    answer = await one.get("/a", *fields, "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    assert answer.status in (200, 400)
    assert not any({"upgrade", "http2-settings"} & set(one.names) for one in upstream.requests)


# -- trailers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trailer", ["Authorization: Bearer evil", "Cookie: access_token=evil"])
@pytest.mark.parametrize("waits", [False, True])
async def test_trailer_never_becomes_a_field_of_the_next_request(
    sidecar: Start, upstream: Upstream, client: Clients, trailer: str, waits: bool
) -> None:
    """At every split of the bytes, the next request pipelined or sent behind the answer.

    (aiohttp's C parser carries the last trailer over.) The next request is served as it is, or
    the connection ends with the first answer.
    """
    upstream.default = echo
    route = {"path": "/", "kind": "page", "upstream": "main"}
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=[route])
    trailers = f"{trailer}\r\nX-Evil: evil\r\n"
    first = f"{CHUNKED}Trailer: X\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n".encode()
    second = f"GET /b HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()
    data = first if waits else first + second
    head = first.index(b"\r\n\r\n")
    for split in range(head, len(data)):
        one = await client(at)
        one.send(data[:split])
        await asyncio.sleep(0.001)
        one.send(data[split:])
        answer = await one.answer()
        assert answer.status == 200, split
        assert answer.json["data"] == {"line": "POST /a HTTP/1.1", "body": "hello"}
        if waits and answer.get("Connection") != "close":
            one.send(second)
        rest = await one.rest()
        assert rest == b"" if answer.get("Connection") == "close" else b"GET /b" in rest
        await one.gone()
    assert upstream.requests
    assert not any(b"evil" in request.raw + request.body for request in upstream.requests)


@pytest.mark.parametrize("tail", ["0\r\n\r\n", "0\r\nX-T: v\r\n\r\n", "000;ext=1\r\n\r\n"])
async def test_end_of_a_chunked_body_is_found_at_every_split(
    sidecar: Start, upstream: Upstream, client: Clients, tail: str
) -> None:
    """Three segments, any two cuts near the end: the body is whole, the answer comes."""
    upstream.default = echo
    at = await sidecar()
    data = f"{CHUNKED}Connection: close\r\n\r\n5;a=b\r\nhello\r\n{tail}".encode()
    start = len(data) - len(tail) - 3
    for i in range(start, len(data)):
        for j in range(i, len(data), 3):
            one = await client(at)
            for part in (data[:i], data[i:j], data[j:]):
                one.send(part)
                await asyncio.sleep(0.0007)
            answer = await one.answer()
            assert answer.status == 200, (i, j)
            assert answer.json["data"]["body"] == "hello"
            await one.gone()


# -- pipelining ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 50])
@pytest.mark.parametrize("size", [1 << 20, 100])
async def test_pipelined_requests_are_answered_in_order(
    sidecar: Start, upstream: Upstream, client: Clients, count: int, size: int
) -> None:
    """Each with its own body, answered by one upstream connection at a time."""
    upstream.default = echo
    one = await client(await sidecar())
    bodies = [f"body {number}" * (number % 3) for number in range(count)]
    data = "".join(
        f"POST /{number} HTTP/1.1\r\n{HOST}Content-Length: {len(body)}\r\n\r\n{body}"
        for number, body in enumerate(bodies)
    )
    async with one.sending(data.encode(), size):
        for number, body in enumerate(bodies):
            answer = await one.answer()
            assert answer.json["data"] == {"line": f"POST /{number} HTTP/1.1", "body": body}
    assert len(upstream.requests) == count


async def test_slow_first_answer_holds_the_pipelined_ones_back(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.answers([0.1, echo_of("/1")], [echo_of("/2")], [0.05, echo_of("/3")])
    one = await client(await sidecar())
    for path in ("/1", "/2", "/3"):
        one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
    got = [(await one.answer()).json["data"] for _ in range(3)]
    assert got == ["/1", "/2", "/3"]


def echo_of(text: str) -> bytes:
    body = json.dumps(text).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@pytest.mark.parametrize("size", [1 << 20, 7, 1])
async def test_chunked_request_then_a_pipelined_one(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """The second is served, or the first answer says that the connection closes; never half."""
    upstream.default = echo
    at = await sidecar()
    one = await client(at)
    data = f"{CHUNKED}\r\n{FIVE}GET /b HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()
    async with one.sending(data, size):
        answer = await one.answer()
        assert answer.json["data"] == {"line": "POST /a HTTP/1.1", "body": "hello"}
        if answer.get("Connection") == "close":
            assert await one.rest() == b""
        else:
            assert (await one.answer()).json["data"]["line"] == "GET /b HTTP/1.1"


async def test_connection_goes_on_behind_a_chunked_request(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Where the body's end is the last byte sent, as clients do that wait for their answer."""
    upstream.default = echo
    one = await client(await sidecar())
    for number in range(3):
        one.send(f"POST /{number} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{FIVE}")
        answer = await one.answer()
        assert answer.json["data"] == {"line": f"POST /{number} HTTP/1.1", "body": "hello"}
        assert (await one.get("/between")).status == 200


async def test_byte_by_byte_is_as_good_as_at_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = echo
    one = await client(await sidecar())
    for _ in range(2):
        await one.trickle(f"GET /a HTTP/1.1\r\n{HOST}Cookie: access_token=tok\r\n\r\n".encode())
        assert (await one.answer()).status == 200
        await one.trickle(f"{POST}Content-Length: 5\r\n\r\nhello".encode())
        assert (await one.answer()).json["data"]["body"] == "hello"
        await one.trickle(f"{CHUNKED}\r\n{FIVE}".encode())
        assert (await one.answer()).json["data"]["body"] == "hello"
    sent = [request.get("Authorization") for request in upstream.requests]
    assert sent == ["Bearer tok", None, None] * 2


@pytest.mark.parametrize("size", DELIVERIES)
async def test_empty_lines_before_a_request_are_ignored(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """RFC 9112 2.2."""
    one = await client(await sidecar())
    await one.trickle(f"\r\n\r\nGET /a HTTP/1.1\r\n{HOST}\r\n".encode(), size)
    assert (await one.answer()).status == 200


# -- request bodies --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 1000, 65535, 65536, 65537, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_arrives_whole_with_the_clients_framing(
    sidecar: Start, upstream: Upstream, client: Clients, length: int, chunked: bool
) -> None:
    body = bytes(number % 251 for number in range(length))
    one = await client(await sidecar())
    if chunked:
        chunks = [body[at : at + 7001] for at in range(0, length, 7001)] + [b""]
        data = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        one.send(f"{CHUNKED}\r\n".encode() + data)
    else:
        one.send(f"{POST}Content-Length: {length}\r\n\r\n".encode() + body)
    assert (await one.answer()).status == 200
    assert upstream.last.body == body
    assert (await one.get("/next")).status == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
async def test_body_of_any_method_arrives(
    sidecar: Start, upstream: Upstream, client: Clients, method: str
) -> None:
    one = await client(await sidecar())
    assert (await one.ask(method, "/a", body=b"hello")).status == 200
    assert upstream.last.body == b"hello"
    assert (await one.get("/b")).status == 200


# -- Expect ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_client_that_waits_for_continue_gets_it(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str
) -> None:
    """From the sidecar; the upstream is not asked to do the same (T58)."""
    one = await client(await sidecar())
    one.send(f"{POST}{framing}\r\nExpect: 100-Continue\r\n\r\n")
    async with asyncio.timeout(2):
        line, fields, _ = await one.read_head()
    assert (line, fields) == (b"HTTP/1.1 100 Continue", ())
    one.send("hello" if framing.endswith("5") else FIVE)
    answer = await one.answer()
    assert (answer.status, answer.interim) == (200, ())
    assert upstream.last.body == b"hello"
    assert "expect" not in upstream.last.names


@pytest.mark.parametrize(
    ("lines", "body"),
    [("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"), ("Expect: 100-continue\r\n", "")],
)
async def test_continue_is_not_sent_to_a_client_that_did_not_wait(
    sidecar: Start, upstream: Upstream, client: Clients, lines: str, body: str
) -> None:
    """Or that has no body; either way the answer comes."""
    one = await client(await sidecar())
    one.send(f"POST /a HTTP/1.1\r\n{HOST}{lines}\r\n{body}")
    assert (await one.answer()).status == 200
    assert upstream.last.body.decode() == body


async def test_client_of_http_1_0_gets_no_interim_answer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """RFC 9110 15.2."""
    one = await client(await sidecar())
    one.send("POST /a HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert await one.is_silent()
    one.send("hello")
    assert (await one.answer()).interim == ()


async def test_refused_request_gets_its_answer_instead_of_continue(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """So a client that waits need not send the body at all."""
    route = {"path": "/", "kind": "api", "upstream": "main"}
    login = {"path": "/login", "kind": "page", "upstream": "main"}
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=[route, login])
    one = await client(at)
    one.send(f"{POST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    answer = await one.answer()
    assert (answer.status, answer.interim) == (303, ())
    assert answer.get("Connection") == "close"
    assert upstream.requests == []


async def test_expectation_that_nobody_knows_fails(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    one = await client(await sidecar())
    one.send(f"{POST}Content-Length: 5\r\nExpect: 200-ok\r\n\r\n")
    answer = await one.answer()
    assert answer.status == 417
    assert upstream.requests == []


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n"]
)
@pytest.mark.parametrize("gap", [0.0, 0.02])
async def test_interim_answer_of_the_upstream_is_no_answer(
    sidecar: Start, upstream: Upstream, client: Clients, interim: bytes, gap: float
) -> None:
    """In one segment with the final one or before it; the connection stays good."""
    upstream.default = [interim, gap, interim + upstream.reply(b'{"a":1}')]
    one = await client(await sidecar())
    for _ in range(2):
        assert (await one.get("/a")).json["data"] == {"a": 1}
    assert upstream.connections == 1


@pytest.mark.parametrize("path", ["/a", "/page"])
@pytest.mark.parametrize(
    "end",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: 0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("gap", [0.0, 0.02])
async def test_content_of_a_205_does_not_pass(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, end: bytes, gap: float
) -> None:
    """RFC 9110 15.3.6: there is none, so some clients would take it for their next answer."""
    page = {"path": "/page", "kind": "page", "upstream": "main"}
    routes = [{"path": "/", "kind": "api", "upstream": "main", "session": "optional"}, page]
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=routes)
    one = await client(at)
    upstream.answers([b"HTTP/1.1 205 Reset Content\r\n" + end[:-2], gap, end[-2:]])
    answer = await one.get(path)
    assert (answer.status, answer.body, answer.get("Content-Length")) == (205, b"", "0")
    assert (await one.get("/b")).status == 200
    assert (await one.ask("HEAD", path)).status == 200


# -- versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 11, 1000])
async def test_minor_version_that_is_not_known_is_served_as_http_1_1(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """RFC 9110 2.5; and the connection goes on, with the fields of each request for itself."""
    one = await client(await sidecar())
    for version in ("1.2", "1.9", "1.1"):
        sent = (
            f"POST /{version} HTTP/{version}\r\n{HOST}X-V: {version}\r\nContent-Length: 2\r\n\r\nhi"
        )
        async with one.sending(sent.encode(), size):
            answer = await one.answer()
        assert (answer.status, answer.get("Connection")) == (200, None)
        assert upstream.last.line == f"POST /{version} HTTP/1.1"
        assert (upstream.last.get("X-V"), upstream.last.body) == (version, b"hi")


@pytest.mark.parametrize(
    ("target", "host_and_path"),
    [
        ("http://app.example.com/a?b=c", "app.example.com /a?b=c"),
        ("HTTP://App.Example.COM:80/a", "app.example.com /a"),
        ("https://app.example.com:443/a%2Fb", "app.example.com /a%2Fb"),
        ("http://app.example.com:8080/a", "app.example.com:8080 /a"),
        ("http://app.example.com", "app.example.com /"),
        ("http://app.example.com?b", "app.example.com /?b"),
        ("http://[::1]:8080/a", "[::1]:8080 /a"),
        ("http://app.example.com//evil.example/a", "app.example.com //evil.example/a"),
    ],
)
async def test_target_in_absolute_form_is_the_hosts_path(
    sidecar: Start, upstream: Upstream, client: Clients, target: str, host_and_path: str
) -> None:
    """RFC 9112 3.2.2: every server takes it; here as long as it means the same as Host."""
    host, received = host_and_path.split(" ")
    one = await client(await sidecar())
    for _ in range(3):
        assert (await one.get(target, f"Host: {host}")).status == 200
        assert upstream.last.target == received


async def test_upgrade_of_http_1_0_is_ignored(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """RFC 9110 7.8: an ordinary request; also behind one of HTTP/1.1 with the same fields."""
    lines = f"{HOST}Upgrade: websocket\r\nConnection: Upgrade, keep-alive\r\n"
    lines += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    at = await sidecar()
    for first in ("", f"GET /a HTTP/1.1\r\n{HOST}\r\n"):
        one = await client(at)
        one.send(first)
        if first:
            await one.answer()
        one.send(f"GET /ws HTTP/1.0\r\n{lines}")
        answer = await one.answer()
        assert (answer.status, answer.get("Connection")) == (200, "close")
        assert not {"upgrade", "connection"} & set(upstream.last.names)
        assert upstream.last.line == "GET /ws HTTP/1.1"


async def test_client_of_http_1_0_is_answered_and_closed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    one = await client(await sidecar())
    one.send("GET /a HTTP/1.0\r\n\r\n")
    answer = await one.answer()
    assert (answer.status, answer.get("Connection")) == (200, "close")
    assert answer.json["data"] == {"a": 1}
    assert upstream.last.line == "GET /a HTTP/1.1"
    assert await one.rest() == b""


async def test_client_of_http_1_0_gets_no_chunks(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A body of unknown length ends with the connection."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.default = [head + b"5\r\nhello\r\n", 0.02, b"6\r\n world\r\n0\r\n\r\n"]
    one = await client(await sidecar())
    one.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await one.answer()
    assert answer.get("Transfer-Encoding") is None
    assert answer.body == b"hello world"


async def test_close_delimited_answer_that_breaks_off_is_broken_for_http_1_0_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """RST: a FIN would say that this is all."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.default = [head + b"5\r\nhello\r\n", 0.02, "close"]
    one = await client(await sidecar())
    one.send("GET /a HTTP/1.0\r\n\r\n")
    await one.broken()


@pytest.mark.parametrize("line", ["Connection: close", "Connection: foo, Close"])
async def test_client_that_asks_for_close_is_closed(
    sidecar: Start, upstream: Upstream, client: Clients, line: str
) -> None:
    one = await client(await sidecar())
    answer = await one.get("/a", line)
    assert answer.get("Connection") == "close"
    assert await one.rest() == b""


async def test_half_closed_client_still_gets_its_answer_or_an_end(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A client that sends FIN behind its request is not left waiting."""
    upstream.default = [0.05, upstream.reply(b'{"a":1}')]
    one = await client(await sidecar())
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    one.writer.write_eof()
    got = await one.rest()
    assert got == b"" or got.endswith(b"null}")
