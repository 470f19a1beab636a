"""A Redis that is killed and started again, with traffic going on: nobody is logged out.

With its data (an append-only file that is always synced) and without. One that comes back empty has
forgotten tombstones and what tokens were exchanged for; what the processes themselves remember must
do then.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.life.cast import PATIENCE, Traffic, until, within
from tests.life.programs import LIFETIME, USERS

if TYPE_CHECKING:
    from tests.life.cast import Browser, Cast
    from tests.life.conftest import Stage
    from tests.life.programs import Redis, Replica

TROUBLE = ("store_unavailable", "refresh_unavailable")
LONG = 300  # seconds of a token that is not to be renewed once more in a slow test
RECOVERY = 5.0  # seconds
REMEMBERED = 3.0  # seconds until what a store has lost is written into it once more
TOLD = 8.0  # seconds in which a logout is told that a store did not take; it is tried ever less

BOTH = (pytest.param(True, id="with its data"), pytest.param(False, id="empty"))


class Site:
    """A server, and two replicas on it."""

    def __init__(self, stage: Stage, *, lasting: bool) -> None:
        self.redis = stage.redis(lasting=lasting)
        self.replicas = stage.run(2, store={"url": self.redis.url})


@pytest.fixture(scope="module")
def sites(lasting_stage: Stage) -> dict[bool, Site]:
    """One whose Redis keeps its data, and one whose does not."""
    return {lasting: Site(lasting_stage, lasting=lasting) for lasting in (True, False)}


@pytest.fixture
def site(sites: dict[bool, Site], lasting: bool) -> Site:
    """One of them; a test that failed may have left it without Redis."""
    one = sites[lasting]
    if not one.redis.serves():
        one.redis.start()
        one.redis.wait()
    return one


async def restarted(redis: Redis) -> None:
    """Begins it again, and waits until it serves."""
    redis.start()
    await asyncio.to_thread(redis.wait)


async def is_refused(browser: Browser, *replicas: Replica) -> bool:
    """Whether no replica lets its cookies through."""
    return {(await browser.get(at)).status for at in replicas} == {303}


async def exchanges(cast: Cast, count: int) -> None:
    """Waits until the provider has carried out that many more."""
    before = (await cast.stats())["refresh_exchanges"]
    async with asyncio.timeout(PATIENCE):
        while (await cast.stats())["refresh_exchanges"] < before + count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "lasting",
    BOTH,
)
async def test_killed_and_restarted(cast: Cast, site: Site, lasting: bool) -> None:
    """Tokens live for two seconds and renewals take half of one, so that some are under way."""
    redis, replicas = site.redis, site.replicas
    browsers = await cast.log_in(USERS[:8], lifetime=2)
    await cast.set(access_token_lifetime=2, refresh_delay=0.5)
    async with Traffic(browsers, replicas).going_on() as traffic:
        await exchanges(cast, len(browsers) + 1)  # so the last one is under way
        redis.kill()
        await traffic.until(lambda: traffic.statuses()[503, "store_unavailable"] >= 20, 10)
        await restarted(redis)
        await traffic.until_all_work(RECOVERY)
        await exchanges(cast, len(browsers))
        await cast.set(access_token_lifetime=LIFETIME)
        await traffic.until_all_work(RECOVERY)
    assert traffic.wrong(*TROUBLE) == []
    stats = await cast.stats()
    assert (stats["refused_exchanges"], stats["refresh_reuses"]) == (0, 0)
    for browser in browsers:
        assert (await browser.get(replicas[0], "/api/live")).user == browser.user


@pytest.mark.parametrize("lasting", BOTH)
async def test_logouts_outlive_it(cast: Cast, site: Site, lasting: bool) -> None:
    """Before, while and after Redis is away, both processes know."""
    redis, replicas = site.redis, site.replicas
    browsers = await cast.expired(USERS[:3])
    first = [browser.frozen() for browser in browsers]
    for browser in browsers:
        for at in replicas:
            assert (await browser.get(at)).status == 200
    last = [browser.frozen() for browser in browsers]

    async def log_out(number: int) -> None:
        assert (await browsers[number].ask("POST", replicas[0], "/api/logout")).status == 200

    async def is_told(number: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not await is_refused(last[number], *replicas):
                await asyncio.sleep(0.02)
        assert await is_refused(first[number], *replicas)

    await log_out(0)
    await is_told(0, 1)
    redis.kill()
    await log_out(1)
    assert (await last[1].get(replicas[0])).status in (303, 503)
    await restarted(redis)
    await is_told(1, TOLD)
    await log_out(2)
    await is_told(2, 1)
    assert await is_refused(last[0], *replicas)


@pytest.mark.parametrize(
    "lasting",
    BOTH,
)
async def test_process_begun_later_knows_of_logouts(
    cast: Cast, stage: Stage, site: Site, lasting: bool
) -> None:
    """Though a token of the session is good for a while yet, and the API does not ask for more."""
    redis, replicas = site.redis, site.replicas
    (browser,) = await cast.log_in(USERS[:1])
    assert (await browser.served(replicas[0])).status == 200
    last = browser.frozen()
    assert (await browser.ask("POST", replicas[0], "/api/logout")).status == 200
    await within(time.monotonic(), lambda: is_refused(last, *replicas))
    redis.kill()
    await restarted(redis)
    (later,) = stage.run(1, store={"url": redis.url})
    seconds = 1.0 if lasting else REMEMBERED
    await within(time.monotonic(), lambda: is_refused(last, later), seconds)


@pytest.mark.parametrize(
    "lasting",
    BOTH,
)
async def test_exchange_is_under_way(cast: Cast, site: Site, lasting: bool) -> None:
    """Its lock is gone with the data, and yet nobody else sends the token."""
    redis, replicas = site.redis, site.replicas
    (browser,) = await cast.expired(USERS[:1])
    late = browser.frozen()
    await cast.set(refresh_delay=2, access_token_lifetime=LONG)
    first = asyncio.create_task(browser.get(replicas[0]))
    await exchanges(cast, 1)
    redis.kill()
    await restarted(redis)
    second = await late.get(replicas[1])
    await cast.set(refresh_delay=0)
    assert (await first).status == 200
    assert second.status == 200 or second.code in TROUBLE
    await still_lives(cast, browser, late, replicas)


@pytest.mark.parametrize(
    ("lasting", "asked"),
    [
        pytest.param(True, 1, id="with its data"),
        pytest.param(False, 0, id="empty, who made it"),
        pytest.param(False, 1, id="empty, another process"),
    ],
)
async def test_late_caller(cast: Cast, site: Site, lasting: bool, asked: int) -> None:
    """Whoever comes with the old token gets the successor, or has to wait; it is not sent again."""
    redis, replicas = site.redis, site.replicas
    (browser,) = await cast.expired(USERS[:1])
    late = browser.frozen()
    await cast.set(access_token_lifetime=LONG)
    assert (await browser.served(replicas[0])).status == 200
    redis.kill()
    await restarted(redis)
    got = await late.get(replicas[asked])
    assert got.status == 200 or got.code in TROUBLE
    await still_lives(cast, browser, late, replicas)


@pytest.mark.parametrize("lasting", [True], ids=["with its data"])
async def test_attempt_that_failed_meanwhile(
    cast: Cast, stage: Stage, site: Site, lasting: bool
) -> None:
    """Its lock is still there when Redis is back, and yet the next attempt need not wait for it."""
    redis, replicas = site.redis, site.replicas
    before, browser = await cast.expired(USERS[:2])
    assert (await before.get(replicas[0])).status == 200  # so that the endpoint is known
    await cast.set(outage="error", outage_of=["token"])
    stage.idp.pause()
    try:
        count = redis.count("sidecar:used:*")
        first = asyncio.create_task(browser.get(replicas[0]))
        await until(lambda: redis.count("sidecar:used:*") > count, 5)
        redis.kill()
    finally:
        stage.idp.resume()
    assert (await first).status == 503
    await cast.set(outage="none")
    await restarted(redis)
    async with asyncio.timeout(RECOVERY):
        while (await browser.get(replicas[1])).status != 200:
            await asyncio.sleep(0.05)
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refused_exchanges"]) == (2, 0)


async def still_lives(cast: Cast, browser: Browser, late: Browser, replicas: list[Replica]) -> None:
    """The session has seen one exchange, and its old cookies and its new ones work again."""
    for one in (browser, late):
        async with asyncio.timeout(RECOVERY):
            for at in replicas:
                while (await one.get(at, "/api/live")).status != 200:
                    await asyncio.sleep(0.05)
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refresh_reuses"]) == (1, 0)
