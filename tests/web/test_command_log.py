"""The log of `sidecar run` as a process: it never holds up a request, and loses no line unsaid."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.metrics import Metrics
from tests.conftest import Command
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from sidecar.web.flow import Flow
    from tests.conftest import Clients, Upstream
    from tests.conftest import Start as StartSidecar

    Run = Callable[..., Awaitable[Command]]

REQUEST = b"GET /own/%d HTTP/1.1\r\nHost: app.example.com\r\nAccept: application/json\r\n\r\n"
REQUEST_ID = re.compile(rb"x-request-id: ([^\r]+)\r\n", re.IGNORECASE)
LOST = "sidecar_log_lines_lost_total"
MIB = 1 << 20


@pytest.fixture
async def run(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Run]:
    """`await run(stderr)` serves with that standard error; requests below /own need no upstream."""
    runs: list[Command] = []

    async def start(stderr: int, **more: Any) -> Command:
        port, admin = free_port(), free_port()
        config = {
            "listen": f"127.0.0.1:{port}",
            "drain": {"wait": "0s"},
            "admin": f"127.0.0.1:{admin}",
            "secret": "a secret of the tests, 32 bytes or more",
            "upstreams": {"main": {"url": upstream.url}},
            "routes": [
                {"path": "/", "kind": "api", "upstream": "main", "session": "none"},
                {"path": "/own", "kind": "api", "upstream": "main", "session": "required"},
            ],
            "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
            **more,
        }
        file = tmp_path / f"{port}.json"
        file.write_text(json.dumps(config))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar", "run", "-c", str(file)),
            stderr=stderr,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        runs.append(Command(port, admin, process, tmp_path))
        assert await runs[-1].serving()
        return runs[-1]

    yield start
    for one in runs:
        if one.process.returncode is None:
            one.terminate()
        await one.exit_code()


async def load(at: Command, count: int, *, connections: int = 4) -> list[str]:
    """Answers to that many requests, pipelined on each connection: their request ids."""
    share = count // connections
    found = await asyncio.gather(*(_load(at, share) for _ in range(connections)))
    return [one for some in found for one in some]


async def _load(at: Command, count: int) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    found: list[str] = []
    for first in range(0, count, 100):
        some = range(first, min(first + 100, count))
        writer.write(b"".join(REQUEST % number for number in some))
        for _ in some:
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
            match = REQUEST_ID.search(head)
            assert match is not None
            found.append(match[1].decode())
    writer.close()
    return found


async def health(at: Command) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.admin)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(20):
        status = int((await reader.read())[9:12])
    writer.close()
    return status


class Reader:
    """Reads a pipe as a collector does: in a thread of its own, and slowly if told so."""

    def __init__(self, fd: int, pause: float = 0) -> None:
        self._fd = fd
        self._pause = pause
        self.data = b""
        self._task = asyncio.create_task(asyncio.to_thread(self._read))

    def _read(self) -> None:
        while data := os.read(self._fd, 4096 if self._pause else 65536):
            self.data += data
            time.sleep(self._pause)
        os.close(self._fd)

    async def has(self, what: bytes, count: int) -> None:
        """Waits until it has come that often."""
        async with asyncio.timeout(30):
            while self.data.count(what) < count:
                await asyncio.sleep(0.05)

    async def end(self) -> list[dict[str, Any]]:
        """Every line until nobody writes any more."""
        async with asyncio.timeout(30):
            await self._task
        assert self.data.endswith(b"\n")
        return [json.loads(line) for line in self.data.splitlines()]


async def test_the_answer_leaves_before_the_request_is_observed(
    sidecar: StartSidecar, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a request that waited behind it on the connection is observed later."""
    seen: list[tuple[str, bool, int, int]] = []

    def observe(_: Metrics, flow: Flow, seconds: float) -> None:
        assert 0 <= seconds < 5
        seen.append((flow.target, flow.finished, flow.status, flow.bytes_out))

    monkeypatch.setattr(Metrics, "observe", observe)
    upstream.default = upstream.reply(b"[1]")
    at = await sidecar(
        routes=[
            {"path": "/", "kind": "page", "upstream": "main"},
            {"path": "/own", "kind": "api", "upstream": "main", "session": "required"},
        ],
        upstreams={"main": {"url": upstream.url}},
    )
    one = await client(at.port)
    for path in ("/warm", "/again", "/own"):
        one.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(3):
        await one.answer()
    assert [row[:3] for row in seen] == [
        ("/warm", True, 200),
        ("/again", True, 200),
        ("/own", True, 303),
    ]
    assert [row[3] for row in seen[:2]] == [3, 3]


async def test_a_log_without_a_reader_holds_up_nobody(run: Run) -> None:
    """Every request is answered, the process is healthy, and takes no more memory."""
    reading, writing = os.pipe()
    at = await run(writing)
    os.close(writing)
    os.close(reading)
    assert len(await load(at, 200)) == 200
    assert await health(at) == 200
    await load(at, 16_000)  # Python takes its memory by the mebibyte
    before = at.resident()
    await load(at, 16_000)
    assert at.resident() - before < MIB // 2
    assert await health(at) == 200
    assert (await at.metrics())[LOST] > 0
    at.terminate()
    assert await at.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_unread_log_holds_up_nobody_and_says_what_is_missing(
    run: Run, workers: int
) -> None:
    """Once somebody reads, every line is whole, and those that are missing are told once."""
    reading, writing = os.pipe()
    at = await run(writing, workers=workers)
    os.close(writing)
    began = time.monotonic()
    answered = await load(at, 8_000)
    assert time.monotonic() - began < 30
    assert len(set(answered)) == 8_000
    assert await health(at) == 200
    lost = (await at.metrics())[LOST]
    assert lost > 0
    reader = Reader(reading)
    await asyncio.sleep(1)
    late = await load(at, 40)
    at.terminate()
    assert await at.exit_code() == 0
    lines = await reader.end()
    gaps = [line for line in lines if line["event"] == "log lines lost"]
    assert 1 <= len(gaps) <= workers
    assert sum(line["lines"] for line in gaps) == lost
    logged = Counter(line["request_id"] for line in lines if line["event"] == "request")
    assert set(logged.values()) == {1}
    assert set(logged) <= {*answered, *late}
    assert set(late) <= set(logged)
    assert len(logged) == 8_040 - lost


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_full_disk_holds_up_nobody(run: Run, workers: int) -> None:
    """Which was full before it started."""
    full = os.open("/dev/full", os.O_WRONLY)
    at = await run(full, workers=workers)
    os.close(full)
    assert len(await load(at, 10_000)) == 10_000
    assert await health(at) == 200
    at.terminate()
    assert await at.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pause", [0.0, 0.002])
async def test_each_request_has_one_whole_line(run: Run, workers: int, pause: float) -> None:
    """Also if the pipe is full most of the time; on one connection in the order of the answers."""
    reading, writing = os.pipe()
    at = await run(writing, workers=workers)
    os.close(writing)
    reader = Reader(reading, pause)
    count = 1200  # lines that a process can hold, however late they are read: none may be lost
    answered = await load(at, count, connections=8)
    await reader.has(b'"event": "request"', count)
    at.terminate()
    assert await at.exit_code() == 0
    lines = await reader.end()
    logged = [line["request_id"] for line in lines if line["event"] == "request"]
    places = {one: place for place, one in enumerate(logged)}
    assert len(logged) == len(places)
    assert set(logged) == set(answered)
    for first in range(0, count, count // 8):
        own = [places[one] for one in answered[first : first + count // 8]]
        assert own == sorted(own)


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_last_request_before_the_end_is_logged(run: Run, workers: int) -> None:
    reading, writing = os.pipe()
    at = await run(writing, workers=workers)
    os.close(writing)
    reader = Reader(reading)
    (answered,) = await load(at, 1, connections=1)
    at.process.send_signal(signal.SIGTERM)
    assert await at.exit_code() == 0
    lines = await reader.end()
    assert answered in [line.get("request_id") for line in lines]
    assert lines[-1]["event"] == "stopped"
