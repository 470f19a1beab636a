"""Client connections: how many there may be, and what an idle one remembers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Start, StartCommand, Upstream

HOST = "Host: app.example.com\r\n"
CLOSED = 'sidecar_limited_connections_total{outcome="idle_closed"}'
REFUSED = 'sidecar_limited_connections_total{outcome="refused"}'
CONNECTIONS = 60
TOLD = '"event": "connection limit reached"'


async def used(client: Clients, at: object, target: str = "/a") -> Client:
    """A connection that has been used, and is idle now."""
    one = await client(at)  # type: ignore[arg-type]
    assert (await one.get(target)).status == 200
    await asyncio.sleep(0.01)  # so that the next one is younger by the loop's clock
    return one


async def test_oldest_idle_connection_makes_room(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Oldest by its last use, not by its beginning."""
    at = await sidecar(limits={"connections": 3})
    first, second, third = [await used(client, at) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert (await first.get("/again")).status == 200
    fourth = await used(client, at)
    assert await second.rest() == b""
    for one in (first, third, fourth):
        assert (await one.get("/b")).status == 200
    metrics = await at.metrics()
    assert (metrics[CLOSED], metrics[REFUSED]) == (1, 0)
    assert metrics["sidecar_client_connections"] == 3


async def test_connection_that_has_asked_for_nothing_makes_room_first(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nor one whose head dribbles in: strangers before users."""
    at = await sidecar(limits={"connections": 3})
    user = await used(client, at)
    await asyncio.sleep(0.01)
    silent = await client(at)
    dribbling = await client(at)
    dribbling.send("GET /a HT")
    await at.wait_for(lambda found: found["sidecar_client_connections"] == 3)
    others = [await used(client, at) for _ in range(2)]
    assert await silent.rest() == b""
    assert await dribbling.rest() == b""
    for one in (user, *others):
        assert (await one.get("/b")).status == 200


async def test_without_idle_connections_no_more_are_accepted(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Whoever is being served goes on; it is told once, and again after it was better."""
    upstream.default = lambda request: (
        ["hang"] if "wait" in request.target else b"".join([upstream.reply(b"{}")])
    )
    at = await sidecar(limits={"connections": 2})
    busy = [await client(at) for _ in range(2)]
    for one in busy:
        one.send(f"GET /wait HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda found: found['sidecar_requests_in_flight{kind="api"}'] == 2)
    for _ in range(3):
        assert await (await client(at)).ends() == b""
    metrics = await at.metrics()
    assert (metrics[CLOSED], metrics[REFUSED]) == (0, 3)
    assert metrics["sidecar_client_connections"] == 2
    assert at.log.getvalue().count(TOLD) == 1
    for one in busy:
        one.reset()
    await at.wait_for(lambda found: found["sidecar_client_connections"] == 0)
    kept = [await used(client, at) for _ in range(3)]
    assert await kept[0].rest() == b""
    assert at.log.getvalue().count(TOLD) == 2


async def test_flood_of_connections_leaves_those_in_use(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Hundreds that say nothing: never more than the limit, and requests go on."""
    at = await sidecar(limits={"connections": 20})
    user = await used(client, at)
    for round_ in range(10):
        for _ in range(20):
            await client(at)
        assert (await user.get(f"/{round_}")).status == 200
    metrics = await at.wait_for(lambda found: found["sidecar_client_connections"] <= 20)
    assert metrics[CLOSED] + metrics[REFUSED] >= 180


@pytest.mark.parametrize("how", ["headers", "cookie", "target", "targets", "plans"])
async def test_idle_connection_remembers_little(
    command: StartCommand, upstream: Upstream, client: Clients, how: str
) -> None:
    """Whatever it sent before; 120 KiB of its last head, or plans for many long targets, else."""
    at = await command({"log": {"access": False}})

    async def use(one: Client, number: int) -> None:
        long = f"{number:04d}" + "x" * 60_000
        requests = {
            "headers": [("/a", f"X-Long: {long}")],
            "cookie": [("/a", f"Cookie: a={long[4:]}")],
            "target": [(f"/{long}", "A: b")],
            "targets": [(f"/{turn}{long[:7000]}", "A: b") for turn in range(9)],
            "plans": [(f"/{turn}", f"A: {long[:7800]}") for turn in range(9)],
        }
        for target, line in requests[how]:
            assert (await one.get(target, line)).status == 200

    for number in range(140 if how == "target" else 10):  # fills what all have together
        first = await client(at)
        await use(first, 1000 + number)
        await first.gone()
    before = at.resident()
    for number in range(CONNECTIONS):
        await use(await client(at), number)
    assert (await at.metrics())["sidecar_client_connections"] == CONNECTIONS
    assert (at.resident() - before) / CONNECTIONS < 48 << 10
