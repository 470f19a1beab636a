"""The checks: what a user, the site and the provider do, in order, and what must come of it.

Each is a coroutine function of a site; its docstring is what it promises. One that returns a text
is right, with that as a remark. `NotOffered` says that the provider has no such thing, any other
exception that it went wrong.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import ClientSession
from yarl import URL

from tests.interop.provider import CLIENT_SECRET
from tests.interop.site import SECRET, Site
from tests.oidc.browser import FETCH, Browser

PATIENCE: Final = 8.0  # seconds until what one side has done must show at the other
AT_ONCE: Final = 30


class World:
    """A site, and the browser of the user who goes through the checks."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self.site = site
        self._stack = stack
        self.alice: Browser | None = None

    async def browser(self) -> Browser:
        return await self._stack.enter_async_context(self.site.browser())

    async def user(self) -> Browser:
        """The first user, who logs in where that has not happened."""
        if self.alice is None:
            self.alice = await self.browser()
            await self.site.log_in(self.alice, "alice")
        return self.alice


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        await asyncio.sleep(0.2)


async def is_out(browser: Browser) -> bool:
    """Whether the browser's session has ended here."""
    return not (await browser.who())["authenticated"]


async def replayed(site: Site, cookie: str) -> int:
    """The status of an API call with a cookie that somebody has kept."""
    headers = {**FETCH, "Cookie": cookie}
    async with (
        ClientSession() as asking,
        asking.get(f"{site.url}/api/me", headers=headers) as answer,
    ):
        return answer.status


# -- the checks -----------------------------------------------------------------------------------


async def login(world: World) -> None:
    """Back at the deep link; the user is known by name; the API accepts the token."""
    site, browser = world.site, await world.browser()
    world.alice = browser
    page = await site.log_in(browser, "alice")
    assert page.url.path_qs == "/private/orders?page=1", page.url
    who = await browser.who()
    assert who["authenticated"], who
    assert who["subject"], who
    assert who["email"] == "alice@example.com", who
    assert who["name"], who
    token = await site.token(browser)
    assert await site.api.subject(token) == who["subject"]
    assert len(site.wire.grants("authorization_code")) == 1


async def renewed_by_clock(world: World) -> None:
    """Shortly before the token ends, the next call brings another: nobody sees a 401."""
    site, browser = world.site, await world.user()
    token, before = await site.token(browser), len(site.wire.exchanges)
    await asyncio.sleep(site.provider.seconds * 0.6)
    renewed = await site.token(browser)
    assert renewed != token, "the token was not renewed"
    assert len(site.wire.exchanges) == before + 1, _said(site, before)
    assert (await browser.who())["authenticated"]


async def renewed_after_401(world: World) -> None:
    """The API refuses the token though it is not over: the same call is answered with another."""
    site, browser = world.site, await world.user()
    token, before = await site.token(browser), len(site.wire.exchanges)
    site.api.refused.add(token)
    renewed = await site.token(browser)
    assert renewed != token
    assert len(site.wire.exchanges) == before + 1, _said(site, before)


async def thirty_at_once(world: World) -> None:
    """Calls that come together once the token is over: one exchange, 30 answers."""
    site, browser = world.site, await world.user()
    token = await site.token(browser)
    await asyncio.sleep(site.provider.seconds + 1)
    before = len(site.wire.exchanges)
    answers = await asyncio.gather(*(browser.get("/api/me") for _ in range(AT_ONCE)))
    statuses = [status for status, _ in answers]
    assert statuses == [200] * AT_ONCE, statuses
    tokens = {answer["data"]["token"] for _, answer in answers}
    assert len(tokens) == 1, f"{len(tokens)} tokens"
    assert token not in tokens
    assert len(site.wire.exchanges) == before + 1, _said(site, before)


async def restart(world: World) -> None:
    """The sidecar ends and starts: the session lives, and is renewed again."""
    site, browser = world.site, await world.user()
    token = await site.token(browser)
    await site.restart()
    assert (await browser.who())["authenticated"]
    before = len(site.wire.exchanges)
    site.api.refused.add(token)
    assert await site.token(browser) not in (token, "")
    assert len(site.wire.exchanges) >= before + 1


async def keys_rotated(world: World) -> None:
    """Another user logs in with a token by the new key; the first session is renewed by it."""
    site, alice = world.site, await world.user()
    await site.token(alice)
    await site.provider.rotate_keys()
    bob = await world.browser()
    await site.log_in(bob, "bob")
    assert (await bob.who())["authenticated"]
    site.api.refused.add(await site.token(alice))
    await site.token(alice)


async def logout_here_then_there(world: World) -> str | None:
    """The link ends the session here, then there, and the browser is back at the site; tokens and
    cookies are good for nothing.
    """
    site, browser = world.site, await world.browser()
    await site.log_in(browser, "carol")
    token, cookie = await site.token(browser), browser.cookie
    refresh = _last_refresh_token(site)
    await _by_way_of_the_provider(site, browser, "/auth/logout")
    assert await replayed(site, cookie) == 401
    remark = None

    async def is_dead() -> bool:
        return await site.api.subject(token) is None

    try:
        await until(is_dead, "the access token is refused there", 4)
    except AssertionError:
        remark = "its access tokens are good until they expire"
    assert refresh is not None, "there was no refresh token"
    revoked = [one for one in site.wire.noted if one.form.get("token") == refresh]
    if revoked:
        assert [one.status for one in revoked] == [200], revoked
    await _asks_for_a_password(site, browser)
    return remark


async def logout_by_script(world: World) -> None:
    """A script's POST ends the session here; its answer's `logoutUrl`, opened, the one there."""
    site, browser = world.site, await world.browser()
    await site.log_in(browser, "frank")
    cookie = browser.cookie
    url = browser.sidecar.join(URL("/auth/logout"))
    headers = {**FETCH, "Origin": site.url}
    async with browser.session.post(url, headers=headers) as answer:
        assert answer.status == 200, answer.status
        said = await answer.json()
    assert await replayed(site, cookie) == 401
    await _by_way_of_the_provider(site, browser, said["data"]["logoutUrl"])
    await _asks_for_a_password(site, browser)


async def two_browsers(world: World) -> str | None:
    """A user logs in with two of them: both sessions are renewed."""
    site, browsers = world.site, [await world.browser() for _ in range(2)]
    for browser in browsers:
        await site.log_in(browser, "grace")
    one, two = browsers
    tokens = [await site.token(browser) for browser in browsers]
    site.api.refused.update(tokens)
    assert await site.token(two) not in tokens
    for _ in range(6):
        status, answer = await one.get("/api/me")
        if status == 401:
            assert await is_out(one)
            return "the second login ends the first session"
        if status == 200:
            assert answer["data"]["token"] not in tokens
            return None
        await asyncio.sleep(1)
    raise AssertionError(f"neither renewed nor ended: {status} {answer}")


async def logout_there(world: World) -> str | None:
    """The user logs out at the provider: the session here ends, without the browser's help."""
    site, browser = world.site, await world.browser()
    await site.log_in(browser, "dave")
    cookie = browser.cookie
    await site.provider.end_here(browser, "dave")
    return await _ended(site, browser, cookie)


async def logout_there_after_restart(world: World) -> str | None:
    """The same, where the sidecar was restarted between login and logout."""
    site, browser = world.site, await world.browser()
    await site.log_in(browser, "erin")
    await site.restart()
    cookie = browser.cookie
    await site.provider.end_here(browser, "erin")
    return await _ended(site, browser, cookie)


async def ended_by_admin(world: World) -> str | None:
    """An administrator ends the user's sessions: the one here ends too."""
    site, browser = world.site, await world.browser()
    await site.log_in(browser, "bob")
    cookie = browser.cookie
    await site.provider.end_by_admin("bob")
    return await _ended(site, browser, cookie)


async def nothing_secret_in_the_log(world: World) -> None:
    """Of all that went over the wire no token stands in the sidecar's log, nor do secrets."""
    site = world.site
    log = site.sidecar.log.read_text()
    assert "login" in log, "the log is empty"
    for secret in (SECRET, CLIENT_SECRET, *site.wire.tokens):
        assert secret not in log, "a secret stands in the log"


async def _by_way_of_the_provider(site: Site, browser: Browser, path: str) -> None:
    """Opens a logout path, agrees at the provider if that asks, and is back, logged out."""
    page = await browser.open(path)
    if str(page.url.origin()) != site.url:
        page = await browser.submit(page, site.provider.agree)
    left = f"left at {page.url.with_query(None)}: {page.status} {_plain(page.text)}"
    assert str(page.url.origin()) == site.url, left
    assert await is_out(browser)


async def _asks_for_a_password(site: Site, browser: Browser) -> None:
    """The provider does so at the next login: its own session has ended too."""
    page = await browser.open("/private/again")
    assert str(page.url.origin()) != site.url, "logged in again without a word"
    has_password = any("password" in name.lower() for form in page.forms for name in form.fields)
    assert has_password, f"the session there goes on: {page.url.with_query(None)}"


async def _ended(site: Site, browser: Browser, cookie: str) -> str | None:
    """Waits until a session has ended; says if that took the next renewal."""
    remark = None
    try:
        await until(lambda: is_out(browser), "the session has ended here", 4)
    except AssertionError:
        # No notice came: what is left is the next renewal, which the provider refuses.
        await asyncio.sleep(site.provider.seconds + 1)
        status, _ = await browser.get("/api/me")
        assert status == 401, f"it goes on: {status}"
        assert await is_out(browser)
        remark = "with the next renewal"
    assert await replayed(site, cookie) == 401
    return remark


def _last_refresh_token(site: Site) -> str | None:
    given = [one.answer.get("refresh_token") for one in site.wire.noted]
    return next((one for one in reversed(given) if one), None)


def _said(site: Site, before: int) -> str:
    """What the exchanges since then were answered."""
    said = [(one.status, one.answer.get("error")) for one in site.wire.exchanges[before:]]
    return f"{len(said)} exchanges: {said}"


def _plain(text: str) -> str:
    """The words of a page, for a message."""
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL).split())[:300]


Check = Callable[[World], Awaitable[str | None]]
CHECKS: Final[Mapping[str, Check]] = {
    "login": login,
    "renewed by the clock": renewed_by_clock,
    "renewed after a 401": renewed_after_401,
    "30 calls at expiry": thirty_at_once,
    "restart": restart,
    "key rotation": keys_rotated,
    "logout here, then there": logout_here_then_there,
    "logout by a script, then there": logout_by_script,
    "logout there": logout_there,
    "logout there after a restart here": logout_there_after_restart,
    "ended by the admin": ended_by_admin,
    "two browsers of one user": two_browsers,
    "nothing secret in the log": nothing_secret_in_the_log,
}
"""In the order in which they are made, by the name of their row."""
