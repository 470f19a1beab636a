"""Long work for one client lets the others in: nobody waits for somebody else's bomb."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import (
        Client,
        Clients,
        Received,
        Running,
        Script,
        Start,
        StartCommand,
        Upstream,
    )

HOST = "Host: app.example.com\r\n"
MIB = 1 << 20
HANDSHAKE = (
    f"GET /long HTTP/1.1\r\n{HOST}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def packed(*pieces: bytes, wbits: int = 31) -> bytes:
    """gzip, or by `wbits` zlib and raw deflate."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join([*map(packer.compress, pieces), packer.flush()])


async def share_of_the_wait(
    at: Running, client: Clients, work: Coroutine[Any, Any, None]
) -> tuple[float, float]:
    """How long others waited at worst while `work` went on, as a share of it; and its seconds."""
    other = await client(at)
    assert (await other.get("/other")).status == 200
    began, worst = time.monotonic(), 0.0
    task = asyncio.create_task(work)
    while not task.done():
        sent = time.monotonic()
        assert (await other.get("/other")).status == 200
        worst = max(worst, time.monotonic() - sent)
        await asyncio.sleep(0.002)
    await task
    took = time.monotonic() - began
    return worst / took, took


def answers(upstream: Upstream, long: Script) -> None:
    """Sets the answer to `/long`; all others are short."""

    def answer(request: Received) -> Script:
        return long if request.target == "/long" else upstream.reply(b"{}")

    upstream.default = answer


async def fetch(at: Running, client: Clients) -> None:
    """Asks for `/long` and reads what comes of it."""
    one = await client(at)
    one.send(f"GET /long HTTP/1.1\r\n{HOST}\r\n")
    async with asyncio.timeout(40):
        line, _, _ = await one.read_head()
        assert line == b"HTTP/1.1 200 OK"
        while not (await one.reader.readuntil(b"\n")).startswith(b"0\r"):
            pass


BOMBS = {
    "gzip": (packed(b'{"data":1,"junk":"', *[b"a" * MIB] * 200, b'"}'), "gzip"),
    "zlib": (packed(b'{"data":1,"junk":"', *[b"a" * MIB] * 100, b'"}', wbits=15), "deflate"),
    "raw": (packed(b'{"data":1,"junk":"', *[b"a" * MIB] * 100, b'"}', wbits=-15), "deflate"),
    "members": (packed(b"[" + b"1," * 999) + packed(b"") * 200_000 + packed(b"1]"), "gzip"),
    "deep": (packed(b"[", *[b"[" * 5000 + b"]" * 5000 + b","] * 500, b"1]"), "gzip"),
}


@pytest.mark.parametrize("kind", BOMBS)
async def test_coded_answer_that_takes_long_stops_nobody(
    command: StartCommand, upstream: Upstream, client: Clients, kind: str
) -> None:
    body, coding = BOMBS[kind]
    answers(upstream, upstream.reply(body, f"Content-Encoding: {coding}"))
    at = await command({"envelope": {"buffer": "1KiB"}, "log": {"access": False}})
    share, took = await share_of_the_wait(at, client, fetch(at, client))
    assert took > 0.03  # else it says nothing
    assert share < 0.5


@pytest.mark.parametrize("unit", [b',"a":1', b',"a":"\\udc00"'])
@pytest.mark.parametrize("envelope", [True, False])
async def test_json_that_is_slow_to_read_stops_nobody(
    command: StartCommand, upstream: Upstream, client: Clients, *, envelope: bool, unit: bytes
) -> None:
    """One that the fast reader refuses: its members are walked through one by one."""
    body = b'{"z":"\\ud800"' + unit * (150_000 // len(unit)) + b"}"
    answers(upstream, upstream.reply(body))
    route = {"path": "/", "kind": "api", "upstream": "main", "session": "optional"}
    at = await command(
        upstreams={"main": {"url": upstream.url}},
        routes=[route | {"envelope": envelope}],
        log={"access": False},
    )

    async def work() -> None:
        one = await client(at)
        one.send(f"GET /long HTTP/1.1\r\n{HOST}Cookie: access_token=tok\r\n\r\n")
        async with asyncio.timeout(40):
            line, fields, _ = await one.read_head()
            assert line == b"HTTP/1.1 200 OK"
            got = await one.reader.readexactly(int(dict(fields)["Content-Length"]))
        assert body in got

    share, took = await share_of_the_wait(at, client, work())
    assert took > 0.03  # else it says nothing
    assert share < 0.5


async def test_pipelined_requests_that_are_answered_at_once_stop_nobody(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """However many are sent in one segment."""
    at = await command({"log": {"level": "error"}})
    number = 800
    one = await client(at)

    async def work() -> None:
        one.send(f"GET /api/logout HTTP/1.1\r\n{HOST}\r\n" * number)
        for _ in range(number):
            assert (await one.answer()).status == 200

    share, took = await share_of_the_wait(at, client, work())
    assert took > 0.03  # else it says nothing
    assert share < 0.5


async def test_pipelined_requests_of_many_connections_stop_nobody(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """Together they have one share: others wait no longer than beside one that pipelines."""
    at = await command({"log": {"level": "error"}})
    many = [await client(at) for _ in range(200)]
    number = 24

    async def one(pipelines: Client) -> None:
        answered = 0
        while answered < number:
            answered += (await pipelines.reader.readuntil(b"HTTP/1.1 200")).count(b"HTTP/1.1 200")

    async def work() -> None:
        for pipelines in many:
            pipelines.send(f"GET /api/logout HTTP/1.1\r\n{HOST}\r\n" * number)
        await asyncio.gather(*map(one, many))

    share, took = await share_of_the_wait(at, client, work())
    assert took > 0.1  # else it says nothing
    assert share < 0.3


async def test_requests_that_are_put_off_have_their_turn_when_the_sidecar_drains(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """Each connection gets one response more, which says that it is the last one."""
    at = await command({"log": {"level": "error"}, "drain": {"timeout": "20s"}})
    many = [await client(at) for _ in range(20)]
    for one in many:
        one.send(f"GET /api/logout HTTP/1.1\r\n{HOST}\r\n" * 4000)
    for one in many:
        assert (await one.answer()).status == 200
    at.terminate()
    for one in many:
        answer = await one.answer()
        while answer.get("Connection") is None:
            assert answer.status == 200
            answer = await one.answer()
        assert answer.get("Connection") == "close"
        assert await one.rest() == b""
        one.close()
    assert await at.exit_code() == 0


async def test_connections_that_end_while_they_are_put_off_are_forgotten(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar()
    many = [await client(at) for _ in range(20)]
    for one in many:
        one.send(f"GET /api/logout HTTP/1.1\r\n{HOST}\r\n" * 1500)
    for one in many:
        assert (await one.answer()).status == 200
        one.reset()
    await at.wait_for(lambda metrics: metrics["sidecar_client_connections"] == 0)
    turns = at.sidecar._server._turns
    assert not turns._waiting
    assert (await (await client(at)).get("/api/logout")).status == 200


async def test_pipelined_requests_in_turns_are_answered_in_order(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes in between, each once."""
    monkeypatch.setattr("sidecar.web.turn.PIPELINED", 0.0)
    at = await sidecar()
    one = await client(at)
    targets = [f"/{'none' if number % 3 else 'api/logout'}?{number}" for number in range(60)]
    for target in targets:
        one.send(f"GET {target} HTTP/1.1\r\n{HOST}\r\n")
        if target.endswith("7"):
            await asyncio.sleep(0.002)
    got = [await one.answer() for _ in targets]
    assert {answer.status for answer in got} == {200}
    bodies = [b"logged_out" in answer.body for answer in got]
    assert bodies == ["logout" in target for target in targets]
    assert [one.target for one in upstream.requests] == [t for t in targets if "none" in t]


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_websocket_of_tiny_frames_stops_nobody(
    command: StartCommand, upstream: Upstream, client: Clients, side: str
) -> None:
    frames = b"\x81\x80mask" * MIB if side == "client" else b"\x81\x00" * (3 * MIB)
    answers(upstream, [SWITCHED, frames, "close"] if side == "upstream" else [SWITCHED, "hang"])
    at = await command({"log": {"access": False}})

    async def work() -> None:
        one = await client(at)
        one.send(HANDSHAKE)
        await one.read_head()
        if side == "client":
            one.send(frames)
            await one.writer.drain()
            await asyncio.sleep(0.5)
            one.reset()
            return
        async with asyncio.timeout(30):
            await one.reader.readexactly(len(frames))

    share, _ = await share_of_the_wait(at, client, work())
    assert share < 0.5


@pytest.mark.parametrize("size", [16384, 70_000, 300_000])
async def test_websocket_bytes_in_turns_are_whole_and_in_order(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    """Both ways, with the others let in behind every segment."""
    monkeypatch.setattr("sidecar.web.turn.SHARE", 0.0)
    down = bytes(range(256)) * (size // 256)
    frame = b"\x82\x7f" + len(down).to_bytes(8, "big") + down
    masked = b"\x82\xff" + len(down).to_bytes(8, "big") + b"mask" + down
    got = asyncio.get_running_loop().create_future()

    async def serve(wire: Any) -> None:
        await wire.read_head()
        wire.send(SWITCHED)
        for _ in range(8):
            wire.send(frame)
        got.set_result(await wire.reader.readexactly(8 * len(masked)))
        await wire.is_left()

    upstream.serve = serve
    one = await client(await sidecar())
    one.send(HANDSHAKE)
    await one.read_head()
    async with one.sending(masked * 8, 100_000), asyncio.timeout(10):
        assert await one.reader.readexactly(8 * len(frame)) == frame * 8
        assert await got == masked * 8
    one.close()


# -- cookies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookie", [";" * 40_000, "; ".join(["a=b"] * 1001), "a;" * 1001])
async def test_more_cookies_than_any_browser_keeps_are_too_many(
    sidecar: Start, upstream: Upstream, client: Clients, cookie: str
) -> None:
    """To look into tens of thousands takes a second; a document gets the way out."""
    at = await sidecar()
    answer = await (await client(at)).get("/a", f"Cookie: {cookie}")
    assert (answer.status, answer.code) == (431, "headers_too_large")
    answer = await (await client(at)).get("/a", f"Cookie: {cookie}", "Sec-Fetch-Dest: document")
    assert answer.status == 431
    assert b"clear=cookies" in answer.body
    assert upstream.requests == []


async def test_cookies_of_several_lines_count_together(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    one = await client(await sidecar())
    half = "Cookie: " + "; ".join(["a=b"] * 501)
    assert (await one.get("/a", half)).status == 200
    assert (await one.get("/a", half, half)).status == 431


@pytest.mark.parametrize(("lines", "status"), [(500, 200), (501, 431)])
async def test_cookies_of_very_many_lines_count_together(
    sidecar: Start, upstream: Upstream, client: Clients, lines: int, status: int
) -> None:
    """With hardly half as many semicolons as cookies, which is as few as there can be."""
    one = await client(await sidecar())
    assert (await one.get("/a", *["Cookie: a=b; c=d"] * lines)).status == status


async def test_thousand_cookies_pass(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    one = await client(await sidecar())
    cookie = "; ".join(f"c{number}=x" for number in range(1000))
    assert (await one.get("/a", f"Cookie: {cookie}")).status == 200
    assert upstream.last.get("Cookie") == cookie


async def test_way_out_of_too_many_cookies_works(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The session among the first ends, and the browser drops them all."""
    at = await sidecar()
    one = await client(at)
    cookie = "access_token=tok; " + "; ".join(f"c{number}=x" for number in range(3000))
    answer = await one.post("/api/logout", f"Cookie: {cookie}", "Sec-Fetch-Site: same-origin")
    assert (answer.status, answer.get("Clear-Site-Data")) == (303, '"cookies"')
    await (await client(at)).get("/a", "Cookie: access_token=tok")
    assert upstream.last.get("Authorization") is None
