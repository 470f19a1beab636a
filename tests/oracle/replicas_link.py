"""A replica's own way to Redis, which can be broken in the ways that networks break."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

OK: Final = "ok"
HOLDS: Final = {"hole": "both", "up": "down", "down": "up", "void": "both"}
"""Modes in which what goes one way, or both, is held; in `up` what goes to Redis still passes."""

MODES: Final = (OK, "cut", "slow", *HOLDS)
_CHUNK: Final = 1 << 16


class Link:
    """A TCP proxy on a port of its own.

    `cut` resets what is open and what comes; `slow` takes `delay` seconds for every segment. What
    is held arrives late once all is well again, as what TCP sends again does; only behind `void`
    the connections are reset instead.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.mode = OK
        self._delay = 0.0
        self._turned = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends every connection."""
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def turn(self, mode: str, delay: float = 0.0) -> None:
        """Breaks, or heals."""
        was, self.mode, self._delay = self.mode, mode, delay
        if mode == "cut" or was == "void":
            self.reset()
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    def reset(self) -> None:
        """Resets what is open."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def lead(self, target: int) -> None:
        """Leads to another server from now on."""
        self.target = target
        self.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            if self.mode != "cut":
                with suppress(OSError, asyncio.CancelledError):
                    await self._join(reader, writer)
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._open.add(back)
        pumps = {
            asyncio.ensure_future(self._pump(reader, back, "up")),
            asyncio.ensure_future(self._pump(there, writer, "down")),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            back.transport.abort()
            self._open.discard(back)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.mode == "slow":
                    await asyncio.sleep(self._delay)
                while HOLDS.get(self.mode) in (way, "both"):
                    await self._turned.wait()
                writer.write(data)
                await writer.drain()
            await asyncio.sleep(0.01)  # what was written is sent before the connection is reset
