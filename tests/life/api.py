"""An API that takes live tokens only: `python -m tests.life.api PORT ISSUER SECRET`.

`/me` and `/events` check a token as a JWT, with keys that were fetched at the start, so that they
work while the provider does not; `/live` asks the provider as well, so that a token that was
revoked is refused. Answers tell whose token it was and which (`jti`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet


class Api:
    """A resource server of the rehearsal provider."""

    def __init__(self, issuer: str, secret: str) -> None:
        self._issuer = issuer
        self._credentials = {"Authorization": aiohttp.encode_basic_auth("app", secret)}
        self._keys = KeySet([])
        self._http: aiohttp.ClientSession | None = None

    async def run(self, port: int) -> None:
        """Serves until it is cancelled."""
        async with aiohttp.ClientSession() as self._http:
            async with self._http.get(f"{self._issuer}/jwks") as answer:
                self._keys = KeySet.import_key_set(await answer.json())
            application = web.Application()
            application.add_routes(
                [
                    web.get("/me", self._me),
                    web.get("/live", self._live),
                    web.get("/events", self._events),
                ]
            )
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await asyncio.Event().wait()

    async def _me(self, request: web.Request) -> web.Response:
        return self._told(self._claims(request))

    async def _live(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        assert self._http is not None
        url, form = f"{self._issuer}/introspect", {"token": _bearer(request)}
        async with self._http.post(url, data=form, headers=self._credentials) as answer:
            is_live = (await answer.json())["active"]
        return self._told(claims if is_live else None)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The user's name, again and again."""
        claims = self._claims(request)
        if claims is None:
            return self._told(None)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        while True:
            await stream.write(f"data: {claims['sub']}\n\n".encode())
            await asyncio.sleep(0.05)

    def _claims(self, request: web.Request) -> dict[str, Any] | None:
        try:
            claims = jwt.decode(_bearer(request), self._keys, algorithms=["ES256"]).claims
        except (JoseError, ValueError):
            return None
        return claims if time.time() < claims["exp"] else None

    @staticmethod
    def _told(claims: dict[str, Any] | None) -> web.Response:
        if claims is None:
            fields = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return web.json_response({"message": "no"}, status=401, headers=fields)
        return web.json_response({"user": claims["sub"], "token": claims["jti"]})


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


if __name__ == "__main__":
    asyncio.run(Api(sys.argv[2], sys.argv[3]).run(int(sys.argv[1])))
