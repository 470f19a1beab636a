"""The servers round the sidecar: each keeps what it is sent, and fails as it is told."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from tests.ports import free_port

CLIENT: Final = "app"


@dataclass(slots=True)
class Cast:
    """API, provider, hook and trace receiver behind one port.

    `heard` is what each was sent, by its name. `echoes`: they fail, and say back all that they were
    sent.
    """

    port: int = field(default_factory=free_port)
    heard: dict[str, bytes] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    echoes: bool = False
    renewals: int = 0
    nonces: list[str] = field(default_factory=list)
    verifiers: list[str] = field(default_factory=list)
    id_tokens: list[str] = field(default_factory=list)
    _key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k"}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _hear(self, who: str, request: web.Request) -> bytes:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        head = "\n".join((request.raw_path, *(f"{k}: {v}" for k, v in request.headers.items())))
        told = head.encode("latin-1", "replace") + b"\n" + body
        self.heard[who] = self.heard.get(who, b"") + told + b"\n\n"
        return told

    @staticmethod
    def _echo(told: bytes, status: int = 500) -> web.Response:
        # What is secret first: texts of others are cut before they are logged.
        text = told.decode("latin-1")
        values = re.findall(r"cnry\w+|(?<=code_verifier=)[\w-]+|(?<=Basic )\S+", text)
        text = " ".join((*dict.fromkeys(values), text))
        body = {"error": "server_error", "error_description": text, "message": text, "detail": text}
        reason = "".join(one for one in text if one.isalnum())[:400]
        return web.json_response(body, status=status, reason=reason)

    async def api(self, request: web.Request) -> web.StreamResponse:
        told = await self._hear("upstream", request)
        if request.path.endswith("/dies"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.echoes or request.path.endswith("/fails"):
            return self._echo(told, 502)
        is_stale = request.path.endswith("/renewed") and not self.renewals
        if request.path.endswith("/unauthorized") or is_stale:
            return self._echo(told, 401)
        return web.json_response({"ok": True})

    async def metadata(self, _: web.Request) -> web.Response:
        ends = {
            "authorization_endpoint": "authorize",
            "token_endpoint": "token",
            "jwks_uri": "keys",
            "end_session_endpoint": "end",
            "revocation_endpoint": "revoke",
            "userinfo_endpoint": "userinfo",
        }
        urls = {name: f"{self.url}/idp/{end}" for name, end in ends.items()}
        algorithms = {"id_token_signing_alg_values_supported": ["ES256"]}
        return web.json_response({"issuer": f"{self.url}/idp", **urls, **algorithms})

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response(KeySet([self._key]).as_dict(private=False))

    async def token(self, request: web.Request) -> web.Response:
        told = await self._hear("provider", request)
        form = parse_qs((await request.read()).decode())
        self.verifiers += form.get("code_verifier", [])
        if self.echoes:
            return self._echo(told, 400)
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/idp",
            "aud": CLIENT,
            "exp": now + 3600,
            "iat": now,
            **self.claims,
        }
        if "code" in form and self.nonces:
            claims["nonce"] = self.nonces[-1]
        self.id_tokens.append(jwt.encode({"alg": "ES256", "kid": "k"}, claims, self._key))
        self.renewals += "code" not in form
        tokens = {name: self._renewed(text) for name, text in self.tokens.items()}
        return web.json_response({**tokens, "id_token": self.id_tokens[-1]})

    def _renewed(self, text: Any) -> Any:
        """Another token each time, which still begins with its canary."""
        is_token = isinstance(text, str) and text.startswith("cnry")
        return f"{text}R{self.renewals}" if is_token else text

    async def other(self, request: web.Request) -> web.Response:
        """Revocation, UserInfo and the end of the session."""
        return self._echo(await self._hear("provider", request))

    async def hook(self, request: web.Request) -> web.Response:
        return self._echo(await self._hear("hook", request))

    async def traces(self, request: web.Request) -> web.Response:
        told = await self._hear("traces", request)
        if self.echoes:
            return self._echo(told, 401)
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def playing() -> AsyncIterator[Cast]:
    """All of them, until the context is left."""
    cast = Cast()
    application = web.Application(client_max_size=1 << 24)
    add = application.router.add_route
    add("GET", "/idp/.well-known/openid-configuration", cast.metadata)
    add("GET", "/idp/keys", cast.keys)
    add("POST", "/idp/token", cast.token)
    add("*", "/idp/{rest:.*}", cast.other)
    add("*", "/hook", cast.hook)
    add("POST", "/v1/traces", cast.traces)
    add("*", "/{rest:.*}", cast.api)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", cast.port).start()
    try:
        yield cast
    finally:
        await runner.cleanup()
