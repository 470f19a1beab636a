"""Waiting for the upstream: bounded, ended by a client that leaves, and never full of memory."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Running, Script, Start, Step, Upstream, Wire

HOST = "Host: app.example.com\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"Content-Type: text/plain\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API at the root and pages beside it, with an upstream of these settings."""
    return {
        "upstreams": {"main": {"url": upstream.url, **more}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
    }


async def all_left(upstream: Upstream, seconds: float = 2.0) -> None:
    """Every connection to the upstream has been left, in time."""
    async with asyncio.timeout(seconds):
        for wire in upstream.wires:
            await wire.ended.wait()


# -- time limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/a", "/page"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: "])
async def test_head_that_does_not_come_is_a_timeout(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, method: str, said: bytes
) -> None:
    """504, once, and the upstream is left."""
    upstream.default = [said, "hang"]
    one = await client(await sidecar(config(upstream, head="200ms")))
    began = time.monotonic()
    answer = await one.ask(method, path, body=b"x" if method == "POST" else b"")
    assert answer.status == 504
    assert b"upstream_timeout" in answer.body
    assert 0.15 < time.monotonic() - began < 1.5
    await all_left(upstream)
    assert len(upstream.requests) == 1


async def test_interim_answers_do_not_put_the_limit_off(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The limit is for the final head."""
    upstream.default = [b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.1] * 20
    one = await client(await sidecar(config(upstream, head="300ms")))
    began = time.monotonic()
    assert (await one.get("/a")).status == 504
    assert time.monotonic() - began < 1.5


async def test_head_may_take_its_time_from_the_last_byte_of_the_request(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A slow upload is not held against the upstream (behaviour: forwarding)."""
    upstream.default = [0.15, upstream.reply(b"{}")]
    one = await client(await sidecar(config(upstream, head="250ms")))
    one.send(f"POST /a HTTP/1.1\r\n{HOST}Content-Length: 6\r\n\r\n")
    for _ in range(6):
        await asyncio.sleep(0.07)
        one.send(b"x")
    assert (await one.answer()).status == 200


async def test_upload_with_a_pause_is_not_held_against_the_upstream(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nor is a pause longer than `head`: the request's last byte is not sent yet."""
    one = await client(await sidecar(config(upstream, head="150ms")))
    one.send(f"POST /a HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nx")
    await asyncio.sleep(0.4)
    one.send(b"y")
    assert (await one.answer()).status == 200


async def test_upstream_that_takes_no_body_is_a_timeout(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """An upstream that stops reading in the middle cannot hold a request for ever."""

    async def serve(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.8)

    upstream.serve = serve
    one = await client(await sidecar(config(upstream, head="200ms", idle="300ms")))
    head = f"POST /a HTTP/1.1\r\n{HOST}Content-Length: {64 << 20}\r\n\r\n".encode()
    async with one.sending(head + b"x" * (64 << 20), 1 << 18):
        answer = await one.answer_or_break()
    assert answer is None or answer.status == 504


@pytest.mark.parametrize(
    ("path", "head", "piece"),
    [
        ("/page", TEXT + b"Content-Length: 100\r\n\r\n", b"hello"),
        ("/page", TEXT + CHUNKED, b"5\r\nhello\r\n"),
        ("/a", TEXT + CHUNKED, b"5\r\nhello\r\n"),
        ("/a", JSON + CHUNKED, b"5\r\n[1234\r\n"),
        ("/a", JSON + b"Content-Length: 100\r\n\r\n", b"[1234"),
    ],
)
async def test_body_that_stalls_is_a_timeout_or_a_break(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, head: bytes, piece: bytes
) -> None:
    """504 where nothing has been sent yet, else the connection breaks; the upstream is left."""
    upstream.default = [OK + head + piece, "hang"]
    one = await client(await sidecar(config(upstream, idle="200ms")))
    one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
    began = time.monotonic()
    answer = await one.answer_or_break()
    if head.startswith(JSON):
        assert answer is not None
        assert (answer.status, answer.code) == (504, "upstream_timeout")
    else:
        assert answer is None
    assert 0.15 < time.monotonic() - began < 1.5
    await all_left(upstream)


@pytest.mark.parametrize("path", ["/page", "/a"])
async def test_body_that_keeps_coming_slowly_is_no_stall(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    pieces: list[Step] = [0.1, b"1\r\n \r\n"]
    upstream.default = [OK + JSON + CHUNKED, *pieces * 5, b"2\r\n{}\r\n0\r\n\r\n"]
    one = await client(await sidecar(config(upstream, idle="250ms")))
    assert (await one.get(path)).status == 200


async def test_slow_reader_is_not_held_against_the_upstream(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """`idle` is about an upstream that sends nothing, not one that may not."""
    body = b"x" * (16 << 20)
    upstream.default = upstream.reply(body, type="text/plain")
    one = await client(await sidecar(config(upstream, idle="150ms")), window=1 << 16)
    one.send(f"GET /page HTTP/1.1\r\n{HOST}\r\n")
    _, fields, _ = await one.read_head()
    assert ("Content-Length", str(len(body))) in fields
    await asyncio.sleep(0.4)
    async with asyncio.timeout(10):
        assert await one.reader.readexactly(len(body)) == body


# -- a client that leaves --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("path", ["/a", "/page"])
@pytest.mark.parametrize("state", ["head", "relayed body", "wrapped body", "upload"])
async def test_client_that_leaves_ends_the_upstream_call(
    sidecar: Start, upstream: Upstream, client: Clients, *, state: str, path: str, how: str
) -> None:
    """Within 2 s (T57), and the upstream never takes the half request for a whole one."""
    scripts: dict[str, Script] = {
        "head": ["hang"],
        "upload": ["hang"],
        "relayed body": [OK + TEXT + CHUNKED + b"5\r\nhello\r\n", "hang"],
        "wrapped body": [OK + JSON + CHUNKED + b"5\r\n[1234\r\n", "hang"],
    }
    upstream.default = scripts[state]
    at = await sidecar(config(upstream))
    one = await client(at)
    if state == "upload":
        piece = "10000\r\n" + "x" * 65536 + "\r\n"
        one.send(f"POST {path} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{piece}")
    else:
        one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda found: bool(upstream.wires))
    await asyncio.sleep(0.05)
    one.close() if how == "FIN" else one.reset()
    await all_left(upstream)
    assert await at.under_way() == {}
    assert len(upstream.requests) == (0 if state == "upload" else 1)


async def test_client_that_leaves_while_its_answer_waits_is_noticed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Even with the buffers full and reading paused."""
    upstream.default = upstream.reply(b"x" * (32 << 20), type="text/plain")
    at = await sidecar(config(upstream))
    one = await client(at, window=4096)
    one.send(f"GET /page HTTP/1.1\r\n{HOST}\r\n")
    await one.read_head()
    await asyncio.sleep(0.1)
    one.reset()
    await all_left(upstream)


async def test_client_that_leaves_with_requests_pipelined_ends_them_all(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What was never begun is never sent."""
    upstream.default = ["hang"]
    at = await sidecar(config(upstream))
    one = await client(at)
    one.send(f"GET /1 HTTP/1.1\r\n{HOST}\r\nPOST /2 HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    await asyncio.sleep(0.05)
    one.reset()
    await all_left(upstream)
    assert await at.under_way() == {}
    assert [request.target for request in upstream.requests] == ["/1"]


# -- back-pressure ---------------------------------------------------------------------------------

HELD = 24 << 20  # bytes that kernel buffers and the sidecar's windows may hold between two ends


class Flood:
    """Sends without end, as far as the other side takes it."""

    def __init__(self) -> None:
        self.sent = 0

    async def run(self, wire: Wire, piece: bytes) -> None:
        while True:
            wire.send(piece)
            await wire.writer.drain()
            self.sent += len(piece)


async def settled(flood: Flood) -> int:
    """How much went before it stopped going."""
    before = -1
    while flood.sent != before and flood.sent < 4 * HELD:
        before = flood.sent
        await asyncio.sleep(0.1)
    return flood.sent


@pytest.mark.parametrize(
    ("path", "head", "piece"),
    [
        ("/page", TEXT + CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        ("/page", TEXT + b"Content-Length: 10000000000\r\n\r\n", b"x" * 65536),
        ("/page", TEXT + b"\r\n", b"x" * 65536),
        ("/a", JSON + CHUNKED, b"10000\r\n" + b"[" + b"1," * 32767 + b"1" + b"\r\n"),
        ("/a", b"Content-Type: text/event-stream\r\n" + CHUNKED, b"9\r\ndata: a\n\n\r\n" * 4000),
    ],
    ids=["chunked", "length", "until close", "envelope", "events"],
)
async def test_client_that_does_not_read_stops_the_upstream(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, head: bytes, piece: bytes
) -> None:
    """Bounded by buffers, whatever the size (T47)."""
    flood = Flood()

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        wire.send(OK + head + (b"1\r\n[\r\n" if path == "/a" and JSON in head else b""))
        await flood.run(wire, piece.replace(b"[", b" ") if path == "/a" else piece)

    upstream.serve = serve
    at = await sidecar(config(upstream))
    one = await client(at, window=4096)
    one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await settled(flood) < HELD
    assert flood.sent > 65536
    one.reset()
    await all_left(upstream)


@pytest.mark.parametrize("framing", ["Content-Length: 10000000000", "Transfer-Encoding: chunked"])
async def test_upstream_that_does_not_read_stops_the_client(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str
) -> None:
    limits = {"limits": {"body": "100GiB"}}
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()

    upstream.serve = serve
    at = await sidecar({**config(upstream), **limits})
    one = await client(at)
    one.send(f"POST /a HTTP/1.1\r\n{HOST}{framing}\r\n\r\n")
    flood = Flood()
    piece = b"x" * 65536
    sending = asyncio.create_task(
        flood.run(one, piece if "Length" in framing else b"10000\r\n" + piece + b"\r\n")
    )
    assert await settled(flood) < HELD
    assert flood.sent > 65536
    sending.cancel()
    one.reset()
    release.set()


async def test_pipelined_flood_behind_a_slow_request_stops_the_client(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """T60: what waits for its turn is bounded too."""
    upstream.default = ["hang"]
    at: Running = await sidecar(config(upstream, head="500ms"))
    one = await client(at)
    flood = Flood()
    piece = f"GET /a HTTP/1.1\r\n{HOST}\r\n".encode() * 1000
    sending = asyncio.create_task(flood.run(one, piece))
    assert await settled(flood) < HELD
    sending.cancel()
    one.reset()
    await all_left(upstream)


@pytest.mark.parametrize("path", ["/a", "/page"])
async def test_client_that_reads_no_answers_stops_its_pipelined_requests(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """Answers that nobody takes do not pile up, though each by itself is small."""
    upstream.default = upstream.reply(b'"%b"' % (b"x" * 500_000))
    at = await sidecar(config(upstream))
    one = await client(at, window=4096)
    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n" * 200)
    before = -1
    while before != len(upstream.requests):
        before = len(upstream.requests)
        await asyncio.sleep(0.2)
    assert 0 < before < HELD // 500_000
    one.reset()


async def test_client_that_reads_no_answers_is_cut_in_the_end(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """With answers in the buffers, and its connection idle."""
    upstream.default = upstream.reply(b'"%b"' % (b"x" * 500_000))
    at = await sidecar(config(upstream) | {"limits": {"client_idle": "300ms"}})
    one = await client(at, window=4096)
    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n" * 20)
    assert await at.under_way() == {}
