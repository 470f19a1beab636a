"""A relay between a client and the sidecar that cuts what the client sends into other segments."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final

TURNS: Final = 3  # of the event loop behind each segment


@asynccontextmanager
async def cutting_relay(port: int, random: Random) -> AsyncIterator[int]:
    """The port of a relay to `port`; every segment to there is cut at random."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        raw = inner_writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = asyncio.create_task(_pass(inner_reader, writer))
        try:
            with suppress(ConnectionError):
                await _cut(reader, inner_writer, random)
        finally:
            inner_writer.close()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, random: Random) -> None:
    """Passes bytes on in segments: one request or so, a few bytes, or many requests at once."""
    while data := await reader.read(1 << 16):
        while data:
            size = random.choice((random.randint(1, 20), random.randint(100, 900), 3000, 1 << 16))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            for _ in range(TURNS):
                await asyncio.sleep(0)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
