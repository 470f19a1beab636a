"""`sidecar demo`: the real command, and the story that its page tells, over real HTTP."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from http.cookies import Morsel
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientResponse,
    ClientSession,
    CookieJar,
    WSMsgType,
    WSServerHandshakeError,
)
from playwright.async_api import Browser, Page, async_playwright, expect

from sidecar import demo
from sidecar.compilation.compile_sources import compile_sources
from sidecar.core.cookies import CookieJar as Presented
from sidecar.core.credential import Result, read_credential
from sidecar.demo import controls
from sidecar.demo.api import LARGE_ITEMS
from sidecar.demo.controls import BadOrder, Controls
from sidecar.demo.idp import running_idp
from sidecar.demo.page import asset
from sidecar.demo.session_cookies import ALL_COOKIES, KINDS, SessionCookies
from sidecar.demo.trace import MAX_ENTRIES, AccessLog, Seen, Trace

DOCUMENT = {"Accept": "text/html", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
ARTIFACTS = Path(__file__).parents[1] / "artifacts" / "demo"
MEMBERS = ["isError", "message", "data", "status", "errorData"]
PATIENCE = 15.0  # seconds that anything awaited may take
SECRET = "a secret of the tests, 32 bytes or more"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """`start(*arguments)` runs `sidecar demo`; what still runs at the end is killed."""
    with ExitStack() as stack:

        def run(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "demo", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def address(process: subprocess.Popen[str]) -> str:
    """The URL in the first line that the demo prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"Sidecar demo: (http://127\.0\.0\.1:\d+)/  \(admin: ", line)
    assert found, line or process.communicate(timeout=10)[1]
    return found[1]


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    """A demo that all tests share."""
    return address(start("--port", "0"))


@pytest.fixture
async def browser(url: str) -> AsyncIterator[ClientSession]:
    """A client with cookies of its own."""
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def log_in(browser: ClientSession, kind: str) -> None:
    async with browser.post("/api/login", data={"name": "Ada", "session": kind}) as answer:
        assert answer.status == 200
        assert (await answer.json())["message"] == "Welcome, Ada"


async def expire(browser: ClientSession) -> None:
    async with browser.post("/api/expire") as answer:
        assert answer.status == 200


def presented(browser: ClientSession) -> dict[str, Morsel[str]]:
    return {cookie.key: cookie for cookie in browser.cookie_jar}


def expired_names(answer: ClientResponse) -> set[str]:
    lines = answer.headers.getall("Set-Cookie", [])
    assert all("Max-Age=0" in line and "Path=/" in line for line in lines)
    return {line.split("=")[0] for line in lines}


async def trace(browser: ClientSession) -> Any:
    async with browser.get("/demo/trace") as answer:
        return await answer.json()


def requests(shown: Any, **facts: Any) -> list[Any]:
    """The requests in a trace of which these facts are told."""
    return [
        entry
        for entry in shown["entries"]
        if entry["event"] == "request" and facts.items() <= entry.items()
    ]


def events(shown: Any, event: str) -> list[Any]:
    """The facts of the other entries of one kind."""
    return [entry["facts"] for entry in shown["entries"] if entry["event"] == event]


async def until(told: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What is told, as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while not (found := await told()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE:.0f} s"
        await asyncio.sleep(0.05)
    return found


# -- the story ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_api_gets_the_token_and_no_session_cookie(browser: ClientSession, kind: str) -> None:
    """But other cookies; and the answer is an envelope."""
    async with browser.get("/") as answer:
        assert answer.status == 200
    await log_in(browser, kind)
    cookies = presented(browser)
    assert cookies.keys() & set(ALL_COOKIES)
    assert all(cookies[name]["httponly"] for name in cookies.keys() & set(ALL_COOKIES))
    async with browser.get("/api/me") as answer:
        body = await answer.json()
    assert list(body) == MEMBERS
    saw = body["data"]["saw"]
    assert body["message"] == "Hello, Ada"
    assert "Authorization" in saw["headers"]
    assert saw["cookies"] == ["demo_theme"]
    if kind == "plain":
        token = cookies["access_token"].value
        assert saw["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()[:12]
        assert token not in json.dumps(body)


async def test_login_of_another_kind_takes_the_first_cookies_away(browser: ClientSession) -> None:
    """So that the session in use is the latest."""
    names = []
    for kind in (*KINDS, KINDS[0]):
        await log_in(browser, kind)
        names.append(list(presented(browser)))
    base = "authjs.session-token"
    assert names == [["access_token"], [base], [f"{base}.0", f"{base}.1"], ["access_token"]]


async def test_refused_login_is_no_logout(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    async with browser.post("/api/login", data={"name": "nobody"}) as answer:
        assert (answer.status, answer.history) == (401, ())
    async with browser.post("/api/login", data={"name": " "}) as answer:
        assert answer.status == 422
    async with browser.get("/api/me") as answer:
        assert answer.status == 200


async def test_form_of_a_browser_leads_from_login_to_page(browser: ClientSession) -> None:
    """Without a script: 303 to the public address."""
    form = {"name": "Ada", "session": "authjs"}
    async with browser.post("/api/login", data=form, headers=DOCUMENT) as answer:
        assert [step.status for step in answer.history] == [303]
        assert answer.url.path == "/"
        assert "<h1>Sidecar demo</h1>" in await answer.text()


@pytest.mark.parametrize(
    ("path", "status", "message", "detail"),
    [
        ("/api/problem", 409, "You asked for 12 and there are 5", {"in_stock": 5}),
        ("/api/failure", 500, "Internal Server Error", "the database is having a rest"),
    ],
)
async def test_errors_are_envelopes(
    browser: ClientSession, path: str, status: int, message: str, detail: Any
) -> None:
    await log_in(browser, "plain")
    async with browser.get(path) as answer:
        body = await answer.json()
    assert (answer.status, body["isError"], body["message"]) == (status, True, message)
    told = body["errorData"]
    assert told == detail if isinstance(detail, str) else detail.items() <= told.items()


async def test_orders_keep_their_digits_and_a_form_adds_one(browser: ClientSession) -> None:
    """2**53 + 1 does not fit into a JavaScript number; the sidecar passes its bytes on."""
    await log_in(browser, "plain")
    async with browser.post("/api/orders", data={"item": "coffee"}) as answer:
        ordered = await answer.json()
    assert (answer.status, ordered["data"]["item"]) == (201, "coffee")
    async with browser.get("/api/orders") as answer:
        body = await answer.json()
    assert body["data"][0]["id"] == 2**53 + 1
    assert ordered["data"] in body["data"]


async def test_large_list_is_an_envelope_too(browser: ClientSession) -> None:
    """Beyond the buffer it comes as a stream, without a length."""
    await log_in(browser, "plain")
    async with browser.get("/api/large") as answer:
        body = await answer.json()
    assert answer.content_length is None
    assert (body["isError"], body["message"], len(body["data"])) == (False, "A long list", 30_000)
    assert body["data"][-1]["number"] == LARGE_ITEMS - 1


@pytest.mark.parametrize("kind", KINDS)
async def test_expired_token_is_an_envelope_for_fetch(browser: ClientSession, kind: str) -> None:
    """And every cookie of the session is expired."""
    await log_in(browser, kind)
    names = set(presented(browser))
    await expire(browser)
    async with browser.get("/api/me", headers={"Sec-Fetch-Dest": "empty"}) as answer:
        body = await answer.json()
    assert [(step.status, step.url.path) for step in answer.history] == [(303, "/api/me")]
    assert (answer.status, answer.url.path) == (401, "/api/logout")
    assert list(body) == MEMBERS
    assert body["errorData"]["loginUrl"] == "/login"
    assert names <= expired_names(answer)
    assert presented(browser) == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_expired_token_leads_a_document_to_the_login(
    browser: ClientSession, kind: str
) -> None:
    """303 to the logout, 303 to the login; and every cookie of the session is expired."""
    await log_in(browser, kind)
    async with browser.get("/api/report", headers=DOCUMENT) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert "Report for Ada" in await answer.text()
    names = set(presented(browser))
    await expire(browser)
    async with browser.get("/api/report", headers=DOCUMENT) as answer:
        steps = [(step.status, step.url.path) for step in answer.history]
        assert "<h1>Log in</h1>" in await answer.text()
    assert steps == [(303, "/api/report"), (303, "/api/logout")]
    assert (answer.status, answer.url.path) == (200, "/login")
    assert names <= expired_names(answer.history[1])
    assert presented(browser) == {}


async def test_events_end_with_the_session(browser: ClientSession) -> None:
    """The first comes at once."""
    await log_in(browser, "plain")
    async with browser.get("/api/events", headers={"Accept": "text/event-stream"}) as answer:
        lines = [(await answer.content.readline()).decode() for _ in range(3)]
        assert lines == ["id: 1\n", 'data: {"number": 1, "for": "Ada"}\n', "\n"]
        async with browser.post("/api/logout") as logout:
            assert logout.status == 200
        await asyncio.wait_for(answer.content.read(), PATIENCE)
    assert presented(browser) == {}


async def test_websocket_echoes_until_the_session_ends(url: str, browser: ClientSession) -> None:
    """Through the sidecar, for a page of the same origin."""
    await log_in(browser, "authjs")
    async with browser.ws_connect("/api/echo", origin=url) as echo:
        await echo.send_str("hello")
        assert await echo.receive_str() == "Ada said: hello"
        await expire(browser)
        async with browser.get("/api/me") as answer:
            assert answer.status == 401
        message = await echo.receive(timeout=5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)
    with pytest.raises(WSServerHandshakeError):
        await browser.ws_connect("/api/echo", origin=url)


async def test_logout_by_link_and_by_post(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    async with browser.get("/api/logout", headers=DOCUMENT) as answer:
        assert (answer.status, answer.url.path) == (200, "/login")
    assert presented(browser) == {}
    await log_in(browser, "authjs-chunked")
    async with browser.post("/api/logout", headers=DOCUMENT) as answer:
        assert (answer.status, answer.url.path) == (200, "/login")
    assert presented(browser) == {}


async def test_fetching_the_logout_link_ends_nothing(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    headers = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
    async with browser.get("/api/logout", headers=headers) as answer:
        assert answer.status == 405
    async with browser.get("/api/me") as answer:
        assert answer.status == 200


# -- the life of a session of the provider --------------------------------------------------------


@pytest.fixture
async def issuer(browser: ClientSession) -> AsyncIterator[str]:
    """The provider's address, as the page tells it. Its switches are turned back at the end."""
    async with browser.get("/") as answer:
        found = re.search(r'<a href="(http://localhost:\d+)/">', await answer.text())
    assert found
    async with browser.get(f"{found[1]}/_rehearsal") as answer:
        switches = (await answer.json())["switches"]
    yield found[1]
    await turn(browser, found[1], **switches)


async def turn(browser: ClientSession, issuer: str, **switches: Any) -> None:
    async with browser.post(f"{issuer}/_rehearsal", json=switches) as answer:
        assert answer.status == 200, await answer.text()


async def sign_in(browser: ClientSession, issuer: str, user: str = "alice") -> list[str]:
    """Logs in at the provider, as a browser would. Returns the paths that led there and back."""
    async with browser.get("/auth/login", headers=DOCUMENT) as answer:
        form = re.search(r'name="interaction" value="([^"]+)"', await answer.text())
        paths = [step.url.path for step in (*answer.history, answer)]
    assert form
    data = {"interaction": form[1], "user": user}
    async with browser.post(f"{issuer}/sign-in", data=data, headers=DOCUMENT) as answer:
        assert answer.status == 200, await answer.text()
        return paths + [step.url.path for step in (*answer.history, answer)]


async def order(browser: ClientSession, action: str, subject: str = "alice") -> None:
    """A button of the page."""
    told = {"action": action, "subject": subject}
    async with browser.post("/demo/provider", json=told) as answer:
        assert answer.status == 200, await answer.text()


async def who(browser: ClientSession) -> Any:
    async with browser.get("/auth/session") as answer:
        assert answer.status == 200
        return await answer.json()


async def call(browser: ClientSession, name: str) -> tuple[int, Any]:
    """Asks the API who it is; `name` is how the trace is to call that."""
    async with browser.get("/api/me", headers={"X-Request-Id": name}) as answer:
        return answer.status, await answer.json()


async def test_login_at_the_provider_and_the_session_that_it_makes(
    browser: ClientSession, issuer: str
) -> None:
    """The API gets the provider's token; the page gets a cookie and no token."""
    paths = await sign_in(browser, issuer)
    assert paths == ["/auth/login", "/authorize", "/sign-in", "/auth/callback", "/"]
    status, body = await call(browser, "first-call")
    assert (status, body["message"]) == (200, "Hello, Alice")
    assert body["data"]["saw"]["cookies"] == ["demo_theme"]
    told = await who(browser)
    assert (told["authenticated"], told["subject"], told["name"]) == (True, "alice", "Alice")
    assert 0 < told["expiresAt"] - told["serverTime"] <= 600
    shown = await trace(browser)
    assert shown["session_cookies"] == ["sidecar"]
    (entry,) = requests(shown, request_id="first-call")
    (seen,) = entry["api"]
    assert 0 < seen["expires_at"] - time.time() <= demo.TOKEN_SECONDS + 1
    decisions = [entry["decision"] for entry in requests(shown) if "/auth/" in entry["path"]]
    assert decisions[-2:] == ["login", "login_answer"]
    assert "eyJ" not in json.dumps(shown)  # what a token would begin with


async def test_token_is_renewed_before_it_expires(browser: ClientSession, issuer: str) -> None:
    """The API sees another token of the same session; no request is refused."""
    await turn(browser, issuer, access_token_lifetime=2)
    await sign_in(browser, issuer)
    hashes: list[str] = []

    async def has_two() -> bool:
        status, body = await call(browser, f"renewal-{len(hashes)}")
        assert status == 200
        hashes.append(body["data"]["saw"]["token_sha256"])
        return len(set(hashes)) == 2

    await until(has_two, "another token")
    shown = await trace(browser)
    *before, last = [
        entry for entry in requests(shown) if str(entry["request_id"]).startswith("renewal-")
    ]
    assert last["new_token"] or last["repeated"]
    assert not any(entry["new_token"] or entry["repeated"] for entry in before)
    assert shown["provider"]["counts"]["refresh_exchanges"] >= 1
    assert shown["provider"]["counts"]["refresh_reuses"] == 0


@pytest.mark.parametrize("by", ["burst", "expire"])
async def test_refused_token_is_renewed_and_the_request_repeated(
    browser: ClientSession, issuer: str, by: str
) -> None:
    """The provider calls it revoked, or the API takes it no longer: the browser sees 200."""
    await sign_in(browser, issuer)
    await (order(browser, "burst") if by == "burst" else expire(browser))
    status, _ = await call(browser, f"after-{by}")
    assert status == 200
    (entry,) = requests(await trace(browser), request_id=f"after-{by}")
    assert entry["repeated"]
    assert [seen["status"] for seen in entry["api"]] == [401, 200]
    assert len({seen["token_sha256"] for seen in entry["api"]}) == 2
    assert (await who(browser))["authenticated"]


async def test_revoked_grant_ends_the_session_at_the_next_renewal(
    browser: ClientSession, issuer: str
) -> None:
    await sign_in(browser, issuer)
    await order(browser, "revoke_grants")
    assert (await who(browser))["authenticated"]
    status, body = await call(browser, "after-the-revocation")
    assert (status, body["errorData"]["code"]) == (401, "session_expired")
    assert "sidecar" not in presented(browser)
    assert not (await who(browser))["authenticated"]
    (refused,) = events(await trace(browser), "refresh refused")
    assert refused["detail"] == f"{issuer}/token: status 400, invalid_grant"


async def test_outage_of_the_provider_ends_no_session(browser: ClientSession, issuer: str) -> None:
    """What needs a new token meanwhile is 503; afterwards the session goes on."""
    await sign_in(browser, issuer)
    await order(browser, "outage")
    assert 0 < (await trace(browser))["provider"]["down_for"] <= controls.OUTAGE_SECONDS + 0.001
    await expire(browser)
    status, body = await call(browser, "while-it-is-down")
    assert (status, body["errorData"]["code"]) == (503, "refresh_unavailable")
    assert (await who(browser))["authenticated"]
    await turn(browser, issuer, outage="none")

    async def is_back() -> bool:
        status, _ = await call(browser, "when-it-is-back")
        assert status in {200, 503}
        return status == 200

    await until(is_back, "the provider's return")


async def test_provider_ends_the_session_over_the_back_channel(
    browser: ClientSession, issuer: str
) -> None:
    """Before the browser has asked for anything; its event stream ends."""
    await sign_in(browser, issuer, "bob")
    async with browser.get("/api/events", headers={"Accept": "text/event-stream"}) as answer:
        assert await answer.content.readline() == b"id: 1\n"
        await order(browser, "end_sessions", "bob")
        await asyncio.wait_for(answer.content.read(), PATIENCE)
    assert not (await who(browser))["authenticated"]
    status, _ = await call(browser, "after-the-back-channel-logout")
    assert status == 401
    wanted = {"reason": "backchannel", "refresh_token": "done", "access_token": "done"}

    async def is_revoked() -> bool:
        return wanted in events(await trace(browser), "session ended")

    await until(is_revoked, "the revocation of its tokens")
    shown = await trace(browser)
    told = requests(shown, path="/auth/backchannel-logout", decision="backchannel_logout")
    assert 200 in {entry["status"] for entry in told}
    assert shown["provider"]["counts"]["back_channel_delivered"] >= 1


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/logout"), ("POST", "/auth/logout")])
async def test_logout_goes_by_way_of_the_provider_and_revokes(
    browser: ClientSession, issuer: str, method: str, path: str
) -> None:
    """The session there ends as well: who logs in again is asked who it is."""
    await sign_in(browser, issuer)
    before = (await trace(browser))["provider"]["counts"]
    async with browser.request(method, path, headers=DOCUMENT) as answer:
        steps = [(step.status, step.url.path) for step in (*answer.history, answer)]
    assert steps == [(303, path), (303, "/end_session"), (200, "/login")]
    assert "sidecar" not in presented(browser)

    async def is_revoked() -> bool:
        counts = (await trace(browser))["provider"]["counts"]
        return bool(counts["revocations"] >= before["revocations"] + 2)

    await until(is_revoked, "the revocation of both tokens")
    counts = (await trace(browser))["provider"]["counts"]
    assert counts["sessions_ended"] == before["sessions_ended"] + 1
    async with browser.get("/auth/login", headers=DOCUMENT) as answer:
        assert "<h1>Sign in</h1>" in await answer.text()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ('{"action": "outage"}', "text/plain", 415),  # what a page elsewhere could send
        ("{", "application/json", 422),
        ("[]", "application/json", 422),
        ('{"action": "explode"}', "application/json", 422),
        ('{"action": ["outage"]}', "application/json", 422),
        ('{"action": "end_sessions"}', "application/json", 422),
        ('{"action": "revoke_grants", "subject": "mallory"}', "application/json", 422),
    ],
)
async def test_orders_to_the_provider_that_are_none_are_refused(
    browser: ClientSession, issuer: str, body: str, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type}
    async with browser.post("/demo/provider", data=body, headers=headers) as answer:
        assert answer.status == status
        assert (await answer.json())["message"]
    async with browser.get(f"{issuer}/_rehearsal") as answer:
        assert (await answer.json())["switches"]["outage"] == "none"


async def test_outage_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one that was asked for twice."""
    async with running_idp() as idp:
        switches = Controls(idp)
        await switches.carry_out("outage", None)
        monkeypatch.setattr(controls, "OUTAGE_SECONDS", 0.05)
        await switches.carry_out("outage", None)
        assert idp.options.outage == "unavailable"
        assert switches.state()["down_for"] > 0

        async def is_up() -> bool:
            return idp.options.outage == "none"

        await until(is_up, "the end of the outage")
        assert switches.state()["down_for"] == 0
        with pytest.raises(BadOrder, match="end_sessions"):
            await switches.carry_out("explode", None)


# -- the page in a browser ------------------------------------------------------------------------


@asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[Browser]:
    arguments = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=executable, headless=True, args=arguments
        )
        yield launched
        await launched.close()


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def test_whole_life_on_the_page(
    url: str, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    """Login, 401 and renewal, back-channel logout, login, logout by form: as a person does it.

    Nothing is reported on the browser's console but the refusals that were asked for.
    """
    async with chromium(require_program("chromium")) as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        await page.goto(url)
        await expect(page.locator("#session-who")).to_have_text("nobody is logged in")
        await expect(page.get_by_role("button", name="Revoke the grant")).to_be_disabled()

        await page.get_by_role("link", name="Log in at the identity provider").click()
        await press(page, "Sign in as Alice")
        await expect(page.locator("#session-who")).to_have_text("Alice")
        await expect(page.locator("#session-end")).to_have_text(re.compile(r"over in 0:(10|09):"))
        await expect(page.locator("#own-login button")).to_be_disabled()

        await press(page, "Who am I")
        await expect(page.locator("#token-end")).to_have_text(re.compile(r"good for another \d+ s"))
        await press(page, "Refuse the next token, once")
        await expect(page.locator("#provider-said")).to_have_text(re.compile("counts as revoked"))
        await press(page, "Who am I")
        await expect(page.locator("#trace")).to_contain_text("repeated the request")
        await expect(page.locator("#api-summary")).to_contain_text("At first 401")
        await expect(page.locator("#summary")).to_have_text(re.compile("GET /api/me: 200"))
        await page.screenshot(path=tmp_path / "page.png", full_page=True)

        await press(page, "Log out everywhere")
        await expect(page.locator("#session-who")).to_have_text("nobody is logged in")
        assert errors == []
        await press(page, "Who am I")
        await expect(page.locator("#login-link")).to_be_visible()
        assert all("401" in one for one in errors), errors
        errors.clear()

        await page.get_by_role("link", name="log in again").click()
        await page.get_by_role("link", name="Log in at the identity provider").click()
        await press(page, "Sign in as Bob")
        await expect(page.locator("#session-who")).to_have_text("Bob")
        await press(page, "Log out by POST")
        await expect(page).to_have_url(f"{url}/login")
        await page.get_by_role("link", name="Back to the demo").click()
        await expect(page.locator("#session-who")).to_have_text("nobody is logged in")
        assert errors == []


@pytest.mark.parametrize(("size", "width", "height"), [("phone", 390, 844), ("desktop", 1280, 900)])
async def test_page_fits_and_each_answer_is_in_sight(
    url: str, require_program: Callable[[str], str], size: str, width: int, height: int
) -> None:
    """Whatever is pressed, and however far down: the answer can be read without scrolling.

    Screenshots, light and dark, are kept in `artifacts/demo`.
    """
    async with chromium(require_program("chromium")) as browser:
        context = await browser.new_context(viewport={"width": width, "height": height})
        page = await context.new_page()
        expect.set_options(timeout=PATIENCE * 1000)
        await page.goto(url)
        await expect(page.locator("#trace tr").first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        for selector, said in (
            ("#own-login button", "POST /api/login: 200"),
            ("button[data-call='/api/orders']", "GET /api/orders: 200"),
            ("section[aria-labelledby='logout-title'] button[data-call]", "GET /api/logout: 405"),
        ):
            await page.click(selector)
            await expect(page.locator("#summary")).to_contain_text(said)
            await expect(page.locator("#summary")).to_be_in_viewport()
        await press(page, "Show it")
        await expect(page.locator("#story li")).to_have_count(3)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await page.screenshot(path=ARTIFACTS / f"{size}-{scheme}.png", full_page=True)


async def test_page_shows_before_and_after_of_a_401(
    url: str, require_program: Callable[[str], str]
) -> None:
    """By one button: a session without a refresh token ends, one that has it goes on."""
    async with chromium(require_program("chromium")) as browser:
        page = await browser.new_page()
        expect.set_options(timeout=PATIENCE * 1000)
        await page.goto(url)
        await press(page, "Show it")
        cards = page.locator("#story li")
        await expect(cards).to_have_count(3)
        await expect(cards.nth(0)).to_contain_text("Before 200")
        await expect(cards.nth(0)).to_contain_text("access_token")
        await expect(cards.nth(1)).to_contain_text("no longer")
        await expect(cards.nth(1)).to_contain_text("ended the session, expired the cookies")
        await expect(cards.nth(2)).to_contain_text("After 401")
        await expect(cards.nth(2)).to_contain_text("no session cookie any more")

        await page.get_by_role("link", name="Log in at the identity provider").click()
        await press(page, "Sign in as Alice")
        await expect(page.locator("#session-who")).to_have_text("Alice")
        await press(page, "Show it")
        await expect(cards).to_have_count(3)
        await expect(cards.nth(1)).to_contain_text("401")
        await expect(cards.nth(1)).to_contain_text("repeated the request")
        await expect(cards.nth(2)).to_contain_text("After 200")
        await expect(cards.nth(2)).to_contain_text("goes on")
        await page.click("nav a[href^='http']:has-text('Admin page')", trial=True)
        await press(page, "Log out by POST")


# -- what the page shows ----------------------------------------------------------------------


async def test_trace_joins_both_sides_by_request(browser: ClientSession) -> None:
    """The chain after an expiry: what the sidecar did, what the API saw; nowhere a token."""
    await log_in(browser, "plain")
    token = presented(browser)["access_token"].value
    await expire(browser)
    chain = {"X-Request-Id": "chain-1"}
    async with browser.get("/api/me", headers=chain):
        pass
    shown = await trace(browser)
    first, second = requests(shown, request_id="chain-1")
    (seen,) = first["api"]
    assert (first["path"], first["status"], seen["status"]) == ("/api/me", 303, 401)
    assert seen["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()[:12]
    assert "no longer" in seen["body"]
    assert (second["path"], second["status"], second["api"]) == ("/api/logout", 401, [])
    assert (shown["session_cookies"], shown["other_cookies"]) == ([], [])
    assert token not in json.dumps(shown)
    assert not any(entry["path"].startswith("/demo") for entry in requests(shown))


async def test_trace_names_the_cookies_that_the_browser_sends(browser: ClientSession) -> None:
    await log_in(browser, "authjs-chunked")
    async with browser.get("/"):
        pass
    shown = await trace(browser)
    assert shown["session_cookies"] == ["authjs.session-token.0", "authjs.session-token.1"]
    assert shown["other_cookies"] == ["demo_theme"]


async def test_page_needs_nothing_from_elsewhere(browser: ClientSession) -> None:
    """No inline script or style, no other origin; and it shows its configuration."""
    for path in ("/", "/login"):
        async with browser.get(path) as answer:
            text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = re.sub(r'<a href="http://(localhost|127.0.0.1):\d+/">', "", text)  # to look at
        elsewhere = r"(?:src|href)=\"(?![/#])"
        assert not re.search(rf"<script(?! src)|<style|\son\w+=|\sstyle=|{elsewhere}", text)
        for link in re.findall(r'(?:src|href)="(/[\w.]+)"', text):
            async with browser.get(link) as answer:
                assert answer.status == 200, link
    async with browser.get("/") as answer:
        text = await answer.text()
    assert "{path: /api/login, kind: api, upstream: api, strip: /api, session: none}" in text
    assert "${AUTH_SECRET}" in text


async def test_script_knows_every_element_that_it_asks_for(browser: ClientSession) -> None:
    """Both pages load one script, which looks elements up by id."""
    script, page = asset("app.js").decode(), asset("page.html").decode()
    wanted = set(re.findall(r'element\("([\w-]+)"\)', script))
    assert wanted
    assert wanted <= set(re.findall(r'id="([\w-]+)"', page))


# -- start and end --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_at_once_with_0(start: Start, number: signal.Signals) -> None:
    process = start("--port", "0")
    address(process)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - began < 2


async def test_open_streams_do_not_hold_up_the_end(start: Start) -> None:
    """They are cut, quietly: so is one that a logout has ended before."""
    process = start("--port", "0")
    url = address(process)
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as browser:
        await log_in(browser, "plain")
        async with browser.get("/api/events"), browser.post("/api/logout"):
            await asyncio.sleep(1.2)  # until the API's next event finds nobody there
        await log_in(browser, "plain")
        async with browser.get("/api/events"), browser.ws_connect("/api/echo", origin=url):
            process.terminate()
            _, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, errors) == (0, "")


async def test_verbose_prints_the_access_log(start: Start) -> None:
    """One line a request, for people; without it there is none."""
    process = start("--port", "0", "--verbose")
    async with ClientSession(address(process)) as client, client.get("/login") as answer:
        assert answer.status == 200
    process.terminate()
    _, errors = process.communicate(timeout=10)
    line = next(line for line in errors.splitlines() if "request" in line)
    assert "path=/login" in line
    assert "status=200" in line


def test_taken_port_is_told_and_exits_2(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, output) == (2, "")
        assert errors.startswith(f"sidecar demo: 127.0.0.1:{port} is in use; ")


def test_unusable_port_exits_2(start: Start) -> None:
    process = start("--port", "65536")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "--port" in errors


def test_other_faults_of_a_port_are_told_too() -> None:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    text = demo._complaint(80, error)
    assert text == "sidecar demo: cannot listen on 127.0.0.1:80: Permission denied\n"


# -- the parts --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "chunks"), list(zip(KINDS, (1, 1, 2), strict=True)))
def test_sealed_cookies_open_with_the_secret(kind: str, chunks: int) -> None:
    """With the demo's own configuration; with another secret they do not."""
    cookies = SessionCookies(SECRET).cookies(kind, "Ada", "token-1")
    assert len(cookies) == chunks
    assert set(cookies) <= set(ALL_COOKIES)
    assert all(len(name) + len(value) <= 4096 for name, value in cookies.items())
    jar = Presented.parse("; ".join(f"{name}={value}" for name, value in cookies.items()))
    readings = [
        read_credential(compile_sources(demo._load(_environment(secret))), jar, time.time())
        for secret in (SECRET, SECRET[::-1])
    ]
    assert (readings[0].result, readings[0].token) == (Result.OK, "token-1")
    assert readings[1].result is (Result.OK if kind == "plain" else Result.INVALID)


def _environment(secret: str) -> dict[str, str]:
    return {"AUTH_SECRET": secret}


def test_configuration_runs_without_the_demo() -> None:
    """Its variables have defaults, so that it can be copied; it answers to both loopback names."""
    config = demo._load(_environment(SECRET))
    assert [one.partition(":")[0] for one in config.warnings] == ["public_url"]
    assert str(config.listeners[0].address) == "127.0.0.1:8080"


def _line(level: str = "info", **facts: object) -> str:
    return json.dumps({"event": "request", "level": level, "request_id": "1", **facts}) + "\n"


def test_access_log_is_traced_and_only_warnings_are_printed() -> None:
    traced, console = Trace(), StringIO()
    log = AccessLog(traced, console, verbose=False)
    log.write(_line(path="/api/me", status=200))
    log.write(json.dumps({"event": "watch out", "level": "warning"}) + "\n")
    assert [entry["path"] for entry in traced.entries()] == ["/api/me"]
    assert "watch out" in console.getvalue()
    assert "/api/me" not in console.getvalue()


def test_trace_is_bounded() -> None:
    """On both sides, whatever is asked."""
    traced = Trace()
    seen = Seen([], [], None, 200, "", [], None)
    for number in range(3 * MAX_ENTRIES):
        traced.api_answered(f"never ended {number}", seen)
        traced.ended({"request_id": str(number), "path": "/"})
    entries = traced.entries()
    assert len(entries) == len(traced._calls) == MAX_ENTRIES
    assert entries[-1]["number"] == 3 * MAX_ENTRIES


def test_trace_tells_a_renewed_token_from_a_late_end() -> None:
    """A stream ends long after requests that came later; its old token is no new one."""
    traced = Trace()

    def answered(request_id: str, token: str) -> None:
        traced.api_answered(request_id, Seen([], [], token, 200, "", [], ""))

    def ended(request_id: str) -> bool:
        traced.ended({"request_id": request_id, "path": "/api/me", "session": "s"})
        return bool(traced.entries()[-1]["new_token"])

    answered("stream", "old")
    answered("1", "old")
    assert not ended("1")
    answered("2", "new")
    assert ended("2")
    assert not ended("stream")
    answered("3", "new")
    assert not ended("3")


def test_idp_command_passes_its_arguments_on() -> None:
    """To the provider's own command, help and faults included."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sidecar", "idp", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    told = run("--help")
    assert told.returncode == 0
    assert "--access-token-lifetime" in told.stdout
    refused = run("--port", "none")
    assert refused.returncode == 2
    assert "port" in refused.stderr


def test_package_holds_every_file_that_it_serves() -> None:
    """Next to the code, where the wheel takes them along."""
    folder = Path(demo.__file__).parent / "static"
    names = {path.name for path in folder.iterdir()}
    assert names == {*demo.page._TYPES, demo.CONFIG_FILE}
