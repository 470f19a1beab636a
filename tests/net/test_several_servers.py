"""Several servers of one upstream, over real sockets: they die, hang, fail and come back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.errors import ProxyError
from sidecar.core.record import replace
from sidecar.net.pool import Pool
from sidecar.policy import UpstreamServer
from tests.conftest import Upstream
from tests.net.test_members import ADDRESS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Clients, Embedded, Start

pytestmark = pytest.mark.usefixtures("upstream")
OTHER = "127.0.0.2"


@pytest.fixture
async def other(upstream: Upstream) -> AsyncIterator[Upstream]:
    """A second server, on the same port of another address."""
    server = Upstream(upstream.port, host=OTHER)
    await server.start()
    yield server
    await server.stop()


def config(*servers: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"urls": [one.url for one in servers], **more}},
        "routes": [{"path": "/", "kind": "api", "upstream": "main", "session": "optional"}],
    }


@asynccontextmanager
async def load(client: Clients, at: Embedded, many: int = 6) -> AsyncIterator[Counter[int]]:
    """Clients that ask all the time; by status, what they are answered."""
    statuses: Counter[int] = Counter()

    async def ask() -> None:
        one = await client(at)
        while True:
            statuses[(await one.get("/x")).status] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(many)]
        yield statuses
        for task in tasks:
            task.cancel()


async def until_more(statuses: Counter[int], more: int = 60) -> None:
    """Waits until so many more requests are answered."""
    wanted = statuses.total() + more
    async with asyncio.timeout(10):
        while statuses.total() < wanted:
            await asyncio.sleep(0.005)


def sample(name: str, server: Upstream) -> str:
    return f'{name}{{address="{server.url.removeprefix("http://")}",upstream="main"}}'


async def test_no_request_fails_while_a_server_is_killed_and_comes_back(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients
) -> None:
    """Requests that were under way there are repeated at the other one."""
    at = await sidecar(config(upstream, other))
    async with load(client, at) as statuses:
        await until_more(statuses)
        assert other.requests
        await other.stop()
        await until_more(statuses)
        assert (await at.metrics())[sample("sidecar_upstream_ejected", other)] == 1
        seen = len(other.requests)
        await other.start()
        async with asyncio.timeout(10):
            while len(other.requests) == seen:
                await asyncio.sleep(0.01)
        await until_more(statuses)
    assert list(statuses) == [200]
    metrics = await at.metrics()
    assert metrics[sample("sidecar_upstream_ejected", other)] == 0
    assert metrics[sample("sidecar_upstream_ejections_total", other)] == 1
    assert metrics[sample("sidecar_upstream_ejections_total", upstream)] == 0
    log = at.log.getvalue()
    assert log.count('"server unhealthy"') == log.count('"server healthy"') == 1


async def test_server_that_hangs_takes_no_more_than_a_few_requests(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients
) -> None:
    """It has the most requests under way, so others come first; then it is left out."""
    other.default = ["hang"]
    at = await sidecar(config(upstream, other, head="1s", ejection={"failures": 2}))
    clients = [await client(at) for _ in range(8)]
    answers = await asyncio.gather(*(one.get("/x") for one in clients))
    assert Counter(answer.status for answer in answers) == {200: 4, 504: 4}
    assert (await at.metrics())[sample("sidecar_upstream_ejected", other)] == 1
    answers = await asyncio.gather(*(one.get("/x") for one in clients))
    assert {answer.status for answer in answers} == {200}
    assert "in a row: no answer within 1 s" in at.log.getvalue()


@pytest.mark.parametrize("statuses", [[], [503]])
async def test_statuses_count_if_they_are_listed(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients, statuses: list[int]
) -> None:
    """By default every response is the application's own affair."""
    other.default = other.reply(b"{}", status="503 Service Unavailable")
    at = await sidecar(
        config(upstream, other, ejection={"failures": 3, "statuses": statuses, "time": "1h"})
    )
    one = await client(at)
    found = Counter([(await one.get("/x")).status for _ in range(20)])
    assert found == ({200: 17, 503: 3} if statuses else {200: 10, 503: 10})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_connection_that_is_reset_before_a_response_is_repeated_elsewhere(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients, method: str
) -> None:
    """Never a method that may not be: RFC 9110 9.2.2."""
    other.default = ["reset"]
    at = await sidecar(config(upstream, other))
    one = await client(at)
    found = Counter([(await one.ask(method, "/x")).status for _ in range(4)])
    assert found == ({200: 4} if method == "GET" else {200: 2, 502: 2})


async def test_pool_that_is_full_of_connections_to_others_still_serves(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream, other, pool={"max": 1}))
    one = await client(at)
    async with asyncio.timeout(1.5):
        assert {(await one.get("/x")).status for _ in range(6)} == {200}


async def test_pool_loses_no_waiter_and_no_place(upstream: Upstream, other: Upstream) -> None:
    """Whoever leaves, breaks or gives back whenever: afterwards every place is free."""
    servers = tuple(UpstreamServer(one, upstream.port) for one in ("127.0.0.1", OTHER, "127.0.0.9"))
    pool = Pool(
        asyncio.get_running_loop(), replace(ADDRESS, servers=servers, pool_max=3, connect=20.0)
    )
    chance = random.Random(12)
    ended: Counter[str] = Counter()

    async def use() -> None:
        with suppress(ProxyError):
            connection = await pool.acquire(lasts=chance.random() < 0.1)
            try:
                await asyncio.sleep(chance.choice((0.0, 0.0, 0.002)))
            except asyncio.CancelledError:
                connection.abort()
                raise
            if chance.random() < 0.2:
                connection.abort()
            else:
                pool.put(connection)
            ended["used"] += 1

    for _ in range(10):
        tasks = [asyncio.create_task(use()) for _ in range(30)]
        for task in chance.sample(tasks, 8):
            await asyncio.sleep(0)
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=10)
        assert len(done) == len(tasks)
        await asyncio.sleep(0.01)  # until connections that were aborted are lost
        assert (pool.waiting, pool.lent) == (0, 0)
        assert pool.open == pool.idle <= 3
        assert all(one.busy == 0 for one in pool.servers())
    assert ended["used"] >= 10 * 22
    assert {one.address for one in pool.servers() if one.ejections} == {
        f"127.0.0.9:{upstream.port}"
    }
    await pool.close()
