"""What is compared: each scene is played with a new login, and says briefly what was seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientWebSocketResponse, WSMsgType

from sidecar.core.record import replace
from tests.compare.site import (
    DENIED,
    DOCUMENT,
    FETCH,
    IMAGE,
    LIFETIME,
    LINK,
    REFRESH_AGE,
    Answer,
    Browser,
    Site,
    is_at_provider,
    program,
)
from tests.ports import free_port

AT_ONCE: Final = 30
PAST_REFRESH_AGE: Final = REFRESH_AGE + 1.5  # oauth2-proxy counts whole seconds
PAST_LIFETIME: Final = LIFETIME + 0.5
CLOSING: Final = 3.0  # seconds that a WebSocket gets to be closed after a logout
RETURN: Final = 12.0  # seconds after its outage within which the provider is found again


@dataclass(frozen=True)
class Scene:
    """One row. `means` is what the row says, in one plain sentence."""

    title: str
    means: str
    play: Callable[[Site], Awaitable[str]]


# -- words for what was seen ---------------------------------------------------------------------


def outcome(answer: Answer, site: Site) -> str:
    """An answer in a few words."""
    if is_at_provider(answer, site):
        return f"{answer.status} to the provider's login"
    if answer.code is not None:
        return f"{answer.status} `{answer.code}`"
    if answer.status == 401 and DENIED in answer.text:
        return "401, the API's own"
    if answer.status in {302, 303}:
        return f"{answer.status} to `{answer.location.partition('?')[0]}`"
    return str(answer.status)


def cookie_after(browser: Browser) -> str:
    """Whether the browser still has a session cookie."""
    return "cookie kept" if browser.has_session else "cookie expired"


async def still_in(browser: Browser) -> str:
    """Whether the user is still logged in."""
    status = (await browser.fetch()).status
    return "logged in" if status == 200 else f"logged out ({status})"


async def page_after(browser: Browser) -> str:
    """What the next document shows."""
    answer = await browser.navigate()
    at_provider = is_at_provider(answer, browser.site)
    return "next page: the login" if at_provider else f"next page: {answer.status}"


async def handshake(browser: Browser) -> str:
    """What a WebSocket handshake is answered."""
    key = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    fields = {**key, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": browser.site.url}
    return outcome(await browser.ask("/api/echo", fields), browser.site)


async def each(site: Site, cookies: Mapping[str, str]) -> str:
    """What a fetch, a document and a WebSocket get, each from a browser with these cookies."""
    async with site.browser(cookies) as one, site.browser(cookies) as two:
        fetched, loaded = await one.fetch(), await two.navigate()
    async with site.browser(cookies) as three:
        opened = await handshake(three)
    told = "the login" if is_at_provider(loaded, site) else str(loaded.status)
    return f"fetch: {outcome(fetched, site)}; document: {told}; WebSocket: {opened}"


# -- the scenes ----------------------------------------------------------------------------------


async def at_once(site: Site) -> str:
    async with site.user() as browser:
        before = site.idp.stats
        await asyncio.sleep(PAST_REFRESH_AGE)
        asked = [browser.ask("/api/me", FETCH) for _ in range(AT_ONCE)]
        counted = Counter(answer.status for answer in await asyncio.gather(*asked))
        after = site.idp.stats
        exchanges = after.refresh_exchanges - before.refresh_exchanges
        reuses = after.refresh_reuses - before.refresh_reuses
        statuses = ", ".join(f"{count} times {status}" for status, count in sorted(counted.items()))
        # Whether the one that renews is served before the grant ends is luck.
        if counted[401] in (AT_ONCE - 1, AT_ONCE) and counted[401] + counted[200] == AT_ONCE:
            statuses = f"{AT_ONCE - 1} or {AT_ONCE} times 401"
        renewed = "1 exchange" if exchanges == 1 else f"{exchanges} exchanges"
        again = "" if reuses == 0 else ", and the spent token sent again"
        return f"{statuses}; {renewed}{again}; then {await still_in(browser)}"


async def token_refused(site: Site) -> str:
    async with site.user() as browser:
        site.idp.set(burst=1, burst_seconds=5)
        answer = await browser.fetch()
        site.idp.set(burst=0)
    return f"{outcome(answer, site)}; {cookie_after(browser)}"


async def grant_ended(site: Site) -> str:
    async with site.user() as browser:
        site.idp.revoke_grants("alice")
        answer = await browser.fetch()
        return f"{outcome(answer, site)}; {cookie_after(browser)}; {await page_after(browser)}"


async def expired(site: Site) -> str:
    async with site.user() as browser:
        cookies = browser.cookies
    site.idp.revoke_grants("alice")
    await asyncio.sleep(PAST_LIFETIME)
    return await each(site, cookies)


async def open_websocket(site: Site) -> str:
    async with site.user() as browser, await browser.connect() as wire:
        await wire.send_str("before")
        assert await wire.receive_str() == "before"
        await browser.ask(site.contender.logout, DOCUMENT)
        return await _end_of(wire)


async def _end_of(wire: ClientWebSocketResponse) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSING):
            message = await wire.receive()
            assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}, message
            return f"closed with {wire.close_code}"
    await wire.send_str("after")
    echoed = await wire.receive_str() == "after"
    return f"open after {CLOSING:.0f} s" + (", and still echoes" if echoed else "")


async def replay(site: Site) -> str:
    async with site.user() as browser:
        cookies = browser.cookies
        await browser.ask(site.contender.logout, DOCUMENT)
    return await each(site, cookies)


async def tokens_after(site: Site) -> str:
    async with site.user() as browser:
        token = site.api.tokens[-1]
        assert site.idp.verify(token).is_live
        await browser.ask(site.contender.logout, DOCUMENT)
        for _ in range(20):
            if not site.idp.verify(token).is_live:
                return "revoked at the provider"
            await asyncio.sleep(0.1)
    return "good at the API until it expires"


async def image_elsewhere(site: Site) -> str:
    async with site.user() as browser:
        answer = await browser.ask(site.contender.logout, IMAGE)
        return f"{answer.status}; {await still_in(browser)}"


async def link_elsewhere(site: Site) -> str:
    async with site.user() as browser:
        answer = await browser.ask(site.contender.logout, LINK)
        return f"{outcome(answer, site)}; {await still_in(browser)}"


async def outage_early(site: Site) -> str:
    async with site.user() as browser:
        await asyncio.sleep(PAST_REFRESH_AGE)
        site.idp.set(outage="close")
        answer = await browser.fetch()
        seen = f"{outcome(answer, site)}; {cookie_after(browser)}"
        site.idp.set(outage="none")
    return seen


async def outage_late(site: Site) -> str:
    async with site.user() as browser:
        await asyncio.sleep(PAST_LIFETIME)
        site.idp.set(outage="close")
        answer = await browser.fetch()
        seen = f"{outcome(answer, site)}; {cookie_after(browser)}"
        site.idp.set(outage="none")
        return f"{seen}; once it is back: {await _after_return(browser)}"


async def _after_return(browser: Browser) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(RETURN):
            while (await browser.fetch()).status != 200:
                if not browser.has_session:
                    break
                await asyncio.sleep(0.25)
            else:
                return "logged in"
    return "logged out"


async def start_without(site: Site) -> str:
    site.idp.set(outage="close")
    ports = replace(site.ports, own=free_port())
    async with program(site.contender, ports, site.folder) as begun:
        serves = await begun.serves()
    site.idp.set(outage="none")
    return "serves" if serves else "exits"


SCENES: Final = (
    Scene(
        f"{AT_ONCE} requests of a page at once, at the refresh age",
        "The provider must see a refresh token once: the sidecar renews once for all that wait, "
        "oauth2-proxy does so only with sessions in Redis.",
        at_once,
    ),
    Scene(
        "the API refuses a token that could be renewed",
        "The sidecar renews and repeats the request; oauth2-proxy passes the 401 on.",
        token_refused,
    ),
    Scene(
        "the API refuses the token, and the provider has ended the grant",
        "For the sidecar the API's 401 ends the session; oauth2-proxy goes on until its cookie's "
        "next refresh.",
        grant_ended,
    ),
    Scene(
        "a session that has expired and cannot be renewed",
        "Both send documents to the login, and answer scripts and WebSocket handshakes with 401; "
        "the sidecar's is JSON that says why.",
        expired,
    ),
    Scene(
        "an open WebSocket at logout",
        "The sidecar closes what the session has opened.",
        open_websocket,
    ),
    Scene(
        "the cookie of before the logout, after it",
        "A copied cookie is worth nothing after the logout, with oauth2-proxy only if sessions are "
        "in Redis.",
        replay,
    ),
    Scene(
        "the access token after the logout",
        "The sidecar revokes tokens at logout (RFC 7009).",
        tokens_after,
    ),
    Scene(
        "`<img>` of the logout's address on another site, sent with the cookie",
        "The sidecar's logout does nothing for an image.",
        image_elsewhere,
    ),
    Scene(
        "a link to the logout on another site",
        "The sidecar shows a page that asks first.",
        link_elsewhere,
    ),
    Scene(
        "the provider is down, the token is at the refresh age and still good",
        "With both a token that is still good serves.",
        outage_early,
    ),
    Scene(
        "the provider is down, the token has expired",
        "The sidecar keeps the session for when the provider is back; oauth2-proxy ends it.",
        outage_late,
    ),
    Scene(
        "started while the provider is down",
        "The sidecar needs the provider at a login, not at its own start.",
        start_without,
    ),
)
