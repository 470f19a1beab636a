"""One contender in front of the API, with a provider of its own, and the browsers that use it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import (
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    CookieJar,
    TCPConnector,
    web,
)
from yarl import URL

from sidecar.demo.idp import RunningIdp, running_idp
from tests.ports import free_port

LIFETIME: Final = 8  # seconds that an access token lives
REFRESH_AGE: Final = 4  # seconds after which both contenders renew
PATIENCE: Final = 20.0  # seconds that anything may take
CLIENT_ID, CLIENT_SECRET = "app", "a secret of the client's"
SECRET: Final = "a secret of 32 bytes, as both ask"[:32]
DENIED: Final = "The token is not good"

FETCH: Final = {
    "Accept": "application/json",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}
DOCUMENT: Final = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
LINK: Final = {**DOCUMENT, "Sec-Fetch-Site": "cross-site"}
IMAGE: Final = {
    "Accept": "image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "image",
}


@dataclass(frozen=True)
class Ports:
    """Where a contender is to listen, and what it stands in front of."""

    own: int
    api: int
    issuer: str


@dataclass(frozen=True)
class Contender:
    """A proxy that is compared. `command` writes what it needs into a folder."""

    name: str
    login: str
    callback: str
    logout: str
    cookie: str  # the base name of its session cookies
    command: Callable[[Ports, Path], Sequence[str]]
    needs: Callable[[Path], Sequence[str]] | None = None  # another program, started before it


@dataclass(frozen=True)
class Answer:
    """An answer to one request; redirects are not followed."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    @property
    def code(self) -> str | None:
        """What the proxy names as the reason, in JSON."""
        with suppress(ValueError, TypeError, KeyError):
            code: str = json.loads(self.text)["errorData"]["code"]
            return code
        return None


class Api:
    """Answers with the name of whose token it was given, and echoes over a WebSocket."""

    def __init__(self, idp: RunningIdp) -> None:
        self._idp = idp
        self.tokens: Final[list[str]] = []

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/api/me", self._me)
        application.router.add_get("/api/echo", self._echo)
        application.router.add_get("/{path:.*}", self._page)
        return application

    def _subject(self, request: web.Request) -> str | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.headers.get("X-Forwarded-Access-Token", given)
        self.tokens.append(token)
        return self._idp.verify(token).subject

    async def _me(self, request: web.Request) -> web.Response:
        subject = self._subject(request)
        if subject is None:
            return web.json_response({"message": DENIED}, status=401)
        return web.json_response({"data": {"name": subject}})

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        if self._subject(request) is None:
            return web.json_response({"message": DENIED}, status=401)
        wire = web.WebSocketResponse()
        await wire.prepare(request)
        async for message in wire:
            await wire.send_str(str(message.data))
        return wire

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text="<h1>A page</h1>", content_type="text/html")


@dataclass
class Browser:
    """Keeps cookies by host; the provider has another host than the site."""

    site: Site
    session: ClientSession = field(repr=False)

    async def log_in(self) -> None:
        """Through the provider, which signs in without a page, to the front page."""
        url = self.site.url + self.site.contender.login
        async with self.session.get(url, headers=DOCUMENT) as answer:
            assert answer.status == 200, (str(answer.url), await answer.text())
            assert answer.url == URL(self.site.url + "/"), answer.url
        assert (await self.ask("/api/me", FETCH)).status == 200

    async def ask(self, path: str, headers: Mapping[str, str]) -> Answer:
        """One request, with the cookies there are; those of the answer are kept."""
        async with self.session.get(
            self.site.url + path, headers=headers, allow_redirects=False
        ) as answer:
            return await _read(answer)

    async def fetch(self, path: str = "/api/me") -> Answer:
        """What a script gets: redirects on this origin are followed, as browsers do."""
        answer = await self.ask(path, FETCH)
        while answer.status in {302, 303} and answer.location.startswith("/"):
            answer = await self.ask(answer.location, FETCH)
        return answer

    async def navigate(self, path: str = "/") -> Answer:
        """Where a document ends: at a page, or with the redirect to the provider."""
        answer = await self.ask(path, DOCUMENT)
        while answer.status in {302, 303} and not answer.location.startswith(self.site.idp.issuer):
            answer = await self.ask(answer.location, DOCUMENT)
        return answer

    async def connect(self) -> ClientWebSocketResponse:
        """A WebSocket to the API."""
        url = self.site.url + "/api/echo"
        return await self.session.ws_connect(url, origin=self.site.url)

    @property
    def cookies(self) -> Mapping[str, str]:
        """What the next request presents."""
        jar = self.session.cookie_jar.filter_cookies(URL(self.site.url))
        return {one.key: one.value for one in jar.values()}

    @property
    def has_session(self) -> bool:
        """Whether there is a session cookie among them, whole or in pieces."""
        session = re.compile(rf"{self.site.contender.cookie}([._]\d+)?")
        return any(session.fullmatch(name) for name in self.cookies)


@dataclass
class Site:
    """A running contender."""

    contender: Contender
    url: str
    idp: RunningIdp
    api: Api
    folder: Path
    ports: Ports

    @asynccontextmanager
    async def browser(self, cookies: Mapping[str, str] | None = None) -> AsyncIterator[Browser]:
        """A browser, which may have got its cookies long ago or elsewhere."""
        jar = CookieJar(unsafe=True, quote_cookie=False)
        jar.update_cookies(dict(cookies or {}), URL(self.url))
        async with ClientSession(
            cookie_jar=jar, connector=TCPConnector(limit=0, force_close=True)
        ) as session:
            yield Browser(self, session)

    @asynccontextmanager
    async def user(self) -> AsyncIterator[Browser]:
        """A browser that is logged in."""
        async with self.browser() as browser:
            await browser.log_in()
            yield browser


async def _read(answer: ClientResponse) -> Answer:
    return Answer(answer.status, dict(answer.headers), await answer.text())


# -- starting ------------------------------------------------------------------------------------


@asynccontextmanager
async def running_site(contender: Contender, folder: Path) -> AsyncIterator[Site]:
    """A provider, the API, and the contender in front."""
    own = free_port()
    async with running_idp(
        host="localhost",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        redirect_uris=[f"http://127.0.0.1:{own}{contender.callback}"],
        post_logout_redirect_uris=[f"http://127.0.0.1:{own}/"],
        access_token_lifetime=LIFETIME,
        offline_access=True,
        sign_in_as="alice",
    ) as idp:
        api = Api(idp)
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        behind = free_port()
        await web.TCPSite(runner, "127.0.0.1", behind).start()
        ports = Ports(own, behind, idp.issuer)
        try:
            async with needed(contender, folder), program(contender, ports, folder) as begun:
                assert await begun.serves(), begun.told()
                yield Site(contender, f"http://127.0.0.1:{own}", idp, api, folder, ports)
        finally:
            await runner.cleanup()


@asynccontextmanager
async def needed(contender: Contender, folder: Path) -> AsyncIterator[None]:
    """The other program that a contender needs."""
    if contender.needs is None:
        yield
        return
    async with _process(contender.needs(folder), folder / "needed.log"):
        yield


@dataclass
class Begun:
    """A contender's process."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    async def serves(self) -> bool:
        """Waits until it listens; False where it ends instead."""
        async with asyncio.timeout(PATIENCE):
            while self.process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return True
                await asyncio.sleep(0.05)
        return False

    def told(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


@asynccontextmanager
async def program(contender: Contender, ports: Ports, folder: Path) -> AsyncIterator[Begun]:
    """The contender's process, until the block ends."""
    log = folder / f"{ports.own}.log"
    async with _process(contender.command(ports, folder), log) as process:
        yield Begun(process, ports.own, log)


@asynccontextmanager
async def _process(command: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# -- the contenders ------------------------------------------------------------------------------


def sidecar() -> Contender:
    """This product with its own login; all else is as it comes."""

    def command(ports: Ports, folder: Path) -> Sequence[str]:
        file = folder / f"{ports.own}.json"
        file.write_text(json.dumps(_configuration(ports)))
        return [sys.executable, "-m", "sidecar", "run", "-c", str(file)]

    return Contender("sidecar", "/auth/login", "/auth/callback", "/auth/logout", "sidecar", command)


def _configuration(ports: Ports) -> dict[str, Any]:
    return {
        "listen": f"127.0.0.1:{ports.own}",
        "admin": None,
        "secret": SECRET,
        "upstreams": {"api": {"url": f"http://127.0.0.1:{ports.api}"}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "api"},
            {"path": "/", "kind": "page", "upstream": "api", "session": "required"},
        ],
        "oidc": {
            "issuer": ports.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scopes": ["openid", "profile", "email", "offline_access"],
        },
    }


def oauth2_proxy(
    binary: Path, redis_server: str | None = None, refresh_age: int = REFRESH_AGE
) -> Contender:
    """oauth2-proxy with sessions in its cookie, or in a Redis of its own; ages are in seconds."""
    redis = free_port()

    def command(ports: Ports, folder: Path) -> Sequence[str]:
        options = {
            "provider": "oidc",
            "oidc-issuer-url": ports.issuer,
            "client-id": CLIENT_ID,
            "client-secret": CLIENT_SECRET,
            "redirect-url": f"http://127.0.0.1:{ports.own}/oauth2/callback",
            "scope": "openid profile email offline_access",
            "code-challenge-method": "S256",
            "upstream": f"http://127.0.0.1:{ports.api}/",
            "http-address": f"127.0.0.1:{ports.own}",
            "cookie-secret": SECRET,
            "cookie-secure": "false",
            "cookie-refresh": f"{refresh_age}s",
            "email-domain": "*",
            "skip-provider-button": "true",
            "pass-access-token": "true",
            "api-route": "^/api/",
        }
        if redis_server is not None:
            options |= {
                "session-store-type": "redis",
                "redis-connection-url": f"redis://127.0.0.1:{redis}/0",
            }
        return [str(binary), *(f"--{name}={value}" for name, value in options.items())]

    def store(folder: Path) -> Sequence[str]:
        own = ["--bind", "127.0.0.1", "--port", str(redis), "--dir", str(folder)]
        return [redis_server or "", *own, "--save", "", "--appendonly", "no"]

    return Contender(
        "oauth2-proxy" if redis_server is None else "oauth2-proxy, sessions in Redis",
        "/oauth2/start?rd=/",
        "/oauth2/callback",
        "/oauth2/sign_out",
        "_oauth2_proxy",
        command,
        None if redis_server is None else store,
    )


def is_at_provider(answer: Answer, site: Site) -> bool:
    """Whether an answer leads to the provider's login."""
    return (
        answer.status in {302, 303}
        and urlsplit(answer.location)[:2] == urlsplit(site.idp.issuer)[:2]
    )
