"""WebSocket messages and server-sent events, asked for by this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import ClientSession, TCPConnector

from tests.bench.procfs import cpu_seconds
from tests.bench.servers import Server
from tests.bench.site import HOST
from tests.bench.stage import Sample, Stage
from tests.bench.upstream import EVENT

SOCKETS: Final = 32
STREAMS: Final = 200
PAUSE: Final = 50  # milliseconds between two events of a stream
MESSAGE: Final = "x" * 100

Counted = list[int]


def messages(stage: Stage, name: str) -> Sample:
    """Each of the sockets sends a message when it has the echo of the one before."""
    return _measured(stage, name, _exchange, SOCKETS)


def events(stage: Stage, name: str) -> Sample:
    """Streams that say something every `PAUSE` milliseconds each."""
    return _measured(stage, name, _listen, STREAMS)


def _measured(
    stage: Stage,
    name: str,
    use: Callable[[Server, Counted, asyncio.Barrier], Awaitable[None]],
    count: int,
) -> Sample:
    return asyncio.run(_counted(stage.server(name), stage.seconds, use, count))


async def _counted(
    server: Server,
    seconds: int,
    use: Callable[[Server, Counted, asyncio.Barrier], Awaitable[None]],
    count: int,
) -> Sample:
    """Microseconds of CPU time for each that passes once all are open, and how many a second."""
    counted, opened, loop = [0], asyncio.Barrier(count + 1), asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(use(server, counted, opened)) for _ in range(count)]
    await asyncio.wait(
        {asyncio.ensure_future(opened.wait()), *tasks}, return_when="FIRST_COMPLETED"
    )
    before, begun, passed = cpu_seconds(server.pid), loop.time(), counted[0]
    await asyncio.wait(tasks, timeout=seconds, return_when="FIRST_EXCEPTION")
    passed, spent = counted[0] - passed, cpu_seconds(server.pid) - before
    for task in tasks:
        if task.done():
            task.result()  # none ends by itself
        task.cancel()
    ended = loop.time()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"cpu": spent / passed * 1e6, "rate": passed / (ended - begun)}


async def _exchange(server: Server, counted: Counted, opened: asyncio.Barrier) -> None:
    """Counts messages in both directions."""
    fields = {"Cookie": server.session.header, "Origin": f"http://{HOST}:{server.port}"}
    async with (
        ClientSession() as session,
        session.ws_connect(server.url("/echo/socket"), headers=fields) as wire,
    ):
        await opened.wait()
        while True:
            await wire.send_str(MESSAGE)
            assert await wire.receive_str() == MESSAGE
            counted[0] += 2


async def _listen(server: Server, counted: Counted, opened: asyncio.Barrier) -> None:
    """Counts events, by their bytes."""
    fields = {"Cookie": server.session.header, "Accept": "text/event-stream"}
    url = f"{server.url('/echo/events')}?pause={PAUSE}"
    async with (
        ClientSession(connector=TCPConnector(force_close=True)) as session,
        session.get(url, headers=fields) as answer,
    ):
        assert answer.status == 200, answer.status
        assert await answer.content.readexactly(len(EVENT)) == EVENT
        await opened.wait()
        while await answer.content.readexactly(len(EVENT)) == EVENT:
            counted[0] += 1
