"""Connections that last ask their other end for signs of life, on both sides of the proxy."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.net.liveness import watch_peer

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Running, Start, Upstream, Wire

HOST = "Host: app.example.com\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://app.example.com\r\n"
)
_KEEP_ALIVE = "02"  # the timer of a connection in proc(5), /proc/net/tcp


def timer(local: int, remote: int) -> str:
    """The timer that the kernel has for the end of a connection at the port `local`."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = tuple(int(field.split(":")[1], 16) for field in fields[1:3])
        if ports == (local, remote) and fields[3] == "01":
            return fields[5].split(":")[0]
    pytest.fail(f"there is no connection between {local} and {remote}")


def port(wire: Wire, which: str) -> int:
    return int(wire.writer.get_extra_info(which)[1])


def timers(at: Running, upstream: Upstream, one: Client) -> set[str]:
    """Those of the sidecar's two ends."""
    theirs = upstream.wires[-1]
    return {
        timer(at.port, port(one, "sockname")),
        timer(port(theirs, "peername"), upstream.port),
    }


def config(upstream: Upstream) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [{"path": "/", "kind": "page", "upstream": "main"}],
    }


@pytest.mark.parametrize(
    ("fields", "answer"),
    [("Accept: text/event-stream\r\n", EVENTS), ("", EVENTS), (HANDSHAKE, SWITCH)],
)
async def test_peers_of_what_lasts_are_watched(
    sidecar: Start, upstream: Upstream, client: Clients, fields: str, answer: bytes
) -> None:
    """Event streams and tunnels, towards client and upstream."""
    upstream.default = [answer, "hang"]
    at = await sidecar(config(upstream))
    one = await client(at)
    one.send(f"GET /a HTTP/1.1\r\n{HOST}{fields}\r\n")
    await one.read_head()
    await asyncio.sleep(0.3)  # until all that was sent is acknowledged
    assert timers(at, upstream, one) == {_KEEP_ALIVE}


async def test_common_requests_pay_nothing_for_it(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream))
    one = await client(at)
    assert (await one.get("/a")).status == 200
    await asyncio.sleep(0.3)
    assert _KEEP_ALIVE not in timers(at, upstream, one)


async def test_peer_that_is_gone_is_noticed_in_minutes() -> None:
    """Whether it was asked something, or owes the acknowledgement of what was sent."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    watch_peer(writer.transport)
    raw = writer.get_extra_info("socket")
    seconds = [
        raw.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ]
    assert seconds[0] + seconds[1] * seconds[2] == 120
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
    writer.close()
    server.close()
    watch_peer(None)


async def test_unix_socket_needs_no_watch() -> None:
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    watch_peer(writer.transport)
    writer.close()
    theirs.close()
