"""oidc-provider from npm, with the script and the lock file of `tests/oidc`."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

from tests.interop.cache import Installing, install, program
from tests.interop.processes import Process
from tests.interop.provider import CLIENT_ID, CLIENT_SECRET, NotOffered, Place, Provider, through
from tests.npm_packages import INSTALL
from tests.oidc.browser import Browser, Page
from tests.oidc.conftest import PROJECT


class OidcProvider(Provider):
    """Sessions end by its page `/session/end`; it has no administration."""

    name = "oidc-provider"
    configured = ("`scopes` with `offline_access`, for a refresh token",)

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.place.port}"

    @property
    def oidc(self) -> dict[str, object]:
        return {"scopes": ["openid", "profile", "email", "offline_access"]}

    def install(self, cache: Path) -> None:
        npm = program("npm", "install Node.js 20 or newer")
        wanted = json.loads((PROJECT / "package.json").read_text())["dependencies"]
        self.version = wanted[self.name]
        installing = Installing(cache / f"{self.name}-{self.version}")
        if not installing.is_done:
            folder = installing.begin()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PROJECT / name, folder)
            install([npm, *INSTALL], folder)
            installing.finish()
        self._folder = installing.path

    async def start(self, place: Place) -> None:
        self._place = place
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [place.redirect_uri],
            "post_logout_redirect_uris": [place.post_logout_uri],
            "backchannel_logout_uri": place.back_channel_uri,
            "backchannel_logout_session_required": True,
            "id_token_signed_response_alg": "ES256",
        }
        shutil.copy(PROJECT / "provider.mjs", self._folder)
        options = {"port": place.port, "client": client, "seconds": self.seconds}
        node = program("node", "install Node.js 20 or newer")
        self._process = Process(
            (node, "provider.mjs", json.dumps(options)),
            folder=self._folder,
            log=place.folder / "provider.log",
        )
        await self._process.start(f"{self.issuer}/.well-known/openid-configuration", 30)

    async def stop(self) -> None:
        await self._process.stop()

    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        return await through(browser, page, self.place.sidecar, login=user, password="any")

    async def rotate_keys(self) -> None:
        async with Browser(self.issuer).session as asking:
            url = f"{self.issuer}/jwks"

            async def kids() -> set[str]:
                async with asking.get(url) as answer:
                    return {key["kid"] for key in (await answer.json())["keys"]}

            before = await kids()
            self._process.signal(signal.SIGUSR2)
            while await kids() == before:
                pass

    async def end_here(self, browser: Browser, user: str) -> None:
        page = await browser.open(f"{self.issuer}/session/end")
        page = await browser.submit(page)
        assert page.status == 200, page.text

    async def end_by_admin(self, user: str) -> None:
        raise NotOffered("a library without administration")
