"""Many requests when a token expires: one exchange, whoever gets them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.life.programs import COOKIES, USERS

if TYPE_CHECKING:
    from tests.life.cast import Browser, Cast, Got
    from tests.life.conftest import Stage
    from tests.life.programs import Replica


async def at_expiry(
    cast: Cast, browser: Browser, replicas: list[Replica], *, type_: str = "authjs"
) -> list[Got]:
    """100 requests at once with an expired token: one exchange, and a session that lives.

    They are all there before the provider answers. Whoever waited in vain on a busy
    machine asks again: the exchange, the user and the token are the same for him too. Afterwards
    the session is renewed once more, which a provider that had seen a token twice would refuse.
    """
    await cast.set(refresh_delay=1.0)
    same = browser.frozen()  # none of the 100 has seen the answer to another one
    asked = [same.served(replicas[number % len(replicas)], "/api/live") for number in range(99)]
    first, *others = await asyncio.gather(browser.served(replicas[0], "/api/live"), *asked)
    answers = [first, *others]
    assert Counter((got.status, got.code) for got in answers) == {(200, ""): 100}
    assert {got.user for got in answers} == {browser.user}
    assert len({got.token for got in answers}) == 1
    assert all(got.sets for got in answers)
    stats = await cast.set(refresh_delay=0)
    assert (stats["refresh_exchanges"], stats["refused_exchanges"]) == (1, 0)
    # The session goes on: its token is refused once more, and renewed once more.
    await cast.set(burst=1)
    again = await browser.served(replicas[-1], "/api/live")
    assert (again.status, again.user) == (200, browser.user)
    assert again.token != first.token
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refused_exchanges"]) == (2, 0)
    (claims,) = await cast.opened(browser, type_=type_)
    assert (claims["sub"], claims["name"]) == (browser.user, f"{browser.user} ☃")
    assert await cast.is_live(claims["accessToken"])
    assert await cast.is_live(claims["refreshToken"])
    return answers


@pytest.mark.parametrize("type_", COOKIES)
async def test_two_processes_of_two_workers_with_redis(
    cast: Cast, replicas: list[Replica], type_: str
) -> None:
    """All four workers have a part in it, or it would prove nothing."""
    (browser,) = await cast.expired(USERS[:1], type_=type_)
    answers = await at_expiry(cast, browser, replicas, type_=type_)
    assert len({got.worker for got in answers}) == 4


async def test_two_workers_with_the_default_store(cast: Cast, stage: Stage) -> None:
    """None is configured, so the workers share a SQLite file of their own."""
    (browser,) = await cast.expired(USERS[:1])
    answers = await at_expiry(cast, browser, stage.run(workers=2))
    assert len({got.worker for got in answers}) == 2


async def test_one_worker_without_a_store(cast: Cast, stage: Stage) -> None:
    """The least that there is: an Auth.js cookie, and the memory of one process."""
    (browser,) = await cast.expired(USERS[:1])
    await at_expiry(cast, browser, stage.run())


async def test_many_sessions_expire_together(cast: Cast, replicas: list[Replica]) -> None:
    """Each of 200 is exchanged once, though three requests of each come; nobody gets another's."""
    browsers = await cast.expired(USERS)
    asked = [
        browser.served(replicas[number % 2], "/api/live")
        for browser in browsers
        for number in range(3)
    ]
    answers = await asyncio.gather(*asked)
    assert Counter((got.status, got.code) for got in answers) == {(200, ""): 600}
    tokens: dict[str, set[str]] = {}
    for number, got in enumerate(answers):
        assert got.user == USERS[number // 3]
        tokens.setdefault(got.user, set()).add(got.token)
    assert all(len(one) == 1 for one in tokens.values())
    stats = await cast.stats()
    assert (stats["refresh_exchanges"], stats["refused_exchanges"]) == (200, 0)
    claims = await cast.opened(*browsers)
    assert [one["sub"] for one in claims] == [*USERS]
    assert len({one["refreshToken"] for one in claims}) == 200
    assert len({got.worker for got in answers}) == 4
