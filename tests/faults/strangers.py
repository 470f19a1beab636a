"""Clients that behave badly, with sessions of their own."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from tests.faults.wire import Broken, connected, request

if TYPE_CHECKING:
    from tests.faults.site import Site

_names = count()


def _name() -> str:
    return f"stranger{next(_names)}"


async def _session(site: Site, until: float) -> str:
    """A Cookie header; without a session if nobody can log in by then."""
    while time.monotonic() < until:
        with suppress(OSError, Broken, LookupError):
            return (await site.enter(_name())).cookie
        await asyncio.sleep(0.1)
    return ""


async def leave_within(site: Site, seconds: float) -> None:
    """Leaves within heads, bodies, before responses and within them."""
    until = time.monotonic() + seconds
    cookie = await _session(site, until)
    while time.monotonic() < until:
        method, path = site.random.choice([("GET", "/x"), ("GET", "/big"), ("POST", "/x")])
        body = b"b" * 50_000 if method == "POST" else b""
        data = request(method, f"/api{path}?nonce=left", cookie, body=body)
        with suppress(OSError, Broken):
            async with connected(site.ports()[0]) as wire:
                wire.send(data[: site.random.randrange(1, len(data) + 1)])
                await asyncio.sleep(site.random.uniform(0, 0.02))
                if site.random.random() < 0.3:
                    wire.send(data)
                    async with asyncio.timeout(0.05):
                        await wire.reader.read(100)
            continue
        await asyncio.sleep(0.01)


async def trickle(site: Site, seconds: float) -> None:
    """Sends a body byte by byte."""
    until = time.monotonic() + seconds
    cookie = await _session(site, until)
    while time.monotonic() < until:
        with suppress(OSError, Broken):
            async with connected(site.ports()[0]) as wire:
                data = request("POST", "/api/x?nonce=slow", cookie, body=b"b" * 5000)
                wire.send(data[:-4990])
                while time.monotonic() < until and not wire.writer.is_closing():
                    wire.send(b"b")
                    await asyncio.sleep(0.01)


async def never_read(site: Site, seconds: float) -> None:
    """Asks for large responses and reads nothing."""
    until = time.monotonic() + seconds
    cookie = await _session(site, until)
    with suppress(OSError, Broken):
        async with connected(site.ports()[0]) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                wire.send(request("GET", "/api/big?nonce=unread", cookie))
            await asyncio.sleep(max(0.0, until - time.monotonic()))
