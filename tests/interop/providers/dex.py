"""Dex, as a program that is here already: `SIDECAR_INTEROP_DEX` names it.

It is a Go program whose releases are no Go module of a released version, so nothing is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from tests.interop.cache import LeftOut
from tests.interop.processes import Process
from tests.interop.provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERS,
    NotOffered,
    Place,
    Provider,
    through,
)
from tests.oidc.browser import Browser, Page

VARIABLE: Final = "SIDECAR_INTEROP_DEX"
HASH: Final = "$2b$10$abcdefghijklmnopqrstuuG09x.7hGq9slXL99RLBQwkbh/MTx6ea"  # of PASSWORD
ROTATION: Final = 40  # seconds between two keys


class Dex(Provider):
    """It changes its keys by itself. Sessions of its own are an option that newer ones have."""

    name = "dex"
    configured = (
        "`scopes` with `offline_access`, for a refresh token",
        "there: `DEX_SESSIONS_ENABLED=true`, for every kind of logout",
    )

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.place.port}/dex"

    @property
    def oidc(self) -> dict[str, object]:
        return {"scopes": ["openid", "profile", "email", "offline_access"]}

    def install(self, cache: Path) -> None:
        given = os.environ.get(VARIABLE, "")
        if not Path(given).is_file():
            raise LeftOut(f"set {VARIABLE} to the path of a dex program")
        self._program = given
        asked = subprocess.run([given, "version"], capture_output=True, text=True, check=False)
        found = re.search(r"Dex Version: (\S+)", asked.stdout)
        self.version = found[1] if found else "of an unknown version"

    async def start(self, place: Place) -> None:
        self._place = place
        file = place.folder / "dex.json"
        file.write_text(json.dumps(self._configuration()))
        self._process = Process(
            (self._program, "serve", str(file)),
            folder=place.folder,
            log=place.folder / "provider.log",
            environ={"DEX_SESSIONS_ENABLED": "true", "DEX_EXPAND_ENV": "false"},
        )
        await self._process.start(f"{self.issuer}/.well-known/openid-configuration", 60)

    async def stop(self) -> None:
        await self._process.stop()

    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        fields = {"login": f"{user}@example.com", "password": PASSWORD}
        return await through(browser, page, self.place.sidecar, **fields)

    async def rotate_keys(self) -> None:
        """Waits for the next key."""
        async with ClientSession() as asking:

            async def newest() -> str:
                async with asking.get(f"{self.issuer}/keys") as answer:
                    kid: str = (await answer.json())["keys"][0]["kid"]
                    return kid

            before, end = await newest(), time.monotonic() + 2 * ROTATION
            while await newest() == before:
                assert time.monotonic() < end, "the keys have not changed"
                await asyncio.sleep(0.5)

    async def end_here(self, browser: Browser, user: str) -> None:
        page = await browser.open(f"{self.issuer}/logout")
        if page.status == 404:
            raise NotOffered("this version has no sessions of its own")
        page = await browser.submit(page)
        assert page.status == 200, page.text

    async def end_by_admin(self, user: str) -> None:
        raise NotOffered("its administration is a gRPC API, which these checks do not speak")

    def _configuration(self) -> dict[str, Any]:
        place = self.place
        client = {
            "id": CLIENT_ID,
            "name": "app",
            "secret": CLIENT_SECRET,
            "redirectURIs": [place.redirect_uri],
            "postLogoutRedirectURIs": [place.post_logout_uri],
            "backchannelLogoutURI": place.back_channel_uri,
        }
        return {
            "issuer": self.issuer,
            "storage": {"type": "memory"},
            "web": {"http": f"localhost:{place.port}"},
            "expiry": {
                "idTokens": f"{int(self.seconds)}s",
                "signingKeys": f"{ROTATION}s",
                "refreshTokens": {"reuseInterval": "0s"},
            },
            "sessions": {"rememberMeCheckedByDefault": True},
            "enablePasswordDB": True,
            "staticPasswords": [_user(name) for name in USERS],
            "staticClients": [client],
        }


def _user(name: str) -> dict[str, str]:
    return {
        "email": f"{name}@example.com",
        "hash": HASH,
        "username": name,
        "name": f"{name.capitalize()} Example",
        "userID": f"id-of-{name}",
    }
