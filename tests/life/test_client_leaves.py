"""Clients that leave while their session is renewed: the exchange goes on without them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.life.cast import PATIENCE
from tests.life.programs import USERS

if TYPE_CHECKING:
    from tests.conftest import Clients
    from tests.life.cast import Cast
    from tests.life.programs import Replica


async def test_connection_reset_during_the_exchange(
    cast: Cast, replicas: list[Replica], client: Clients
) -> None:
    """Of all who wait for it, so that nobody is left; the next request, elsewhere, is served."""
    (browser,) = await cast.expired(USERS[:1])
    await cast.set(refresh_delay=1)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    many = [await client(replicas[0].port) for _ in range(8)]
    for one in many:
        one.send(f"GET /api/live HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        while not (await cast.stats())["refresh_exchanges"]:
            await asyncio.sleep(0.01)
    for one in many:
        one.reset()
    got = await browser.served(replicas[1], "/api/live")
    assert (got.status, got.user) == (200, browser.user)
    assert got.sets
    again = await browser.served(replicas[0], "/api/live")
    assert (again.status, again.token) == (200, got.token)
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refused_exchanges"]) == (1, 0)
    await cast.set(refresh_delay=0, burst=1)
    third = await browser.served(replicas[1], "/api/live")
    assert third.status == 200
    assert third.token != got.token
