"""WebSockets through the proxy: a real client and server of the protocol, and raw frames."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, WSMessage, WSMsgType, WSServerHandshakeError, web

from sidecar.core.websocket import FrameTracker
from sidecar.web.tunnel import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import (
        Client,
        Clients,
        Embedded,
        Running,
        Start,
        StartCommand,
        Upstream,
        Wire,
    )

SESSION = "access_token=tok"
ORIGIN = "http://127.0.0.1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324
).decode()
SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n"
)
SAME = "Sec-Fetch-Site: same-origin"
HANDSHAKE = (
    "Host: app.example.com",
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
    "Origin: http://app.example.com",
)


def routes(upstream: Upstream, **limits: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, **limits}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/page", "kind": "page", "upstream": "main"},
            {"path": "/open", "kind": "page", "upstream": "main", "session": "none"},
        ],
    }


# -- a real server ---------------------------------------------------------------------------------


class Echo:
    """A WebSocket server that returns what it gets, and remembers it and its request."""

    def __init__(self) -> None:
        self.request: web.Request | None = None
        self.seen: list[WSMessage] = []
        self.close_code: int | None = None
        self.ended = asyncio.Event()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        self.request = request
        socket = web.WebSocketResponse(
            autoping=False, autoclose=True, max_msg_size=0, protocols=("chat", "other")
        )
        await socket.prepare(request)
        async for message in socket:
            self.seen.append(message)
            if message.type is WSMsgType.TEXT and message.data.startswith("close "):
                await socket.close(code=int(message.data[6:]), message=b"as asked")
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await socket.pong(message.data)
        self.close_code = socket.close_code
        self.ended.set()
        return socket


@pytest.fixture
async def echo(upstream: Upstream) -> AsyncIterator[Echo]:
    """An echo server in the upstream's place."""
    await upstream.stop()
    server = Echo()
    application = web.Application()
    application.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", upstream.port).start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def browser() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def url(at: Running, path: str = "/ws") -> str:
    return f"http://127.0.0.1:{at.port}{path}"


def origin(at: Running) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{at.port}", "Cookie": f"a=b; {SESSION}"}


@pytest.mark.parametrize("path", ["/ws?x=1", "/page/ws?x=1"])
async def test_messages_pass_both_ways(
    sidecar: Start, upstream: Upstream, echo: Echo, browser: ClientSession, path: str
) -> None:
    """Text, binary, empty, a megabyte, many in a row; ping and pong; the close codes."""
    at = await sidecar(routes(upstream))
    big = bytes(number % 253 for number in range(1 << 20))
    async with browser.ws_connect(
        url(at, path), headers=origin(at), autoping=False, max_msg_size=0
    ) as socket:
        for text in ("", "hello", "h\u00e9llo \U0001f600", "x" * 70_000):
            await socket.send_str(text)
            assert (await socket.receive()).data == text
        for data in (b"", b"\x00\xff", big):
            await socket.send_bytes(data)
            assert (await socket.receive()).data == data
        for number in range(100):
            await socket.send_str(str(number))
        assert [(await socket.receive()).data for _ in range(100)] == [str(n) for n in range(100)]
        await socket.ping(b"are you there")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")
        assert echo.seen[-1].type is WSMsgType.PING
        await socket.close(code=4001, message=b"bye")
    async with asyncio.timeout(5):
        await echo.ended.wait()
    assert echo.close_code == 4001
    assert echo.request is not None
    assert echo.request.raw_path == path


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4999])
async def test_close_code_of_the_server_reaches_the_client(
    sidecar: Start, upstream: Upstream, echo: Echo, browser: ClientSession, code: int
) -> None:
    at = await sidecar(routes(upstream))
    async with browser.ws_connect(url(at), headers=origin(at)) as socket:
        await socket.send_str(f"close {code}")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "as asked")


async def test_handshake_carries_the_credential_and_what_the_client_asked_for(
    sidecar: Start, upstream: Upstream, echo: Echo, browser: ClientSession
) -> None:
    """Authorization injected, session cookie gone, subprotocol chosen by the server."""
    at = await sidecar(routes(upstream))
    async with browser.ws_connect(url(at), headers=origin(at), protocols=("chat",)) as socket:
        assert socket.protocol == "chat"
        assert (await at.metrics())['sidecar_requests_in_flight{kind="stream"}'] == 1
    assert echo.request is not None
    headers = echo.request.headers
    assert headers["Authorization"] == "Bearer tok"
    assert headers["Cookie"] == "a=b"
    assert headers["Connection"] == "Upgrade"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://friend.example"}, 101),
        ({"Sec-Fetch-Site": "same-origin"}, 101),
        ({}, 101),
    ],
)
async def test_handshake_with_a_credential_needs_a_trusted_origin(
    sidecar: Start,
    upstream: Upstream,
    echo: Echo,
    browser: ClientSession,
    *,
    lines: dict[str, str],
    status: int,
) -> None:
    """Browsers let any site open one, with the cookies (behaviour: browser protection)."""
    at = await sidecar(routes(upstream), cors={"origins": ["https://friend.example"]})
    headers = {"Cookie": SESSION, **lines}
    if status == 101:
        async with browser.ws_connect(url(at), headers=headers) as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
    else:
        with pytest.raises(WSServerHandshakeError) as caught:
            await browser.ws_connect(url(at), headers=headers)
        assert caught.value.status == status
        assert echo.request is None


ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("path", ["/page", "/open"])
@pytest.mark.parametrize("lines", ELSEWHERE)
@pytest.mark.parametrize(
    "cookie", [SESSION, "a=b; __Host-access_token=x", "access_token.1=x", "access_token="]
)
async def test_handshake_that_takes_session_cookies_along_needs_a_trusted_origin(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    lines: dict[str, str],
    cookie: str,
) -> None:
    """A page's own socket server would take another site for its user, by cookies alone."""
    at = await sidecar(routes(upstream))
    fields = [*HANDSHAKE[:-1], *(f"{name}: {value}" for name, value in lines.items())]
    answer = await (await client(at)).get(path, *fields, f"Cookie: {cookie}")
    assert answer.status == 403
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("cookie", "lines"),
    [
        ("a=b", ["Origin: https://evil.example"]),
        (SESSION, ["Origin: http://app.example.com"]),
        (SESSION, ["Origin: HTTP://App.example.com:80"]),
        (SESSION, []),
    ],
)
async def test_other_handshakes_on_pages_pass(
    sidecar: Start, upstream: Upstream, client: Clients, cookie: str, lines: list[str]
) -> None:
    """Without a session cookie from anywhere, with one from here."""
    at = await sidecar(routes(upstream))
    upstream.default = SWITCH.encode() + b"\r\n"
    answer = await (await client(at)).get("/page", *HANDSHAKE[:-1], *lines, f"Cookie: {cookie}")
    assert answer.status == 101
    assert upstream.last.get("Cookie") == cookie


@pytest.mark.parametrize("host", ["App.Example.com", "app.example.com:80", "APP.example.com:080"])
async def test_spelling_of_the_host_makes_no_other_origin(
    sidecar: Start, upstream: Upstream, client: Clients, host: str
) -> None:
    """Browsers write the Origin in normal form, whatever Host they send."""
    at = await sidecar(routes(upstream))
    fields = [f"Host: {host}", "Origin: http://app.example.com", f"Cookie: {SESSION}"]
    assert (await (await client(at)).post("/x", *fields)).status == 200


# -- raw frames ------------------------------------------------------------------------------------


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, masked: bool = False) -> bytes:
    """A frame of RFC 6455 5.2; the mask is zero."""
    first = opcode | (0x80 if fin else 0)
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, mask_bit | len(payload)))
    else:
        head = bytes((first, mask_bit | 126)) + len(payload).to_bytes(2, "big")
    return head + (b"\0\0\0\0" if masked else b"") + payload


CLOSE = frame((1008).to_bytes(2, "big") + b"session ended", 8)
MASKED_CLOSE = frame((1008).to_bytes(2, "big") + b"session ended", 8, masked=True)


async def open_raw(client: Clients, at: Running, cookie: str = SESSION) -> Client:
    """A client whose handshake has been answered with 101."""
    one = await client(at)
    answer = await one.get("/ws", *HANDSHAKE, f"Cookie: {cookie}")
    assert answer.status == 101
    assert answer.get("Sec-WebSocket-Accept") == ACCEPT
    assert (answer.get("Upgrade") or "").lower() == "websocket"
    assert (answer.get("Connection") or "").lower() == "upgrade"
    return one


class Peer:
    """The upstream's side of one tunnel, and what came out of it."""

    def __init__(self, upstream: Upstream, first: bytes = b"") -> None:
        self.wire: Wire | None = None
        self.got = b""
        self._more = asyncio.Condition()
        self._upstream = upstream
        self._first = first
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self._heard = asyncio.Event()
        self._leaves = asyncio.Event()
        self._stays = False
        upstream.serve = self.serve

    async def serve(self, wire: Wire) -> None:
        await self._upstream.receive(wire)
        wire.send(f"{SWITCH}\r\n".encode() + self._first)
        self.wire = wire
        try:
            while data := await wire.reader.read(1 << 16):
                async with self._more:
                    self.got += data
                    self._more.notify_all()
            self._heard.set()
            if self._stays:
                await self._leaves.wait()
        except ConnectionError as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    async def heard(self) -> None:
        """Waits for the end of what comes out, and does not end its own direction then."""
        self._stays = True
        async with asyncio.timeout(2):
            await self._heard.wait()

    def end_now(self) -> None:
        """Ends, having heard the end."""
        self._leaves.set()

    async def received(self, size: int) -> None:
        """Waits until that many bytes have come out of the tunnel."""
        async with asyncio.timeout(2), self._more:
            await self._more.wait_for(lambda: len(self.got) >= size)

    async def end(self) -> None:
        async with asyncio.timeout(2):
            await self.ended.wait()


async def log_out(client: Clients, at: Running) -> None:
    answer = await (await client(at)).post("/api/logout", f"Cookie: {SESSION}")
    assert answer.status == 200


async def read(one: Client, size: int) -> bytes:
    async with asyncio.timeout(5):
        return await one.reader.readexactly(size)


async def test_fragments_pass_as_they_are_in_any_pieces(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """With control frames between them, byte by byte in both directions."""
    peer = Peer(upstream)
    one = await open_raw(client, await sidecar(routes(upstream)))
    parts = [(b"a" * 200, 1, False), (b"ping", 9, True), (b"", 0, False), (b"end", 0, True)]
    down = b"".join(frame(data, opcode, fin=fin) for data, opcode, fin in parts)
    up = b"".join(frame(data, opcode, fin=fin, masked=True) for data, opcode, fin in parts)
    assert peer.wire is not None
    async with one.sending(up, 1):
        await peer.wire.trickle(down, 1)
        assert await read(one, len(down)) == down
        await peer.received(len(up))
    assert peer.got == up


async def test_bytes_that_come_with_the_handshake_are_not_lost(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Of the upstream behind its 101, and of a client that does not wait for it."""
    peer = Peer(upstream, first=frame(b"welcome"))
    at = await sidecar(routes(upstream))
    one = await client(at)
    lines = "\r\n".join(("GET /ws HTTP/1.1", *HANDSHAKE, "", ""))
    one.send(lines.encode() + frame(b"early", masked=True))
    assert (await one.answer()).status == 101
    one.send(frame(b"later", masked=True))
    assert await read(one, 9) == frame(b"welcome")
    expected = frame(b"early", masked=True) + frame(b"later", masked=True)
    await peer.received(len(expected))
    assert peer.got == expected


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_long_segment_is_followed_in_parts(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
) -> None:
    """In whichever length encoding its frames are, others come in between, and it stays whole
    (T96).
    """
    monkeypatch.setattr("sidecar.web.turn.SHARE", 0.0)
    sizes, feed = list[int](), FrameTracker.feed

    def noted(tracker: FrameTracker, data: bytes, *, stop_at_boundary: bool = False) -> int:
        sizes.append(len(data))
        return feed(tracker, data, stop_at_boundary=stop_at_boundary)

    monkeypatch.setattr(FrameTracker, "feed", noted)
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    frames = b"".join(frame(b"%d" % n * (n % 99)) for n in range(3000))
    if side == "client":
        one.send(frames)
        await peer.received(len(frames))
        assert peer.got == frames
    else:
        assert peer.wire is not None
        peer.wire.send(frames)
        assert await read(one, len(frames)) == frames
    assert max(sizes) <= PART < len(frames) / 8
    await log_out(client, at)
    assert await read(one, len(CLOSE)) == CLOSE
    one.send(MASKED_CLOSE)
    assert await one.rest() == b""


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(ACCEPT, "x" * 28),
        SWITCH.replace(ACCEPT, ""),
        SWITCH.replace(f"Sec-WebSocket-Accept: {ACCEPT}\r\n", ""),
        SWITCH.replace("Upgrade: websocket", "Upgrade: h2c"),
        SWITCH.replace("Upgrade: websocket", "Upgrade: websocket, h2c"),
        SWITCH.replace("Upgrade: websocket\r\n", ""),
        SWITCH.replace("Connection: Upgrade\r\n", ""),
    ],
)
async def test_101_that_proves_nothing_is_a_bad_gateway(
    sidecar: Start, upstream: Upstream, client: Clients, answer: str
) -> None:
    """T19: no tunnel without a right answer to this handshake."""
    upstream.answers([f"{answer}\r\n".encode(), "hang"])
    one = await client(await sidecar(routes(upstream)))
    got = await one.get("/ws", *HANDSHAKE)
    assert (got.status, got.code) == (502, "upstream_protocol")
    assert all([await wire.is_left(2) for wire in upstream.open])


@pytest.mark.parametrize(
    ("status", "body"), [("200 OK", b"{}"), ("403 Forbidden", b"{}"), ("426 X", b"{}")]
)
async def test_refused_handshake_passes_as_an_answer(
    sidecar: Start, upstream: Upstream, client: Clients, status: str, body: bytes
) -> None:
    upstream.default = upstream.reply(body, status=status)
    one = await client(await sidecar(routes(upstream)))
    got = await one.get("/ws", *HANDSHAKE)
    assert got.status == int(status[:3])
    assert "data" in got.json


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: ["POST", *lines],
        lambda lines: ["GET", *[one for one in lines if "Key" not in one]],
        lambda lines: ["GET", *[one.replace("keep-alive, Upgrade", "close") for one in lines]],
    ],
)
async def test_what_is_no_handshake_opens_no_tunnel(
    sidecar: Start, upstream: Upstream, client: Clients, change: Callable[[Any], list[str]]
) -> None:
    """Even if the upstream says 101."""
    upstream.default = [f"{SWITCH}\r\n".encode(), "hang"]
    one = await client(await sidecar(routes(upstream)))
    method, *lines = change(HANDSHAKE)
    got = await one.ask(method, "/ws", *lines)
    assert got.status in (400, 502)


# -- the end ---------------------------------------------------------------------------------------


async def test_logout_ends_the_tunnel_with_a_close_frame(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """1008 for both sides, within a moment; and only this session's."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    other_peer = Peer(upstream)
    other = await open_raw(client, at, "access_token=other")
    await log_out(client, at)
    assert await one.rest() == CLOSE
    await peer.end()
    assert peer.got == MASKED_CLOSE
    other.send(frame(b"still here", masked=True))
    await other_peer.received(1)
    assert other_peer.got == frame(b"still here", masked=True)


async def test_end_of_the_server_ends_every_tunnel_with_1001(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """For both sides, whoever's session it is, and nothing is cut."""
    peer = Peer(upstream)
    at = await command(routes(upstream))
    one = await open_raw(client, at, "a=b")
    at.terminate()
    assert await one.rest() == frame((1001).to_bytes(2, "big") + b"going away", 8)
    await peer.end()
    assert peer.got == frame((1001).to_bytes(2, "big") + b"going away", 8, masked=True)
    await one.gone()
    assert await at.exit_code() == 0
    assert '"connections_cut": 0' in at.stderr


async def test_401_of_another_request_ends_the_tunnel_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)

    async def refuse(wire: Wire) -> None:
        await upstream.receive(wire)
        wire.send(upstream.reply(b"{}", status="401 Unauthorized"))

    upstream.serve = refuse
    assert (await (await client(at)).get("/a", f"Cookie: {SESSION}")).status == 303
    assert await one.rest() == CLOSE


@pytest.mark.parametrize("cut", [1, 2, 3, 100, 203])
async def test_close_frame_comes_at_a_frame_boundary(
    sidecar: Start, upstream: Upstream, client: Clients, cut: int
) -> None:
    """A frame under way comes to its end first, and what follows it is dropped."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    whole = frame(b"x" * 200)
    assert peer.wire is not None
    peer.wire.send(whole[:cut])
    assert await read(one, cut) == whole[:cut]
    await log_out(client, at)
    assert await one.is_silent()
    peer.wire.send(whole[cut:] + frame(b"secret"))
    assert await one.rest() == whole[cut:] + CLOSE
    await peer.end()


async def test_frame_that_never_ends_does_not_keep_the_tunnel_open(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Each wait has a time limit: a stalled upstream cannot hold a dead session's socket."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream, idle="300ms"))
    one = await open_raw(client, at)
    assert peer.wire is not None
    peer.wire.send(frame(b"x" * 200)[:100])
    await read(one, 100)
    await log_out(client, at)
    assert b"secret" not in await one.ends()
    await peer.end()


async def test_client_frame_under_way_is_not_finished_for_a_dead_session(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The upstream is left without a close frame in the middle of one."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    one.send(frame(b"x" * 200, masked=True)[:50])
    await peer.received(50)
    await log_out(client, at)
    assert await one.rest() == CLOSE
    await peer.end()
    assert len(peer.got) == 50


async def test_connection_stays_open_for_the_close_frame_in_return(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What the client was sending is read to its reply, so that no reset takes our close frame."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    await log_out(client, at)
    assert await read(one, len(CLOSE)) == CLOSE
    for _ in range(3):
        one.send(frame(b"on its way" * 50, masked=True))
        assert await one.is_silent(0.05)
    one.send(MASKED_CLOSE)
    assert await one.rest() == b""
    await peer.end()
    assert peer.got == MASKED_CLOSE


async def test_flood_in_place_of_the_close_frame_in_return_ends_the_tunnel(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A client cannot hold its connection, or keep the sidecar reading, by never replying."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    await log_out(client, at)
    assert await read(one, len(CLOSE)) == CLOSE
    one.send(frame(b"x" * 1000, masked=True) * 200)
    assert await one.is_left()
    await peer.end()
    assert peer.got == MASKED_CLOSE


async def test_tunnel_of_nobodys_session_outlives_every_logout(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at, "a=b")
    await log_out(client, at)
    assert await one.is_silent(0.1)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_end_of_one_side_ends_the_other(
    sidecar: Start, upstream: Upstream, client: Clients, who: str, how: str
) -> None:
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    leaver = one if who == "client" else peer.wire
    leaver.close() if how == "FIN" else leaver.reset()
    if who == "client":
        await peer.end()
    else:
        assert await one.ends() == b""
        one.close()
    assert await at.under_way() == {}


BYE = (1000).to_bytes(2, "big")


@pytest.mark.parametrize("bye", [frame(BYE, 8), frame(b"no close frame"), b""])
async def test_client_that_ends_its_direction_gets_what_the_server_still_sends(
    sidecar: Start, upstream: Upstream, client: Clients, bye: bytes
) -> None:
    """RFC 6455 7.1.1: a side may shut its direction down and read to the end."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    last = bye[:1] + bytes([bye[1] | 0x80]) + b"\0\0\0\0" + bye[2:] if bye else b""
    one.send(last)
    one.writer.write_eof()
    assert peer.wire is not None
    await peer.heard()
    assert peer.got == last
    for _ in range(3):
        await asyncio.sleep(0.05)
        peer.wire.send(frame(b"x" * 60_000))
    peer.wire.send(frame(BYE + b"bye", 8))
    peer.end_now()
    assert await one.rest() == frame(b"x" * 60_000) * 3 + frame(BYE + b"bye", 8)
    assert await at.under_way() == {}


@pytest.mark.parametrize("bye", [frame(BYE, 8), b""])
async def test_server_that_ends_its_direction_gets_what_the_client_still_sends(
    sidecar: Start, upstream: Upstream, client: Clients, bye: bytes
) -> None:
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    peer.wire.send(bye)
    peer.wire.writer.write_eof()
    assert await one.rest() == bye
    for _ in range(3):
        await asyncio.sleep(0.05)
        one.send(frame(b"x" * 100, masked=True))
    one.send(frame(BYE, 8, masked=True))
    one.close()
    await peer.heard()
    assert peer.got == frame(b"x" * 100, masked=True) * 3 + frame(BYE, 8, masked=True)
    peer.end_now()
    assert await at.under_way() == {}


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_reset_of_one_side_is_one_for_the_other(
    sidecar: Start, upstream: Upstream, client: Clients, who: str
) -> None:
    """An orderly end would say that everything has come."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    if who == "client":
        one.reset()
        await peer.end()
        assert isinstance(peer.error, ConnectionResetError)
    else:
        peer.wire.reset()
        assert await one.broken() == b""
    assert await at.under_way() == {}


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_silence_ends_a_tunnel_of_which_one_side_has_ended(
    monkeypatch: pytest.MonkeyPatch,
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    who: str,
) -> None:
    """Else whoever shuts its direction down holds the other side for ever."""
    monkeypatch.setattr("sidecar.web.tunnel.HALF_CLOSED_SECONDS", 0.2)
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    (one if who == "client" else peer.wire).writer.write_eof()
    await (peer.heard() if who == "client" else one.rest())
    await at.wait_for(lambda metrics: not metrics["sidecar_client_connections"])
    peer.end_now()


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_session_ends_a_tunnel_of_which_one_side_has_ended(
    sidecar: Start, upstream: Upstream, client: Clients, who: str
) -> None:
    """The side that has not ended is told why."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    if who == "client":
        one.writer.write_eof()
        await peer.heard()
        await log_out(client, at)
        assert await one.rest() == CLOSE
    else:
        peer.wire.writer.write_eof()
        assert await one.rest() == b""
        await log_out(client, at)
        await peer.heard()
        assert peer.got == MASKED_CLOSE
    peer.end_now()


async def test_last_frames_before_the_end_arrive(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """An upstream that sends and closes at once: all of it comes, then FIN."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    data = frame(b"x" * 60_000) * 20
    assert peer.wire is not None
    peer.wire.send(data)
    peer.wire.close()
    assert await one.rest() == data


async def test_silent_tunnel_stays_open(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """`idle`, `head`, `client_*` are not for tunnels (behaviour: forwarding)."""
    peer = Peer(upstream)
    limits = {"client_idle": "200ms", "client_head": "200ms"}
    at = await sidecar(routes(upstream, idle="200ms", head="200ms"), limits=limits)
    one = await open_raw(client, at)
    assert await one.is_silent(0.6)
    assert peer.wire is not None
    peer.wire.send(frame(b"x"))
    assert await read(one, 3) == frame(b"x")


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_side_that_does_not_read_stops_the_other(
    sidecar: Start, upstream: Upstream, client: Clients, side: str
) -> None:
    """Back-pressure in both directions."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream))
    one = await open_raw(client, at)
    assert peer.wire is not None
    reader, writer = (one, peer.wire) if side == "client" else (peer.wire, one)
    reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = 0
    piece = frame(b"x" * 60_000, masked=writer is one)
    with suppress(TimeoutError):
        while sent < 100 << 20:
            writer.send(piece)
            async with asyncio.timeout(0.2):
                await writer.writer.drain()
            sent += len(piece)
    assert sent < 24 << 20
    one.reset()
    peer.wire.reset()


def unsent(at: Embedded, to: str) -> int:
    """How many bytes the sidecar holds that the other end of its one tunnel does not take."""
    tunnel = next(one._tunnel for one in at.sidecar._server._connections if one._tunnel)
    side = tunnel._client if to == "client" else tunnel._upstream
    transport = side.connection.transport
    return 0 if transport is None else int(transport.get_write_buffer_size())


def connections(metrics: dict[str, float]) -> float:
    """How many there are, on both sides."""
    names = ("sidecar_client_connections", "sidecar_upstream_connections")
    return sum(value for name, value in metrics.items() if name.partition("{")[0] in names)


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_side_that_does_not_read_does_not_outlive_its_tunnel(
    sidecar: Start, upstream: Upstream, client: Clients, side: str
) -> None:
    """What it does not take in time is thrown away, or its connection would stay for ever."""
    peer = Peer(upstream)
    at = await sidecar(routes(upstream, idle="300ms"), limits={"client_idle": "300ms"})
    one = await open_raw(client, at)
    assert peer.wire is not None
    reader, writer = (one, peer.wire) if side == "client" else (peer.wire, one)
    reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(2000):
        writer.send(frame(b"x" * 20_000, masked=writer is one))
        await asyncio.sleep(0.001)
        if unsent(at, side):
            break
    assert unsent(at, side)
    await log_out(client, at)
    await at.wait_for(lambda metrics: not connections(metrics))
    reader.writer.transport.resume_reading()  # type: ignore[attr-defined]


async def test_handshakes_above_the_budget_of_streams_are_refused(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """T59; a tunnel that ends gives its place back."""
    Peer(upstream)
    at = await sidecar(routes(upstream), limits={"in_flight": {"stream": 1}})
    one = await open_raw(client, at)
    refused = await (await client(at)).get("/ws", *HANDSHAKE)
    assert (refused.status, refused.code) == (503, "overloaded")
    one.reset()
    assert await at.under_way() == {}
    await open_raw(client, at)
