"""`sidecar run` as a process: how it starts, drains and ends, and how little memory it takes."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.conftest import Client, Clients, Command, StartCommand, Upstream, Wire

HOST = "Host: app.example.com\r\n"
MIB = 1 << 20


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
        "log": {"access": False},
        **more,
    }


async def begun(one: Client, upstream: Upstream, path: str = "/page") -> None:
    """A request is under way."""
    count = len(upstream.requests)
    one.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
    async with asyncio.timeout(20):
        while len(upstream.requests) == count:
            await asyncio.sleep(0.01)


# -- open files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
async def test_limit_of_open_files_is_raised_and_its_end_is_told(
    command: StartCommand, upstream: Upstream, client: Clients, workers: int
) -> None:
    """The soft limit is no reason to refuse anybody; out of files, one line says what helps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        at = await command(config(upstream, workers=workers))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (await (await client(at)).get("/page")).status == 200
    pids = [at.process.pid] if workers == 1 else children(at.process.pid)
    for pid in pids:
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, hard))
    several = [await client(at) for _ in range(120)]
    async with asyncio.timeout(20):
        while "connections cannot be accepted" not in at.stderr:
            await asyncio.sleep(0.05)
    assert "ulimit -n" in at.stderr
    await asyncio.sleep(1.2)
    assert at.stderr.count("connections cannot be accepted") <= workers
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert (await several[-1].get("/page")).status == 200


def children(pid: int) -> list[int]:
    """The processes that a process has forked."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_limit_that_cannot_be_raised_is_told_at_the_start(
    command: StartCommand, upstream: Upstream
) -> None:
    """Before anybody is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = {"limits": {"connections": hard + 1}}
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit")
    at = await command(config(upstream, **limits))
    assert "few open files" in at.stderr
    assert f"only {hard} files" in at.stderr
    assert soft <= hard


# -- start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"routes": []}, "routes"),
        ({"limits": {"header": "many"}}, "limits.header"),
        ({"secret": "too short a secret"}, "secret"),
        ({"tls": {"cert": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}}, ""),
        ({"tls": {"cert": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}, "workers": 2}, ""),
        ({"store": {"url": "memory:"}, "workers": 2}, "store.url"),
    ],
)
async def test_configuration_that_cannot_be_used_ends_with_2(
    command: StartCommand, upstream: Upstream, more: dict[str, Any], told: str
) -> None:
    """And says which key; no secret, no traceback."""
    at = await command(config(upstream) | more)
    assert await at.exit_code() == 2
    assert told in at.stderr
    assert "too short a secret" not in at.stderr
    assert "Traceback" not in at.stderr


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("which", ["listen", "admin"])
async def test_port_that_is_taken_ends_with_2(
    command: StartCommand, upstream: Upstream, which: str, workers: int
) -> None:
    """Told once, however many would have listened."""
    taken = {which: f"127.0.0.1:{upstream.port}", "workers": workers}
    at = await command(config(upstream) | taken)
    assert await at.exit_code() == 2
    assert at.stderr.count("sidecar: cannot start") == 1
    assert "Traceback" not in at.stderr


@pytest.mark.parametrize(
    ("more", "event"),
    [
        ({}, "memory store"),
        ({"workers": 2}, "private store"),
        ({"store": {"url": "sqlite:///{path}/store.db"}}, None),
    ],
)
async def test_what_a_restart_forgets_is_said_at_start(
    *,
    command: StartCommand,
    upstream: Upstream,
    tmp_path: Path,
    more: dict[str, Any],
    event: str | None,
) -> None:
    """Once, with what would remember it."""
    text = json.dumps(more).replace("/{path}", str(tmp_path))
    at = await command(config(upstream) | json.loads(text))
    async with asyncio.timeout(20):
        while at.stderr.count('"serving"') < more.get("workers", 1):
            await asyncio.sleep(0.02)
        at.terminate()
        assert await at.process.wait() == 0
    told = [line for line in map(json.loads, at.stderr.splitlines()) if "store" in line["event"]]
    assert [(line["event"], line["level"]) for line in told] == [(event, "info")] * bool(event)
    assert all("sqlite:///" in line["detail"] for line in told)


# -- drain -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_drain_finishes_what_is_under_way(
    command: StartCommand, upstream: Upstream, client: Clients, number: signal.Signals
) -> None:
    """Idle connections are closed meanwhile, nobody new is let in, and the exit code is 0."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            if (await upstream.receive(wire)).target == "/busy":
                await release.wait()
            wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await command(config(upstream))
    idle, silent, busy = [await client(at.port) for _ in range(3)]
    assert (await idle.get("/page")).status == 200
    await begun(busy, upstream, "/busy")
    at.process.send_signal(number)
    assert await idle.rest() == b""
    assert await silent.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await client(at.port)
    release.set()
    answer = await busy.answer()
    assert (answer.status, answer.get("Connection")) == (200, "close")
    assert await busy.rest() == b""
    await busy.gone()
    assert await at.exit_code() == 0


async def test_log_says_that_a_request_was_cut_at_the_end_of_the_drain(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """And not that its client left, who would have waited."""
    upstream.default = ["hang"]
    more = {"drain": {"wait": "0s", "timeout": "1s"}, "log": {"access": True}}
    at = await command(config(upstream, **more))
    busy = await client(at.port)
    await begun(busy, upstream, "/busy")
    at.terminate()
    assert await busy.broken() == b""
    assert await at.exit_code() == 0
    lines = [json.loads(line) for line in at.stderr.splitlines()]
    (line,) = [one for one in lines if one["event"] == "request"]
    assert line["reason"] == "cut at the end of the drain"


async def test_drain_waits_for_who_has_just_connected(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """Its request is on the way, if only the connection is here; and so is the rest of a head."""
    at = await command(config(upstream))
    half = await client(at.port)
    half.send("GET /page HTTP/1.1\r\n")
    await asyncio.sleep(0.7)
    new = await client(at.port)
    at.terminate()
    while "draining" not in at.stderr:
        await asyncio.sleep(0.01)
    answer = await new.get("/page")
    assert (answer.status, answer.get("Connection")) == (200, "close")
    half.send(f"{HOST}\r\n")
    assert (await half.answer()).status == 200
    for one in (new, half):
        await one.gone()
    assert await at.exit_code() == 0


async def test_drain_lets_bodies_come_to_their_end(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """An upload and a download that had begun: no byte of an upload is lost."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.answers([head, b"5\r\nhello\r\n", 0.4, b"5\r\nworld\r\n0\r\n\r\n"])
    at = await command(config(upstream))
    down, up = await client(at.port), await client(at.port)
    await begun(down, upstream)
    up.send(
        f"POST /page HTTP/1.1\r\n{HOST}Content-Length: 300000\r\n\r\n".encode() + b"x" * 100_000
    )
    await asyncio.sleep(0.2)
    at.terminate()
    await asyncio.sleep(0.1)
    up.send(b"y" * 200_000)
    assert (await up.answer()).status == 200
    assert upstream.last.body == b"x" * 100_000 + b"y" * 200_000
    assert (await down.answer()).body == b"helloworld"
    for one in (up, down):
        await one.gone()
    assert await at.exit_code() == 0


DRAIN = {"drain": {"wait": "1s", "timeout": "10s"}}


async def test_after_sigterm_it_is_not_ready_but_serves(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """For `drain.wait`, new connections too; each answer asks its client to leave."""
    at = await command(config(upstream) | DRAIN)
    old = await client(at.port)
    at.terminate()
    began = time.monotonic()
    async with asyncio.timeout(20):
        while (answer := await at.ask_admin("/readyz")).status == 200:
            await asyncio.sleep(0.01)
    assert answer.json["draining"] is True
    for one in (old, await client(at.port)):
        answer = await one.get("/page")
        assert (answer.status, answer.get("Connection")) == (200, "close")
        await one.gone()
    assert await at.exit_code() == 0
    assert time.monotonic() - began >= 1
    with pytest.raises(ConnectionRefusedError):
        await client(at.port)


async def test_ctrl_c_does_not_wait(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    at = await command(config(upstream) | DRAIN)
    began = time.monotonic()
    at.process.send_signal(signal.SIGINT)
    assert await at.exit_code() == 0
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_event_streams_end_with_the_server(
    command: StartCommand, upstream: Upstream, client: Clients, version: str
) -> None:
    """As whole answers, so that EventSource asks again. The restart does not wait for them, nor
    for long where the client leaves its side of the connection open.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    upstream.answers([head, b"data: 1\n\n", "hang"])
    at = await command(config(upstream))
    one = await client(at.port)
    one.send(f"GET /a HTTP/{version}\r\n{HOST}\r\n")
    await one.reader.readuntil(b"data: 1\n\n")
    at.terminate()
    began = time.monotonic()
    assert await one.rest() == (b"\r\n0\r\n\r\n" if version == "1.1" else b"")
    assert await at.exit_code() == 0
    assert time.monotonic() - began < 3
    assert '"connections_cut": 0' in at.stderr


async def test_second_signal_cuts_what_is_under_way(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """Who is in a hurry need not wait for the drain's end."""
    upstream.default = ["hang"]
    at = await command(config(upstream))
    busy = await client(at.port)
    await begun(busy, upstream)
    at.terminate()
    async with asyncio.timeout(20):
        while "draining" not in at.stderr:
            await asyncio.sleep(0.01)
    at.terminate()
    assert await busy.ends() == b""
    assert await at.exit_code() == 0


# -- memory ----------------------------------------------------------------------------------------

ALLOWED = 20 * MIB


class Meter:
    """How far a process's memory rises while something goes on."""

    def __init__(self, at: Command) -> None:
        self._at = at
        self.before = at.resident()
        self.peak = 0

    async def __aenter__(self) -> Meter:
        self._task = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._at.resident())
            await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        self.peak = max(self.peak, self._at.resident())
        self._task.cancel()

    @property
    def risen(self) -> int:
        return self.peak - self.before


async def warm(at: Command, client: Clients) -> None:
    """Everything that is allocated once has been."""
    one = await client(at.port)
    for path in ("/page", "/a"):
        assert (await one.post(path, body=b"x" * 200_000)).status == 200


def sends(upstream: Upstream, head: bytes, piece: bytes, count: int, last: bytes = b"") -> None:
    """The upstream's connections from now on send a head, a piece many times, and an end."""

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        wire.send(head)
        for _ in range(count):
            wire.send(piece)
            await wire.writer.drain()
        wire.send(last)
        await wire.is_left(30)

    takes_over(upstream, serve)


def takes_over(upstream: Upstream, serve: Callable[[Wire], Awaitable[None]]) -> None:
    """Connections that are there end; new ones are served so."""
    upstream.serve = serve
    for wire in upstream.open:
        wire.close()


async def taken(one: Client) -> int:
    """How many bytes come until the connection is closed."""
    total = 0
    async with asyncio.timeout(30):
        while data := await one.reader.read(MIB):
            total += len(data)
    return total


@pytest.mark.parametrize("slow", [False, True])
async def test_download_of_100_mb_takes_no_memory(
    command: StartCommand, upstream: Upstream, client: Clients, *, slow: bool
) -> None:
    """Nor does one that the client reads only later."""
    at = await command(config(upstream))
    await warm(at, client)
    size = 100 * MIB
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    sends(upstream, head.encode(), b"x" * MIB, 100)
    one = await client(at.port, **({"window": 65536} if slow else {}))
    async with Meter(at) as meter:
        one.send(f"GET /page/new HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
        await asyncio.sleep(0.5 if slow else 0)
        assert await taken(one) > size
    assert meter.risen < ALLOWED


async def test_upload_of_100_mb_takes_no_memory(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """To an upstream that begins to read late."""
    at = await command(config(upstream))
    await warm(at, client)
    got = 0

    async def serve(wire: Wire) -> None:
        nonlocal got
        await wire.read_head()
        await asyncio.sleep(0.3)
        while got < 100 * MIB:
            got += len(await wire.reader.read(MIB))
        wire.send(upstream.reply(b"{}", "Connection: close"))

    takes_over(upstream, serve)
    one = await client(at.port)
    async with Meter(at) as meter:
        one.send(f"PUT /a HTTP/1.1\r\n{HOST}Content-Length: {100 * MIB}\r\n\r\n")
        async with one.sending(b"x" * (100 * MIB), MIB):
            async with asyncio.timeout(30):
                answer = await one.reader.readuntil(b"\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\n"
    assert got == 100 * MIB
    assert meter.risen < ALLOWED


@pytest.mark.parametrize("member", [b"", b'{"message":"m","data":'])
async def test_envelope_of_60_mb_takes_no_memory(
    command: StartCommand, upstream: Upstream, client: Clients, member: bytes
) -> None:
    """And is one JSON document to its end."""
    at = await command(config(upstream))
    await warm(at, client)
    rows = b",".join([b'{"id":12345,"name":"a \\u00e9 name","tags":["a","b"]}'] * 2000)
    count = 60 * MIB // len(rows)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    end = b"]" + (b"}" if member else b"")
    size = len(member) + 1 + count * (len(rows) + 1) + 2 + len(end)
    head += b"Content-Length: %d\r\n\r\n" % size
    sends(upstream, head + member + b"[", rows + b",", count, b"{}" + end)
    one = await client(at.port)
    tail = b""
    total = 0
    async with Meter(at) as meter:
        one.send(f"GET /new HTTP/1.0\r\n{HOST}\r\n")
        async with asyncio.timeout(30):
            while data := await one.reader.read(MIB):
                total += len(data)
                tail = (tail + data)[-200:]
    assert total > size
    assert tail.endswith((b'"errorData":null}', b'"message":"m"}', b'"status":200}'))
    assert meter.risen < ALLOWED


async def test_bomb_of_gzip_takes_no_memory(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """80 MB of blanks in a few KB, decoded and passed on in steps (T51)."""
    at = await command(config(upstream))
    await warm(at, client)
    bomb = gzip.compress(b"[" + b" " * (80 * MIB) + b"]", 1)
    upstream.default = upstream.reply(bomb, "Content-Encoding: gzip")
    one = await client(at.port)
    async with Meter(at) as meter:
        one.send(f"GET /new HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
        assert await taken(one) > 0
    assert meter.risen < ALLOWED


async def test_many_connections_take_little(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """200 idle ones and 200 in the middle of a head: well under 50 KiB each."""
    at = await command(config(upstream))
    await warm(at, client)
    async with Meter(at) as meter:
        for number in range(400):
            one = await client(at.port)
            one.send(f"GET /a HTTP/1.1\r\n{HOST}" + ("\r\n" if number % 2 else "A: b"))
            if number % 2:
                await one.answer()
    assert meter.risen < ALLOWED
