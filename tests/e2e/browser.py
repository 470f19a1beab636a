"""A user in a real browser, in the words of the tests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import pytest
from playwright.async_api import BrowserContext, Cookie, Page, Response, expect

from tests.e2e.api import PASSWORD, Api, Call
from tests.e2e.servers import Site, Variant

SESSION_COOKIE: Final = re.compile(
    r"(__Secure-|__Host-)?(authjs\.session-token|next-auth\.session-token|access_token)(\.\d+)?"
)
PATIENCE: Final = 15.0  # seconds that anything awaited may take
LOGIN_OR_FAULT: Final = "h1:has-text('Login'), p[role=alert]:not(:empty)"


@dataclass
class User:
    """Somebody with a name of their own, a browser context and a page in it."""

    name: str
    site: Site
    api: Api
    context: BrowserContext
    page: Page
    another: Callable[..., Awaitable[User]]
    answers: list[Response] = field(default_factory=list)  # all that came into the context

    @property
    def path(self) -> str:
        """The path that the address bar shows."""
        return urlsplit(self.page.url).path

    @property
    def calls(self) -> list[Call]:
        """What the API got with this user's tokens."""
        return self.api.calls_of(self.name)

    def expire(self) -> None:
        """From now on, the API answers 401 to the tokens issued to this user so far."""
        self.api.revoke(self.name)

    async def open(self, path: str, page: Page | None = None) -> list[tuple[int, str]]:
        """Navigates, and returns the chain of answers: status and Location or final path."""
        response = await (page or self.page).goto(self.site.url + path)
        return await chain(response)

    async def reload(self) -> list[tuple[int, str]]:
        """Reloads the page, and returns the chain of answers."""
        return await chain(await self.page.reload())

    async def log_in(self, page: Page | None = None) -> None:
        """Through the app's own form, to the dashboard."""
        page = page or self.page
        await page.goto(f"{self.site.url}/login")
        await self.fill_in(page)
        await expect(page.locator("#me")).to_have_text(self.name)

    async def fill_in(self, page: Page | None = None, password: str = PASSWORD) -> None:
        """Sends the login form of the page that is open."""
        page = page or self.page
        await page.get_by_placeholder("Name").fill(self.name)
        await page.get_by_placeholder("Password").fill(password)
        await page.get_by_role("button", name="Log in").click()

    async def cookies(self) -> list[Cookie]:
        """The session cookies that the browser has."""
        found = await self.context.cookies()
        return [cookie for cookie in found if SESSION_COOKIE.fullmatch(cookie["name"])]

    async def cookie_names(self) -> set[str]:
        """The names of the session cookies that the browser has."""
        return {cookie["name"] for cookie in await self.cookies()}

    async def result(self, page: Page | None = None) -> Any:
        """The JSON that the page's script shows, once its call is done."""
        shown = (page or self.page).locator("#result")
        await expect(shown).to_have_text(re.compile(r"[^…]"), timeout=PATIENCE * 1000)
        text = await shown.text_content() or ""
        try:
            return json.loads(text)
        except ValueError:
            return text  # what the script caught instead

    async def press(self, name: str, page: Page | None = None) -> None:
        """Clicks a button."""
        await (page or self.page).get_by_role("button", name=name).click()

    async def has_cookies(self, count: int) -> None:
        """Waits until the browser has that many session cookies."""
        end = time.monotonic() + PATIENCE
        while len(await self.cookies()) != count:
            assert time.monotonic() < end, f"{count} cookies: not within {PATIENCE:.0f} s"
            await self.page.wait_for_timeout(20)

    async def bring(self, cookies: list[Cookie]) -> None:
        """Puts cookies into the browser, as a thief would."""
        await self.context.add_cookies(cast(Any, cookies))

    def heard(self, answer: Response) -> None:
        """Remembers an answer that came into the context."""
        self.answers.append(answer)

    async def twin(self, **options: Any) -> User:
        """The same user in another browser context, with the same session cookies."""
        made = await self.another(**options)
        made.name = self.name
        await made.bring(await self.cookies())
        return made

    async def until(self, told: Callable[[], bool], what: str) -> None:
        """Waits for a condition."""
        end = time.monotonic() + PATIENCE
        while not told():
            assert time.monotonic() < end, f"{what}: not within {PATIENCE:.0f} s"
            await self.page.wait_for_timeout(20)

    async def is_at_login(self, page: Page | None = None) -> None:
        """The login page is shown and stays: the frontend itself holds that nobody is signed in."""
        page = page or self.page
        await expect(page.get_by_role("heading", name="Login")).to_be_visible()
        await expect(page).to_have_url(re.compile(r"/login(\?.*)?$"))

    async def is_logged_out(self) -> None:
        """No session cookie is left, and a new document leads to the login."""
        assert await self.cookie_names() == set()
        await self.open("/dashboard")
        await self.is_at_login()

    async def is_logged_in(self) -> None:
        """A new document shows the user's own data."""
        await self.open("/dashboard")
        await expect(self.page.locator("#me")).to_have_text(self.name)

    def answered(self, path: str) -> list[Response]:
        """The answers that the browser got from a path."""
        return [answer for answer in self.answers if urlsplit(answer.url).path == path]

    def prefetched(self, path: str) -> list[Response]:
        """Those to requests that say of themselves that they are a prefetch."""
        mark = "next-router-prefetch"
        return [answer for answer in self.answered(path) if mark in answer.request.headers]

    def routed(self, path: str) -> list[Response]:
        """Those to the router's other requests: soft navigations, and full prefetches."""
        return [
            answer
            for answer in self.answered(path)
            if "rsc" in answer.request.headers and answer not in self.prefetched(path)
        ]


async def chain(response: Response | None) -> list[tuple[int, str]]:
    """Status and Location of each redirect that led to an answer, then its own status and path."""
    assert response is not None
    steps: list[tuple[int, str]] = [(response.status, urlsplit(response.url).path)]
    request = response.request.redirected_from
    while request is not None:
        before = await request.response()
        assert before is not None
        steps.insert(0, (before.status, await before.header_value("location") or ""))
        request = request.redirected_from
    return steps


NewUser: TypeAlias = Callable[..., Awaitable[User]]
"""Makes a user who has not logged in: takes the kind of session and options of the context."""


def on(*variants: Variant) -> pytest.MarkDecorator:
    """The sites that a test runs on."""
    return pytest.mark.parametrize("variant", variants, ids=lambda variant: variant.name)


def is_logout_by_ticket(step: tuple[int, str]) -> bool:
    """Whether an answer leads to the logout with the proof of a 401."""
    return step[0] == 303 and step[1].startswith("/api/logout?ticket=")


def refusal(result: Any) -> tuple[bool, int, str, str | None]:
    """What a page script got of a session that is over: isError, status, code and loginUrl."""
    assert isinstance(result, dict), f"no envelope: {result}"
    assert set(result) == {"isError", "message", "data", "status", "errorData"}
    assert result["data"] is None
    told = result["errorData"]
    return result["isError"], result["status"], told["code"], told.get("loginUrl")


EXPIRED: Final = (True, 401, "session_expired", "/login")
CHANGED: Final = (True, 401, "session_changed", None)
