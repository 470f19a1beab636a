"""The upstream, a process of its own: `python -m tests.faults.upstream PORT`.

Its answers name the nonce of the request and the token that it saw. A line `MODE SHARE` on the
port above has it misbehave in that share of its answers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, urlsplit

import uvloop

from tests.faults.wire import connected
from tests.life.programs import Program
from tests.ports import free_port

LINES: Final = 2000  # of a large answer
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_SLOW_SECONDS: Final = 0.7
_STALL_SECONDS: Final = 60.0
_EVENT_SECONDS: Final = 0.2
STOLEN: Final = b'{"nonce":"stolen","token":"stolen","body":0}'
_SECOND: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(STOLEN), STOLEN)
)
"""What would be somebody else's answer, if it were ever taken for one."""


class Upstream(Program):
    """The process, as those who start it see it."""

    def __init__(self, directory: str) -> None:
        from pathlib import Path

        port = free_port()
        command = [sys.executable, "-m", "tests.faults.upstream", str(port)]
        super().__init__(command, port, Path(directory) / "upstream.log")

    async def turn(self, mode: str, share: float = 0.5) -> None:
        """Has it misbehave from now on, or no more (`ok`)."""
        async with connected(self.port + 1) as wire:
            wire.send(f"{mode} {share}\n".encode())
            await wire.reader.readline()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the writer for its answer."""

    path: str
    nonce: str
    token: str
    length: int
    key: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def said(self) -> bytes:
        """The JSON body that answers it."""
        told = {"nonce": self.nonce, "token": self.token, "body": self.length}
        return json.dumps(told, separators=(",", ":")).encode()

    def abort(self) -> None:
        """Ends the connection with RST."""
        self.writer.transport.abort()


def _head(kind: str, *fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields, "", ""]).encode()


def _whole(kind: str, body: bytes) -> bytes:
    return _head(kind, f"Content-Length: {len(body)}") + body


# -- answers --------------------------------------------------------------------------------------


async def _plain(asked: Asked) -> None:
    asked.writer.write(_whole("application/json", asked.said()))


async def _large(asked: Asked) -> None:
    body = f"{asked.nonce} {asked.token}\n".encode() * LINES
    asked.writer.write(_whole("text/plain", body))
    await asked.writer.drain()


async def _pieces(asked: Asked) -> None:
    body = asked.said()
    asked.writer.write(_head("application/json", "Transfer-Encoding: chunked"))
    for at in range(0, len(body), 20):
        piece = body[at : at + 20]
        asked.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(0.002)
    asked.writer.write(b"0\r\n\r\n")


async def _events(asked: Asked) -> None:
    asked.writer.write(_head("text/event-stream", "Transfer-Encoding: chunked"))
    event = b"data: %b\n\n" % asked.said()
    while not asked.writer.is_closing():
        asked.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await asked.writer.drain()
        await asyncio.sleep(_EVENT_SECONDS)


async def _socket(asked: Asked) -> None:
    """Says its answer for each frame that comes."""
    accept = base64.b64encode(hashlib.sha1(asked.key + _MAGIC).digest())  # noqa: S324 - RFC 6455
    fields = ("Upgrade: websocket", "Connection: Upgrade")
    head = ["HTTP/1.1 101 Switching Protocols", *fields]
    head += [f"Sec-WebSocket-Accept: {accept.decode()}", "", ""]
    asked.writer.write("\r\n".join(head).encode())
    said = asked.said()
    while True:
        first, length = await asked.reader.readexactly(2)
        payload = (await asked.reader.readexactly(4 + (length & 127)))[4:]
        if first & 15 == 8:
            asked.writer.write(bytes([0x88, len(payload)]) + payload)
            return
        text = said[:-1] + b',"said":"%b"}' % payload
        asked.writer.write(bytes([0x81, 126]) + len(text).to_bytes(2, "big") + text)


Act = Callable[[Asked], Awaitable[None]]
ANSWERS: Final[Mapping[str, Act]] = MappingProxyType(
    {"/big": _large, "/pieces": _pieces, "/events": _events, "/socket": _socket}
)


# -- misbehaviour ---------------------------------------------------------------------------------


async def _slow(asked: Asked) -> None:
    await asyncio.sleep(_SLOW_SECONDS)
    await ANSWERS.get(asked.path, _plain)(asked)


async def _reset(asked: Asked) -> None:
    asked.abort()


async def _reset_within(asked: Asked) -> None:
    data = _whole("application/json", asked.said())
    asked.writer.write(data[: -len(asked.said()) // 2])
    await asyncio.sleep(0.02)
    asked.abort()


async def _claims_more(asked: Asked) -> None:
    """Content-Length is larger than what comes until FIN."""
    body = asked.said()
    asked.writer.write(_head("application/json", f"Content-Length: {len(body) + 40}") + body)
    asked.writer.close()


async def _claims_less(asked: Asked) -> None:
    """More comes than Content-Length says: what looks like another answer."""
    asked.writer.write(_whole("application/json", asked.said()) + _SECOND)


async def _cuts_chunks(asked: Asked) -> None:
    body = asked.said()
    head = _head("application/json", "Transfer-Encoding: chunked")
    asked.writer.write(head + b"%x\r\n%b" % (len(body) + 9, body))
    asked.writer.close()


async def _lacks_last_chunk(asked: Asked) -> None:
    """FIN comes where the last chunk should."""
    body = asked.said()
    head = _head("text/plain", "Transfer-Encoding: chunked")
    asked.writer.write(head + b"%x\r\n%b\r\n" % (len(body), body))
    asked.writer.close()


async def _garbage(asked: Asked) -> None:
    asked.writer.write(b"\x16\x03\x01 NOT HTTP \x00\xff\r\n\r\n")


async def _both_framings(asked: Asked) -> None:
    body = asked.said()
    length, coding = f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"
    asked.writer.write(_head("application/json", length, coding))
    asked.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


async def _stalls(asked: Asked) -> None:
    """Nothing comes after half of the body."""
    asked.writer.write(_whole("application/json", asked.said())[:-20])
    await asyncio.sleep(_STALL_SECONDS)


MODES: Final[Mapping[str, Act]] = MappingProxyType(
    {
        "slow": _slow,
        "reset": _reset,
        "reset_within": _reset_within,
        "claims_more": _claims_more,
        "claims_less": _claims_less,
        "cuts_chunks": _cuts_chunks,
        "lacks_last_chunk": _lacks_last_chunk,
        "garbage": _garbage,
        "both_framings": _both_framings,
        "stalls": _stalls,
    }
)


class Server:
    """Serves, in one mode at a time."""

    def __init__(self) -> None:
        self._act: Act | None = None
        self._share = 0.0
        self._sum = 0.0

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one line."""
        mode, share = (await reader.readline()).decode().split()
        self._act, self._share = MODES.get(mode), float(share)
        writer.write(b"done\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                asked = await _read(reader, writer)
                await self._chosen(asked)(asked)
                if asked.path == "/socket":
                    break
        writer.close()

    def _chosen(self, asked: Asked) -> Act:
        if self._act is not None:
            self._sum += self._share
            if self._sum >= 1:
                self._sum -= 1
                return self._act
        return ANSWERS.get(asked.path, _plain)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    target = urlsplit(line.split(" ")[1])
    length = 0
    if "chunked" in fields.get("transfer-encoding", ""):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
            length += size
        await reader.readexactly(2)
    else:
        length = int(fields.get("content-length", 0))
        await reader.readexactly(length)
    nonce = parse_qs(target.query).get("nonce", ["none"])[0]
    token = fields.get("authorization", "Bearer none").removeprefix("Bearer ")
    key = fields.get("sec-websocket-key", "").encode()
    return Asked(target.path, nonce, token, length, key, reader, writer)


async def main(port: int) -> None:
    """Serves until it is killed."""
    server = Server()
    await asyncio.start_server(server.control, "127.0.0.1", port + 1)
    await asyncio.start_server(server.serve, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
