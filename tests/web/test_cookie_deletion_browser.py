"""In Chromium, with TLS and host names: no session cookie survives the logout, however set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.e2e.servers import write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Embedded, Received, Script, Start, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="function")

HOST: Final = "app.example.test"
ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    "--host-resolver-rules=MAP *.example.test 127.0.0.1",
)
WAYS: Final[dict[str, tuple[str, ...]]] = {
    "a script's own": ("access_token=t; Path=/",),
    "HttpOnly": ("access_token=t; Path=/; HttpOnly",),
    "Secure": ("access_token=t; Path=/; Secure; SameSite=Strict",),
    "SameSite=None": ("access_token=t; Path=/; Secure; SameSite=None",),
    "__Secure-": ("__Secure-access_token=t; Path=/; Secure; HttpOnly",),
    "__Host-": ("__Host-access_token=t; Path=/; Secure; HttpOnly",),
    "a partition": ("access_token=t; Path=/; Secure; SameSite=None; Partitioned",),
    "__Host-, a partition": ("__Host-access_token=t; Path=/; Secure; SameSite=None; Partitioned",),
    "a parent domain": ("access_token=t; Path=/; Domain=example.test",),
    "__Secure-, a parent domain": ("__Secure-access_token=t; Path=/; Domain=example.test; Secure",),
    "a path": ("access_token=t; Path=/app",),
    "a parent domain and a path": ("access_token=t; Path=/app; Domain=example.test; Secure",),
    "chunks": tuple(f"access_token.{index}=t; Path=/; HttpOnly" for index in range(4)),
    "chunks of iron-session's kind": tuple(
        f"access_token__{index}=t; Path=/" for index in range(3)
    ),
    "chunks in a partition": tuple(
        f"__Secure-access_token.{index}=t; Path=/; Secure; SameSite=None; Partitioned"
        for index in range(2)
    ),
    "all places at once": (
        "access_token=a; Path=/",
        "access_token=b; Path=/app",
        "access_token=c; Path=/; Domain=example.test",
        "access_token=d; Path=/; Secure; SameSite=None; Partitioned",
        "__Host-access_token=e; Path=/; Secure",
        "__Secure-access_token=f; Path=/; Domain=example.test; Secure",
    ),
}
OTHERS: Final = ("theme=dark; Path=/", "access_token_hint=1; Path=/", "my.access_token=1; Path=/")


def setting(lines: tuple[str, ...]) -> Callable[[Received], Script]:
    """An upstream whose page at /app/set sets cookies, and whose other pages are empty."""

    def answer(request: Received) -> Script:
        fields = ""
        if request.target == "/app/set":
            fields = "".join(f"Set-Cookie: {line}\r\n" for line in (*lines, *OTHERS))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: 2\r\n\r\n"
        return head.encode() + b"ok"

    return answer


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, tmp_path: Path) -> Embedded:
    cert, key = write_certificate(tmp_path)
    return await sidecar(
        {
            "tls": {"cert": str(cert), "key": str(key)},
            "upstreams": {"pages": {"url": upstream.url}},
            "routes": [{"path": "/", "kind": "page", "upstream": "pages"}],
            "logout": {
                "cookies": ["access_token"],
                "domains": ["example.test"],
                "paths": ["/", "/app"],
            },
        }
    )


@pytest_asyncio.fixture
async def browser(require_program: Callable[[str], str]) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=require_program("chromium"), headless=True, args=ARGUMENTS
        )
        yield launched
        await launched.close()


async def jar(context: BrowserContext) -> list[tuple[object, ...]]:
    """Name, domain, path and partition of each cookie that the browser has."""
    parts = ("name", "domain", "path", "partitionKey")
    return [tuple(cookie.get(part) for part in parts) for cookie in await context.cookies()]


async def test_no_session_cookie_survives_the_logout(
    at: Embedded, upstream: Upstream, browser: Browser
) -> None:
    """Nor does any other cookie go, though its name contains that of the session."""
    kept = {line.partition("=")[0] for line in OTHERS}
    survived: dict[str, Any] = {}
    for way, lines in WAYS.items():
        upstream.default = setting(lines)
        context = await browser.new_context(
            base_url=f"https://{HOST}:{at.port}", ignore_https_errors=True
        )
        page = await context.new_page()
        await page.goto("/app/set")
        before = await jar(context)
        assert len(before) == len(lines) + len(OTHERS), f"{way}: Chromium took {before}"
        await page.goto("/api/logout")
        after = await jar(context)
        assert kept <= {name for name, *_ in after}
        if left := [one for one in after if one[0] not in kept]:
            survived[way] = left
        await context.close()
    assert survived == {}
