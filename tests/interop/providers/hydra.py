"""Ory Hydra, built from its Go module, with a small login and consent application."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, web

from tests.interop.cache import Installing, install, program
from tests.interop.processes import Process
from tests.interop.provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERS,
    Place,
    Provider,
    through,
)
from tests.oidc.browser import Browser, Page
from tests.ports import free_port

VERSION: Final = "v2.3.0"
MODULE: Final = "github.com/ory/hydra/v2"
REPLACED: Final = (
    "github.com/gobuffalo/pop/v6=github.com/ory/pop/v6@v6.2.1-0.20241121111754-e5dfc0f3344b"
)
"""From its go.mod. The other one there names a directory, which a module of its own cannot."""

TAGS: Final = "sqlite,sqlite_omit_load_extension"
FORM: Final = """<form method="post">
<input type="hidden" name="challenge" value="{challenge}">{fields}<button>Go on</button></form>"""
FIELDS: Final = '<input name="username"><input name="password" type="password">'


class Hydra(Provider):
    """Its logout tokens have no `exp`; refresh tokens rotate without grace."""

    name = "hydra"
    version = VERSION
    configured = ("`scopes` with `offline_access`, for a refresh token",)

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.place.port}"

    @property
    def oidc(self) -> dict[str, object]:
        return {"scopes": ["openid", "profile", "email", "offline_access"]}

    def install(self, cache: Path) -> None:
        go = program("go", "install Go 1.23 or newer")
        program("gcc", "install a C compiler, for SQLite")
        installing = Installing(cache / f"{self.name}-{VERSION}")
        self._program = installing.path / "hydra"
        if not installing.is_done:
            folder = installing.begin()
            install([go, "mod", "init", "interop"], folder)
            install([go, "mod", "edit", f"-replace={REPLACED}"], folder)
            install([go, "get", "-tool", f"{MODULE}@{VERSION}"], folder, minutes=20)
            build = (go, "build", "-p", "1", "-tags", TAGS, "-o", str(self._program), MODULE)
            install(build, folder, minutes=60)
            installing.finish()

    async def start(self, place: Place) -> None:
        self._place = place
        self._admin = f"http://localhost:{free_port()}"
        self._pages = _Pages(free_port(), self._admin)
        await self._pages.start()
        file = place.folder / "hydra.json"
        file.write_text(json.dumps(self._configuration()))
        self._process = Process(
            (str(self._program), "serve", "all", "--dev", "-c", str(file)),
            folder=place.folder,
            log=place.folder / "provider.log",
            environ={"DSN": "memory", "SQA_OPT_OUT": "true"},
        )
        await self._process.start(f"{self.issuer}/health/ready", 120)
        await self._ask("POST", "/clients", self._client())

    async def stop(self) -> None:
        await self._process.stop()
        await self._pages.stop()

    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        fields = {"username": user, "password": PASSWORD}
        return await through(browser, page, self.place.sidecar, **fields)

    async def rotate_keys(self) -> None:
        key = {"alg": "RS256", "use": "sig", "kid": "the-next-key"}
        await self._ask("POST", "/keys/hydra.openid.id-token", key)

    async def end_here(self, browser: Browser, user: str) -> None:
        page = await browser.open(f"{self.issuer}/oauth2/sessions/logout")
        page = await browser.submit(page)
        assert page.status == 200, page.text

    async def end_by_admin(self, user: str) -> None:
        sid = self._pages.sessions[user]
        await self._ask("DELETE", f"/oauth2/auth/sessions/login?sid={sid}")

    # -- its administration -----------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return await ask(f"{self._admin}/admin{path}", method, body)

    def _configuration(self) -> dict[str, Any]:
        public = {"host": "localhost", "port": self.place.port}
        admin = {"host": "localhost", "port": int(self._admin.rpartition(":")[2])}
        pages = f"http://localhost:{self._pages.port}"
        return {
            "serve": {"public": public, "admin": admin},
            "urls": {
                "self": {"issuer": self.issuer},
                **{name: f"{pages}/{name}" for name in ("login", "consent", "logout")},
                "post_logout_redirect": f"{pages}/done",
            },
            "secrets": {"system": ["only for these checks, 32 bytes"]},
            "ttl": {"access_token": f"{int(self.seconds)}s"},
            "log": {"level": "info"},
        }

    def _client(self) -> dict[str, Any]:
        place = self.place
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": "openid profile email offline_access",
            "token_endpoint_auth_method": "client_secret_basic",
            "redirect_uris": [place.redirect_uri],
            "post_logout_redirect_uris": [place.post_logout_uri],
            "backchannel_logout_uri": place.back_channel_uri,
            "backchannel_logout_session_required": True,
        }


async def ask(url: str, method: str, body: Any = None) -> Any:
    async with ClientSession() as asking, asking.request(method, url, json=body) as answer:
        text = await answer.text()
        assert answer.status < 300, f"{method} {url}: {answer.status} {text[:300]}"
        return json.loads(text) if text else None


class _Pages:
    """The pages that Hydra leads to for login, consent and logout."""

    def __init__(self, port: int, admin: str) -> None:
        self.port: Final = port
        self.sessions: Final[dict[str, str]] = {}  # of each user the last, as Hydra names it
        self._admin: Final = f"{admin}/admin/oauth2/auth/requests"
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "localhost", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        what = request.path.strip("/")
        if what not in ("login", "consent", "logout"):
            return web.Response(text="done")
        challenge = request.query.get(f"{what}_challenge", "")
        if request.method == "GET":
            asked = await self._ask(what, "", challenge)
            if not asked.get("skip"):
                return self._form(what, challenge)
            return await self._accept(what, challenge, {}, asked)
        form = {name: str(value) for name, value in (await request.post()).items()}
        challenge = form["challenge"]
        if what == "login" and (form["username"] not in USERS or form["password"] != PASSWORD):
            return self._form(what, challenge)
        return await self._accept(what, challenge, form, await self._ask(what, "", challenge))

    def _form(self, what: str, challenge: str) -> web.Response:
        fields = FIELDS if what == "login" else ""
        text = FORM.format(challenge=escape(challenge), fields=fields)
        return web.Response(text=text, content_type="text/html")

    async def _accept(
        self, what: str, challenge: str, form: Mapping[str, str], asked: Mapping[str, Any]
    ) -> web.Response:
        user = form.get("username") or asked.get("subject", "")
        body: dict[str, Any] = {}
        if what == "login":
            body = {"subject": user, "remember": True, "remember_for": 0}
        elif what == "consent":
            self.sessions[user] = asked["login_session_id"]
            claims = {"name": f"{user.capitalize()} Example", "email": f"{user}@example.com"}
            body = {"grant_scope": asked["requested_scope"], "session": {"id_token": claims}}
        accepted = await self._ask(what, "/accept", challenge, body)
        return web.Response(status=303, headers={"Location": accepted["redirect_to"]})

    async def _ask(self, what: str, step: str, challenge: str, body: Any = None) -> Any:
        url = f"{self._admin}/{what}{step}?{what}_challenge={challenge}"
        return await ask(url, "PUT" if step else "GET", body)
