"""The network between a sidecar and its provider or its store, which tests can cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.life.programs import Idp
from tests.ports import free_port


class Gate:
    """Forwards connections to a port: unless it is shut (refused)."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listens, also again."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Connections are refused from now on, and those that are open end."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def names(self) -> tuple[bytes, bytes]:
        """What is replaced in what goes there: nothing."""
        return b"", b""

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                back = asyncio.create_task(_pump(theirs, writer, b"", b""))
                await _pump(reader, ours, *self.names())
                await back
            finally:
                back.cancel()
                ours.close()
        writer.close()


class Door(Gate):
    """The way to the provider, which answers to its own name only.

    So the Host field is put right; ports have five digits, so no length changes.
    """

    def __init__(self, idp: Idp) -> None:
        super().__init__(idp.port)
        self.url = f"http://127.0.0.1:{self.port}"

    def names(self) -> tuple[bytes, bytes]:
        return f":{self.port}".encode(), f":{self._target}".encode()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, old: bytes, new: bytes
) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data.replace(old, new) if old else data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
