"""The token endpoint, which rotates and knows reuse, and the API, which knows whose token it is.

Both tell which replica asks: each has paths of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any, Final

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

CLIENT: Final = {"client_id": "app", "client_secret": "rehearsal-only"}
GIVEN_UP: Final = 7.5  # seconds after which a replica may no longer wait for an answer
_KEY: Final = ECKey.generate_key("P-256", {"kid": "1"}, private=True)


@dataclass(eq=False)
class Family:
    """The tokens of one login: rotated, and all dead once a spent one comes again."""

    user: str
    spent: dict[str, bool] = field(default_factory=dict)
    """Its refresh tokens, and whether they were exchanged."""
    access: dict[str, float] = field(default_factory=dict)
    """Its access tokens, and when they expire."""
    is_dead: bool = False
    excuses: list[str] = field(default_factory=list)
    """Why a spent token may come again."""


@dataclass(eq=False)
class Call:
    """A refresh token that was presented, and not answered yet."""

    family: Family
    replica: int
    is_exchanged: bool = False


@dataclass(frozen=True)
class Tokens:
    """What an exchange brings."""

    access: str
    refresh: str
    expires_at: float


class Provider:
    """Both servers, on one port. `lifetime` is in seconds, of access tokens."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._families: dict[str, Family] = {}
        self._codes: dict[str, tuple[Family, str]] = {}
        self.issuer = ""
        self.mode = "ok"
        self.delay = 0.0
        self.longest_delay = 0.0
        self.calm_since: float | None = 0.0
        """Since when all is answered, if late; None: it is not."""
        self.exchanges = 0
        self.on_exchange: Callable[[Family, int], None] = lambda family, replica: None
        self.on_reuse: Callable[[Family, int], None] = lambda family, replica: None
        self.on_call: Callable[[Family, int], None] = lambda family, replica: None
        self.under_way: set[Call] = set()
        self._turned = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/jwks", self._keys)
        app.router.add_post("/token/{replica}", self._token)
        app.router.add_route("*", "/api/{replica}/{tail:.*}", self._api)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.issuer = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Ends what hangs, and all else."""
        self.turn("ok")
        assert self._runner is not None
        await self._runner.cleanup()

    def turn(self, mode: str, delay: float = 0.0) -> None:
        """`ok`, after `delay` seconds; `hang`, `fails` (500): not exchanged; `lost`: it is."""
        if self.mode != "ok" or mode != "ok":
            self.calm_since = time.monotonic() if mode == "ok" else None
        self.mode, self.delay = mode, delay
        self.longest_delay = max(self.longest_delay, delay)
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    # -- tokens -----------------------------------------------------------------------------------

    def grant(self, user: str) -> tuple[Family, Tokens]:
        """A login that happened elsewhere."""
        family = Family(user)
        return family, self._issue(family)

    def reject(self, family: Family, since: float) -> None:
        """The API takes no token any more that was there `since` seconds ago."""
        newest = time.time() - since + self._lifetime
        for token, expires_at in family.access.items():
            if expires_at < newest:
                family.access[token] = 0.0

    def code(self, user: str, nonce: str) -> tuple[Family, str]:
        """What leads to tokens for the sidecar's own login."""
        family, code = Family(user), token_urlsafe(16)
        self._codes[code] = family, nonce
        return family, code

    def _issue(self, family: Family) -> Tokens:
        expires_at = time.time() + self._lifetime
        claims = {"exp": int(expires_at), "jti": token_urlsafe(12)}
        access = f"{_b64({'alg': 'none'})}.{_b64(claims)}.c2ln"
        tokens = Tokens(access, token_urlsafe(24), expires_at)
        family.access[access] = expires_at
        family.spent[tokens.refresh] = False
        self._families[access] = self._families[tokens.refresh] = family
        return tokens

    def _answer(self, tokens: Tokens, **more: object) -> web.Response:
        return web.json_response(
            {
                "access_token": tokens.access,
                "refresh_token": tokens.refresh,
                "token_type": "Bearer",
                "expires_in": self._lifetime,
                **more,
            }
        )

    # -- the provider -----------------------------------------------------------------------------

    async def _metadata(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token/0",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response(KeySet([_KEY]).as_dict(private=False))

    def _redeemed(self, code: str) -> web.Response:
        family, nonce = self._codes.pop(code)
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": CLIENT["client_id"],
            "sub": family.user,
        }
        claims |= {"iat": now, "exp": now + 3600, "nonce": nonce, "name": family.user}
        signed = jwt.encode({"alg": "ES256", "kid": "1"}, claims, _KEY)
        return self._answer(self._issue(family), id_token=signed)

    async def _token(self, request: web.Request) -> web.Response:
        replica, form = int(request.match_info["replica"]), await request.post()
        if "code" in form:
            return self._redeemed(str(form["code"]))
        token = str(form["refresh_token"])
        family = self._families.get(token)
        if family is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        call = Call(family, replica)
        self.under_way.add(call)
        try:
            return await self._answered(request, token, call)
        finally:
            self.under_way.remove(call)

    async def _answered(self, request: web.Request, token: str, call: Call) -> web.Response:
        if self.mode == "fails":
            return web.json_response({"error": "server_error"}, status=500)
        if self.mode == "hang":
            while self.mode == "hang":
                await self._turned.wait()
            return _abort(request)
        if not self._exchanged(token, call):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if self.mode == "lost":
            return _abort(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        self.on_exchange(call.family, call.replica)
        return self._answer(self._issue(call.family))

    def _exchanged(self, token: str, call: Call) -> bool:
        """Spends a token; False if it is refused."""
        family = call.family
        if family.spent[token] and not family.is_dead:
            family.is_dead = True
            self.on_reuse(family, call.replica)
        if family.is_dead:
            return False
        family.spent[token] = call.is_exchanged = True
        self.exchanges += 1
        if self.mode == "lost" or self.delay > GIVEN_UP:
            family.excuses.append("the provider's answer was lost")
        return True

    # -- the API ----------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        family = self._families.get(token)
        if family is None or token not in family.access:
            return web.json_response({"message": "no such token"}, status=401)
        self.on_call(family, int(request.match_info["replica"]))
        if family.access[token] < time.time():
            return web.json_response({"message": "expired"}, status=401)
        seen: dict[str, object] = {
            "user": family.user,
            "nonce": request.query.get("n"),
            "token": token,
        }
        seen["body"] = (await request.read()).decode()
        return web.json_response(seen)


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _b64(value: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
