"""What is over is gone at once: the garbage collector looks at long-lived objects once in millions.

Connections that have ended, their requests and their time limits would fill memory until then.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.request import Fields
from sidecar.net.deadline import Deadline, Within
from sidecar.net.store.lease import Lease
from sidecar.net.store.memory import MemoryStore
from sidecar.web.connection import ClientConnection
from sidecar.web.flow import Plan
from sidecar.web.known_section import KnownSection
from sidecar.web.request_parser import RequestParser

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Start, Upstream

KINDS = (ClientConnection, Deadline, Fields, KnownSection, Lease, Plan, RequestParser, Within)
MANY = 20


def _counted() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)


@contextmanager
def without_collector() -> Iterator[Counter[str]]:
    """Nothing is collected within. Yields how many objects of each kind there were before."""
    gc.collect()
    gc.disable()
    try:
        yield _counted()
    finally:
        gc.enable()


async def silent(_: Client) -> None:
    """A client that sends nothing."""


async def half(one: Client) -> None:
    """A client that sends half of a head."""
    one.send("GET /a HTTP/1.1\r\nHost: a")


async def alike(one: Client) -> None:
    """A client whose requests have the same fields."""
    for _ in range(3):
        assert (await one.get("/a")).status == 200


async def different(one: Client) -> None:
    """A client whose requests have fields of their own, some too long to be remembered."""
    for number in range(3):
        long = "x" * (9000 * (number % 2))
        assert (await one.get("/a", f"X-Number: {number}{long}")).status == 200


@pytest.mark.parametrize("use", [silent, half, alike, different])
async def test_connections_that_have_ended_leave_nothing_to_the_collector(
    sidecar: Start, upstream: Upstream, client: Clients, use: Any
) -> None:
    """Nor do their requests."""
    at = await sidecar()
    await use(await client(at))
    with without_collector() as before:
        for _ in range(MANY):
            one = await client(at)
            await use(one)
            await one.gone()
        await at.wait_for(lambda found: found["sidecar_client_connections"] <= 1)
        left = _counted() - before
    assert max(left.values(), default=0) < MANY / 2, left


async def test_limits_and_locks_leave_nothing_to_the_collector() -> None:
    """Those that end in time, and those that do not."""
    store = MemoryStore(lambda _: None)
    with without_collector() as before:
        for number in range(MANY):
            async with Within(60):
                await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                async with Within(0.001):
                    await asyncio.Event().wait()
            lease = Lease(store, f"k{number}")
            assert await lease.take()
            await lease.release()
        del lease
        await asyncio.sleep(0)
        left = _counted() - before
    assert max(left.values(), default=0) < MANY / 2, left
    await store.close()
