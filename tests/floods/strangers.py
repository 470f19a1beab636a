"""What one stranger sends, as much as he can, without a session of his own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

CONNECTIONS: Final = 16  # of a flood of whole requests
SLOW: Final = 600  # connections of one that sends slowly
IDLE: Final = 1500  # connections of one that sends nothing


@dataclass(frozen=True, slots=True)
class Stranger:
    """Whom to flood, and until when (`time.monotonic`)."""

    port: int
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection. Raises `OSError`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


Flood = Callable[[Stranger], Awaitable[int]]
"""Floods, and returns how many requests or connections that were."""


def _name() -> str:
    return base64.urlsafe_b64encode(os.urandom(18)).decode()


def _head(method: str, path: str, *lines: str) -> bytes:
    fields = ["Host: 127.0.0.1", *lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode("latin-1")


def _requests(make: Callable[[], bytes]) -> Flood:
    """A flood of whole requests on kept connections."""

    async def flood(stranger: Stranger) -> int:
        async def one() -> int:
            sent = 0
            while not stranger.is_over:
                with suppress(OSError, asyncio.IncompleteReadError):
                    async with stranger.connected() as (reader, writer):
                        while not stranger.is_over:
                            writer.write(make())
                            sent += 1
                            await _response(reader)
            return sent

        return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))

    return flood


async def _response(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    if b"connection: close" in head.lower():
        raise ConnectionResetError
    await reader.readexactly(length)


def _held(first: bytes, piece: bytes, pause: float, most: int) -> Flood:
    """A flood of connections that send a piece now and then, or nothing."""

    async def flood(stranger: Stranger) -> int:
        async def one() -> int:
            opened = 0
            while not stranger.is_over:
                with suppress(OSError):
                    async with stranger.connected() as (_, writer):
                        opened += 1
                        writer.write(first)
                        while not stranger.is_over and not writer.transport.is_closing():
                            await asyncio.sleep(pause)
                            writer.write(piece)
                await asyncio.sleep(0.1)
            return opened

        return sum(await asyncio.gather(*(one() for _ in range(most))))

    return flood


def _logout() -> bytes:
    return _head("POST", "/api/logout", f"Cookie: access_token={_name()}", "Content-Length: 0")


def _raw_cookie() -> bytes:
    return _head("GET", "/api/x", f"Cookie: access_token={_name()}")


def _sealed_cookies() -> bytes:
    head = base64.urlsafe_b64encode(b'{"alg":"dir","enc":"A256CBC-HS512"}').decode().rstrip("=")
    jwe = ".".join((head, "", _name(), _name() * 20, _name()))
    iron = "*".join(("Fe26.2", "1", _name(), _name(), _name() * 10, "", _name(), _name())) + "~2"
    return _head("GET", "/api/x", f"Cookie: authjs.session-token={jwe}; app={iron}")


def _refresh_cookie() -> bytes:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1, "jti": _name()}).encode()).decode()
    token = f"eyJhbGciOiJub25lIn0.{claims.rstrip('=')}.x"
    return _head("GET", "/api/x", f"Cookie: access_token={token}; refresh_token={_name()}")


def _long_path() -> bytes:
    return _head("GET", f"/api/{_name() * 300}?{_name()}")


def _login() -> bytes:
    return _head("GET", f"/auth/login?next=/{_name()}", "Accept: text/html")


def _callback() -> bytes:
    return _head("GET", f"/auth/callback?code={_name()}&state={_name()}", "Accept: text/html")


def _logout_token() -> bytes:
    parts = ({"alg": "RS256", "kid": _name()}, {"jti": _name(), "sub": _name()})
    texts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts
    ]
    body = f"logout_token={'.'.join(texts)}.{_name()}".encode()
    kind = "Content-Type: application/x-www-form-urlencoded"
    lines = (kind, f"Content-Length: {len(body)}")
    return _head("POST", "/auth/backchannel-logout", *lines) + body


def _handshake() -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    return _head("GET", "/api/ws", *lines, f"Sec-WebSocket-Key: {key}")


_SLOW_BODY: Final = _head("POST", "/open/x", "Content-Length: 100000")
_SLOW_HEAD: Final = b"GET /api/x HTTP/1.1\r\nHost: a\r\n"

FLOODS: Final[Mapping[str, Flood]] = MappingProxyType(
    {
        "logouts": _requests(_logout),
        "made-up tokens": _requests(_raw_cookie),
        "made-up sealed cookies": _requests(_sealed_cookies),
        "made-up refresh cookies": _requests(_refresh_cookie),
        "long paths": _requests(_long_path),
        "logins begun": _requests(_login),
        "made-up logins": _requests(_callback),
        "back-channel tokens": _requests(_logout_token),
        "WebSocket handshakes": _requests(_handshake),
        "slow bodies": _held(_SLOW_BODY, b"x", 0.5, SLOW),
        "slow heads": _held(_SLOW_HEAD, b"a: b\r\n", 0.5, SLOW),
        "idle connections": _held(b"", b"", 1.0, IDLE),
    }
)


def raise_descriptors() -> None:
    """Lets this process open as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socket.setdefaulttimeout(None)
