"""A route that requires a session requires it in every spelling of its path, whoever serves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import PATIENCE
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.conftest import Clients, Embedded, Start, Upstream

SESSION = "Cookie: access_token=tok"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none"]
SPELLINGS = [
    "/account/",
    "//account/",
    "/account//",
    "/account%2F",
    "/account%2findex.html",
    "/%2Faccount/",
    "/account%252F",
    "/account;x=1/",
    "/account%3Bx=1/",
    "/;x/account/",
    "/%61ccount/",
    "/%2561ccount/",
    "/./account/",
    "/x/..//account/",
    "/x/%2e%2e/account/",
    "/x%2f..%2faccount/",
    "/account%2F%2F;y",
]


def site(url: str, **more: Any) -> dict[str, Any]:
    """Pages for everybody, an account for users, an API that needs a session."""
    return {
        "upstreams": {"main": {"url": url}},
        "routes": [
            {"path": "/", "kind": "page", "upstream": "main"},
            {"path": "/account/", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/api/", "kind": "api", "upstream": "main", "strip": "/api"},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
        **more,
    }


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    return await sidecar(site(upstream.url))


@pytest.mark.parametrize("path", [*SPELLINGS, "/api//orders", "//api/orders", "/api%2Forders"])
async def test_no_spelling_of_a_required_route_is_served_without_a_session(
    at: Embedded, client: Clients, upstream: Upstream, path: str
) -> None:
    """The upstream is not even asked; neither by a dead session."""
    one = await client(at)
    for more in ([], DOCUMENT, ["Cookie: access_token="]):
        answer = await one.get(path, *more)
        assert answer.status in (303, 400, 401)
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["//account/", "/account%2Fx", "/account;x=1/", "/%2Faccount/"])
async def test_with_a_session_another_spelling_arrives_byte_for_byte(
    at: Embedded, client: Clients, upstream: Upstream, path: str
) -> None:
    """Served as its own spelling says: session cookies forwarded, nothing injected."""
    assert (await (await client(at)).get(path, SESSION)).status == 200
    assert upstream.last.target == path
    assert upstream.last.get("Cookie") == "access_token=tok"
    assert upstream.last.get("Authorization") is None


async def test_no_bearer_opens_a_page_by_another_spelling(
    sidecar: Start, client: Clients, upstream: Upstream
) -> None:
    """A site that lets clients bring their own, but not to the account."""
    config = site(upstream.url)
    config["routes"][0]["authorization"] = "pass"
    one = await client(await sidecar(config))
    for path in ("/account/", "//account/", "/account;x/"):
        answer = await one.get(path, "Authorization: Bearer anything")
        assert answer.status in (303, 401)
    assert upstream.requests == []
    assert (await one.get("//other", "Authorization: Bearer anything")).status == 200


@pytest.mark.parametrize("path", ["/", "//x", "/x;account", "/x%2Faccount/", "/accounts;x=1"])
async def test_other_odd_paths_stay_open(
    at: Embedded, client: Clients, upstream: Upstream, path: str
) -> None:
    assert (await (await client(at)).get(path)).status == 200
    assert upstream.last.target == path


@pytest.mark.parametrize(
    "path",
    [
        *("//api/logout", "/api//logout", "/api%2Flogout", "/api/logout;x", "/api/logout//"),
        *("/API/LOGOUT", "/api/Logout/", "/Api;x/logout", "/api/%4Cogout", "/API%2Flogout"),
    ],
)
async def test_no_spelling_of_the_logout_path_reaches_a_logout_behind_it(
    at: Embedded, client: Clients, upstream: Upstream, path: str
) -> None:
    """An application's own would end the session for a link from anywhere."""
    one = await client(at)
    for method in ("GET", "POST"):
        answer = await one.ask(method, path, SESSION)
        assert (answer.status, answer.all("Set-Cookie")) == (404, [])
    assert upstream.requests == []


# -- a real nginx behind it ------------------------------------------------------------------------


@pytest.fixture
async def nginx(require_program: Callable[[str], str], tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an nginx with a public and a private page; it merges slashes and decodes."""
    program, port = require_program("nginx"), free_port()
    for folder, text in (("", "public page"), ("account", "private page")):
        (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / folder / "index.html").write_text(text)
    (tmp_path / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
  fastcgi_temp_path {tmp_path}/fastcgi; uwsgi_temp_path {tmp_path}/uwsgi;
  scgi_temp_path {tmp_path}/scgi;
  server {{ listen 127.0.0.1:{port}; root {tmp_path}/root; try_files $uri $uri/ /index.html; }}
}}
""")
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(port):
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_nginx_shows_its_private_page_to_nobody_without_a_session(
    sidecar: Start, client: Clients, nginx: str
) -> None:
    """It serves it under several of these spellings to somebody who has one."""
    at = await sidecar(site(nginx))
    one, served = await client(at), []
    for path in SPELLINGS:
        assert b"private page" not in (await one.get(path, *DOCUMENT)).body
        answer = await one.get(path, *DOCUMENT, SESSION)
        if b"private page" in answer.body:
            served.append(path)
    assert {"/account/", "//account/", "/account%2findex.html", "/%2Faccount/"} <= set(served)
    assert (await one.get("/", *DOCUMENT)).body == b"public page"
