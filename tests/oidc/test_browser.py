"""The own login in Chromium, with a certified provider and its own pages: a session's whole life.

The provider is at `localhost` and the sidecar at `127.0.0.1`, since cookies ignore ports.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
from asyncio import create_task
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import (
    Browser,
    BrowserContext,
    Cookie,
    Error,
    Page,
    Response,
    async_playwright,
    expect,
)

from tests.e2e.conftest import ARGUMENTS
from tests.oidc.site import Site, running_site

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTIFACTS: Final = Path(__file__).parent / "artifacts"
OFFLINE: Final = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
"""The provider's pages name fonts elsewhere, which nobody is asked for."""

PATIENCE: Final = 40.0  # seconds that anything waited for may take; a token lives half as long
SHORT, USUAL = 4, 20  # seconds that access tokens live; the sidecar renews after half of it
DEEP: Final = "/private/orders?page=2&q=a%26b+%C3%A9&empty="
ENVELOPE: Final = {"isError", "message", "data", "status", "errorData"}
DOCUMENT: Final = {
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "cross-site",
}


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{what}: not within {PATIENCE:.0f} s")


@dataclass
class User:
    """Somebody with a name of their own, a browser context and a tab in it."""

    name: str
    site: Site
    context: BrowserContext
    tab: Page
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # path, head and body
    unread: list[str] = field(
        default_factory=list
    )  # paths whose page was left before the body came
    _reading: list[asyncio.Task[None]] = field(default_factory=list)

    # -- what is done --------------------------------------------------------------------------

    async def open(self, path: str, tab: Page | None = None) -> Response:
        """Opens an address of the site as one types it."""
        await self.settled()
        answer = await (tab or self.tab).goto(self.site.url + path)
        assert answer is not None
        return answer

    async def log_in(self, path: str = DEEP, tab: Page | None = None) -> None:
        """Opens a page that needs a session, and signs in where that leads."""
        tab = tab or self.tab
        await self.open(path, tab)
        await self.sign_in(tab)
        await self.is_at_work(path, tab)

    async def sign_in(self, tab: Page | None = None) -> None:
        """Through the provider's forms."""
        tab = tab or self.tab
        await self.fill_in(tab)
        await self.consent(tab)

    async def fill_in(self, tab: Page) -> None:
        """The provider's login form, which leads to its consent form."""
        await tab.get_by_placeholder("Enter any login").fill(self.name)
        await tab.get_by_placeholder("and password").fill("any")
        await tab.get_by_role("button", name="Sign-in").click()
        await expect(tab.get_by_role("heading", name="Authorize")).to_be_visible()

    async def consent(self, tab: Page) -> None:
        """The provider's consent form; where it leads is not waited for."""
        await tab.get_by_role("button", name="Continue").click(no_wait_after=True)

    async def call(self, path: str = "/api/me", tab: Page | None = None) -> tuple[int, Any]:
        """What the page's script gets: status and envelope."""
        status, envelope, _ = await self.timed_call(path, tab)
        return status, envelope

    async def timed_call(
        self, path: str, tab: Page | None = None
    ) -> tuple[int, Any, tuple[int, int]]:
        """The same, and when the call began and was done (Unix milliseconds)."""
        told = await (tab or self.tab).evaluate("(path) => call(path)", path)
        assert told["type"].startswith("application/json"), told
        return told["status"], json.loads(told["text"]), (told["begun"], told["done"])

    async def listen(self, tab: Page) -> None:
        """Opens an event stream, and waits until it runs."""
        await tab.evaluate("listen()")
        await expect(tab.locator("#heard")).to_have_text(re.compile(r"\d"))

    async def log_out(self, tab: Page | None = None) -> None:
        """By the page's link and the provider's form, back to the site."""
        tab = tab or self.tab
        await self.settled()
        await tab.get_by_role("link", name="Log out").click()
        await tab.get_by_role("button", name="Yes, sign me out").click()
        await expect(tab.locator("#me")).to_have_text("nobody")
        assert tab.url == f"{self.site.url}/"

    async def loses_answer(self, pattern: str) -> None:
        """The tab's next request for such an address arrives at the site, but no answer at the tab.

        Playwright's own routes do not see what a redirect leads to.
        """
        protocol = await self.context.new_cdp_session(self.tab)

        async def lose(paused: dict[str, Any]) -> None:
            kept = "; ".join(f"{one['name']}={one['value']}" for one in await self.cookies())
            async with (
                ClientSession(headers={**DOCUMENT, "Cookie": kept}) as asking,
                asking.get(paused["request"]["url"], allow_redirects=False) as answer,
            ):
                assert answer.status == 303
            failure = {"requestId": paused["requestId"], "errorReason": "ConnectionReset"}
            await protocol.send("Fetch.failRequest", failure)
            await protocol.detach()

        protocol.on("Fetch.requestPaused", lambda it: self._reading.append(create_task(lose(it))))
        await protocol.send("Fetch.enable", {"patterns": [{"urlPattern": pattern}]})

    async def bring(self, cookies: Sequence[Mapping[str, Any]]) -> None:
        """Puts cookies into the browser, as a thief would."""
        await self.context.add_cookies(cast(Any, cookies))

    # -- what there is -------------------------------------------------------------------------

    async def cookies(self) -> list[Cookie]:
        """Those that the browser has for the site, but for the trace of its last login.

        That one is no session: it ends by itself 30 s after the login (`core.login_loop`).
        """
        found = await self.context.cookies(self.site.url)
        return [one for one in found if "trace-" not in one["name"]]

    async def set_cookies(self, name: str) -> list[str]:
        """The values that the site has set a cookie to, in order."""
        await self.settled()
        heads = "\n".join(head for _, head, _ in self.seen)
        return re.findall(rf"^set-cookie: {name}=([^;\s]+);", heads, re.MULTILINE | re.IGNORECASE)

    async def is_at_work(self, path: str = DEEP, tab: Page | None = None) -> None:
        """That very page is shown, with the user's own data."""
        tab = tab or self.tab
        await expect(tab.locator("#me")).to_have_text(self.name)
        assert tab.url == self.site.url + path

    async def is_asked_to_sign_in(self, tab: Page | None = None) -> None:
        """The provider shows its login form: nobody is signed in there."""
        tab = tab or self.tab
        await expect(tab.get_by_placeholder("Enter any login")).to_be_visible()
        assert tab.url.startswith(self.site.provider.issuer)

    async def works(self, tab: Page | None = None) -> None:
        """A call of the page's script gets the user's own data."""
        status, envelope = await self.call(tab=tab)
        assert (status, envelope) == (200, data(self.name))

    async def is_refused(self, tab: Page | None = None) -> None:
        """It gets JSON with the way to the login, and no redirect to a page."""
        status, envelope = await self.call(tab=tab)
        assert (status, set(envelope)) == (401, ENVELOPE)
        assert (envelope["isError"], envelope["data"], envelope["status"]) == (True, None, 401)
        assert envelope["errorData"]["code"] == "session_expired"
        assert envelope["errorData"]["loginUrl"] == "/auth/login"

    async def expires(self) -> None:
        """Waits until the user's last access token is no longer good at the provider."""
        token = self.site.tokens("access_token", user=self.name)[-1]
        await until(partial(self.is_dead, token), "the token's end")

    async def has_no_live_token(self) -> None:
        """Waits until the provider takes none of the tokens that it has issued to the user."""
        for token in self.site.tokens("access_token", "refresh_token", user=self.name):
            await until(partial(self.is_dead, token), "the end of the tokens")

    async def is_dead(self, token: str) -> bool:
        """Whether the provider no longer takes a token."""
        return not await self.site.provider.is_live(token)

    # -- what it was shown ---------------------------------------------------------------------

    def heard(self, answer: Response) -> None:
        """Keeps the site's answers that came into the browser."""
        if answer.url.startswith(self.site.url):
            self._reading.append(create_task(self._read(answer)))

    async def _read(self, answer: Response) -> None:
        headers = await answer.headers_array()
        head = "".join(f"{one['name']}: {one['value']}\n" for one in headers)
        is_read = answer.status < 300 or answer.status >= 400
        if "text/event-stream" in head:  # it has no end; what came of it is on the page
            is_read = False
        path, text = urlsplit(answer.url).path, ""
        if is_read:
            try:
                text = await answer.text()
            except Error:  # the page was left
                self.unread.append(path)
        self.seen.append((path, head, text))

    async def settled(self) -> None:
        """Waits until all that came was read."""
        await asyncio.gather(*self._reading)

    async def was_shown_no_token(self) -> None:
        """Nothing that came from the site, or is on a page, holds a token."""
        await self.settled()
        pages = [await tab.content() for tab in self.context.pages]
        secret = self.site.tokens("access_token", "refresh_token")
        bodies = "\n".join([*(body for _, _, body in self.seen), *pages])
        heads = "\n".join(head for _, head, _ in self.seen)
        assert not any(token in bodies or token in heads for token in secret)
        assert not any(token in bodies for token in self.site.tokens("id_token"))


def data(name: str) -> dict[str, Any]:
    """The envelope with a user's data."""
    return {
        "isError": False,
        "message": None,
        "data": {"name": name},
        "status": 200,
        "errorData": None,
    }


NewUser: TypeAlias = Callable[..., Awaitable[User]]
"""Makes a user who has not logged in, of a site."""

NewSite: TypeAlias = Callable[[str, int], Awaitable[Site]]
"""The running site by where sessions are kept, and how long access tokens live."""


@pytest.fixture(scope="module")
def artifacts() -> Path:
    """The folder of screenshots; those of the last run go."""
    shutil.rmtree(ARTIFACTS, ignore_errors=True)
    ARTIFACTS.mkdir()
    return ARTIFACTS


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def new_site(
    project: Path, require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NewSite]:
    """Starts sites on demand. At the end, the sidecars' logs hold no token and the providers have
    noted nothing that should not be.
    """
    node, folder = require_program("node"), tmp_path_factory.mktemp("sites")
    sites: dict[tuple[str, int], Site] = {}
    async with AsyncExitStack() as stack:

        async def find(kept: str, seconds: int) -> Site:
            if (kept, seconds) not in sites:
                place = folder / f"{kept}-{seconds}"
                place.mkdir()
                site = running_site(node, project, place, kept=kept, seconds=seconds)
                sites[kept, seconds] = await stack.enter_async_context(site)
            return sites[kept, seconds]

        yield find
    for site in sites.values():
        log = site.log.read_text()
        secret = site.tokens("access_token", "refresh_token", "id_token")
        assert not any(token in log for token in secret)
        assert '"event": "defect"' not in log
        assert [one for one in site.noted if one["what"] == "error"] == []


@pytest_asyncio.fixture(loop_scope="session", params=["cookie", "store"])
async def site(request: pytest.FixtureRequest, new_site: NewSite) -> Site:
    """Where sessions are sealed into a cookie, and where they are kept in SQLite."""
    return await new_site(request.param, SHORT)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(require_program: Callable[[str], str]) -> AsyncIterator[Browser]:
    """One Chromium for all tests."""
    chromium = require_program("chromium")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium, headless=True, args=[*ARGUMENTS, OFFLINE]
        )
        yield launched
        await launched.close()


_numbers: Final = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def new_user(
    browser: Browser, artifacts: Path, request: pytest.FixtureRequest
) -> AsyncIterator[NewUser]:
    """Makes users, each with a browser context of its own. A screenshot is kept of each tab's end,
    and none of them was shown a token.
    """
    users: list[User] = []
    test = re.sub(r"[^\w-]+", "-", request.node.name).strip("-")

    async def make(site: Site) -> User:
        context = await browser.new_context()
        stack.push_async_callback(context.close)
        context.set_default_timeout(PATIENCE * 1000)
        user = User(f"user-{next(_numbers)}", site, context, await context.new_page())
        context.on("response", user.heard)
        users.append(user)
        return user

    expect.set_options(timeout=PATIENCE * 1000)
    async with AsyncExitStack() as stack:
        yield make
        tabs = [tab for user in users for tab in user.context.pages]
        for number, tab in enumerate(tabs, 1):
            await tab.screenshot(path=artifacts / f"{test}-{number}.png")
        for user in users:
            await user.was_shown_no_token()


# -- login and work -------------------------------------------------------------------------------


async def test_login_leads_back_to_the_page_asked_for(site: Site, new_user: NewUser) -> None:
    """A deep link leads through the provider's forms back to itself; no script finds a token."""
    user = await new_user(site)
    answer = await user.open(DEEP)
    assert answer.url.startswith(site.provider.issuer)
    await user.is_asked_to_sign_in()
    await user.sign_in()
    await user.is_at_work(DEEP)
    assert site.codes(user.name) == 1

    cookies = await user.cookies()
    assert "sidecar" in {cookie["name"] for cookie in cookies}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies)
    assert not any("-login-" in cookie["name"] for cookie in cookies)  # nothing of the login stays
    readable = await user.tab.evaluate(
        "[document.cookie, document.referrer, location.href, JSON.stringify(history.state),"
        " JSON.stringify(localStorage), JSON.stringify(sessionStorage)]"
    )
    assert readable[0] == ""
    assert readable[3:] == ["null", "{}", "{}"]
    assert not any(word in text for text in readable for word in ("code=", "state=", "token"))

    who = await user.tab.evaluate("call('/auth/session').then((it) => JSON.parse(it.text))")
    assert (who["authenticated"], who["subject"]) == (True, user.name)
    assert set(who) == {
        *("authenticated", "subject", "name", "email", "picture"),
        *("expiresAt", "idleExpiresAt", "absoluteExpiresAt", "serverTime"),
    }
    await user.settled()
    assert user.unread == []
    assert {"/private/orders", "/api/me", "/auth/session"} <= {
        path for path, _, body in user.seen if body
    }


async def test_work_with_the_token_of_its_user(site: Site, new_user: NewUser) -> None:
    """Scripts get envelopes with their own user's data; the API gets that user's bearer alone."""
    alice, bob = await new_user(site), await new_user(site)
    for user in (alice, bob):
        await user.log_in()
    for user in (alice, bob, alice):
        await user.works()
    for user in (alice, bob):
        calls = site.api.calls_of(user.name)
        issued = site.tokens("access_token", user=user.name)
        assert len(calls) >= 2
        assert all(call.token in issued and "sidecar" not in call.cookie for call in calls)


# -- logout ---------------------------------------------------------------------------------------


async def test_logout_is_complete(site: Site, new_user: NewUser) -> None:
    """The page's link ends the session here, at the provider and in the other tab, for good."""
    user = await new_user(site)
    await user.log_in()
    other = await user.context.new_page()
    await user.open("/private/other", other)
    await user.listen(other)
    old = await user.cookies()
    assert len(site.api.calls_of(user.name)) >= 2

    await user.tab.get_by_role("link", name="Log out").click()
    await expect(user.tab.get_by_role("heading", name="Do you want to sign-out")).to_be_visible()
    assert user.tab.url.startswith(f"{site.provider.issuer}/session/end?")
    # It has ended here before the user says anything there; the provider would keep these tokens.
    assert await user.cookies() == []
    await user.has_no_live_token()
    await expect(other.locator("#state")).to_have_text("closed")
    await user.is_refused(other)

    await user.tab.get_by_role("button", name="Yes, sign me out").click()
    await expect(user.tab.get_by_role("heading", name="/", exact=True)).to_be_visible()
    assert user.tab.url == f"{site.url}/"
    assert await user.cookies() == []
    await expect(user.tab.locator("#me")).to_have_text("nobody")
    await user.is_refused(other)

    calls = len(site.api.calls)
    thief = await new_user(site)
    await thief.open("/")
    await expect(thief.tab.locator("#me")).to_have_text("nobody")
    await thief.bring(old)
    await thief.is_refused()
    assert await thief.cookies() == []
    await thief.bring(old)
    await thief.open(DEEP)
    await thief.is_asked_to_sign_in()
    assert len(site.api.calls) == calls

    await user.open(DEEP)
    await user.is_asked_to_sign_in()
    await user.sign_in()
    await user.is_at_work(DEEP)
    await user.works(other)


async def test_provider_ends_the_session(site: Site, new_user: NewUser) -> None:
    """What ends at the provider, in another browser, has ended here when the provider says so."""
    user, elsewhere = await new_user(site), await new_user(site)
    await user.log_in()
    await user.listen(user.tab)
    assert site.api.listeners.count(user.name) == 1

    await elsewhere.bring(await user.context.cookies(site.provider.issuer))
    await elsewhere.tab.goto(f"{site.provider.issuer}/session/end")
    await elsewhere.tab.get_by_role("button", name="Yes, sign me out").click()
    await expect(elsewhere.tab.get_by_role("heading", name="Sign-out Success")).to_be_visible()
    assert len(site.noted_of(user.name, "backchannel")) == 1
    # The stream has lost its connection, and is refused when it comes back for another one.
    await expect(user.tab.locator("#state")).to_have_text("closed", timeout=2000)
    await user.is_refused()
    assert await user.cookies() == []
    assert user.name not in site.api.listeners
    await user.has_no_live_token()
    await user.open(DEEP)
    await user.is_asked_to_sign_in()


# -- tabs, reloads and the way back ---------------------------------------------------------------


async def test_several_tabs_log_in_at_once(site: Site, new_user: NewUser) -> None:
    """Each comes to its own page, and all of them work, though their answers arrive together.

    One logout ends what every one of these logins began.
    """
    user = await new_user(site)
    tabs = {f"/private/{n}?tab={n}": await user.context.new_page() for n in range(3)}
    await asyncio.gather(*(user.open(path, tab) for path, tab in tabs.items()))
    for tab in tabs.values():
        await user.is_asked_to_sign_in(tab)
    for tab in tabs.values():  # one by one: the provider's own session takes no more at a time
        await user.fill_in(tab)
    async with asyncio.timeout(PATIENCE):
        with site.holding():
            for waiting, tab in enumerate(tabs.values(), 1):
                await user.consent(tab)
                await site.has_under_way("page", waiting)
    for path, tab in tabs.items():
        await user.is_at_work(path, tab)
    for tab in tabs.values():
        await user.works(tab)
    assert site.codes(user.name) == len(tabs)
    names = [cookie["name"] for cookie in await user.cookies()]
    assert [name for name in names if "-login-" in name] == []

    began = await user.set_cookies("sidecar")
    assert len(set(began)) == len(tabs)
    await user.log_out(next(iter(tabs.values())))
    await user.has_no_live_token()
    thief = await new_user(site)
    await thief.open("/")
    for value in began:
        await thief.bring([{"name": "sidecar", "value": value, "url": site.url}])
        await thief.is_refused()


async def test_callback_loaded_again(site: Site, new_user: NewUser) -> None:
    """The code is sent once: after the login, elsewhere, and where the first answer was lost."""
    user = await new_user(site)
    callbacks: list[str] = []
    user.context.on(
        "request", lambda it: callbacks.append(it.url) if "/auth/callback?" in it.url else None
    )
    await user.log_in()
    cookies = await user.cookies()
    await user.tab.goto(callbacks[0])
    await expect(user.tab.locator("#me")).to_have_text(user.name)
    assert user.tab.url == f"{site.url}{DEEP}"
    assert await user.cookies() == cookies

    thief = await new_user(site)
    answer = await thief.tab.goto(callbacks[0])
    assert answer is not None
    assert answer.status == 400
    await expect(thief.tab.get_by_role("link", name="Try again")).to_be_visible()
    assert await thief.cookies() == []
    assert site.codes(user.name) == 1

    late = await new_user(site)
    await late.open(DEEP)
    await late.fill_in(late.tab)
    await late.loses_answer("*/auth/callback?*")
    await late.consent(late.tab)
    await expect(late.tab.locator("#main-frame-error")).to_be_visible()
    assert site.codes(late.name) == 1
    assert not any(cookie["name"] == "sidecar" for cookie in await late.cookies())
    await late.tab.wait_for_load_state()  # the browser's own page may be on its way in
    await late.tab.reload()
    await late.is_at_work(DEEP)
    await late.works()
    assert site.codes(late.name) == 1


async def test_back_button_after_the_login(site: Site, new_user: NewUser) -> None:
    """Every step back, and forward again, leaves the session alone and leads to pages."""
    user = await new_user(site)
    await user.open("/")
    await expect(user.tab.locator("#me")).to_have_text("nobody")
    await user.tab.get_by_role("link", name="Orders").click()
    await user.sign_in()
    await user.is_at_work("/private/orders?page=1")
    codes = site.codes(user.name)

    steps = 0
    while user.tab.url != f"{site.url}/":
        await user.tab.go_back()
        steps += 1
        assert steps < 6
    assert steps > 1  # the provider's own pages are in between
    await expect(user.tab.locator("#me")).to_have_text(user.name)
    await user.works()
    for _ in range(steps):
        await user.tab.go_forward()
    await user.is_at_work("/private/orders?page=1")
    await user.works()
    assert site.codes(user.name) == codes == 1


# -- while time passes ----------------------------------------------------------------------------


async def test_sessions_outlive_their_tokens(new_site: NewSite, new_user: NewUser) -> None:
    """Tokens end, sessions go on, without a second exchange or a second login.

    All of it happens at once, since it is mostly waiting.
    """
    lives = [
        *[
            _live(await new_user(site), await new_user(site))
            for site in await both(new_site, USUAL)
        ],
        *[_renews(await new_user(site)) for site in await both(new_site, SHORT)],
    ]
    await asyncio.gather(*lives)


async def both(new_site: NewSite, seconds: int) -> list[Site]:
    """The sites with either place for sessions."""
    return [await new_site(kept, seconds) for kept in ("cookie", "store")]


async def _live(user: User, thief: User) -> None:
    """Login, work across two renewals ahead of time, logout: then no cookie of it is good."""
    site, kept = user.site, []
    await user.log_in()
    first = site.tokens("access_token", user=user.name)[0]

    async def first_has_ended() -> bool:
        """Works on meanwhile."""
        await asyncio.sleep(0.2)
        await user.works()
        cookies = await user.cookies()
        if cookies not in kept:
            kept.append(cookies)
        return site.exchanges(user.name) >= 2 and await user.is_dead(first)

    await until(first_has_ended, "the first token's end")
    assert site.exchanges(user.name) == 2  # one for each half of 20 seconds
    assert site.codes(user.name) == 1
    assert all(call.user for call in site.api.calls)  # the API was never given a dead token

    await user.log_out()
    assert await user.cookies() == []
    await user.has_no_live_token()
    await thief.open("/")
    for cookies in kept:
        await thief.bring(cookies)
        await thief.is_refused()
    await user.open(DEEP)
    await user.is_asked_to_sign_in()


async def _renews(user: User) -> None:
    """After the token's life the next call works, by one exchange; so do calls of two tabs at once.

    The provider answers the exchange only when the calls of both tabs are waiting for it.
    """
    site = user.site
    await user.log_in()
    await user.tab.evaluate("window.mark = 'the same document'")
    other = await user.context.new_page()
    await user.open("/private/other", other)
    await user.is_at_work("/private/other", other)

    await user.expires()
    before, called = site.exchanges(user.name), len(site.api.calls)
    await user.works()
    assert site.exchanges(user.name) == before + 1
    newest = site.tokens("access_token", user=user.name)[-1]
    assert [call.token for call in site.api.calls[called:]] == [newest]  # none was tried in vain
    assert await user.tab.evaluate("window.mark") == "the same document"

    await user.expires()
    tabs = [user.tab, other] * 3  # each with an address of its own, or Chromium's cache queues them
    before, called = site.exchanges(user.name), len(site.api.calls)
    async with asyncio.timeout(PATIENCE):
        with site.holding():
            calls = [
                create_task(user.timed_call(f"/api/me?call={number}", tab))
                for number, tab in enumerate(tabs)
            ]
            await site.has_under_way("api", len(tabs))
        answers = await asyncio.gather(*calls)
    assert [answer[:2] for answer in answers] == [(200, data(user.name))] * len(tabs)
    assert max(begun for *_, (begun, _) in answers) <= min(done for *_, (_, done) in answers)
    assert site.exchanges(user.name) == before + 1
    newest = site.tokens("access_token", user=user.name)[-1]
    assert {call.token for call in site.api.calls[called:]} == {newest}

    for tab in (user.tab, other):
        await user.works(tab)
        await tab.reload()
        await expect(tab.locator("#me")).to_have_text(user.name)
