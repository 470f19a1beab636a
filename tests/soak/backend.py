"""The API and the provider, as cheap as they can be: `python -m tests.soak.backend PORT`.

A token is `t.NAME.COUNT`; the refresh token `r.NAME.COUNT` leads to the next one of both.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from typing import Final, cast
from urllib.parse import parse_qs

import uvloop

from tests.floods.strangers import raise_descriptors

EVENT_SECONDS: Final = 4.0
LIFETIME: Final = 600  # seconds of a renewed token
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


class Backend(asyncio.Protocol):
    """One connection of the sidecar."""

    def __init__(self) -> None:
        self._buffer = b""
        self._said = b""
        self._is_socket = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, in fact

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._frame() if self._is_socket else self._request():
            pass

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _request(self) -> bool:
        """Answers a request if all of it is here."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._buffer[:end]
        length = int(_field(head, b"content-length") or 0)
        if len(self._buffer) < end + 4 + length:
            return False
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        self._answer(head, body)
        return True

    def _answer(self, head: bytes, body: bytes) -> None:
        target = head.split(b" ", 2)[1]
        path, _, query = target.partition(b"?")
        nonce = query.removeprefix(b"nonce=")
        token = (_field(head, b"authorization") or b"").removeprefix(b"Bearer ")
        self._said = b'{"nonce":"%b","token":"%b","body":%d}' % (nonce, token, len(body))
        if path == b"/token":
            self._write(_whole(_renewed(body)))
        elif path == b"/reject":
            self._write(_whole(b'{"message":"no"}', b"401 Unauthorized"))
        elif path == b"/events":
            self._write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            self._event()
        elif path == b"/socket":
            key = _field(head, b"sec-websocket-key") or b""
            accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())  # noqa: S324 - RFC 6455
            self._write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept
            )
            self._is_socket = True
        else:
            self._write(_whole(self._said))

    def _event(self) -> None:
        event = b"data: %b\n\n" % self._said
        self._write(b"%x\r\n%b\r\n" % (len(event), event))
        self._timer = asyncio.get_running_loop().call_later(EVENT_SECONDS, self._event)

    def _frame(self) -> bool:
        """Answers a short frame by what the handshake was (RFC 6455 5.2)."""
        if len(self._buffer) < 6 or len(self._buffer) < 6 + (self._buffer[1] & 127):
            return False
        size = 6 + (self._buffer[1] & 127)
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        if frame[0] & 15 == 8:
            self._write(bytes([0x88, len(frame) - 6]) + frame[6:])
        elif frame[0] & 15 == 1:
            self._write(bytes([0x81, 126]) + len(self._said).to_bytes(2, "big") + self._said)
        return True


def _field(head: bytes, name: bytes) -> bytes | None:
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return None
    return head[at + len(name) + 3 :].partition(b"\r\n")[0].strip()


def _whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _renewed(body: bytes) -> bytes:
    old = parse_qs(body.decode())["refresh_token"][0]
    name, _, count = old.removeprefix("r.").partition(".")
    rest = f"{name}.{int(count) + 1}"
    tokens = {"access_token": f"t.{rest}", "refresh_token": f"r.{rest}", "token_type": "Bearer"}
    return json.dumps({**tokens, "expires_in": LIFETIME}).encode()


async def main(port: int) -> None:
    """Serves until it is killed."""
    raise_descriptors()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
