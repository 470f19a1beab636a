"""Keycloak from Maven Central, in development mode with its database in memory."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from tests.interop.cache import Installing, LeftOut, install, program
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

VERSION: Final = "26.7.3"
JAVA: Final = 17
HEAP: Final = "-Xms64m -Xmx512m"
START: Final = 240.0  # seconds; the first start builds it


class Keycloak(Provider):
    """Refresh tokens are good once (`revokeRefreshToken`), which is not its default."""

    name = "keycloak"
    version = VERSION

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.place.port}/realms/app"

    def install(self, cache: Path) -> None:
        program("java", f"install Java {JAVA} or newer (openjdk-{JAVA}-jre-headless)")
        maven = program("mvn", "install Maven")
        installing = Installing(cache / f"keycloak-{VERSION}")
        if not installing.is_done:
            local = cache / "maven"
            artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
            command = (maven, "-q", "-B", "dependency:get", f"-Dartifact={artifact}")
            install(
                (*command, "-Dtransitive=false", f"-Dmaven.repo.local={local}"), cache, minutes=30
            )
            found = sorted(local.glob(f"org/keycloak/keycloak-quarkus-dist/{VERSION}/*.zip"))
            if not found:
                raise LeftOut(f"Maven has not brought {artifact}")
            with zipfile.ZipFile(found[0]) as archive:
                archive.extractall(installing.begin())
            installing.finish()
            shutil.rmtree(local, ignore_errors=True)
        self._home = installing.path / f"keycloak-{VERSION}"

    async def start(self, place: Place) -> None:
        self._place = place
        environ = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
            "JAVA_OPTS_KC_HEAP": HEAP,
        }
        address = (f"--http-port={place.port}", "--http-host=127.0.0.1")
        command = ("nice", "-n", "10", "bash", "bin/kc.sh", "start-dev", *address)
        self._process = Process(
            (*command, "--db=dev-mem", "--cache=local"),
            folder=self._home,
            log=place.folder / "provider.log",
            environ=environ,
        )
        await self._process.start(f"http://localhost:{place.port}/realms/master", START)
        async with _Admin(place.port) as admin:
            await admin.ask("POST", "", _realm(place, self.seconds))

    async def stop(self) -> None:
        await self._process.stop()

    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        fields = {"username": user, "password": PASSWORD}
        return await through(browser, page, self.place.sidecar, **fields)

    async def rotate_keys(self) -> None:
        async with _Admin(self.place.port) as admin:
            realm = await admin.ask("GET", "/app")
            component = {
                "name": "the next key",
                "providerId": "rsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider",
                "parentId": realm["id"],
                "config": {"priority": ["1000"], "algorithm": ["RS256"], "keySize": ["2048"]},
            }
            await admin.ask("POST", "/app/components", component)

    async def end_here(self, browser: Browser, user: str) -> None:
        page = await browser.open(f"{self.issuer}/protocol/openid-connect/logout")
        page = await browser.submit(page)
        assert page.status == 200, page.text

    async def end_by_admin(self, user: str) -> None:
        async with _Admin(self.place.port) as admin:
            [found] = await admin.ask("GET", f"/app/users?exact=true&username={user}")
            await admin.ask("POST", f"/app/users/{found['id']}/logout")


class _Admin:
    """Its administration's REST API."""

    def __init__(self, port: int) -> None:
        self._base: Final = f"http://localhost:{port}"
        self._session: Final = ClientSession()

    async def __aenter__(self) -> _Admin:
        url = f"{self._base}/realms/master/protocol/openid-connect/token"
        form = {"grant_type": "password", "client_id": "admin-cli"}
        form |= {"username": "admin", "password": PASSWORD}
        async with self._session.post(url, data=form) as answer:
            said = await answer.json()
        self._session.headers["Authorization"] = f"Bearer {said['access_token']}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._base}/admin/realms{path}"
        async with self._session.request(method, url, json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text[:300]}"
            return await answer.json() if text else None


def _realm(place: Place, seconds: float) -> dict[str, Any]:
    client = {
        "clientId": CLIENT_ID,
        "secret": CLIENT_SECRET,
        "redirectUris": [place.redirect_uri],
        "attributes": {
            "post.logout.redirect.uris": place.post_logout_uri,
            "backchannel.logout.url": place.back_channel_uri,
            "backchannel.logout.session.required": "true",
        },
    }
    return {
        "realm": "app",
        "enabled": True,
        "accessTokenLifespan": int(seconds),
        "revokeRefreshToken": True,
        "refreshTokenMaxReuse": 0,
        "clients": [client],
        "users": [_user(name) for name in USERS],
    }


def _user(name: str) -> dict[str, Any]:
    return {
        "username": name,
        "email": f"{name}@example.com",
        "emailVerified": True,
        "firstName": name.capitalize(),
        "lastName": "Example",
        "enabled": True,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }
