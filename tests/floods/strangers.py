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
from typing import Any, Final

CONNECTIONS: Final = 16  # of a flood of whole requests
SLOW: Final = 1200  # connections of one that sends slowly
# The other side has left; uvloop says RuntimeError of a transport that is closed.
_LEFT: Final = (OSError, asyncio.IncompleteReadError, RuntimeError)
CRAWLING: Final = 600  # of one that begins quickly, and then sends slowly
BALANCER: Final = "127.0.0.9"  # whose PROXY header is believed
OTHER: Final = "127.0.0.8"
PIPELINING: Final = 200  # of one that pipelines whole segments
HEADS: Final = 1500  # of one whose heads are large, and never whole
IDLE: Final = 3500  # connections of one that sends nothing


@dataclass(frozen=True, slots=True)
class Stranger:
    """Whom to flood, and until when (`time.monotonic`)."""

    port: int
    balanced: int
    """Where a PROXY header must come first, from `BALANCER`."""
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    @asynccontextmanager
    async def connected(
        self, source: str | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection; of one that says who it is for, `source` is the address it comes from.

        Raises `OSError`.
        """
        port = self.port if source is None else self.balanced
        local = None if source is None else (source, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=local)
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


def _requests(make: Callable[[], bytes], answers: int = 1) -> Flood:
    """A flood of whole requests on kept connections, each with so many `answers`."""

    async def flood(stranger: Stranger) -> int:
        async def one() -> int:
            sent = tried = 0
            while not (tried and stranger.is_over):  # once at least, however busy the machine is
                tried += 1
                with suppress(*_LEFT):
                    async with stranger.connected() as (reader, writer):
                        while not (sent and stranger.is_over):
                            writer.write(make())
                            sent += answers
                            for _ in range(answers):
                                await _response(reader)
            return sent

        return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))

    return flood


async def _segments(stranger: Stranger) -> int:
    """Segments full of small requests that are answered at once, as fast as they are taken."""
    request = _head("GET", "/nowhere")
    segment = request * (65536 // len(request))

    async def one() -> int:
        answered = tried = 0
        while not (tried and stranger.is_over):
            tried += 1
            with suppress(*_LEFT):
                async with stranger.connected() as (reader, writer):
                    while not (answered and stranger.is_over):
                        if not writer.transport.get_write_buffer_size():
                            writer.write(segment)
                        got = await reader.read(65536)
                        if not got:
                            break
                        answered += got.count(b"HTTP/1.1 ")
        return answered

    return sum(await asyncio.gather(*(one() for _ in range(PIPELINING))))


async def _response(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    if b"connection: close" in head.lower():
        raise ConnectionResetError
    await reader.readexactly(length)


def _held(first: bytes, piece: bytes, pause: float, most: int, source: str | None = None) -> Flood:
    """A flood of connections that send a piece now and then, or nothing."""

    async def flood(stranger: Stranger) -> int:
        async def one() -> int:
            opened = tried = 0
            while not (tried and stranger.is_over):  # once at least, however busy the machine is
                tried += 1
                with suppress(*_LEFT):
                    async with stranger.connected(source) as (_, writer):
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


def _base64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _with_cookie(name: str, make: Callable[[], str]) -> Callable[[], bytes]:
    return lambda: _head("GET", "/api/x", f"Cookie: {name}={make()}")


def _jwe(encryption: str) -> Callable[[], str]:
    head = _base64({"alg": "dir", "enc": encryption})
    return lambda: ".".join((head, "", _name(), _name() * 20, _name()))


def _iron() -> str:
    return "*".join(("Fe26.2", "1", _name(), _name(), _name() * 10, "", _name(), _name())) + "~2"


def _jws() -> str:
    claims = {"accessToken": _name(), "exp": int(time.time()) + 3600}
    return ".".join((_base64({"alg": "HS256"}), _base64(claims), _name()))


def _chunks() -> bytes:
    """An Auth.js session in pieces, some of which are missing."""
    pieces = "; ".join(f"authjs.session-token.{at}={_name() * 8}" for at in (0, 1, 2, 4))
    return _head("GET", "/api/x", f"Cookie: {pieces}")


def _many_cookies() -> bytes:
    return _head("GET", "/api/x", "Cookie: " + "; ".join(f"c{at}={at}" for at in range(900)))


def _large_head() -> bytes:
    return _head("GET", "/api/x", *(f"X-{at}: {_name() * 40}" for at in range(40)))


def _pipelined() -> bytes:
    return _head("GET", "/nowhere") * 100


def _upload() -> bytes:
    return _head("POST", "/open/x", f"Content-Length: {1 << 18}") + b"x" * (1 << 18)


def _frontchannel() -> bytes:
    return _head("GET", f"/auth/frontchannel-logout?iss=x&sid={_name()}")


async def _storm(stranger: Stranger) -> int:
    """Accounts of his own: each is accepted once, and then its token is refused."""

    async def one() -> int:
        sent = 0
        while not stranger.is_over:
            with suppress(*_LEFT):
                async with stranger.connected() as (reader, writer):
                    while not stranger.is_over:
                        cookie = f"Cookie: access_token=token-of-{_name()}"
                        for path in ("/api/x", "/api/refused"):
                            writer.write(_head("GET", path, cookie))
                            sent += 1
                            await _response(reader)
        return sent

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))


async def _knocks(stranger: Stranger) -> int:
    """Connections that are opened and closed again."""

    async def one() -> int:
        opened = 0
        while not stranger.is_over:
            with suppress(*_LEFT):
                async with stranger.connected():
                    opened += 1
        return opened

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))


_V2: Final = b"\r\n\r\n\0\r\nQUIT\n!\x11"  # PROXY, TCP over IPv4; the length comes next
_ADDRESSES: Final = bytes((203, 0, 113, 7, 192, 0, 2, 1, 1, 0, 1, 0))
_V1: Final = b"PROXY TCP4 203.0.113.7 192.0.2.1 1024 443\r\n"
_UNTIL_THE_LIMIT: Final = (  # headers that come slowly, and never to an end
    (b"", b""),
    (_V1[:20], b"1"),
    (_V2, b"\0"),
    (_V2 + (4000).to_bytes(2) + _ADDRESSES, b"\x04" * 8),
)
_AT_ONCE: Final = (  # headers that are none, and those of somebody who may send none
    (BALANCER, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (BALANCER, b"PROXY TCP4 " + b"1" * 200),
    (BALANCER, _V2 + b"\xff\xff" + b"\0" * 5000),
    (BALANCER, _V2 + (14).to_bytes(2) + _ADDRESSES + b"\x04\xff"),
    (BALANCER, _V1.replace(b"203", b"999") + _head("GET", "/api/x")),
    (BALANCER, _V1 + b"\0" * 64),
    (OTHER, _V1 + _head("GET", "/api/x")),
    (OTHER, _V2 + (12).to_bytes(2) + _ADDRESSES + _head("GET", "/api/x")),
    (OTHER, b""),
)


async def _headers_of_balancers(stranger: Stranger) -> int:
    """PROXY headers: half ones and slow ones, huge and wrong ones, and those of anybody."""

    async def one(number: int) -> int:
        sent = number
        while not stranger.is_over:
            source, header = _AT_ONCE[sent % len(_AT_ONCE)]
            with suppress(*_LEFT):
                async with stranger.connected(source) as (reader, writer):
                    sent += 1
                    writer.write(header)
                    async with asyncio.timeout(1.0):  # longer only if it is taken for a header
                        await reader.read()
        return sent - number

    slow = (
        _held(first, piece, 0.5, SLOW // len(_UNTIL_THE_LIMIT), BALANCER)(stranger)
        for first, piece in _UNTIL_THE_LIMIT
    )
    return sum(await asyncio.gather(*slow, *(one(number) for number in range(CONNECTIONS))))


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


def _opening(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    return _head("GET", path, *lines, f"Sec-WebSocket-Key: {key}")


def _handshake() -> bytes:
    return _opening("/api/ws")


_EVENTS: Final = _head("GET", "/open/events", "Accept: text/event-stream")
_SLOW_BODY: Final = _head("POST", "/open/x", "Content-Length: 100000")
# More than is held in memory, and then just fast enough to be let go on.
_CRAWL: Final = _head("POST", "/open/x", "Content-Length: 10000000") + b"x" * 70_000
_LARGE_HALF: Final = _head("GET", "/api/x")[:-2] + b"X-Large: " + b"x" * 60_000
_TINY_LINES: Final = _head("GET", "/api/x")[:-2] + b"a:\r\n" * 500  # objects above all
_SLOW_HEAD: Final = b"GET /api/x HTTP/1.1\r\nHost: a\r\n"

FLOODS: Final[Mapping[str, Flood]] = MappingProxyType(
    {
        "logouts": _requests(_logout),
        "made-up tokens": _requests(_raw_cookie),
        "made-up Auth.js sessions": _requests(
            _with_cookie("authjs.session-token", _jwe("A256CBC-HS512"))
        ),
        "made-up Auth.js pieces": _requests(_chunks),
        "made-up next-auth sessions": _requests(
            _with_cookie("next-auth.session-token", _jwe("A256GCM"))
        ),
        "made-up Auth0 sessions": _requests(_with_cookie("__session", _jwe("A256GCM"))),
        "made-up better-auth sessions": _requests(
            _with_cookie("better-auth.account_data", _jwe("A256CBC-HS512"))
        ),
        "made-up iron-sessions": _requests(_with_cookie("app", _iron)),
        "made-up signed sessions": _requests(_with_cookie("signed", _jws)),
        "made-up login sessions": _requests(_with_cookie("sidecar", lambda: _name() * 30)),
        "made-up refresh cookies": _requests(_refresh_cookie),
        "long paths": _requests(_long_path),
        "logins begun": _requests(_login),
        "made-up logins": _requests(_callback),
        "back-channel tokens": _requests(_logout_token),
        "front-channel logouts": _requests(_frontchannel),
        "storm of 401": _storm,
        "many cookies": _requests(_many_cookies),
        "large heads": _requests(_large_head),
        "pipelined requests": _requests(_pipelined, answers=100),
        "uploads": _requests(_upload),
        "WebSocket handshakes": _requests(_handshake),
        "WebSockets": _held(_opening("/open/ws"), b"\x8a\x80\0\0\0\0", 0.5, SLOW),
        "event streams": _held(_EVENTS, b"", 1.0, SLOW),
        "empty lines": _held(b"\r\n" * 150_000, b"\r\n", 0.1, CONNECTIONS),
        "connections opened and closed": _knocks,
        "PROXY headers": _headers_of_balancers,
        "slow bodies": _held(_SLOW_BODY, b"x", 0.5, SLOW),
        "crawling uploads": _held(_CRAWL, b"x" * 500, 0.5, CRAWLING),
        "segments of pipelined requests": _segments,
        "heads not whole": _held(_LARGE_HALF, b"x", 0.5, HEADS),
        "heads of tiny lines": _held(_TINY_LINES, b"a", 0.5, HEADS),
        "slow heads": _held(_SLOW_HEAD, b"a: b\r\n", 0.5, SLOW),
        "idle connections": _held(b"", b"", 1.0, IDLE),
    }
)


async def flood(name: str, port: int, balanced: int, seconds: float) -> int:
    """Floods for so long, from this event loop."""
    return await FLOODS[name](Stranger(port, balanced, time.monotonic() + seconds))


def raise_descriptors() -> None:
    """Lets this process open as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socket.setdefaulttimeout(None)
