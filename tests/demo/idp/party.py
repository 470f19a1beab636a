"""A relying party that the tests drive by hand, and a clock that they move."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, quote_plus, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.jwk import KeySet

from sidecar.demo.idp import RunningIdp

CALLBACK: Final = "http://127.0.0.1:9/callback?from=idp"  # is never asked
BYE: Final = "http://127.0.0.1:9/bye"
VERIFIER: Final = "v" * 43
ALG: Final = ["RS256", "ES256"]


def challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Clock:
    """Unix seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass(frozen=True)
class Got:
    """An answer, read whole."""

    status: int
    headers: Any
    text: str
    json: Any

    @property
    def location(self) -> dict[str, str]:
        """The parameters that a redirect carries."""
        assert self.status == 303, self.text
        return dict(parse_qsl(urlsplit(self.headers["Location"]).query, strict_parsing=True))

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.json["error"]


class Party:
    """A browser and the client behind it, at one provider."""

    def __init__(self, idp: RunningIdp, http: aiohttp.ClientSession) -> None:
        self.idp = idp
        self.http = http

    async def ask(self, method: str, path: str, **more: Any) -> Got:
        """One request, redirects not followed."""
        url = f"{self.idp.issuer}{path}"
        async with self.http.request(method, url, allow_redirects=False, **more) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            body = await answer.json() if is_json else None
            return Got(answer.status, answer.headers, text, body)

    # -- the browser --------------------------------------------------------------------------

    async def authorize(self, **changes: str | None) -> Got:
        """An authorization request; None leaves a parameter out."""
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.idp.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile offline_access",
            "prompt": "consent",
            "state": "a state & more",
            "nonce": "a nonce",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changes,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        return await self.ask("GET", "/authorize", params=given)

    async def answer(self, page: Got, path: str = "/sign-in", **fields: str) -> Got:
        """Sends the form of a page with the button that is pressed."""
        assert page.status == 200, page.text
        found = re.search(r'name="interaction" value="([^"]+)"', page.text)
        assert found, page.text
        data = {"interaction": html.unescape(found[1]), **fields}
        return await self.ask("POST", path, data=data)

    async def log_in(self, user: str = "alice", **changes: str | None) -> dict[str, str]:
        """What the client is sent after a person has chosen that user, or at once."""
        got = await self.authorize(**changes)
        return (await self.answer(got, user=user) if got.status == 200 else got).location

    # -- the client ---------------------------------------------------------------------------

    def basic(self, client_id: str | None = None, secret: str | None = None) -> dict[str, str]:
        """RFC 6749 section 2.3.1."""
        name = quote_plus(self.idp.client_id if client_id is None else client_id)
        word = quote_plus(self.idp.client_secret if secret is None else secret)
        credentials = base64.b64encode(f"{name}:{word}".encode()).decode()
        return {"Authorization": f"Basic {credentials}"}

    async def post(self, path: str, data: dict[str, str | None], **more: Any) -> Got:
        given = {name: value for name, value in data.items() if value is not None}
        return await self.ask("POST", path, data=given, headers=more.pop("headers", self.basic()))

    async def exchange(self, code: str | None, headers: Any = None, **changes: str | None) -> Got:
        data: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.post("/token", data, headers=self.basic() if headers is None else headers)

    async def tokens(self, user: str = "alice", **changes: str | None) -> dict[str, Any]:
        """The whole code flow."""
        got = await self.exchange((await self.log_in(user, **changes))["code"])
        assert got.status == 200, got.text
        return dict(got.json)

    async def refresh(self, token: str, **changes: str | None) -> Got:
        data = {"grant_type": "refresh_token", "refresh_token": token, **changes}
        return await self.post("/token", data)

    async def revoke(self, token: str) -> Got:
        return await self.post("/revoke", {"token": token})

    async def introspect(self, token: str) -> dict[str, Any]:
        got = await self.post("/introspect", {"token": token})
        assert got.status == 200, got.text
        return dict(got.json)

    async def claims(self, token: str, typ: str) -> dict[str, Any]:
        """The claims of a JWT, checked with the published keys."""
        keys = KeySet.import_key_set((await self.ask("GET", "/jwks")).json)
        read = jwt.decode(token, keys, algorithms=ALG)
        assert read.header["typ"] == typ
        return dict(read.claims)

    async def control(self, **changes: Any) -> Got:
        return await self.ask("POST", "/_rehearsal", json=changes)

    async def stats(self) -> dict[str, int]:
        return dict((await self.ask("GET", "/_rehearsal")).json["stats"])


StartParty: TypeAlias = Callable[..., Awaitable[Party]]
