"""Connections to the upstream: used again, given up, repeated on, and never too many."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Clients, Running, Start, Step, Upstream, Wire

HOST = "Host: app.example.com\r\n"
BUSY = 'sidecar_upstream_connections{state="busy",upstream="main"}'
IDLE = 'sidecar_upstream_connections{state="idle",upstream="main"}'
RETRIES = "sidecar_upstream_retries_total"


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """One API at the root, with an upstream of these settings."""
    return {
        "upstreams": {"main": {"url": upstream.url, **more}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
    }


# -- reuse -----------------------------------------------------------------------------------------


async def test_one_connection_serves_all_that_come_one_after_another(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Of any client, method and framing."""
    chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    upstream.answers(
        upstream.reply(b"{}"),
        [chunked, 0.01, b"2\r\n{}\r\n0\r\n\r\n"],
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    )
    at = await sidecar(config(upstream))
    for status in (200, 200, 204, 304, 200):
        assert (await (await client(at)).get("/a")).status == status
    one = await client(at)
    assert (await one.ask("HEAD", "/a")).status == 200
    assert (await one.post("/a", body=b"x" * 100_000)).status == 200
    one.send(f"PUT /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert (await one.answer()).status == 200
    assert upstream.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\n",
    ],
)
async def test_connection_that_the_upstream_closes_is_not_used_again(
    sidecar: Start, upstream: Upstream, client: Clients, head: bytes
) -> None:
    upstream.default = [head + b"Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"]
    one = await client(await sidecar(config(upstream)))
    for _ in range(3):
        assert (await one.post("/a")).status == 200
    assert upstream.connections == 3


async def test_idle_connection_that_the_upstream_closed_is_noticed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """So that even a POST, which is never repeated, finds a good one."""
    upstream.default = [upstream.reply(b"{}"), 0.01, "close"]
    at = await sidecar(config(upstream))
    one = await client(at)
    for number in range(1, 4):
        assert (await one.post("/a")).status == 200
        assert upstream.connections == number
        await at.wait_for(lambda found: found[IDLE] == 0)
    assert (await at.metrics())[RETRIES] == 0


async def test_idle_connection_is_kept_for_the_set_time(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream, pool={"idle": "200ms"}))
    one = await client(at)
    assert (await one.get("/a")).status == 200
    assert await asyncio.wait_for(upstream.wires[0].ended.wait(), 1.5)
    assert (await at.metrics())[IDLE] == 0
    assert (await one.get("/a")).status == 200
    assert upstream.connections == 2


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("hint", ["timeout=1", "max=9, timeout = 1", 'Timeout="1"', "timeout=0"])
@pytest.mark.parametrize("whole", [True, False])
async def test_upstream_is_believed_how_long_it_keeps_a_connection(
    sidecar: Start, upstream: Upstream, client: Clients, *, hint: str, whole: bool
) -> None:
    """Closed in good time by us, so that a POST, which is never repeated, never meets its end."""
    field = f"Keep-Alive: {hint}"
    chunked: list[Step] = [CHUNKED + f"{field}\r\n\r\n".encode(), 0.01, b"2\r\n{}\r\n0\r\n\r\n"]
    upstream.default = upstream.reply(b"{}", field) if whole else chunked
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/a")).get("Keep-Alive") is None
    assert await asyncio.wait_for(upstream.wires[0].ended.wait(), 0.9)
    assert (await one.post("/a", body=b"x")).status == 200
    assert upstream.connections == 2


async def test_hint_does_not_keep_a_connection_longer_than_configured(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(b"{}", "Keep-Alive: timeout=60")
    one = await client(await sidecar(config(upstream, pool={"idle": "200ms"})))
    assert (await one.get("/a")).status == (await one.get("/a")).status == 200
    assert upstream.connections == 1
    assert await asyncio.wait_for(upstream.wires[0].ended.wait(), 1.5)


async def test_connection_in_use_gets_no_older_than_configured(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Else it would never follow a name that leads elsewhere; no request is lost by that."""
    at = await sidecar(config(upstream, pool={"max_age": "300ms"}))
    one = await client(at)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert (await one.post("/a", body=b"x")).status == 200
        await asyncio.sleep(0.01)
    assert 3 <= upstream.connections <= 5
    await asyncio.sleep(0.4)
    assert not upstream.open  # an idle one is closed too


# -- repeating -------------------------------------------------------------------------------------


async def dies(upstream: Upstream, *, unread: bool, end: Step, first: bytes = b"") -> None:
    """Every connection answers one request and dies on the second, read or not."""

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        wire.send(upstream.reply())
        if unread:
            await wire.reader.readexactly(1)
        else:
            await upstream.receive(wire)
        await upstream.play(wire, [first, 0.005, end] if first else [end])

    upstream.serve = serve


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("GET", b"", 200),
        ("HEAD", b"", 200),
        ("OPTIONS", b"", 200),
        ("PUT", b"small", 200),
        ("DELETE", b"", 200),
        ("POST", b"", 502),
        ("POST", b"small", 502),
        ("PATCH", b"small", 502),
    ],
)
async def test_death_of_a_reused_connection_is_repeated_once_where_that_is_safe(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    method: str,
    body: bytes,
    status: int,
    unread: bool,
    end: Step,
) -> None:
    """Idempotent methods only (T56): a POST may have happened."""
    await dies(upstream, unread=unread, end=end)
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/first")).status == 200
    answer = await one.ask(method, "/second", body=body)
    assert answer.status == status
    retries = int(status == 200)
    assert (await at.metrics())[RETRIES] == retries
    assert upstream.connections == 1 + retries
    assert upstream.last.body == (body if not unread or retries else b"")


async def test_repetition_that_dies_too_is_a_bad_gateway(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Two attempts at most, the second on a new connection."""
    upstream.answers(upstream.reply(b"{}"), ["reset"], ["reset"])
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/first")).status == 200
    answer = await one.get("/second")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert [request.target for request in upstream.requests] == ["/first", "/second", "/second"]
    assert upstream.connections == 2


async def test_request_whose_answer_has_begun_is_not_repeated(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Not even a GET: one byte of an answer proves that the upstream was at work."""
    await dies(upstream, unread=False, first=b"HTTP/1.1 2", end="reset")
    one = await client(await sidecar(config(upstream)))
    assert (await one.get("/first")).status == 200
    assert (await one.get("/second")).status == 502
    assert len(upstream.requests) == 2


async def test_streamed_upload_is_not_repeated(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It is no longer there, whatever the method."""
    await dies(upstream, unread=True, end="reset")
    one = await client(await sidecar(config(upstream)))
    assert (await one.get("/first")).status == 200
    async with one.sending(
        f"PUT /a HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n".encode() + b"x" * 1_000_000,
        65536,
    ):
        answer = await one.answer()
    assert answer.status == 502
    assert upstream.connections == 1


# -- connecting ------------------------------------------------------------------------------------


async def test_upstream_that_is_down_is_a_bad_gateway_and_recovers_at_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream, retry="0s"))
    one = await client(at)
    assert (await one.get("/a")).status == 200
    await upstream.stop()
    for _ in range(3):
        answer = await one.get("/a")
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
    await upstream.start()
    assert (await one.get("/a")).status == 200


@pytest.fixture
async def deaf_port() -> AsyncIterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_connecting_is_bounded_in_time(
    sidecar: Start, upstream: Upstream, client: Clients, deaf_port: int
) -> None:
    own = config(upstream, connect="200ms")
    own["upstreams"]["main"]["url"] = f"http://127.0.0.1:{deaf_port}"
    one = await client(await sidecar(own))
    began = time.monotonic()
    answer = await one.get("/a")
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert 0.15 < time.monotonic() - began < 1.5


async def test_client_that_leaves_while_connecting_takes_nothing_with_it(
    sidecar: Start, upstream: Upstream, client: Clients, deaf_port: int
) -> None:
    """The place in the pool is free again."""
    own = config(upstream, connect="30s", pool={"max": 1})
    own["upstreams"]["main"]["url"] = f"http://127.0.0.1:{deaf_port}"
    at = await sidecar(own)
    for _ in range(3):
        one = await client(at)
        one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
        await at.wait_for(lambda found: found['sidecar_requests_in_flight{kind="api"}'] == 1)
        one.reset()
        assert await at.under_way() == {}


@pytest.mark.parametrize("wait", [0.0, 0.001, 0.002])
async def test_client_that_leaves_as_the_connection_is_made_leaks_none(
    sidecar: Start, upstream: Upstream, client: Clients, wait: float
) -> None:
    """Many times over, with a pool that would run dry."""
    at = await sidecar(config(upstream, pool={"max": 2}, connect="500ms"))
    for _ in range(20):
        one = await client(at)
        one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
        one.writer.write_eof()
        await asyncio.sleep(wait)
        one.reset()
    assert await at.under_way() == {}
    assert (await (await client(at)).get("/b")).status == 200


# -- how many --------------------------------------------------------------------------------------


async def clients_asking(at: Running, client: Clients, count: int) -> list[Any]:
    """That many clients with a request under way each."""
    asking = [await client(at) for _ in range(count)]
    for number, one in enumerate(asking):
        one.send(f"GET /{number} HTTP/1.1\r\n{HOST}\r\n")
    return asking


async def test_requests_wait_for_a_place_in_the_pool(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Never more connections than allowed; all are served."""
    upstream.default = [0.03, upstream.reply(b"{}")]
    at = await sidecar(config(upstream, pool={"max": 3}))
    asking = await clients_asking(at, client, 20)
    assert [(await one.answer()).status for one in asking] == [200] * 20
    assert upstream.connections == 3


async def test_place_that_frees_by_a_loss_is_given_to_who_waits(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Every connection ends after its answer, or without one."""
    closing = upstream.reply(b"{}", "Connection: close")
    upstream.default = [0.02, closing, "close"]
    upstream.answers([0.02, "reset"], [0.02, closing, "close"], [0.02, "close"])
    at = await sidecar(config(upstream, pool={"max": 2}))
    asking = await clients_asking(at, client, 10)
    statuses = sorted([(await one.answer()).status for one in asking])
    assert statuses == [200] * 8 + [502] * 2


async def test_request_that_waits_too_long_is_refused(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """503 after `connect`, with Retry-After; the busy ones go on."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            await upstream.receive(wire)
            await release.wait()
            wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(config(upstream, pool={"max": 2}, connect="200ms"))
    busy = await clients_asking(at, client, 2)
    await at.wait_for(lambda found: found[BUSY] == 2)
    one = await client(at)
    answer = await one.get("/late")
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.get("Retry-After")
    release.set()
    assert [(await other.answer()).status for other in busy] == [200, 200]
    assert (await one.get("/again")).status == 200
    assert upstream.connections == 2


async def test_who_leaves_the_queue_does_not_hold_it_up(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [0.1, upstream.reply(b"{}")]
    at = await sidecar(config(upstream, pool={"max": 1}))
    busy, leaver, waiter = await clients_asking(at, client, 3)
    await asyncio.sleep(0.02)
    leaver.reset()
    assert (await busy.answer()).status == 200
    assert (await waiter.answer()).status == 200
    assert "/1" not in [request.target for request in upstream.requests]
    assert upstream.connections == 1
