"""`pool.max` is for requests that come and go: nothing that lasts keeps the others out."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Received, Running, Script, Start, Step, Upstream, Wire

HOST = "Host: app.example.com\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"Content-Type: text/plain\r\n"
EVENTS = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: x\n\n\r\n"
HANDSHAKE = (
    f"GET /ws HTTP/1.1\r\n{HOST}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
MAX = 2


def config(upstream: Upstream, **limits: Any) -> dict[str, Any]:
    """An API and pages on an upstream that takes `MAX` connections."""
    return {
        "upstreams": {"main": {"url": upstream.url, "pool": {"max": MAX}, "connect": "3s"}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
        "limits": limits,
    }


def states(metrics: dict[str, float]) -> dict[str, float]:
    """How many connections to the upstream there are, by state."""
    found = ("idle", "busy", "lent")
    name = 'sidecar_upstream_connections{{state="{}",upstream="main"}}'
    return {state: metrics[name.format(state)] for state in found}


async def others_are_served(client: Clients, at: Running, within: float = 3.0) -> None:
    """More ordinary requests than the pool has places, one after the other."""
    one = await client(at)
    async with asyncio.timeout(within):
        for _ in range(MAX + 1):
            assert (await one.get("/orders")).status == 200


def answers(upstream: Upstream, **scripts: Script) -> None:
    """Sets what the upstream answers by the first segment of the path, JSON to all others."""

    def answer(request: Received) -> Script:
        return scripts.get(request.target.strip("/").split("/")[0], upstream.reply(b"{}"))

    upstream.default = answer


# -- what lasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["Accept: text/event-stream\r\n", "Accept: */*\r\n", ""])
async def test_event_streams_keep_nobody_out(
    sidecar: Start, upstream: Upstream, client: Clients, accept: str
) -> None:
    """Whether the request said that it would be one, or only its answer."""
    answers(upstream, events=[EVENTS, EVENT, "hang"])
    at = await sidecar(config(upstream))
    streams = [await client(at) for _ in range(3 * MAX)]
    for one in streams:
        one.send(f"GET /events HTTP/1.1\r\n{HOST}{accept}\r\n")
        assert (await one.read_head())[0] == b"HTTP/1.1 200 OK"
    await others_are_served(client, at)
    metrics = await at.metrics()
    assert metrics['sidecar_requests_in_flight{kind="stream"}'] == len(streams)
    assert metrics['sidecar_requests_in_flight{kind="api"}'] == 0
    assert states(metrics) == {"idle": 1, "busy": 0, "lent": len(streams)}


async def test_event_streams_whose_head_is_to_come_keep_nobody_out(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Many servers send it with the first event only."""
    answers(upstream, events=["hang"])
    at = await sidecar(config(upstream))
    for _ in range(3 * MAX):
        one = await client(at)
        one.send(f"GET /events HTTP/1.1\r\n{HOST}Accept: text/event-stream\r\n\r\n")
    await at.wait_for(lambda found: states(found)["lent"] == 3 * MAX)
    await others_are_served(client, at)


@pytest.mark.parametrize("script", [[SWITCHED, "hang"], ["hang"]])
async def test_websockets_keep_nobody_out(
    sidecar: Start, upstream: Upstream, client: Clients, script: Script
) -> None:
    """Open ones, nor those whose handshake the upstream does not answer."""
    answers(upstream, ws=script)
    at = await sidecar(config(upstream))
    for _ in range(3 * MAX):
        (await client(at)).send(HANDSHAKE)
    await at.wait_for(lambda found: states(found)["lent"] == 3 * MAX)
    await others_are_served(client, at)


async def test_streams_have_a_budget_however_they_begin(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """An answer that turns out to be one is refused above it, and its connection left."""
    answers(upstream, events=[EVENTS, EVENT, "hang"])
    at = await sidecar(config(upstream, in_flight={"stream": 1}))
    first = await client(at)
    first.send(f"GET /events HTTP/1.1\r\n{HOST}\r\n")
    assert (await first.read_head())[0] == b"HTTP/1.1 200 OK"
    second = await client(at)
    answer = await second.get("/events")
    assert (answer.status, answer.code) == (503, "overloaded")
    await at.wait_for(lambda found: states(found) == {"idle": 0, "busy": 0, "lent": 1})


@pytest.mark.parametrize("path", ["/slow", "/page/slow"])
async def test_slow_readers_keep_nobody_out(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """Those who wait for a connection get one while their wait lasts."""
    big = upstream.reply(b"x" * (16 << 20), type="text/plain")
    upstream.default = lambda request: big if "slow" in request.target else upstream.reply(b"{}")
    at = await sidecar(config(upstream))
    for _ in range(MAX):
        one = await client(at, window=4096)
        one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
        await one.read_head()
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await others_are_served(client, at)
    metrics = await at.wait_for(lambda found: states(found)["lent"] == MAX)
    assert metrics['sidecar_requests_in_flight{kind="stream"}'] == MAX


async def test_slow_readers_keep_only_each_other_out(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they are more than the streams that there may be: the slowest are broken off."""
    monkeypatch.setattr("sidecar.web.transfer_watch.LOOK_SECONDS", 0.1)
    big = upstream.reply(b"x" * (16 << 20), type="text/plain")
    upstream.default = lambda request: big if "slow" in request.target else upstream.reply(b"{}")
    at = await sidecar(config(upstream, in_flight={"api": MAX, "stream": 2 * MAX}))
    api, streams = (f'sidecar_requests_in_flight{{kind="{kind}"}}' for kind in ("api", "stream"))
    for number in range(5 * MAX):
        one = await client(at, window=4096)
        one.send(f"GET /slow HTTP/1.1\r\n{HOST}\r\n")
        assert (await one.read_head())[0].endswith(b" 200 OK")
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        most = min(number + 1, 2 * MAX)
        await at.wait_for(partial(_are, {api: 0, streams: most}))
    await at.wait_for(partial(_are, {"sidecar_client_connections": 2 * MAX}))
    await others_are_served(client, at)


def _are(expected: dict[str, float], found: dict[str, float]) -> bool:
    return expected.items() <= found.items()


async def test_slow_readers_break_off_no_event_stream(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor each other, if most of the streams are none of theirs."""
    monkeypatch.setattr("sidecar.web.transfer_watch.LOOK_SECONDS", 0.1)
    big = upstream.reply(b"x" * (16 << 20), type="text/plain")
    answers(upstream, events=[EVENTS, EVENT, "hang"], slow=big)
    at = await sidecar(config(upstream, in_flight={"api": MAX, "stream": 2 * MAX}))
    streams = []
    for _ in range(MAX + 1):
        one = await client(at)
        one.send(f"GET /events HTTP/1.1\r\n{HOST}Accept: text/event-stream\r\n\r\n")
        await one.read_head()
        streams.append(one)
    readers = []
    for _ in range(MAX):
        one = await client(at, window=4096)
        one.send(f"GET /slow HTTP/1.1\r\n{HOST}\r\n")
        await one.read_head()
        readers.append(one)
    counted = 'sidecar_requests_in_flight{{kind="{}"}}'.format
    await at.wait_for(lambda found: found[counted("stream")] == 2 * MAX)
    for one in readers:
        one.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            assert len(await one.reader.readexactly(16 << 20)) == 16 << 20
    found = await at.wait_for(lambda found: found[counted("api")] == 0)
    assert found[counted("stream")] == MAX + 1


@pytest.mark.parametrize(
    "head", [TEXT, b"Content-Type: application/json\r\n"], ids=["relayed", "wrapped"]
)
async def test_endless_answers_keep_nobody_out(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
) -> None:
    """Though their clients take them as fast as they come."""
    monkeypatch.setattr("sidecar.web.transfer_watch.LOOK_SECONDS", 0.03)
    start = b"1\r\n[\r\n" if b"json" in head else b""
    pieces: list[Step] = [b"1\r\n \r\n", 0.05]
    flow = [OK + head + b"Transfer-Encoding: chunked\r\n\r\n" + start, *pieces * 100]
    answers(upstream, endless=flow)
    at = await sidecar(config(upstream) | {"envelope": {"buffer": "1B"}})
    for _ in range(MAX):
        one = await client(at)
        one.send(f"GET /endless HTTP/1.1\r\n{HOST}\r\n")
        await one.read_head()
    await others_are_served(client, at)
    await at.wait_for(lambda found: states(found)["lent"] == MAX)


async def test_connection_that_was_lent_is_of_use_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.answers([EVENTS, EVENT, 0.02, b"0\r\n\r\n"])
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/events", "Accept: text/event-stream")).status == 200
    assert (await one.get("/a")).status == 200
    assert upstream.connections == 1
    assert states(await at.metrics()) == {"idle": 1, "busy": 0, "lent": 0}


async def test_connections_that_come_back_do_not_exceed_the_pool(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Others have taken their places meanwhile."""
    over = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            request = await upstream.receive(wire)
            if request.target == "/events":
                wire.send(EVENTS)
                await over.wait()
                wire.send(b"0\r\n\r\n")
            else:
                await asyncio.sleep(0.05)
                wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(config(upstream))
    streams = [await client(at) for _ in range(3 * MAX)]
    for one in streams:
        one.send(f"GET /events HTTP/1.1\r\n{HOST}Accept: text/event-stream\r\n\r\n")
        await one.read_head()
    ordinary = [await client(at) for _ in range(3 * MAX)]
    for one in ordinary:
        one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    for one in ordinary:
        assert (await one.answer()).status == 200
    over.set()
    for one in streams:
        async with asyncio.timeout(2):
            await one.reader.readuntil(b"0\r\n\r\n")
    await at.wait_for(lambda found: states(found) == {"idle": MAX, "busy": 0, "lent": 0})


async def test_pool_never_has_more_than_its_places(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Among many that wait, some of which give up, while connections break under them."""
    most = 0

    async def serve(wire: Wire) -> None:
        nonlocal most
        while True:
            request = await upstream.receive(wire)
            most = max(most, pool.open)
            await asyncio.sleep(0.002)
            if request.target == "/break":
                wire.reset()
                return
            wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(config(upstream))
    pool = at.sidecar.runtime.pools["main"]

    async def user(number: int) -> None:
        one = await client(at)
        for turn in range(6):
            one.send(f"GET {'/break' if (turn + number) % 3 else '/a'} HTTP/1.1\r\n{HOST}\r\n")
            if number % 5 == 4:
                one.reset()
                return
            assert (await one.answer()).status in (200, 502)

    await asyncio.gather(*map(user, range(20)))
    assert most <= MAX
    metrics = await at.wait_for(lambda found: states(found)["busy"] == 0)
    assert metrics['sidecar_upstream_waiting{upstream="main"}'] == 0


async def test_requests_that_gave_up_are_forgotten(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """However long the pool stays full."""
    upstream.default = ["hang"]
    settings = config(upstream)
    settings["upstreams"]["main"]["connect"] = "100ms"
    at = await sidecar(settings)
    for _ in range(MAX):
        (await client(at)).send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda found: states(found)["busy"] == MAX)
    one = await client(at)
    for _ in range(3):
        assert (await one.get("/b")).status == 503
    assert (await at.metrics())['sidecar_upstream_waiting{upstream="main"}'] == 0


# -- uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_uploads_that_have_hardly_begun_take_no_connection(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str
) -> None:
    at = await sidecar(config(upstream))
    for _ in range(3 * MAX):
        one = await client(at)
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}{framing}\r\n\r\n1\r\nx\r\n")
    await at.wait_for(lambda found: found["sidecar_client_connections"] == 3 * MAX)
    await others_are_served(client, at)
    assert upstream.connections == 1


async def test_uploads_that_go_on_slowly_keep_nobody_out(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """They have sent what is worth a connection; from then on their client is waited for."""
    at = await sidecar(config(upstream))
    for _ in range(MAX):
        one = await client(at)
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n" + "x" * 65536)
    await at.wait_for(lambda found: sum(states(found).values()) == MAX)
    await others_are_served(client, at)
    assert states(await at.metrics())["lent"] == MAX


async def test_uploads_that_are_waited_for_are_in_no_budget_of_others(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """However many come at once, nobody else is refused, not even at first."""
    at = await sidecar(config(upstream, in_flight={"api": MAX}))
    for _ in range(3 * MAX):
        one = await client(at)
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\nx")
    waited = 'sidecar_requests_in_flight{kind="body"}'
    found = await at.wait_for(lambda found: found[waited] == 3 * MAX)
    assert found['sidecar_requests_in_flight{kind="api"}'] == 0
    assert found['sidecar_requests_in_flight{kind="stream"}'] == 0
    await others_are_served(client, at)


async def test_of_too_many_uploads_the_slowest_is_given_up(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """So whoever sends slowly keeps out no upload that comes at once."""
    at = await sidecar(config(upstream, in_flight={"api": 1, "page": 1, "stream": 1}))
    slow = [await client(at) for _ in range(4)]
    for one in slow:
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100\r\n\r\nx")
        await asyncio.sleep(0.05)
    assert (await slow[0].answer()).status == 408
    for one in slow[1:]:
        one.send("x" * 99)
        assert (await one.answer()).status == 200


async def test_uploads_that_crawl_are_in_no_budget_of_others(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Though more of each is here than is held in memory, and they come all at once."""
    at = await sidecar(config(upstream, in_flight={"api": MAX, "stream": MAX}))
    for _ in range(5 * MAX):
        one = await client(at)
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n" + "x" * 70_000)
    coming = 'sidecar_requests_in_flight{kind="body"}'
    found = await at.wait_for(
        lambda found: found[coming] == 5 * MAX and states(found)["lent"] == 5 * MAX
    )
    assert found['sidecar_requests_in_flight{kind="api"}'] == 0
    assert found['sidecar_requests_in_flight{kind="stream"}'] == 0
    await others_are_served(client, at)


async def test_upload_counts_again_once_its_body_has_come(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """From then on its upstream is what it waits for, and has as many requests as it takes."""
    upstream.default = lambda _: ["hang"]
    at = await sidecar(config(upstream))
    for _ in range(2 * MAX):
        one = await client(at)
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n" + "x" * 100_000)
    found = await at.wait_for(lambda found: states(found)["busy"] == 2 * MAX)
    assert found['sidecar_requests_in_flight{kind="api"}'] == 2 * MAX
    assert states(found) == {"idle": 0, "busy": 2 * MAX, "lent": 0}
    waiting = await client(at)
    waiting.send(f"GET /orders HTTP/1.1\r\n{HOST}\r\n")
    waits = 'sidecar_upstream_waiting{upstream="main"}'
    await at.wait_for(lambda found: found[waits] == 1)


async def test_upload_that_keeps_coming_outlives_those_that_crawl(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It began before them, and takes longer; of too many that come the slowest are given up."""
    at = await sidecar(config(upstream, in_flight={"api": 1, "page": 1, "stream": 1}))
    ordinary = await client(at)
    ordinary.send(f"POST /upload HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")
    pieces = 0

    async def keep_sending() -> None:
        nonlocal pieces
        while True:
            ordinary.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            pieces += 1
            await asyncio.sleep(0.01)

    sending = asyncio.create_task(keep_sending())
    await at.wait_for(lambda found: states(found)["lent"] == 1 and pieces > 10)
    crawling = [await client(at) for _ in range(3)]
    for one in crawling:
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n" + "x" * 70_000)
    waits = [asyncio.create_task(one.answer()) for one in crawling]
    done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    assert [one.result().status for one in done] == [408]
    sending.cancel()
    ordinary.send(b"0\r\n\r\n")
    assert (await ordinary.answer()).status == 200
    assert len(upstream.last.body) == pieces * 65536
    assert not any(wait.done() for wait in others)
    for wait in others:
        wait.cancel()


async def test_upload_counts_against_its_budget_once_its_body_has_come(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Its upstream works on it: it is not refused any more, and others may be."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        await release.wait()
        wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(config(upstream, in_flight={"api": 1}))
    uploads = [await client(at) for _ in range(3)]
    for one in uploads:
        one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n" + "x" * 70_000)
    coming, counted = (f'sidecar_requests_in_flight{{kind="{kind}"}}' for kind in ("body", "api"))
    await at.wait_for(lambda found: found[coming] == 3)
    for one in uploads:
        one.send("x" * 30_000)
    found = await at.wait_for(lambda found: found[counted] == 3)
    assert found[coming] == 0
    assert (await (await client(at)).get("/a")).status == 503
    assert (await (await client(at)).post("/upload", body=b"x" * 100_000)).status == 503
    release.set()
    for one in uploads:
        assert (await one.answer()).status == 200
    await at.wait_for(lambda found: found[counted] == 0)


@pytest.mark.parametrize("framing", ["Content-Length: 30", "Transfer-Encoding: chunked"])
async def test_small_body_that_comes_in_pieces_is_sent_in_one(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str
) -> None:
    at = await sidecar(config(upstream))
    one = await client(at)
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}{framing}\r\n\r\n")
    for _ in range(3):
        await asyncio.sleep(0.03)
        one.send("a\r\n0123456789\r\n" if "chunked" in framing else "0123456789")
    if "chunked" in framing:
        one.send("0\r\n\r\n")
    assert (await one.answer()).status == 200
    assert upstream.last.body == b"0123456789" * 3
    assert upstream.last.get("Content-Length") == "30"


@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_body_around_the_mark_arrives_whole(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str, size: int
) -> None:
    """In whatever pieces it comes."""
    at = await sidecar(config(upstream))
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    head = f"POST /upload HTTP/1.1\r\n{HOST}"
    if framing == "length":
        data = f"{head}Content-Length: {size}\r\n\r\n".encode() + body
    else:
        data = f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + body
        data += b"\r\n0\r\n\r\n"
    one = await client(at)
    for piece in (1 << 20, 7000):
        await one.trickle(data, piece)
        assert (await one.answer()).status == 200
        assert upstream.last.body == body
    assert (await one.get("/a")).status == 200


async def test_session_that_ends_while_its_body_is_waited_for_is_not_used(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream))
    slow = await client(at)
    slow.send(
        f"POST /upload HTTP/1.1\r\n{HOST}Cookie: access_token=tok\r\nContent-Length: 2\r\n\r\nx"
    )
    await asyncio.sleep(0.05)
    other = await client(at)
    assert (await other.post("/api/logout", "Cookie: access_token=tok")).status == 200
    slow.send("y")
    assert (await slow.answer()).status == 200
    assert upstream.last.body == b"xy"
    assert upstream.last.get("Authorization") is None


async def test_body_that_came_in_pieces_is_sent_again_with_the_newest_token(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A request repeated on another connection has its whole body."""
    upstream.answers(upstream.reply(b"{}"), ["reset"])
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/a")).status == 200
    one.send(f"PUT /upload HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nx")
    await asyncio.sleep(0.03)
    one.send("y")
    assert (await one.answer()).status == 200
    assert [request.body for request in upstream.requests[1:]] == [b"xy", b"xy"]


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_client_that_leaves_before_its_body_is_worth_sending_costs_nothing(
    sidecar: Start, upstream: Upstream, client: Clients, how: str
) -> None:
    at = await sidecar(config(upstream))
    one = await client(at)
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\nx")
    await at.wait_for(lambda found: found['sidecar_requests_in_flight{kind="body"}'] == 1)
    one.close() if how == "FIN" else one.reset()
    assert await at.under_way() == {}
    assert upstream.wires == []


@pytest.mark.parametrize("is_used", [False, True], ids=["new", "used"])
async def test_upload_may_take_longer_than_its_upstream_may_for_an_answer(
    sidecar: Start, upstream: Upstream, client: Clients, is_used: bool
) -> None:
    """The time limit of a response begins with the body's end, also if the connection has had
    another request before."""
    settings = config(upstream)
    settings["upstreams"]["main"]["head"] = "1s"
    one = await client(await sidecar(settings))
    if is_used:
        assert (await one.get("/a")).status == 200
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n" + "x" * 70_000)
    await one.trickle(b"x" * 30_000, 2000, 0.1)
    assert (await one.answer()).status == 200
    assert len(upstream.last.body) == 100_000
    assert upstream.connections == 1


# -- their pace ------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [0, 70_000])
async def test_body_below_the_rate_is_given_up(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    begun: int,
) -> None:
    """Though it never stalls; 408, and the upstream never has a whole request."""
    monkeypatch.setattr("sidecar.web.body.WINDOW", 0.6)
    at = await sidecar(config(upstream, client_rate="100000B"))
    one = await client(at)
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n" + "x" * begun)
    began = time.monotonic()
    async with one.sending(b"x" * 100_000, 1000, 0.02):
        answer = await one.answer()
    assert (answer.status, answer.get("Connection")) == (408, "close")
    assert 0.5 < time.monotonic() - began < 3
    assert upstream.requests == []
    await at.wait_for(lambda found: sum(states(found).values()) == 0)


async def test_body_at_the_rate_is_not_given_up(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many windows."""
    monkeypatch.setattr("sidecar.web.body.WINDOW", 0.3)
    at = await sidecar(config(upstream, client_rate="1000B"))
    one = await client(at)
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n")
    async with one.sending(b"x" * 100_000, 2000, 0.03):
        assert (await one.answer()).status == 200
    assert len(upstream.last.body) == 100_000


async def test_upstream_that_takes_its_time_is_not_the_clients_fault(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only time that the client was waited for counts."""
    monkeypatch.setattr("sidecar.web.body.WINDOW", 0.3)
    size = 32 << 20

    async def serve(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await upstream.receive(wire)
        wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(config(upstream, client_rate="100KiB"))
    one = await client(at)
    one.send(f"POST /upload HTTP/1.1\r\n{HOST}Content-Length: {size}\r\n\r\n")
    async with one.sending(b"x" * size):
        assert (await one.answer()).status == 200


async def test_answer_to_a_slow_upload_that_has_begun_is_broken(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client cannot be told any more; an unfinished answer must not look whole."""
    monkeypatch.setattr("sidecar.web.body.WINDOW", 0.4)

    async def serve(wire: Wire) -> None:
        await wire.read_head()
        wire.send(OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await wire.is_left()

    upstream.serve = serve
    at = await sidecar(config(upstream, client_rate="1MiB"))
    one = await client(at)
    one.send(f"POST /page HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n" + "x" * 70_000)
    await one.broken()
