"""A site behind the sidecar: an API that asks the provider about each token, and pages."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, web
from yarl import URL

from tests.interop.processes import Process
from tests.interop.provider import CLIENT_ID, CLIENT_SECRET, Place, Provider
from tests.interop.wire import Wire
from tests.oidc.browser import Browser
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
SECRET: Final = "a secret of the sidecar's, 32 bytes"
KEPT: Final = ("cookie", "store")


class Api:
    """Good is a token that the provider's UserInfo endpoint accepts, unless it is refused here."""

    def __init__(self, port: int, issuer: str) -> None:
        self.port: Final = port
        self.tokens: Final[list[str]] = []  # as they came
        self.refused: Final[set[str]] = set()
        self._issuer: Final = issuer.rstrip("/")
        self._runner: web.ServerRunner | None = None
        self._userinfo: str | None = None
        self._asking: ClientSession | None = None

    async def start(self) -> None:
        self._asking = ClientSession()
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._asking is not None:
            await self._asking.close()

    async def subject(self, token: str) -> str | None:
        """Whose token it is, as the provider says; None if it is not good."""
        assert self._asking is not None
        if self._userinfo is None:
            url = f"{self._issuer}/.well-known/openid-configuration"
            async with self._asking.get(url) as answer:
                self._userinfo = (await answer.json())["userinfo_endpoint"]
        fields = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        async with self._asking.get(self._userinfo, headers=fields) as answer:
            if answer.status != 200:
                return None
            subject: str = (await answer.json())["sub"]
            return subject

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return web.Response(text=f"page {request.path_qs}", content_type="text/html")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
        subject = None
        if token and token not in self.refused:
            subject = await self.subject(token)
        if subject is None:
            return web.json_response({"message": "The token is not good"}, status=401)
        return web.json_response({"data": {"subject": subject, "token": token}})


@dataclass
class Site:
    """A running site, and the wire between the sidecar and the provider."""

    provider: Provider
    api: Api
    wire: Wire
    sidecar: Process
    url: str
    kept: str

    async def restart(self) -> None:
        """The sidecar ends in order and starts again."""
        await self.sidecar.stop()
        await self.start()

    async def start(self) -> None:
        await self.sidecar.start(f"{self.url}/auth/session", 30)

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser that nobody has used."""
        browser = Browser(self.url, [str(URL(self.provider.issuer).origin())])
        try:
            yield browser
        finally:
            await browser.close()

    async def log_in(
        self, browser: Browser, user: str, path: str = "/private/orders?page=1"
    ) -> Any:
        """Asks for a page that needs a session, and signs in where that leads. Returns the page."""
        page = await browser.open(path)
        assert str(page.url.origin()) != self.url, f"not led to the provider: {page.status}"
        page = await self.provider.sign_in(browser, page, user)
        assert page.status == 200, f"{page.status}: {page.text[-600:]}"
        return page

    async def token(self, browser: Browser) -> str:
        """The token that the API is given for this browser, and accepts."""
        status, answer = await browser.get("/api/me")
        assert status == 200, f"the API call is {status}: {answer}"
        token: str = answer["data"]["token"]
        return token


@asynccontextmanager
async def running_site(provider: Provider, folder: Path, kept: str) -> AsyncIterator[Site]:
    """The provider, the API and the sidecar, whose sessions are `kept` so (`KEPT`)."""
    port, upstream, away = free_port(), free_port(), free_port()
    place = Place(free_port(), f"http://127.0.0.1:{port}", folder)
    wire = Wire(away)
    try:
        await provider.start(place)
        api = Api(upstream, provider.issuer)
        file = folder / "sidecar.json"
        file.write_text(json.dumps(_configuration(place, api, wire, provider, kept)))
        command = (sys.executable, "-m", "sidecar", "run", "-c", str(file))
        sidecar = Process(command, folder=ROOT, log=folder / "sidecar.log")
        site = Site(provider, api, wire, sidecar, place.sidecar, kept)
        try:
            await api.start()
            await wire.start()
            await site.start()
            yield site
        finally:
            await sidecar.stop()
            await wire.stop()
            await api.stop()
    finally:
        await provider.stop()


def _configuration(
    place: Place, api: Api, wire: Wire, provider: Provider, kept: str
) -> dict[str, Any]:
    return {
        "listen": place.sidecar.removeprefix("http://"),
        "admin": None,
        "public_url": place.sidecar,
        "upstreams": {"main": {"url": f"http://127.0.0.1:{api.port}"}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "main"},
            {"path": "/private", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "secret": SECRET,
        "store": {"url": "memory:" if kept == "cookie" else f"sqlite://{place.folder}/store.db"},
        "outbound": {"proxy": wire.url},
        "log": {"level": "debug"},
        "oidc": {
            "issuer": provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            **provider.oidc,
        },
    }
