"""A provider in trouble, with traffic going on: nobody is logged out, nobody answered wrongly.

It keeps everything in memory, so a process that is down for a while is one that is stopped
(SIGSTOP: connections are accepted, and nothing comes), and a machine that is down is a network
that refuses connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.life.cast import Traffic, until
from tests.life.door import Door
from tests.life.programs import USERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.life.cast import Browser, Cast
    from tests.life.conftest import Stage
    from tests.life.programs import Replica

DUE, EXPIRED = USERS[:4], USERS[4:8]
UNAVAILABLE = "refresh_unavailable"
NOTICED = 10.0  # seconds within which the return of a provider is noticed (behaviour: refresh)
SHORT_WAIT = 2.0  # the same where its token is still good


@pytest.fixture(scope="module")
def calm(lasting_stage: Stage) -> list[Replica]:
    """Two processes whose provider never fails, so that they never leave it alone for a while."""
    return lasting_stage.run(2, store={"url": lasting_stage.redis().url})


@pytest.fixture
async def door(stage: Stage) -> AsyncIterator[Door]:
    one = Door(stage.idp)
    await one.open()
    yield one
    await one.shut()


async def people(cast: Cast) -> list[Browser]:
    """Four whose token has expired, and four whose is good, but due to be renewed."""
    return [*await cast.expired(EXPIRED), *await cast.log_in(DUE)]


async def goes_on_without(traffic: Traffic) -> None:
    """Everybody has been answered a few times: by data who has a good token, the others by 503."""
    await traffic.until(lambda: all(traffic.count(one) >= 6 for one in traffic.browsers), 10)
    assert traffic.served() == set(DUE)
    assert traffic.statuses()[503, UNAVAILABLE] >= 6 * len(EXPIRED)


async def all_work_again(traffic: Traffic) -> None:
    """In time, and those whose token had expired have a new one."""
    await traffic.until_all_work(NOTICED)
    await until(lambda: traffic.renewed() >= set(EXPIRED), 1)


async def all_live(cast: Cast, traffic: Traffic) -> None:
    """Each session has seen one exchange at the most, and none is over at the provider."""
    stats = await cast.stats()
    assert len(traffic.renewed()) <= stats["refresh_exchanges"] <= len(traffic.browsers)
    for browser in traffic.browsers:
        got = await browser.get(traffic.replicas[0], "/api/live")
        assert (got.status, got.user) == (200, browser.user)
    assert (await cast.stats())["refused_exchanges"] == 0


@pytest.mark.parametrize("outage", ["close", "error", "html", "unavailable"])
async def test_provider_that_fails(cast: Cast, replicas: list[Replica], outage: str) -> None:
    browsers = await people(cast)
    await cast.set(outage=outage)
    async with Traffic(browsers, replicas).going_on() as traffic:
        await goes_on_without(traffic)
        stats = await cast.set(outage="none")
        assert stats["outage_answers"] > 0
        await all_work_again(traffic)
    assert traffic.wrong(UNAVAILABLE) == []
    await all_live(cast, traffic)


async def test_provider_that_refuses_connections(cast: Cast, stage: Stage, door: Door) -> None:
    """As when its machine is gone; it was never seen before that either."""
    refresh = {"token_endpoint": f"{door.url}/token", "client_id": "app"}
    refresh["client_secret"] = "rehearsal-only"
    replicas = stage.run(workers=2, refresh=refresh)
    browsers = await people(cast)
    await door.shut()
    async with Traffic(browsers, replicas).going_on() as traffic:
        await goes_on_without(traffic)
        assert (await cast.stats())["refresh_exchanges"] == 0
        await door.open()
        await all_work_again(traffic)
    assert traffic.wrong(UNAVAILABLE) == []
    await all_live(cast, traffic)


async def test_provider_that_is_stopped(cast: Cast, stage: Stage, calm: list[Replica]) -> None:
    """Who has a good token waits for a moment only; the others wait, and are served after all."""
    browsers = await people(cast)
    stage.idp.pause()
    try:
        async with Traffic(browsers, calm).going_on() as traffic:
            await traffic.until(lambda: traffic.served() == set(DUE), SHORT_WAIT + 3)
            assert not traffic.renewed()
            stage.idp.resume()
            await all_work_again(traffic)
    finally:
        stage.idp.resume()
    assert traffic.wrong() == []
    await all_live(cast, traffic)


async def test_provider_that_is_slow(cast: Cast, calm: list[Replica]) -> None:
    """Six seconds are waited for; who has a good token goes on with it meanwhile."""
    slow = [*await cast.expired(EXPIRED), *await cast.log_in(DUE)]
    await cast.set(refresh_delay=6)
    async with Traffic(slow, calm).going_on() as traffic:
        await traffic.until(lambda: traffic.renewed() == {one.user for one in slow}, 9)
    assert traffic.wrong() == []
    assert max(got.seconds for one, got in traffic.got if one.user in DUE) < SHORT_WAIT + 2
    assert (await cast.stats())["refresh_exchanges"] == len(slow)
    await all_live(cast, traffic)


@pytest.mark.parametrize("refused", ["at expiry", "after a 401"])
async def test_invalid_grant_ends_one_session_and_no_other(
    cast: Cast, calm: list[Replica], refused: str
) -> None:
    """The one answer that does. Both processes know; and who logs in anew is let in."""
    others = await people(cast)
    async with Traffic(others, calm).going_on() as traffic:
        await traffic.until(lambda: len(traffic.renewed()) == len(others), 8)
        if refused == "at expiry":
            (victim,) = await cast.expired(USERS[8:9])
        else:
            (victim,) = await cast.log_in(USERS[8:9])
            assert (await victim.get(calm[0], "/api/live")).status == 200
            (claims,) = await cast.opened(victim)
            await cast.revoke(claims["accessToken"])
        await cast.set(invalid_grant=1)
        twin = victim.frozen()
        for one in (victim, twin):
            for at in calm:
                got = await one.get(at, "/api/live")
                assert got.status == 303, got
        left = await victim.get(calm[1], got.location)
        assert (left.status, left.code, victim.cookies) == (401, "session_expired", {})
        (anew,) = await cast.log_in(USERS[8:9])
        assert (await anew.get(calm[0], "/api/live")).user == anew.user
        await traffic.until_all_work(2)
    assert traffic.wrong() == []
    stats = await cast.stats()
    # The other replica may ask for itself before it is told, and then it is refused as well.
    assert 1 <= stats["refused_exchanges"] <= 2
    assert stats["refresh_reuses"] == 0
