"""django-oauth-toolkit from PyPI, in a small Django project (`django/site.py`)."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.interop.cache import Installing, install
from tests.interop.processes import Process, run
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

PROJECT: Final = Path(__file__).parent / "django"


class DjangoOauthToolkit(Provider):
    """It has no back-channel logout: what ends there shows here at the next renewal."""

    name = "django-oauth-toolkit"
    agree = "allow"
    configured = (
        "`revocation_endpoint`: its metadata do not name it",
        "there: a validator class that tells `name` and `email`",
    )

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.place.port}/o"

    @property
    def oidc(self) -> dict[str, object]:
        return {"revocation_endpoint": f"{self.issuer}/revoke_token/"}

    def install(self, cache: Path) -> None:
        wanted = (PROJECT / "requirements.txt").read_text()
        version = re.search(rf"^{self.name}==(\S+)$", wanted, re.MULTILINE)
        assert version is not None
        self.version = version[1]
        installing = Installing(cache / f"{self.name}-{self.version}")
        self._python = installing.path / "bin" / "python"
        if not installing.is_done:
            shutil.rmtree(installing.path, ignore_errors=True)
            install([sys.executable, "-m", "venv", str(installing.path)], cache)
            pip = (str(self._python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
            install([*pip, "-r", str(PROJECT / "requirements.txt")], cache)
            installing.finish()

    async def start(self, place: Place) -> None:
        self._place = place
        self._keys = [_key()]
        self._write()
        await self._run("prepare")
        await self._serve()

    async def stop(self) -> None:
        await self._process.stop()

    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        fields = {"username": user, "password": PASSWORD}
        return await through(browser, page, self.place.sidecar, self.agree, **fields)

    async def rotate_keys(self) -> None:
        """By its settings, so it is started again; the old key is still published."""
        self._keys.insert(0, _key())
        self._write()
        await self._process.stop()
        await self._serve()

    async def end_here(self, browser: Browser, user: str) -> None:
        page = await browser.open(f"{self.issuer}/logout/")
        page = await browser.submit(page, self.agree)
        assert page.status in (200, 404), page.text  # it leads to `/`, which this project has not

    async def end_by_admin(self, user: str) -> None:
        await self._run("end", user)

    # -- the project ----------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.place.folder / "django.json"

    def _write(self) -> None:
        place = self.place
        given = {
            "port": place.port,
            "seconds": int(self.seconds),
            "keys": self._keys,
            "users": USERS,
            "password": PASSWORD,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uri": place.redirect_uri,
            "post_logout_uri": place.post_logout_uri,
        }
        self._file.write_text(json.dumps(given))

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return (
            str(self._python),
            "-W",
            "ignore",
            str(PROJECT / "site.py"),
            str(self._file),
            *arguments,
        )

    async def _run(self, *arguments: str) -> None:
        await run(self._command(*arguments), self.place.folder)

    async def _serve(self) -> None:
        log = self.place.folder / "provider.log"
        self._process = Process(self._command("serve"), folder=self.place.folder, log=log)
        await self._process.start(f"{self.issuer}/.well-known/openid-configuration", 60)


def _key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
