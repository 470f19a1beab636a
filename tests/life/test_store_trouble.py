"""Replicas on one Redis, of which one is cut off, killed or ended, and a Redis that goes back.

Nobody is logged out by that, no refresh token is sent twice, and who is logged out stays so.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from tests.life.door import Gate
from tests.life.programs import USERS

if TYPE_CHECKING:
    from tests.life.cast import Browser, Cast
    from tests.life.conftest import Stage
    from tests.life.programs import Redis, Replica

LONG = 300  # seconds of a token that is not to be renewed once more
SOON = 6.0  # seconds until what was lost or missed is known again


@pytest.fixture
def redis(stage: Stage) -> Redis:
    """It starts without its data, unless they were saved."""
    return stage.redis()


@pytest.fixture
async def gate(redis: Redis) -> AsyncIterator[Gate]:
    one = Gate(redis.port)
    await one.open()
    yield one
    await one.shut()


async def run(stage: Stage, port: int) -> Replica:
    """Begins a replica, while the gate goes on."""
    url = f"redis://127.0.0.1:{port}/0"
    (one,) = await asyncio.to_thread(stage.run, 1, store={"url": url})
    return one


@pytest.fixture
async def replicas(stage: Stage, redis: Redis, gate: Gate) -> list[Replica]:
    """The first one reaches the store through the gate."""
    return list(await asyncio.gather(run(stage, gate.port), run(stage, redis.port)))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = SOON) -> None:
    """Waits for something that is asked for."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def is_refused(browser: Browser, at: Replica) -> bool:
    return (await browser.get(at)).status == 303


async def log_out(browser: Browser, at: Replica) -> None:
    assert (await browser.ask("POST", at, "/api/logout")).status == 200


async def exchanges(cast: Cast, count: int) -> None:
    """Waits until the provider has begun that many."""

    async def have_begun() -> bool:
        return (await cast.stats())["refresh_exchanges"] >= count

    await until(have_begun, 10)


async def still_lives(cast: Cast, browsers: Sequence[Browser], replicas: Sequence[Replica]) -> None:
    """Whoever comes, wherever, is served after the one exchange there was."""
    for browser in browsers:
        for at in replicas:

            async def is_served(browser: Browser = browser, at: Replica = at) -> bool:
                got = await browser.get(at, "/api/live")
                assert got.status in (200, 503), got
                return got.status == 200

            await until(is_served, 10)
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refresh_reuses"]) == (1, 0)


@pytest.mark.parametrize("is_asked", [True, False], ids=["while it is away", "once it is back"])
async def test_cut_off_while_renewing(
    cast: Cast, replicas: list[Replica], gate: Gate, *, is_asked: bool
) -> None:
    """Its lock is let go behind the successor, however long that takes."""
    cut, other = replicas
    (browser,) = await cast.expired(USERS[:1])
    late = browser.frozen()
    await cast.set(refresh_delay=1, access_token_lifetime=LONG)
    first = asyncio.create_task(browser.get(cut))
    await exchanges(cast, 1)
    await gate.shut()
    asked = [asyncio.create_task(late.get(other))] if is_asked else []
    await asyncio.sleep(3)
    await gate.open()
    for _ in range(4):
        asked.append(asyncio.create_task(late.get(other)))
        await asyncio.sleep(0.25)
    assert (await first).status == 200
    assert {got.status for got in await asyncio.gather(*asked)} <= {200, 503}
    await still_lives(cast, (browser, late), replicas)


async def test_killed_while_renewing(cast: Cast, replicas: list[Replica]) -> None:
    """A user whose token is good is kept waiting for a moment only."""
    killed, other = replicas
    (browser,) = await cast.log_in(USERS[:1])
    await cast.set(refresh_delay=6)
    first = asyncio.create_task(browser.frozen().get(killed))
    await exchanges(cast, 1)
    killed.kill()
    await first
    ended = time.monotonic()
    while (got := await browser.get(other)).seconds > 1:
        assert time.monotonic() - ended < 8
    assert got.status == 200
    for _ in range(5):
        assert (await browser.get(other)).seconds < 1


async def test_ended_while_renewing(cast: Cast, replicas: list[Replica]) -> None:
    """Though its client has left, and the provider takes longer than the background may."""
    ended, other = replicas
    (browser,) = await cast.expired(USERS[:1])
    await cast.set(refresh_delay=5, access_token_lifetime=LONG)
    task = asyncio.create_task(browser.frozen().get(ended))
    await exchanges(cast, 1)
    task.cancel()
    ended.ask_to_end()
    assert await asyncio.to_thread(ended.wait_for_end, 20) == 0
    await cast.set(refresh_delay=0)
    await still_lives(cast, (browser,), (other,))


async def restarted(redis: Redis) -> None:
    redis.kill()
    redis.start()
    await asyncio.to_thread(redis.wait)


async def test_gone_back_behind_a_renewal(
    cast: Cast, replicas: list[Replica], redis: Redis
) -> None:
    """What is known where it was made is known everywhere again."""
    (browser,) = await cast.expired(USERS[:1])
    late = browser.frozen()
    redis.save()
    await cast.set(access_token_lifetime=LONG)
    assert (await browser.served(replicas[0])).status == 200
    await asyncio.sleep(1)
    await restarted(redis)
    await still_lives(cast, (late, browser), replicas[::-1])


async def test_gone_back_behind_a_logout(
    cast: Cast, stage: Stage, replicas: list[Replica], redis: Redis
) -> None:
    """A replica that begins afterwards knows of it."""
    (browser,) = await cast.log_in(USERS[:1], lifetime=LONG)
    for at in replicas:
        assert (await browser.get(at)).status == 200
    last = browser.frozen()
    redis.save()
    await log_out(browser, replicas[0])
    await until(lambda: is_refused(last, replicas[1]))
    await asyncio.sleep(1)
    await restarted(redis)
    await asyncio.sleep(1)
    later = await run(stage, redis.port)
    await until(lambda: is_refused(last, later), 2)


async def test_cookie_before_the_last_where_the_store_is_empty(
    cast: Cast, replicas: list[Replica], redis: Redis
) -> None:
    """It leads on for `grace`, though its successor was presented."""
    (browser,) = await cast.expired(USERS[:1])
    late = browser.frozen()
    await cast.set(access_token_lifetime=LONG)
    for at in (replicas[0], *replicas):
        assert (await browser.get(at)).status == 200
    await restarted(redis)
    await still_lives(cast, (late, browser), replicas[::-1])


async def test_away_while_more_messages_came_than_are_kept(
    cast: Cast, replicas: list[Replica], redis: Redis, gate: Gate
) -> None:
    """It asks the store once more of every session, and ends streams of those that have died."""
    cut, other = replicas
    gone, stays = await cast.log_in(USERS[:2], lifetime=LONG)
    last = gone.frozen()
    for browser in (gone, stays):
        for at in replicas:
            assert (await browser.get(at)).status == 200
    await gate.shut()
    await log_out(gone, other)
    assert (await last.get(cut)).status == 200
    redis.flood(10_400)
    await gate.open()
    await until(lambda: is_refused(last, cut))
    assert (await stays.get(cut)).status == 200


async def test_logout_that_is_not_shared_yet_is_shown(
    cast: Cast, replicas: list[Replica], gate: Gate
) -> None:
    """It would be lost with the process."""
    cut, other = replicas
    (browser,) = await cast.log_in(USERS[:1], lifetime=LONG)
    for at in replicas:
        assert (await browser.get(at)).status == 200
    last = browser.frozen()
    metric = 'sidecar_store_pending{kind="logout"}'
    await gate.shut()
    await log_out(browser, cut)
    assert f"{metric} 1.0" in await asyncio.to_thread(cut.facts, "/metrics")
    readiness = json.loads(await asyncio.to_thread(cut.facts, "/readyz"))
    assert readiness["store"] == {"reachable": False, "required": True, "pending": 1}
    await gate.open()
    await until(lambda: is_refused(last, other))

    async def is_shared() -> bool:
        return f"{metric} 0.0" in await asyncio.to_thread(cut.facts, "/metrics")

    await until(is_shared)
