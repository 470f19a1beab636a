"""The sidecar's own pages: as browsers show them, and pages of one's own in their place."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from playwright.async_api import async_playwright

from sidecar.core.formats import FORMATS
from sidecar.tls import UnusableFile
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import Page

    from tests.conftest import Clients, Embedded, Start, Upstream

ARTIFACTS: Final = Path(__file__).parents[2] / "artifacts" / "pages"
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
SECRET: Final = "0123456789abcdef0123456789abcdef"
NAME: Final = "authjs.session-token"
SIZES: Final = {"phone": (360, 740), "desktop": (1440, 900)}
PATIENCE: Final = 40_000  # milliseconds
DOCUMENT: Final = ("Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Accept: text/html")
CONTRAST: Final = """() => {
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = getComputedStyle(document.body).backgroundColor;
  return [...document.querySelectorAll("h1, p, a, button, code, strong")].map((one) => {
    const style = getComputedStyle(one);
    const own = /rgba\\(0, 0, 0, 0\\)|transparent/.test(style.backgroundColor);
    const pair = [light(style.color), light(own ? ground : style.backgroundColor)].sort();
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  });
}"""


def seal(**claims: Any) -> str:
    """A session as Auth.js writes it."""
    source: Any = FORMATS["authjs"](secrets=[SECRET])
    whole = {"exp": int(time.time()) + 9999, "accessToken": "tok", **claims}
    return str(source.opener.seal(whole, NAME))


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """Pages, some for the staff alone, some whose server is down, and a login of the sidecar."""
    page = {"kind": "page", "upstream": "main"}
    return {
        "upstreams": {
            "main": {"url": upstream.url},
            "down": {"url": f"http://127.0.0.1:{free_port()}", "connect": "500ms"},
        },
        "routes": [
            {"path": "/", **page},
            {"path": "/down", "kind": "page", "upstream": "down"},
            {
                "path": "/staff",
                **page,
                "session": "required",
                "sources": [NAME],
                "allow": [{"claim": "groups", "any": ["staff"]}],
            },
        ],
        "session": {"sources": [{"type": "authjs", "secret": SECRET}]},
        "oidc": {"issuer": f"http://127.0.0.1:{free_port()}", "client_id": "app"},
        **more,
    }


async def shown(page: Page, at: Embedded, name: str) -> None:
    """Opens one of the sidecar's pages as somebody gets there."""
    origin = f"http://127.0.0.1:{at.port}"
    if name == "confirm":  # a link of another site
        await page.set_content(f'<a href="{origin}/api/logout">x</a>')
        await page.click("a")
        await page.wait_for_url(f"{origin}/**")
    else:
        await page.goto(origin + PAGES[name])


PAGES: Final = {
    "confirm": "",
    "upstream_unreachable": "/down/a/very/long/path/" + "x" * 300,
    "not_allowed": "/staff",
    "login_expired": "/auth/callback?state=x",
}
GROUNDS: Final[dict[Literal["light", "dark"], str]] = {
    "light": "rgb(255, 255, 255)",
    "dark": "rgb(20, 23, 27)",
}
OFFERS: Final[dict[str, tuple[Literal["button", "link"], str]]] = {
    "confirm": ("button", "Log out"),
    "upstream_unreachable": ("link", "Try again"),
    "not_allowed": ("link", "Log in as somebody else"),
    "login_expired": ("link", "Try again"),
}


async def test_pages_in_a_browser(
    sidecar: Start, upstream: Upstream, require_program: Callable[[str], str]
) -> None:
    """On a phone and a desktop, light and dark: readable, nothing cut off, nothing blocked.

    A screenshot of each is kept in `artifacts/pages`.
    """
    at = await sidecar(site(upstream))
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=require_program("chromium"), headless=True, args=ARGUMENTS
        )
        context = await browser.new_context()
        context.set_default_timeout(PATIENCE)
        cookie = seal(email="somebody.with.a.long.name.indeed@subdomain.example.com")
        url = f"http://127.0.0.1:{at.port}"
        await context.add_cookies([{"name": NAME, "value": cookie, "url": url}])
        page = await context.new_page()
        told: list[str] = []
        page.on("console", lambda one: told.append(one.text) if "Policy" in one.text else None)
        for name in OFFERS:
            await shown(page, at, name)
            await _looked_at(page, name)
        assert told == [], "its own policy has blocked something"
        await browser.close()


async def _looked_at(page: Page, name: str) -> None:
    role, text = OFFERS[name]
    for size, (width, height) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        assert await page.get_by_role(role, name=text).is_visible(), name
        wide = await page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide"
        for scheme, ground in GROUNDS.items():
            await page.emulate_media(color_scheme=scheme)
            seen = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert seen == ground
            assert min(await page.evaluate(CONTRAST)) >= 4.5, f"{name} is hard to read"
            await page.screenshot(path=ARTIFACTS / f"{name}-{size}-{scheme}.png")
    assert name in await page.inner_text("footer")


# -- pages of one's own ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "error.html").write_text("<style>p{}</style>E {{code}} {{request_id}} {{actions}}")
    (pages / "not_allowed.html").write_text("N {{status}} {{details}} {{actions}}")
    (pages / "logout.html").write_text("L {{title}} {{actions}}")
    (pages / "login_failed.html").write_text("F {{message}} {{details}} {{actions}}")
    return pages


async def test_pages_of_ones_own_stand_in(
    sidecar: Start, upstream: Upstream, client: Clients, folder: Path
) -> None:
    """Each with its values, and with a policy that lets its own styles hold and nothing else."""
    at = await sidecar(site(upstream, pages=str(folder)))
    one = await client(at)
    down = await one.get("/down/x", *DOCUMENT)
    assert down.status == 502
    found = re.fullmatch(r"<style>p{}</style>E (\w+) (\w+) <p><a .*</p>", down.body.decode())
    assert found is not None
    assert found.groups() == ("upstream_unreachable", down.get("X-Request-Id"))
    policy = down.get("Content-Security-Policy") or ""
    assert re.search(r"default-src 'none'; style-src 'sha256-[^']+'; img-src data:;", policy)
    denied = await one.get("/staff", f"Cookie: {NAME}={seal(email='<i>@x.example')}", *DOCUMENT)
    assert denied.status == 403
    assert denied.body.startswith(b"N 403 <p>You are logged in as <strong>&lt;i&gt;@x.example")
    failed = await one.get("/auth/callback?error=access_denied&state=x", *DOCUMENT)
    assert failed.body.startswith(b"F You, or the login service, have declined it.")
    asked = await one.get("/api/logout", *DOCUMENT, "Sec-Fetch-Site: cross-site")
    assert asked.body.startswith(
        b'L Do you want to log out? <form method="post" action="/api/logout">'
    )
    api = await one.get("/auth/login", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty")
    assert api.json["errorData"]["code"] == "session_required", "scripts get no page"


async def test_reload_reads_the_pages_anew_or_keeps_them(
    sidecar: Start, upstream: Upstream, client: Clients, folder: Path
) -> None:
    at = await sidecar(site(upstream, pages=str(folder)))
    config = at.sidecar.runtime.policy.config

    async def told() -> bytes:
        return (await (await client(at)).get("/down/x", *DOCUMENT)).body

    (folder / "502.html").write_text("new")
    assert b"upstream_unreachable" in await told()
    await at.sidecar.reload(config)
    assert await told() == b"new"
    (folder / "502.html").write_text("{{oops}}")
    with pytest.raises(UnusableFile, match="unknown placeholder"):
        await at.sidecar.reload(config)
    assert await told() == b"new"
