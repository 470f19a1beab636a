"""After a logout through one process: nothing of the session is good anywhere, within a second."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.life.cast import within
from tests.life.programs import COOKIES, USERS

if TYPE_CHECKING:
    from tests.life.cast import Browser, Cast
    from tests.life.programs import Replica

PATIENCE: Final = 30.0  # seconds for what need not be fast
FRESH: Final = {"Connection": "close"}  # each on a connection of its own, so to any worker


class Stream:
    """An event stream of one user, read as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.events: list[str] = []
        self.ended: float | None = None
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(aiohttp.ClientError, ConnectionError):
            async for line in self._answer.content:
                self.events += [line.decode().strip()] if line.strip() else []
        self.ended = time.monotonic()


async def listening(stack: AsyncExitStack, browser: Browser, at: Replica) -> Stream:
    """A stream that has brought an event."""
    fields = {"Accept": "text/event-stream", **FRESH}
    await browser.served(at)  # whatever is to be renewed has been, however late the provider is
    answer = await stack.enter_async_context(browser.opened("GET", at, "/api/events", **fields))
    assert answer.status == 200
    one = Stream(answer)
    stack.callback(one.task.cancel)
    async with asyncio.timeout(PATIENCE):
        while not one.events:
            await asyncio.sleep(0.01)
    return one


@pytest.mark.parametrize("type_", COOKIES)
async def test_logout_counts_everywhere(cast: Cast, replicas: list[Replica], type_: str) -> None:
    """Cookies, streams, replays at either process, and both tokens; another user notices nothing.

    The session was renewed before, so there are old cookies and newer ones to be replayed.
    """
    here, elsewhere = replicas
    browser, other = await cast.log_in(USERS[:2], type_=type_)
    replays = [browser.frozen()]
    assert (await browser.served(elsewhere)).status == 200
    replays.append(browser.frozen())
    assert replays[0].cookies != replays[1].cookies
    (claims,) = await cast.opened(browser, type_=type_)
    assert await cast.is_live(claims["accessToken"])
    assert await cast.is_live(claims["refreshToken"])

    async with AsyncExitStack() as stack:
        streams = [await listening(stack, browser, at) for at in (here, here, elsewhere, elsewhere)]
        theirs = await listening(stack, other, elsewhere)
        got = await browser.ask("POST", here, "/api/logout")
        began = time.monotonic()
        assert (got.status, got.code) == (200, "logged_out")
        assert any(line.startswith(f"{COOKIES[type_]}=;") for line in got.sets)
        assert browser.cookies == {}
        assert (await browser.get(elsewhere)).status == 303

        async def is_refused() -> bool:
            asked = [
                one.get(at, **FRESH)
                for one in replays
                for at in (elsewhere, here)
                for _ in range(6)
            ]
            return {one.status for one in await asyncio.gather(*asked)} == {303}

        async def is_dead_at_the_provider() -> bool:
            tokens = claims["accessToken"], claims["refreshToken"]
            return not any([await cast.is_live(token) for token in tokens])

        async def are_closed() -> bool:
            return all(one.ended is not None for one in streams)

        await asyncio.gather(
            within(began, is_refused),
            within(began, is_dead_at_the_provider),
            within(began, are_closed),
        )
        assert {event for one in streams for event in one.events} == {f"data: {browser.user}"}
        count = len(theirs.events)
        async with asyncio.timeout(PATIENCE):
            while len(theirs.events) < count + 3:
                await asyncio.sleep(0.02)
    assert (await cast.stats())["revocations"] == 2
    assert (await cast.refresh(claims["refreshToken"]))["error"] == "invalid_grant"
    left = await replays[1].get(elsewhere, (await replays[1].get(elsewhere)).location)
    assert (left.status, left.code) == (401, "session_expired")
    assert (await other.served(here, "/api/live")).user == other.user
    receipts = [line for at in replicas for line in at.said("session ended")]
    assert any((one["refresh_token"], one["access_token"]) == ("done", "done") for one in receipts)
