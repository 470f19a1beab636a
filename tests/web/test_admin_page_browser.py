"""The admin page in Chromium, beside a sidecar with real traffic: what people on call read and do.

Screenshots at phone and desktop width, light and dark, are kept in `artifacts/admin`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Received, Script, Start, Upstream

ARTIFACTS: Final = Path(__file__).parents[2] / "artifacts" / "admin"
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
PATIENCE: Final = 40_000  # milliseconds
SIZES: Final = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES: Final = ("light", "dark")
CANARY: Final = "canary-8d2f"


def site(upstream: Upstream) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "api", "strip": "/api", "session": "optional"}
    return {
        "upstreams": {
            "api": {"url": upstream.url},
            "old": {"url": f"http://127.0.0.1:{free_port()}", "connect": "500ms"},
        },
        "routes": [
            {"path": "/api/", **api},
            {"path": "/old/", "kind": "api", "upstream": "old", "session": "optional"},
            {"path": "/", "kind": "page", "upstream": "api"},
        ],
        "session": {
            "sources": [
                {"type": "authjs", "secret": "a secret of Auth.js, for the tests"},
                {"type": "cookie", "cookie": "access_token"},
            ]
        },
    }


def answer(request: Received) -> Script:
    """Of an API that takes tokens of users, and one no more after its 401."""
    is_rejected = request.target.startswith("/reject")
    body = json.dumps({"message": "no"} if is_rejected else {"data": [1, 2, 3]}).encode()
    status = "401 Unauthorized" if is_rejected else "200 OK"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def traffic(at: Embedded, client: Clients) -> None:
    """Users who work, two who are logged out by a 401, a forged request, a server that is down."""
    for number in range(6):
        one = await client(at)
        cookie = f"Cookie: access_token={CANARY}-{number}"
        for _ in range(10):
            assert (await one.get(f"/api/orders?{CANARY}", cookie)).status == 200
            assert (await one.get("/", cookie)).status == 200
        if number < 2:
            await one.get("/api/reject", cookie)
    other = await client(at)
    assert (await other.get("/old/x")).status == 502
    forged = ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
    cookie = f"Cookie: access_token={CANARY}-5"
    assert (await other.ask("POST", "/api/orders", cookie, *forged, body=b"x")).status == 403
    await other.get("/api/me", f"Cookie: authjs.session-token={CANARY}")


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, client: Clients) -> Embedded:
    upstream.default = answer
    running = await sidecar(site(upstream))
    await traffic(running, client)
    return running


@pytest.fixture
async def page(at: Embedded, require_program: Callable[[str], str]) -> AsyncIterator[Page]:
    """The page, once it is live; nothing may be wrong on its console."""
    wrong: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=require_program("chromium"), headless=True, args=ARGUMENTS
        )
        opened = await browser.new_page()
        opened.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        await opened.goto(f"http://127.0.0.1:{at.admin}/")
        await expect(opened.locator("#live")).to_have_class("live on")
        yield opened
        assert CANARY not in await opened.content()
        await browser.close()
    assert [one for one in wrong if "422" not in one] == []


async def test_page_tells_what_is_not_well_and_why(page: Page) -> None:
    """From top to bottom, each panel answers its question; and it fits every screen."""
    await expect(page.locator("#sentence")).to_contain_text("things are not well")
    await expect(page.locator("#symptoms")).to_contain_text("upstream old: connection refused")
    await expect(page.locator("#routes tbody tr")).to_have_count(3)
    await expect(page.locator("#upstream-cards")).to_contain_text("connection refused")
    await expect(page.locator("#ended-rows")).to_contain_text("token rejected")
    await expect(page.locator("#session-rows")).to_contain_text("none has opened")
    await expect(page.locator("#refused-rows")).to_contain_text("https://evil.example")
    await expect(page.locator("#trouble-rows")).to_contain_text("GET /old/x")
    await expect(page.locator("#keys")).to_contain_text("limits.header")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await page.screenshot(path=ARTIFACTS / f"{size}-{scheme}.png", full_page=True)


async def test_route_that_is_chosen_filters_what_is_below(page: Page) -> None:
    await page.locator("#routes").get_by_role("button", name="/old/", exact=True).click()
    await expect(page.locator("#filter")).to_contain_text("Only /old/.")
    await expect(page.locator("#refused-rows")).to_contain_text("Nothing was refused.")
    await expect(page.locator("#trouble-rows")).to_contain_text("GET /old/x")
    await page.get_by_role("button", name="Show all routes").click()
    await expect(page.locator("#filter")).to_be_hidden()
    await expect(page.locator("#refused-rows")).to_contain_text("csrf_rejected")


async def test_story_of_a_session_and_its_end(
    page: Page, at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """By a click on one that has ended; one that lives is ended from here, and stays dead."""
    await page.locator("#ended-rows .link").first.click()
    await expect(page.locator("#story")).to_contain_text("Ended token rejected")
    await expect(page.get_by_role("button", name="End this session")).to_have_count(0)

    await page.locator("#refused-rows .link").last.click()
    await expect(page.locator("#story")).to_contain_text("403 csrf rejected")
    await page.get_by_role("button", name="End this session").click()
    await page.get_by_role("button", name="Cancel").click()
    living = f"Cookie: access_token={CANARY}-5"
    assert (await (await client(at)).get("/api/orders", living)).status == 200
    await page.get_by_role("button", name="End this session").click()
    await page.get_by_role("button", name="End it").click()
    await expect(page.locator("#story")).to_contain_text("Ended admin")
    await (await client(at)).get("/api/orders", living)
    assert upstream.last.get("Authorization") is None
    await expect(page.locator("#ended-rows")).to_contain_text("admin")


async def test_every_session_of_a_user_ends_by_a_name(page: Page) -> None:
    """It asks first, and says why nothing ended: without `oidc` no session has such a name."""
    await page.locator("#end-name").fill("Alice@example.com")
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.locator("#sure-text")).to_contain_text("email Alice@example.com")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#end-said")).to_be_empty()
    await page.locator("#end-by").select_option("sub")
    await page.get_by_role("button", name="End", exact=True).click()
    await page.get_by_role("button", name="End all").click()
    await expect(page.locator("#end-said")).to_contain_text("without oidc no session has")


async def test_explain_names_no_value(page: Page) -> None:
    await page.locator("#explain-request").fill("GET /api/orders")
    await page.locator("#explain-cookie").fill(f"authjs.session-token={CANARY}; theme={CANARY}")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator("#explained")).to_contain_text("authjs.session-token")
    await expect(page.locator("#explained")).to_contain_text("theme")
    await expect(page.locator("#explained")).to_contain_text("/api/")
    await page.locator("#explain-cookie").fill("")
    assert CANARY not in await page.inner_text("#explained")


async def test_keys_are_found_and_a_reload_says_what_came_of_it(page: Page) -> None:
    """This sidecar is embedded, and has no file to read anew."""
    await page.locator("#key-filter").fill("limits.client")
    rows = page.locator("#keys tbody tr")
    await expect(rows.first).to_contain_text("limits.client")
    assert 1 < await rows.count() < 12
    await page.get_by_role("button", name="Reload").click()
    await expect(page.locator("#said")).to_contain_text("the old configuration stays")


async def test_log_level_is_another_one_for_ten_minutes(page: Page) -> None:
    await page.get_by_role("button", name="Log at debug for 10 minutes").click()
    await expect(page.locator("#said")).to_contain_text("Logging at debug for ten minutes.")
    await expect(page.locator("#facts")).to_contain_text("debug until")


async def test_drain_is_asked_for_twice(page: Page, at: Embedded) -> None:
    """Not done by a slip of the hand."""
    await page.get_by_role("button", name="Drain", exact=True).click()
    await expect(page.get_by_role("dialog")).to_contain_text("Drain this sidecar?")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert (await at.ask_admin("/readyz")).status == 200
