"""An upstream that tells what it was sent, takes uploads, echoes messages and streams events.

The command `python -m tests.bench.upstream PORT` serves on the loopback.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from aiohttp import web

PAUSE: Final = 0.5
"""Seconds that a receiver of a large body waits before it reads: who buffers without bound then
holds all of it."""

EVENT: Final = b"data: " + b"x" * 90 + b"\n\n"
TOLD: Final = ("authorization", "cookie", "x-forwarded-access-token")
"""The fields that a GET is answered with."""


def application() -> web.Application:
    made = web.Application(client_max_size=2**40)
    made.router.add_get("/api/echo/socket", _socket)
    made.router.add_get("/api/echo/events", _events)
    made.router.add_post("/api/echo/upload", _upload)
    made.router.add_get("/{path:.*}", _tell)
    return made


async def _tell(request: web.Request) -> web.Response:
    return web.json_response({"data": {name: request.headers.get(name) for name in TOLD}})


async def _upload(request: web.Request) -> web.Response:
    await asyncio.sleep(PAUSE)
    received = 0
    async for piece in request.content.iter_any():
        received += len(piece)
    return web.json_response({"data": {"received": received}})


async def _socket(request: web.Request) -> web.WebSocketResponse:
    wire = web.WebSocketResponse()
    await wire.prepare(request)
    async for message in wire:
        await wire.send_str(message.data)
    return wire


async def _events(request: web.Request) -> web.StreamResponse:
    """An event every `pause` milliseconds."""
    pause = int(request.query["pause"]) / 1000
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    while True:
        await stream.write(EVENT)
        await asyncio.sleep(pause)


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
