"""A client connection that tells a whole response from one that visibly breaks."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LONGEST_HEAD: Final = 1 << 17


class Broken(Exception):
    """The response visibly ended before its end."""


class Unanswered(Broken):
    """The connection ended before the response began."""


@dataclass(frozen=True, slots=True)
class Got:
    """A whole response, or the head of one."""

    status: int
    fields: dict[str, str]
    cookies: tuple[bytes, ...]
    body: bytes = b""


def request(method: str, target: str, cookie: str, *fields: str, body: bytes = b"") -> bytes:
    """A request as a script of the same origin sends it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Sec-Fetch-Site: same-origin"]
    lines += [f"Cookie: {cookie}"] if cookie else []
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1") + body


class Wire:
    """One connection. All methods raise `Broken`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_used = False

    async def ask(self, data: bytes) -> Got:
        """Sends a request and reads the whole response."""
        self.send(data)
        got = await self.head()
        body = await self.body(got)
        self.is_used = True
        return Got(got.status, got.fields, got.cookies, body)

    def send(self, data: bytes) -> None:
        """Sends without waiting. Raises `Unanswered` if the connection has ended."""
        if self.writer.is_closing():
            raise Unanswered("closed")
        self.writer.write(data)

    async def head(self) -> Got:
        """The head of the final response."""
        while (got := await self._head()).status in (100, 103):
            pass
        return got

    async def _head(self) -> Got:
        try:
            data = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise Broken("within a head") from None
            raise Unanswered("closed") from None
        except asyncio.LimitOverrunError:
            raise ValueError("a head without an end") from None
        except OSError as error:
            raise Unanswered(type(error).__name__) from None
        line, *lines = data[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = line.split(" ")
        if version != "HTTP/1.1":
            raise ValueError(f"not a status line: {line!r}")
        fields: dict[str, str] = {}
        cookies = []
        for one in lines:
            name, _, value = one.partition(":")
            fields[name.lower()] = value.strip()
            if name.lower() == "set-cookie":
                cookies.append(value.strip().encode("latin-1"))
        return Got(int(status), fields, tuple(cookies))

    async def body(self, got: Got) -> bytes:
        """The whole body behind a head. Raises `Broken` if its end does not come."""
        fields = got.fields
        if got.status in (204, 304):
            return b""
        if "chunked" in fields.get("transfer-encoding", ""):
            return b"".join([one async for one in self.chunks()])
        if "content-length" not in fields:
            raise ValueError("a response whose end cannot be seen")
        return await self._exactly(int(fields["content-length"]))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks until the last one."""
        while True:
            try:
                line = await self.reader.readuntil(b"\r\n")
            except (asyncio.IncompleteReadError, OSError):
                raise Broken("within a body") from None
            size = int(line, 16)
            data = await self._exactly(size + 2)
            if not size:
                return
            yield data[:-2]

    async def frame(self) -> tuple[int, bytes]:
        """A WebSocket frame of the server: its opcode and its payload (RFC 6455 5.2)."""
        first, length = await self._exactly(2)
        if length == 126:
            length = int.from_bytes(await self._exactly(2), "big")
        return first & 15, await self._exactly(length)

    def say(self, opcode: int, payload: bytes) -> None:
        """Sends a short WebSocket frame of a client, masked with zeros."""
        self.send(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            raise Broken("within a body") from None

    def leave(self) -> None:
        """Closes it with RST, as a client that is gone."""
        self.writer.transport.abort()

    def close(self) -> None:
        """Closes it in order."""
        self.writer.close()


async def connect(port: int) -> Wire:
    """A new connection. Raises `OSError`."""
    return Wire(*await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST_HEAD))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """A connection that is left with RST at the end. Raises `OSError`."""
    wire = await connect(port)
    try:
        yield wire
    finally:
        wire.leave()


def handshake() -> tuple[str, ...]:
    """The fields of a WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    return (*lines, f"Sec-WebSocket-Key: {key}")
