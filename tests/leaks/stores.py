"""Stores that keep what they were ever told, and show all that they hold."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final, Protocol

from redis import Redis

from tests.net.store.conftest import PATIENCE, Server


class Dumped(Protocol):
    """A store of the sidecar; `url` is how it is configured."""

    url: str

    def dump(self) -> bytes:
        """Every key and value that it holds, and whatever it was told."""


class SqliteDump:
    """A file. Values may go over several pages of it, so its rows are read."""

    def __init__(self, file: Path) -> None:
        self._file: Final = file
        self.url = f"sqlite:///{file}"

    def dump(self) -> bytes:
        with closing(sqlite3.connect(self._file)) as opened:
            found = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = [name for (name,) in found]
            rows = [
                row
                for name in names
                for row in opened.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - its own names
            ]
        cells = [
            one if isinstance(one, bytes) else str(one).encode() for row in rows for one in row
        ]
        return b"\n".join(cells)


class RedisDump:
    """A server with a password. What it was told is what a replica, a file or a spy would get."""

    def __init__(self, server: Server, password: str) -> None:
        self._server: Final = server
        self._password: Final = password
        self.url = f"redis://:{password}@{server.address}/0"
        self.told = bytearray()

    async def listen(self) -> None:
        """Until it is cancelled: each command with its arguments, those of scripts and messages."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(f"AUTH {self._password}\r\nMONITOR\r\n".encode())
        try:
            while data := await reader.read(1 << 16):
                self.told += data
        finally:
            writer.close()

    def dump(self) -> bytes:
        with Redis(host="127.0.0.1", port=self._server.port, password=self._password) as client:
            keys = client.keys("*")
            values = [client.dump(key) for key in keys]
        return b"\n".join((*keys, *values, bytes(self.told)))


@asynccontextmanager
async def dumped(kind: str, program: str, folder: Path, password: str) -> AsyncIterator[Dumped]:
    """A store of that kind, until the context is left."""
    if kind == "sqlite":
        yield SqliteDump(folder / "store.db")
        return
    server = Server(program, folder, "--requirepass", password)
    server.start()
    store = RedisDump(server, password)
    listening = asyncio.create_task(store.listen())
    try:
        async with asyncio.timeout(PATIENCE):
            while b"+OK\r\n+OK" not in store.told:
                await asyncio.sleep(0.02)
        yield store
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        server.kill()
