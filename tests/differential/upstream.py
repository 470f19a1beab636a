"""An upstream that records raw bytes, and answers as it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.corpus.wire import Message, parse_request

Step: TypeAlias = bytes | None
"""Bytes to send, each in a segment of its own; None closes."""

NAME: Final = re.compile(rb"\bc(\d+)\.(\d|s)")
_MOST: Final = 4 << 20  # bytes that are kept of one connection


@dataclass(slots=True)
class Recorded:
    """What came on one connection: whole requests, and the beginning of another one."""

    requests: list[Message] = field(default_factory=list)
    rest: bytes = b""


def name_of(message: Message) -> str:
    """Which request of which stream that is: `c12.0`; empty if nothing in it says so."""
    told = message.get("x-case") or message.raw.decode("latin-1")
    found = NAME.search(told.encode("latin-1"))
    return "" if found is None else found[0].decode()


class Recorder:
    """Records every connection since `reset`.

    Each request is answered with its name in X-Answer; the first of a stream by `script`, if there
    is one.
    """

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Recorded] = []
        self.script: Sequence[Step] | None = None
        self._open: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Forgets what it has seen; connections that are open stay so."""
        self.connections.clear()
        self.script = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listens on a port of its own until the context is left."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in list(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.transport.abort()
        self._open.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        recorded: Recorded | None = None
        while piece := await reader.read(1 << 18):
            data = (data + piece)[:_MOST]
            if recorded is None or not any(recorded is one for one in self.connections):
                recorded = Recorded()
                self.connections.append(recorded)
            while data:
                request, size = parse_request(data, control_passes=True)
                if request is None or not request.is_whole:
                    break
                data = data[size:]
                recorded.requests.append(request)
                if not await self._answer(writer, request):
                    return
            recorded.rest = data

    async def _answer(self, writer: asyncio.StreamWriter, request: Message) -> bool:
        """Answers; returns whether the connection goes on."""
        name = name_of(request)
        if self.script is None or not name.endswith(".0"):
            body = "" if request.method == "HEAD" else f"answer of {name}"
            length = len(f"answer of {name}")
            writer.write(
                f"HTTP/1.1 200 OK\r\nX-Answer: {name}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {length}\r\n\r\n{body}".encode()
            )
            return True
        for step in self.script:
            if step is None:
                await writer.drain()
                writer.write_eof()
                writer.close()
                return False
            writer.write(step)
            await writer.drain()
            await asyncio.sleep(0)
        return True
