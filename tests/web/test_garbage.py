"""What is over is gone at once: the garbage collector looks at long-lived objects once in millions.

Connections that have ended, their requests and their time limits would fill memory until then. The
fixture `sidecar` asks the same of every test over connections; here stands what that does not see.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwe import CompactEncryption, Recipient

from sidecar.core.errors import forget_frames
from sidecar.core.formats import FORMATS
from sidecar.core.jwe import SealError
from sidecar.core.request import Fields
from sidecar.net.deadline import Deadline, Within
from sidecar.net.store.lease import Lease
from sidecar.net.store.memory import MemoryStore
from sidecar.web.connection import ClientConnection
from sidecar.web.flow import Plan
from sidecar.web.known_section import KnownSection
from sidecar.web.request_parser import RequestParser
from tests.conftest import PATIENCE, left_to_the_collector

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


def test_errors_that_led_to_each_other_are_forgotten_once() -> None:
    """A circle of causes has no end, and would stop everybody."""
    first, second = ValueError(), KeyError()
    for error, cause in ((first, second), (second, first)):
        with pytest.raises(type(error)):
            raise error from cause
    forget_frames(first)
    assert (first.__traceback__, second.__traceback__) == (None, None)


class _Fails(Exception):
    """Ends a task."""


async def test_task_that_ends_within_a_limit_leaves_nothing_to_the_collector() -> None:
    """Its error refers to its frames, they to the limit, and that to the task."""

    async def fails() -> None:
        within = Within(60)
        async with within:
            raise _Fails

    with without_collector():
        for _ in range(MANY):
            with pytest.raises(_Fails):
                await asyncio.create_task(fails())
        await asyncio.sleep(0)
        left = left_to_the_collector((_Fails,))
    assert left.get("_Fails", 0) < MANY / 2


@pytest.mark.parametrize("secret", ["the secret that it was sealed with", "a secret of others"])
def test_opened_cookie_leaves_nothing_to_the_collector(secret: str) -> None:
    """Else tokens would stay in memory, and as many as anybody makes up."""
    seals = FORMATS["authjs"](secrets=["the secret that it was sealed with"], token=("t",)).opener  # type: ignore[attr-defined]
    opens = FORMATS["authjs"](secrets=[secret], token=("t",)).opener  # type: ignore[attr-defined]
    with without_collector():
        for number in range(MANY):
            sealed = seals.seal({"t": f"token{number}"}, "authjs.session-token")
            with suppress(SealError):
                opens.open(sealed, "authjs.session-token", 0.0)
        left = left_to_the_collector((CompactEncryption, Recipient))
    assert left == {}


async def test_what_a_reload_leaves_behind_remembers_no_session(
    sidecar: Start, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old configuration waits for the collector, but not with the memory that it has filled."""
    monkeypatch.setattr("sidecar.app.RETIRE_SECONDS", 0.01)
    at = await sidecar()
    assert (await (await client(at)).get("/a", "Cookie: access_token=tok")).status == 200
    old = at.sidecar.runtime
    assert old.directory.cached == 1
    await at.sidecar.reload(old.policy.config)
    async with asyncio.timeout(PATIENCE):
        while old.directory.cached:
            await asyncio.sleep(0.01)
