"""People who use a site while it is reloaded and restarted, and what they notice of it."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

PATIENCE: Final = 30.0  # seconds that an answer may take: a restart may hold it back, not lose it
_GOING_AWAY: Final = 1001  # RFC 6455 7.4.1
_CLOSE: Final = 8
_BACK_SECONDS: Final = 0.05  # until somebody who was sent away comes back


@dataclass
class Seen:
    """What all visitors together have seen."""

    requests: int = 0
    repeated: int = 0
    """On a new connection, since a used one had been closed before the answer began."""
    failed: list[str] = field(default_factory=list)
    sockets_opened: int = 0
    sockets_told: int = 0
    """WebSockets that were closed with 1001."""
    sockets_lost: list[str] = field(default_factory=list)
    streams_opened: int = 0
    streams_ended: int = 0
    """Event streams that came to a regular end."""
    streams_broken: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A report for people."""
        return [
            f"requests      {self.requests}, failed {len(self.failed)}, repeated {self.repeated}",
            f"WebSockets    {self.sockets_opened} opened, {self.sockets_told} told 1001, "
            f"{len(self.sockets_lost)} lost",
            f"event streams {self.streams_opened} opened, {self.streams_ended} ended, "
            f"{len(self.streams_broken)} broken",
            *{*self.failed, *self.sockets_lost, *self.streams_broken},
        ]

    @property
    def is_fine(self) -> bool:
        """Whether nobody lost anything."""
        return not (self.failed or self.sockets_lost or self.streams_broken)


class Closed(Exception):
    """A connection was closed before its answer began."""


class Visitor:
    """Asks again and again on a connection that is kept, as browsers do."""

    def __init__(self, port: int, seen: Seen, path: str, body: bytes = b"") -> None:
        self._port = port
        self._seen = seen
        method = "POST" if body else "GET"
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self._request = f"{method} {path} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode() + body
        self._wire: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def visit(self) -> None:
        """Goes on until it is cancelled."""
        try:
            while True:
                await self._once()
                await asyncio.sleep(0)
        finally:
            self._leave()

    async def _once(self) -> None:
        self._seen.requests += 1
        try:
            async with asyncio.timeout(PATIENCE):
                is_used = self._wire is not None
                try:
                    await self._ask()
                except Closed:
                    if not is_used:
                        raise
                    self._seen.repeated += 1
                    await self._ask()
        except (Closed, OSError, EOFError, ValueError, TimeoutError) as error:
            self._leave()
            self._seen.failed.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(_BACK_SECONDS)

    async def _ask(self) -> None:
        if self._wire is None:
            self._wire = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._wire
        try:
            writer.write(self._request)
            first = await reader.read(1)
        except ConnectionError:
            first = b""
        if not first:
            self._leave()
            raise Closed("closed before the answer")
        head = first + await reader.readuntil(b"\r\n\r\n")
        fields = head.lower()
        status = int(head.split(b" ")[1])
        await reader.readexactly(int(fields.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if status != 200:
            raise ValueError(f"status {status}")
        if b"\r\nconnection: close" in fields:
            self._leave()

    def _leave(self) -> None:
        if self._wire is not None:
            self._wire[1].close()
        self._wire = None


class Listener:
    """Keeps an event stream open, and asks again if it ends, as EventSource does."""

    def __init__(self, port: int, seen: Seen) -> None:
        self._port = port
        self._seen = seen

    async def visit(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            try:
                await self._once()
            except (OSError, EOFError) as error:
                self._seen.streams_broken.append(f"stream: {type(error).__name__}: {error}")
            await asyncio.sleep(_BACK_SECONDS)

    async def _once(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head:
                raise EOFError(head.partition(b"\r\n")[0].decode())
            self._seen.streams_opened += 1
            while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                await reader.readexactly(size + 2)
            self._seen.streams_ended += 1
        finally:
            writer.close()


class Chatter:
    """Keeps a WebSocket open, and opens another one if it was told to."""

    def __init__(self, port: int, seen: Seen) -> None:
        self._port = port
        self._seen = seen

    async def visit(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            try:
                await self._once()
            except (OSError, EOFError) as error:
                self._seen.sockets_lost.append(f"WebSocket: {type(error).__name__}: {error}")
            await asyncio.sleep(_BACK_SECONDS)

    async def _once(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        key = base64.b64encode(os.urandom(16)).decode()
        try:
            writer.write(
                f"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in head:
                raise EOFError(head.partition(b"\r\n")[0].decode())
            self._seen.sockets_opened += 1
            while True:
                first, length = await reader.readexactly(2)
                payload = await reader.readexactly(length)
                if first & 15 == _CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    if code != _GOING_AWAY:
                        raise EOFError(f"closed with {code}")
                    self._seen.sockets_told += 1
                    writer.write(bytes([0x88, 0x82, 0, 0, 0, 0]) + payload[:2])
                    with suppress(OSError):
                        await reader.read()
                    return
        finally:
            writer.close()
