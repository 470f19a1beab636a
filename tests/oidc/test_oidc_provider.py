"""The own login with a certified provider: oidc-provider from npm, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar, TCPConnector
from yarl import URL

from sidecar.core.cookies import CookieJar as Cookies
from sidecar.core.formats.own import Lifetimes, OwnReading, own_cookie_source
from sidecar.net.provider import ProviderSettings
from tests.conftest import free_port

if TYPE_CHECKING:
    from tests.conftest import Received, StartCommand, Upstream

PROJECT: Final = Path(__file__).parent
INSTALL: Final = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
SECRET: Final = "a secret of the sidecar's, 32 bytes"
CLIENT_ID, CLIENT_SECRET = "app", "a secret of the client's"
PATIENCE: Final = 20.0  # seconds that anything waited for may take; a token lives as long
FETCH: Final = {
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
}
DOCUMENT: Final = {
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    require_program: Callable[[str], str],
    do_without: Callable[[str], NoReturn],
) -> Path:
    """The script with the packages of its lock file."""
    npm, _ = require_program("npm"), require_program("node")
    copied = shutil.copytree(
        PROJECT,
        tmp_path_factory.mktemp("npm") / "project",
        ignore=shutil.ignore_patterns("node_modules", "__pycache__"),
    )
    installed = subprocess.run(
        [npm, *INSTALL], cwd=copied, capture_output=True, text=True, timeout=300, check=False
    )
    if installed.returncode:
        do_without(f"npm ci failed: {installed.stderr[-500:]}")
    return copied


class Provider:
    """The provider's process, and what it says about tokens."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.issuer = f"http://localhost:{port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, node: str, project: Path, sidecar: str, log: Path) -> None:
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [f"{sidecar}/auth/callback"],
            "post_logout_redirect_uris": [f"{sidecar}/"],
            "backchannel_logout_uri": f"{sidecar}/auth/backchannel-logout",
            "backchannel_logout_session_required": True,
            "id_token_signed_response_alg": "ES256",
        }
        options = json.dumps({"port": self.port, "client": client})
        with log.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *(node, "provider.mjs", options),
                cwd=project,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert (await self.process.stdout.readline()).strip() == b"ready"

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.communicate()

    async def is_live(self, token: str) -> bool:
        """What introspection says (RFC 7662)."""
        me = ProviderSettings(CLIENT_ID, issuer=self.issuer, client_secret=CLIENT_SECRET)
        headers, form = me.authenticated({"token": token})
        url = f"{self.issuer}/token/introspection"
        async with (
            ClientSession(headers=headers) as asking,
            asking.post(url, data=form) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return bool((await answer.json())["active"])


class Browser:
    """Follows redirects and forms at both servers, whose cookies it keeps apart by host."""

    def __init__(self, sidecar: str) -> None:
        self.sidecar = URL(sidecar)
        self.session = ClientSession(
            cookie_jar=CookieJar(unsafe=True, quote_cookie=False),
            connector=TCPConnector(force_close=True),
        )

    async def open(self, url: URL | str, form: Mapping[str, str] | None = None) -> Page:
        """A document, at the end of all redirects."""
        asked = self.session.request(
            "GET" if form is None else "POST",
            self.sidecar.join(URL(url)),
            data=form,
            headers=DOCUMENT,
        )
        async with asked as answer:
            return Page(answer, await answer.text())

    async def get(self, path: str) -> tuple[int, Any]:
        """What a script gets."""
        url = self.sidecar.join(URL(path))
        async with self.session.get(url, headers=FETCH) as answer:
            return answer.status, await answer.json()

    async def log_in(self, path: str, user: str) -> Page:
        """Asks for a page and signs in where it is led to, until it is there."""
        page = await self.open(path)
        for _ in range(4):
            if page.url.host != "localhost":
                return page
            page = await self.submit(page, login=user, password="any")
        pytest.fail(f"still at {page.url}")

    async def submit(self, page: Page, **fields: str) -> Page:
        """Sends a page's form, with these of its fields filled in."""
        action, form = page.form()
        given = {name: value for name, value in fields.items() if name in form}
        return await self.open(page.url.join(URL(action)), {**form, **given})

    @property
    def cookie(self) -> str:
        """What the sidecar is presented."""
        kept = self.session.cookie_jar.filter_cookies(self.sidecar)
        return "; ".join(f"{one.key}={one.value}" for one in kept.values())

    async def who(self) -> Any:
        return (await self.get("/auth/session"))[1]

    async def token(self) -> str:
        """The access token that the API is given."""
        status, answer = await self.get("/api/me")
        assert status == 200, answer
        token: str = answer["data"]["token"]
        return token


class Page:
    def __init__(self, answer: ClientResponse, text: str) -> None:
        self.url = answer.url
        self.status = answer.status
        self.text = text

    def form(self) -> tuple[str, dict[str, str]]:
        """Where the page's form goes, and its fields."""
        action = re.search(r'<form[^>]* action="([^"]+)"', self.text)
        assert action, self.text
        inputs = re.findall(r"<(?:input|button)[^>]*>", self.text)
        named = {found[1]: one for one in inputs if (found := re.search(r'name="([^"]+)"', one))}
        values = {name: re.search(r'value="([^"]*)"', one) for name, one in named.items()}
        return unescape(action[1]), {
            name: unescape(value[1]) if value else "" for name, value in values.items()
        }


def api(upstream: Upstream) -> Callable[[Received], bytes]:
    """Tells the token that it was given; everything else is a page."""

    def answer(request: Received) -> bytes:
        if not request.target.startswith("/api"):
            return upstream.reply(b"a page", type="text/html")
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        return upstream.reply(json.dumps({"token": token}).encode())

    return answer


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.2)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = Provider(free_port())
    yield one
    await one.stop()


@pytest.mark.parametrize("kept", ["cookie", "store"])
async def test_session_with_a_certified_provider(
    *,
    command: StartCommand,
    upstream: Upstream,
    project: Path,
    provider: Provider,
    require_program: Callable[[str], str],
    tmp_path: Path,
    kept: str,
) -> None:
    """Login, work, renewal, a second login, logout: then nothing of it is good for anything."""
    upstream.default = api(upstream)
    at = await command(
        upstreams={"main": {"url": upstream.url}},
        routes=[
            {"path": "/api", "kind": "api", "upstream": "main"},
            {"path": "/private", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        secret=SECRET,
        store={"url": "memory:" if kept == "cookie" else f"sqlite://{tmp_path}/store.db"},
        oidc={
            "issuer": provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scopes": ["openid", "profile", "email", "offline_access"],
        },
    )
    sidecar = f"http://127.0.0.1:{at.port}"
    await provider.start(require_program("node"), project, sidecar, tmp_path / "provider.log")
    one, other = Browser(sidecar), Browser(sidecar)
    try:
        await _live(one, other, provider)
        assert not any(word in at.stderr for word in ("alice", one.cookie or "alice", SECRET))
    finally:
        await one.session.close()
        await other.session.close()


async def _live(one: Browser, other: Browser, provider: Provider) -> None:
    async def is_found() -> bool:
        """The sidecar was there before the provider, and asks again soon."""
        return (await other.open("/auth/login")).status != 503

    await until(is_found)
    page = await one.log_in("/private?a=1", "alice")
    assert (page.url, page.text) == (one.sidecar.join(URL("/private?a=1")), "a page")
    who = await one.who()
    assert (who["subject"], who["name"]) == ("alice", "Name of alice")
    first = await one.token()
    assert await provider.is_live(first)

    async def is_renewed() -> bool:
        return await one.token() != first

    await until(is_renewed)
    renewed = await one.token()
    assert await provider.is_live(renewed)

    # Another login with the same session there: both belong to one grant, and the new one lives.
    before = one.cookie
    await one.log_in("/auth/login?next=/private", "alice")
    assert one.cookie != before
    token = await one.token()
    assert token not in (first, renewed)
    assert await provider.is_live(token)
    refresh = refresh_token(one.cookie)
    assert refresh is None or await provider.is_live(refresh)

    await other.log_in("/private", "bob")
    bobs = await other.token()

    last = one.cookie
    page = await one.open("/auth/logout")
    assert page.url.path == "/session/end"
    page = await one.submit(page)
    assert (page.url, page.text) == (one.sidecar.join(URL("/")), "a page")
    assert one.cookie == ""
    assert (await one.who())["authenticated"] is False

    async def is_revoked() -> bool:
        return not await provider.is_live(token)

    await until(is_revoked)
    assert refresh is None or not await provider.is_live(refresh)
    for replayed in (before, last):
        headers = {**FETCH, "Cookie": replayed}
        async with ClientSession() as replaying:
            url = one.sidecar.join(URL("/api/me"))
            async with replaying.get(url, headers=headers) as answer:
                assert answer.status == 401
    page = await one.open("/auth/login")
    assert 'name="login"' in page.text  # nobody is signed in there either

    # The provider ends the other session by itself, through the back channel.
    assert await provider.is_live(bobs)
    page = await other.open(f"{provider.issuer}/session/end")
    await other.submit(page)

    async def is_told() -> bool:
        return not (await other.who())["authenticated"]

    await until(is_told)
    assert (await other.get("/api/me"))[0] == 401


def refresh_token(cookie: str) -> str | None:
    """What a sealed session holds; None for one in the store."""
    source = own_cookie_source(
        cookie="sidecar", secrets=[SECRET.encode()], lifetimes=Lifetimes(86400, 86400)
    )
    reading = source.read(Cookies.parse(cookie), 0.0)
    return (
        reading.session.tokens.refresh_token
        if (isinstance(reading, OwnReading) and reading.session is not None)
        else None
    )
