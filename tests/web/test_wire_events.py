"""Event streams: at once, for as long as they like, and no longer than the session."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.web import relay

if TYPE_CHECKING:
    from sidecar.web.flow import Flow
    from tests.conftest import Client, Clients, Running, Start, Step, Upstream

HOST = "Host: app.example.com\r\n"
SESSION = "access_token=tok"
ACCEPT = "Accept: text/event-stream\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = HEAD + b"\r\n"
STREAMS = 12


def config(upstream: Upstream, **limits: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, **limits}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
    }


def event(text: str, *, chunked: bool) -> bytes:
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


async def subscribe(
    client: Clients, at: Running, path: str = "/e", cookie: str = SESSION
) -> Client:
    """A client that has read the head of its stream."""
    one = await client(at)
    one.send(f"GET {path} HTTP/1.1\r\n{HOST}{ACCEPT}Cookie: {cookie}\r\n\r\n")
    async with asyncio.timeout(2):
        line, fields, _ = await one.read_head()
    assert line == b"HTTP/1.1 200 OK"
    assert ("Content-Type", "text/event-stream; charset=utf-8") in fields
    assert ("Transfer-Encoding", "chunked") in fields
    return one


async def next_event(one: Client) -> bytes:
    async with asyncio.timeout(2):
        size = int(await one.reader.readuntil(b"\r\n"), 16)
        return (await one.reader.readexactly(size + 2))[:-2]


@pytest.mark.parametrize("path", ["/e", "/page"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_event_comes_at_once_and_unwrapped(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, chunked: bool
) -> None:
    """Each as it is sent, though the stream goes on."""
    start = CHUNKED if chunked else UNTIL_CLOSE
    steps: list[Step] = [event("one", chunked=chunked), 0.1, event("two", chunked=chunked), "hang"]
    upstream.default = [start, *steps]
    one = await subscribe(client, await sidecar(config(upstream)), path)
    assert await next_event(one) == b"data: one\n\n"
    began = time.monotonic()
    assert await next_event(one) == b"data: two\n\n"
    assert 0.05 < time.monotonic() - began < 1


async def test_head_comes_before_any_event(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """So that EventSource knows it is open."""
    upstream.default = [CHUNKED, "hang"]
    await subscribe(client, await sidecar(config(upstream)))


async def test_silence_longer_than_every_limit_is_no_end(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """`idle`, `head` and `client_idle` are not for event streams."""
    upstream.default = [CHUNKED, event("a", chunked=True), 0.7, event("b", chunked=True), "hang"]
    limits = {"limits": {"client_idle": "200ms", "client_head": "200ms"}}
    at = await sidecar(config(upstream, idle="200ms", head="200ms") | limits)
    one = await subscribe(client, at)
    assert await next_event(one) == b"data: a\n\n"
    assert await next_event(one) == b"data: b\n\n"


async def test_stream_that_ends_is_whole_and_the_connection_goes_on(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.answers([CHUNKED, event("a", chunked=True), 0.02, b"0\r\n\r\n"])
    one = await client(await sidecar(config(upstream)))
    answer = await one.get("/e", "Accept: text/event-stream")
    assert answer.body == b"data: a\n\n"
    assert (await one.get("/a")).status == 200
    assert upstream.connections == 1


async def test_stream_that_breaks_off_is_broken(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [CHUNKED, event("a", chunked=True), 0.02, "close"]
    one = await subscribe(client, await sidecar(config(upstream)))
    await one.broken()


@pytest.mark.parametrize("path", ["/e", "/quiet"])
async def test_logout_ends_the_stream(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """Of this session only, within a moment, as one that is whole; the upstream is left."""
    upstream.default = [CHUNKED, *([event("a", chunked=True)] if path == "/e" else []), "hang"]
    at = await sidecar(config(upstream))
    one = await subscribe(client, at, path)
    other = await subscribe(client, at, path, "access_token=other")
    nobody = await subscribe(client, at, path, "a=b")
    answer = await (await client(at)).post("/api/logout", f"Cookie: {SESSION}")
    assert answer.status == 200
    async with asyncio.timeout(2):
        assert (await one.rest()).endswith(b"0\r\n\r\n")
        await upstream.wires[0].ended.wait()
    for still in (other, nobody):
        if path == "/e":
            assert await next_event(still) == b"data: a\n\n"
        assert await still.is_silent()


async def test_streams_of_one_session_end_in_turns(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user may have thousands open: others come in between while they end (T93)."""
    monkeypatch.setattr("sidecar.web.turn.PIPELINED", 0.0)
    turn, ended_in, end = 0, list[int](), relay._end_events

    def noted(flow: Flow, reason: str) -> None:
        ended_in.append(turn)
        end(flow, reason)

    def count() -> None:
        nonlocal turn
        turn += 1
        if len(ended_in) < STREAMS:
            asyncio.get_running_loop().call_soon(count)

    monkeypatch.setattr(relay, "_end_events", noted)
    upstream.default = [CHUNKED, "hang"]
    at = await sidecar(config(upstream))
    ones = [await subscribe(client, at) for _ in range(STREAMS)]
    count()
    assert (await (await client(at)).post("/api/logout", f"Cookie: {SESSION}")).status == 200
    for one in ones:
        async with asyncio.timeout(2):
            assert await one.reader.read() == b"0\r\n\r\n"
    assert len(set(ended_in)) == STREAMS


async def test_stream_of_a_dead_session_is_refused_when_asked_for_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """EventSource asks again by itself."""
    required = {"path": "/api", "kind": "api", "upstream": "main"}
    own = config(upstream)
    own["routes"].append(required)
    at = await sidecar(own)
    one = await client(at)
    await one.post("/api/logout", f"Cookie: {SESSION}")
    answer = await one.get("/api/e", "Accept: text/event-stream", f"Cookie: {SESSION}")
    assert answer.status == 303
    assert upstream.requests == []


async def test_client_that_leaves_ends_the_upstreams_stream(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Within 2 s, though nothing is being sent."""
    upstream.default = [CHUNKED, "hang"]
    at = await sidecar(config(upstream))
    one = await subscribe(client, at)
    one.close()
    async with asyncio.timeout(2):
        await upstream.wires[0].ended.wait()
    assert await at.under_way() == {}


async def test_streams_have_a_budget_of_their_own(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """T59: they use no place of the requests that come and go."""
    upstream.answers([CHUNKED, "hang"])
    at = await sidecar(config(upstream), limits={"in_flight": {"stream": 1, "api": 1}})
    await subscribe(client, at)
    refused = await (await client(at)).get("/e", "Accept: text/event-stream")
    assert (refused.status, refused.code) == (503, "overloaded")
    assert (await (await client(at)).get("/a")).status == 200


async def test_client_of_http_1_0_gets_events_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [CHUNKED, event("a", chunked=True), 0.02, b"0\r\n\r\n"]
    one = await client(await sidecar(config(upstream)))
    one.send(f"GET /e HTTP/1.0\r\n{ACCEPT}\r\n")
    assert (await one.answer()).body == b"data: a\n\n"
