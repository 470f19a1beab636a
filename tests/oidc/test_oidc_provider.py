"""The own login with a certified provider: oidc-provider from npm, as a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from joserfc.jwk import ECKey, RSAKey
from yarl import URL

from sidecar.core.cookies import CookieJar as Cookies
from sidecar.core.credential import read_credential
from sidecar.core.formats.login_session import Lifetimes, LoginReading, login_cookie_source
from tests.oidc.browser import FETCH, Browser, Page
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, PATIENCE, SECRET, Provider
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Received, StartCommand, Upstream


class User(Browser):
    """Signs in at the pages of oidc-provider."""

    async def log_in(self, path: str, user: str) -> Page:
        """Asks for a page and signs in where it is led to, until it is there."""
        page = await self.open(path)
        for _ in range(4):
            if page.url.host != "localhost":
                return page
            page = await self.submit(page, login=user, password="any")
        pytest.fail(f"still at {page.url}")

    async def token(self) -> str:
        """The access token that the API is given."""
        status, answer = await self.get("/api/me")
        assert status == 200, answer
        token: str = answer["data"]["token"]
        return token


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
    one, other = User(sidecar), User(sidecar)
    try:
        await _live(one, other, provider)
        assert not any(word in at.stderr for word in ("alice", one.cookie or "alice", SECRET))
    finally:
        await one.close()
        await other.close()


async def _live(one: User, other: User, provider: Provider) -> None:
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
    source = login_cookie_source(
        cookie="sidecar", secrets=[SECRET.encode()], lifetimes=Lifetimes(86400, 86400)
    )
    reading = read_credential([source], Cookies.parse(cookie), 0.0)
    return (
        reading.session.tokens.refresh_token
        if (isinstance(reading, LoginReading) and reading.session is not None)
        else None
    )


@pytest.mark.parametrize("kind", ["RSA", "EC"])
async def test_client_that_proves_itself_with_a_key(
    *,
    command: StartCommand,
    upstream: Upstream,
    project: Path,
    provider: Provider,
    require_program: Callable[[str], str],
    tmp_path: Path,
    kind: str,
) -> None:
    """By private_key_jwt: at the login, and at the logout, which revokes. There is no secret."""
    upstream.default = api(upstream)
    key: RSAKey | ECKey = (
        RSAKey.generate_key(2048) if kind == "RSA" else ECKey.generate_key("P-256")
    )
    pem = tmp_path / "client.pem"
    pem.write_bytes(key.as_pem(private=True))
    at = await command(
        upstreams={"main": {"url": upstream.url}},
        routes=[
            {"path": "/api", "kind": "api", "upstream": "main"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        secret=SECRET,
        oidc={
            "issuer": provider.issuer,
            "client_id": CLIENT_ID,
            "auth": "private_key_jwt",
            "key_file": str(pem),
        },
    )
    sidecar, events = f"http://127.0.0.1:{at.port}", tmp_path / "events"
    await provider.start(
        require_program("node"),
        project,
        sidecar,
        tmp_path / "provider.log",
        {
            "client_secret": None,
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [key.as_dict(private=False)]},
        },
        events=str(events),
    )
    one = User(sidecar)
    try:

        async def is_found() -> bool:
            return (await one.open("/auth/login")).status != 503

        await until(is_found)
        await one.log_in("/auth/login?next=/", "alice")
        assert (await one.who())["subject"] == "alice"
        told = [json.loads(line) for line in events.read_text().splitlines()]
        assert [event["what"] for event in told] == ["authorization_code"]
        assert "PRIVATE KEY" not in at.stderr
    finally:
        await one.close()
