"""Secrets are where they must be, and nowhere else (T46, T63, T84)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from aiohttp import ClientError
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.core.config import load
from sidecar.core.errors import ConfigError
from sidecar.core.formats import FORMATS
from tests.leaks.canaries import Sought, canary
from tests.leaks.cast import CLIENT, Cast, playing
from tests.leaks.site import DOCUMENT, Running, running
from tests.leaks.stores import Dumped, dumped

ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "access token": frozenset(("upstream", "provider", "hook")),
    "plain token": frozenset(("upstream", "provider", "hook")),
    "refresh token": frozenset(("provider",)),
    "id token": frozenset(("provider", "end of session")),
    "code": frozenset(("provider",)),
    "state": frozenset(("login",)),
    "nonce": frozenset(("login",)),
    "verifier": frozenset(("provider",)),
    "client secret": frozenset(("provider",)),
    "hook secret": frozenset(("hook",)),
    "email": frozenset(("upstream", "session")),
    "subject": frozenset(("session", "provider", "end of session")),  # the id token names it
    "sid": frozenset(("provider", "end of session")),
    "trace key": frozenset(("traces",)),
    "query": frozenset(("upstream",)),
    "path": frozenset(("upstream",)),
    "own authorization": frozenset(("upstream",)),
    "sealed cookie": frozenset(("upstream",)),  # pages read their own session
    "session cookie": frozenset(("upstream",)),
}
"""Where a kind of secret may be. Those that are not named are allowed nowhere."""

GIVEN: Final = (
    *("secret", "source secret", "client secret", "hook secret", "access token", "refresh token"),
    *("plain token", "code", "subject", "sid", "email", "query", "path", "own authorization"),
    *("trace key", "store password"),
)
"""Those that the test makes up itself."""


def leaks(
    sought: Mapping[str, str],
    sinks: Mapping[str, bytes],
    where: Mapping[str, frozenset[str]] = ALLOWED,
) -> list[str]:
    """The secrets that are where they may not be, with what stands round them."""
    found = []
    for kind, text in sought.items():
        one = Sought(kind, text)
        for sink, data in sinks.items():
            if sink not in where.get(kind, frozenset()):
                context = one.context(data)
                found += [f"{kind} in {sink}: {context}"] if context else []
    return found


def secret_file(folder: Path, name: str, text: str) -> str:
    given = folder / "given"
    (given / name).write_text(text)
    return str(given / name)


def configuration(
    folder: Path, cast: Cast, store: Dumped, known: Mapping[str, str]
) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "session": "optional"}
    return {
        "secret_file": secret_file(folder, "secret", known["secret"]),
        "upstreams": {"main": {"url": cast.url, "head": "5s", "retry": "0s"}},
        "routes": [
            {"path": "/api/", **api, "headers": {"X-User": "claim.email"}},
            {"path": "/need/", **api, "session": "required"},
            {"path": "/open/", **api, "session": "none"},
            {"path": "/bearer/", **api, "authorization": "pass"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {
            "sources": [
                {
                    "type": "authjs",
                    "secret_file": secret_file(folder, "authjs", known["source secret"]),
                    "token": "accessToken",
                    "refresh_token": "refreshToken",
                    "expires_at": "exp2",
                },
                {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"},
            ]
        },
        "oidc": {
            "issuer": f"{cast.url}/idp",
            "client_id": CLIENT,
            "client_secret_file": secret_file(folder, "client", known["client secret"]),
            "keep": "store",
        },
        "refresh": {"leeway": "1s"},
        "store": {"url_file": secret_file(folder, "store", store.url)},
        "logout": {
            "redirect_to": "/open/",
            "hooks": [
                {
                    "url": f"{cast.url}/hook",
                    "headers": {"X-Hook-Secret": known["hook secret"]},
                    "token": True,
                }
            ],
        },
        "tracing": {"endpoint": cast.url},
        "log": {"level": "debug", "access": True},
        "drain": {"wait": "0s"},
    }


async def log_in(one: Running, cast: Cast, known: dict[str, str]) -> str:
    """Logs in; returns the Cookie value of the session, and learns what was made up for it."""
    begun = await one.ask("GET", "/auth/login?next=/page", headers=DOCUMENT, sink="login")
    asked = parse_qs(urlsplit(begun["location"]).query)
    known["state"], known["nonce"] = asked["state"][0], asked["nonce"][0]
    cast.nonces.append(known["nonce"])
    cookie = "; ".join(begun["cookies"])
    path = f"/auth/callback?code={known['code']}&state={known['state']}"
    done = await one.ask("GET", path, headers={**DOCUMENT, "Cookie": cookie})
    known["verifier"] = cast.verifiers[-1]
    if cast.id_tokens:
        known["id token"] = cast.id_tokens[-1]
    return "; ".join(done["cookies"])


async def everything(one: Running, cast: Cast, known: dict[str, str], sealed: str) -> None:
    """Goes every way that the product has."""
    cookie = await log_in(one, cast, known)
    assert cookie, one.log.read_text()
    known["session cookie"] = cookie.partition("=")[2]
    own = {"Authorization": f"Bearer {known['own authorization']}"}
    query = f"?token={known['query']}&next=/"
    await one.ask("GET", "/auth/session", headers={"Cookie": cookie}, sink="session")
    for given in (cookie, f"authjs.session-token={sealed}", f"access_token={known['plain token']}"):
        named = f"/api/y;jsessionid={known['path']}"
        for path in ("/api/x", named, "/need/x", "/open/x", "/bearer/x", "/page", "/nowhere/../x"):
            await one.ask("GET", path + query, headers={**own, "Cookie": given})
        for path in ("/api/fails", "/api/dies", "/need/dies"):
            await one.ask("GET", path + query, headers={"Cookie": given}, sink="")
        body = {"password": known["query"]}
        await one.ask("POST", f"/api/x{query}", headers={"Cookie": given}, json=body)
        evil = {"Cookie": given, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        await one.ask("POST", f"/api/x{query}", headers=evil)
    for path in ("/bearer/x", "/open/x"):
        await one.ask("GET", path + query, headers=own)
    await one.ask_admin("/explain", post={"cookie": cookie, "request": f"GET /api/x{query}"})
    await one.ask("GET", "/need/renewed", headers={"Cookie": cookie}, sink="")
    assert cast.renewals == 1
    for name in ("user", "sid", "email"):
        await log_in(one, cast, known)
        claim = cast.claims["sub" if name == "user" else name]
        await one.ask_admin("/sessions/end", post={name: claim})
    refresh = f"access_token={known['plain token']}; refresh_token={known['refresh token']}"
    cast.echoes = True
    for given in (refresh, f"authjs.session-token={sealed}"):
        await one.ask("GET", "/need/unauthorized", headers={"Cookie": given}, sink="")
    await one.ask("POST", "/api/logout", headers={"Cookie": cookie}, sink="end of session")
    await one.ask("POST", "/api/logout", headers={"Cookie": f"authjs.session-token={sealed}"})
    with suppress(KeyError, IndexError):
        await log_in(one, cast, known)  # the provider refuses the code, and says all it was sent
    await one.ask("GET", f"/auth/callback?error=x&code={known['code']}&x={known['query']}")
    await one.ask("POST", "/auth/backchannel-logout", data={"logout_token": known["query"]})
    await one.logs('"tracing"')
    cast.echoes = False


async def admin_and_commands(one: Running, cookie: str) -> None:
    """All that an operator can ask for."""
    for path in ("/", "/healthz", "/readyz", "/metrics", "/status.json", "/configuration.json"):
        await one.ask_admin(path)
    sessions = re.findall(r'"session": ?"([^"]+)"', one.log.read_text())
    for session in dict.fromkeys(sessions):
        await one.ask_admin(f"/session?id={quote(session)}")
    request = "GET /api/x?a=b"
    await asyncio.gather(
        one.run("check", "--effective"),
        one.run("check", "--json", "--effective", "--probe"),
        one.run("explain", "--request", request, "--cookie", "-", given=cookie),
        one.run("explain", "--json", given=cookie),
        one.run("status"),
    )


@pytest.mark.parametrize("kept", ["sqlite", "redis"])
async def test_secrets_are_nowhere_but_where_they_must_be(
    tmp_path: Path, require_program: Callable[[str], str], kept: str
) -> None:
    """Through every way that there is, with servers that fail and say back what they were sent."""
    known = {name: canary(name.replace(" ", "")) for name in GIVEN}
    program = require_program("redis-server") if kept == "redis" else ""
    (tmp_path / "given").mkdir()
    keeping = dumped(kept, program, tmp_path / "given", known["store password"])
    async with playing() as cast, keeping as store:
        email = f"{known['email']}@example.com"
        cast.claims = {"sub": known["subject"], "sid": known["sid"], "email": email}
        cast.claims |= {"email_verified": True}
        cast.tokens = {
            "access_token": known["access token"],
            "refresh_token": known["refresh token"],
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        source = FORMATS["authjs"](secrets=[known["source secret"]], token=("accessToken",))
        now = int(time.time())
        claims = {"sub": "zoe", "email": email, "iat": now, "exp": now + 3600}
        claims |= {"accessToken": known["access token"], "refreshToken": known["refresh token"]}
        claims |= {"exp2": now + 3600}
        sealed = source.opener.seal(claims, "authjs.session-token")  # type: ignore[attr-defined]
        known["sealed cookie"] = sealed[-60:]
        key = {"OTEL_EXPORTER_OTLP_HEADERS": f"x-key={known['trace key']}"}
        async with running(tmp_path, configuration(tmp_path, cast, store, known), key) as one:
            tail = asyncio.create_task(one.ask_admin("/tail"))
            await everything(one, cast, known, sealed)
            await admin_and_commands(one, f"authjs.session-token={sealed}")
            one.file.write_text(json.dumps({**one.config, "secret": known["query"], "bad": 1}))
            assert one.process is not None
            one.process.send_signal(signal.SIGHUP)
            await one.logs("reload refused")
            for path in ("/status.json", "/configuration.json"):
                await one.ask_admin(path)
            one.write()
            await asyncio.sleep(0.3)  # spans and log lines leave behind the responses
            one.collect()
            one.told("store", store.dump())
            one.process.send_signal(signal.SIGABRT)  # faulthandler writes where each thread is
            await one.process.wait()
            tail.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await tail
            one.told("crash", one.log.read_bytes())
        sinks = {**one.sinks, **cast.heard}
    assert b"Fatal Python error" in sinks["crash"]
    for sink in ("upstream", "provider", "hook", "traces", "log", "store"):
        assert len(sinks[sink]) > 100, sink
    for kind, allowed in ALLOWED.items():
        if kind in known and kind not in ("id token", "sid", "state", "nonce"):
            places = [sinks.get(sink, b"") for sink in allowed]
            assert any(Sought(kind, known[kind]).context(data) for data in places), kind
    found = leaks(known, sinks)
    assert not found, "\n".join(found)


def pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def test_what_fails_to_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    """Store, provider and upstream are away; the log is written for people."""
    key = pem()
    known = {
        "store password": canary("store"),
        "private key": key.splitlines()[1][:60],
        "plain token": canary("plain"),
        "query": canary("query"),
        "refresh token": canary("refresh"),
        "secret": canary("secret"),
    }
    away = "127.0.0.1:1"
    config = {
        "secret": known["secret"],
        "upstreams": {"main": {"url": f"http://{away}", "retry": "0s"}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {
            "sources": [
                {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
            ]
        },
        "refresh": {
            "issuer": f"http://{away}/idp",
            "client_id": CLIENT,
            "auth": "private_key_jwt",
            "key": key,
        },
        "store": {"url": f"redis://user:{known['store password']}@{away}/0"},
        "logout": {"redirect_to": "/"},
        "log": {"level": "debug", "format": "console"},
        "drain": {"wait": "0s"},
    }
    async with running(tmp_path, config) as one:
        cookie = f"access_token={known['plain token']}; refresh_token={known['refresh token']}"
        for path in ("/api/x", "/page"):
            await one.ask("GET", f"{path}?t={known['query']}", headers={"Cookie": cookie})
        await one.ask("POST", "/api/logout", headers={"Cookie": cookie})
        await admin_and_commands(one, cookie)
        assert one.process is not None
        one.process.terminate()
        one.collect()
    assert len(one.sinks["log"]) > 100
    found = leaks(known, one.sinks)
    assert not found, "\n".join(found)


WRONG: Final = (
    "secret: {a: CANARY}",
    "secret: [CANARY, {b: CANARY}]",
    "secret: short-CANARY\nsecret_file: /a",
    "upstream: http://user:CANARY@localhost:1",
    "upstream: CANARY://x",
    "upstream: 'http://a:CANARY'",
    "store: {url: 'redis://:CANARY@:x'}",
    "store: {url: 'redis://:CANARY@a:1/x?y=CANARY'}",
    "store: {url: 'CANARY'}",
    "store: 'redis://:CANARY@a'",
    "oidc: {issuer: http://a, client_id: a, client_secret: {x: CANARY}}",
    "oidc: {issuer: 'http://u:CANARY@a', client_id: a, client_secret: CANARY}",
    "oidc: {issuer: http://a, client_id: a, auth: private_key_jwt, key: CANARY}",
    "session: {sources: [{type: authjs, secret: {x: CANARY}, token: a}]}",
    "session: {sources: [{type: authjs, secret: CANARY, secrt: CANARY, token: a}]}",
    "session: {sources: [{type: iron-session, cookie: a, password: {x: CANARY}, token: t}]}",
    "session: {sources: [{type: jwt, cookie: a, key: CANARY, token: t}]}",
    "session: {sources: [{type: jwt, cookie: a, secret: CANARY, key: CANARY, token: t}]}",
    'session: {sources: [{type: jwt, cookie: a, key: "-----BEGIN PRIVATE KEY-----\\nCANARY"}]}',
    'tls: {cert: /a, key: "-----BEGIN PRIVATE KEY-----\\nCANARY"}',
    "logout: {hooks: [{url: 'http://u:CANARY@a', headers: {X: CANARY}}]}",
    "logout: {hooks: [{url: 'http://a', headers: {'X Y': CANARY}}]}",
    "logout: {hooks: [{url: 'http://a', headers: {X: [CANARY]}}]}",
    "logout: {hooks: [{url: CANARY}]}",
    "refresh: {type: http, request: {url: http://a, headers: {A: [CANARY]}, json: {x: CANARY}}}",
    "outbound: {proxy: 'http://u:CANARY@'}",
    "outbound: {proxy: 'ftp://u:CANARY@a'}",
    "secret: CANARY\n  bad: indent",
    "secret: 'CANARY",
    "secret: [CANARY",
    "secret: CANARY\nsecret: CANARY",
    'secret: "CANARY \\q"',
    "\tsecret: CANARY",
    "secret: &a CANARY\nlisten: *b",
    "secret: !x CANARY",
    "secret: CANARY: x",
    "secret: ${CANARY-}",
    "tracing: {endpoint: 'http://u:CANARY@a:x'}",
    "limits: {body: CANARY}",
)
"""Configurations with a secret where a fault is. What a key of no secret holds may be shown."""

SHOWN: Final = frozenset(("limits: {body: CANARY}", "secret: ${CANARY-}", "upstream: CANARY://x"))


@pytest.mark.parametrize("text", WRONG)
def test_fault_of_a_configuration_shows_no_secret(text: str) -> None:
    """Whatever is wrong with it, down to its YAML."""
    secret = canary("configured")

    def read(path: str) -> str:
        return secret

    with pytest.raises(ConfigError) as told:
        load(text.replace("CANARY", secret), source="file.yaml", environ={}, read_file=read)
    said = {"fault": str(told.value).encode()}
    if text not in SHOWN:
        assert leaks({"configured": secret}, said) == []


def test_every_encoding_is_found() -> None:
    """What would not be found cannot fail."""
    text = canary("x")
    one = Sought("x", text)
    for before in (b"", b"a", b"ab", b"abc"):
        raw = before + text.encode() + b"tail"
        for data in (raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
            assert one.context(b"...." + data + b"....")
    assert not one.context(canary("x").encode())
