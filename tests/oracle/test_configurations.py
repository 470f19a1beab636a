"""Whatever configuration passes its check serves: no defect, and each user's own token."""

from __future__ import annotations

import asyncio
import gzip
import json
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.core.config.load import load
from sidecar.core.errors import ConfigError
from tests.oracle.configurations import base, configuration

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from tests.conftest import Answer, Client, Clients, Embedded, Received, Script, Start, Upstream

SEEDS: Final = range(25)
REQUESTS: Final = 30
BROKEN: Final = b'{"broken":'
PATHS: Final = (
    *("/api/ok", "/api/401", "/api/text", "/api/empty", "/api/broken", "/api/500", "/api/set"),
    *("/", "/page", "/401", "/set", "/api/login", "/open/ok", "/open/401", "/api/large", "/moved"),
    *("/api/logout", "/api/logout/", "/logout", "/login", "/nowhere/../x", "/api", "/api/events"),
    *("/api/logout?ticket=x", "/auth/login", "/auth/session", "//api/ok", "/api%2Fok", "*"),
)
WEBSOCKET: Final = (
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CLIENTS: Final = (
    (),
    ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
    ("Accept: text/html",),
    ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Accept: */*"),
    ("Sec-Fetch-Site: cross-site", "Origin: https://evil.example"),
    ("Origin: https://other.example.com",),
    ("RSC: 1",),
    ("Sec-Purpose: prefetch", "Accept: text/html"),
    ("Accept-Encoding: gzip, br",),
    ("Authorization: Bearer client-own",),
    ("X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https", "X-Forwarded-Host: other.example"),
    WEBSOCKET,
)
COOKIES: Final = (
    "",
    "access_token={token}",
    "access_token={token}; access_token=other; theme=x",
    "authjs.session-token=forged",
    "__Host-access_token={token}; app=x",
    "access_token=not a token",
    "sidecar=x; access_token={token}",
)
METHODS: Final = ("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


def replying(upstream: Upstream, request: Received) -> Script:
    """What the server behind says, by the last part of the path."""
    reply, kind = upstream.reply, request.target.partition("?")[0].rpartition("/")[2]
    rejected = reply(b'{"message":"no"}', status="401 Unauthorized")
    if kind == "set":
        return reply(b'{"data":1}', "Set-Cookie: access_token=new; Path=/", "Set-Cookie: a=b")
    scripts: dict[str, Script] = {
        "401": rejected,
        "text": reply(b"text", type="text/plain"),
        "empty": reply(b"", type=None),
        "broken": reply(BROKEN),
        "500": reply(b'{"detail":"x"}', status="500 X", type="application/problem+json"),
        "large": reply(json.dumps([*range(9000)]).encode()),
        "moved": reply(b"", "Location: /elsewhere", status="302 Found", type=None),
        "events": (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
            b"data: 1\n\n",
            "close",
        ),
    }
    return scripts.get(kind, reply(b'{"message":"m","data":[1,2],"code":7}'))


def wrong_with(answer: Answer, received: list[Received], token: str) -> str | None:
    """What no configuration may do."""
    if answer.status == 500 and b"internal" in answer.body:
        return "an error of the sidecar's own"
    for one in received:
        given = [value for value in one.all("Authorization") if value != "Bearer client-own"]
        if any(value not in {f"Bearer {token}", "Bearer other"} for value in given):
            return f"the upstream was given {given}"
        if len(one.all("Authorization")) > 1 or len(one.all("Host")) != 1:
            return "a doubled field"
    body = gzip.decompress(answer.body) if answer.get("Content-Encoding") else answer.body
    if body and answer.get("Content-Type") == "application/json" and BROKEN not in body:
        json.loads(body)
    return None


async def play(at: Embedded, upstream: Upstream, clients: Clients, seed: int) -> list[str]:
    """Sends random requests of several users; returns what was wrong."""
    chance, wrong = Random(seed), []
    client: Client = await clients(at)
    for number in range(REQUESTS):
        token = f"tok-{seed}-{number % 5}"
        method, path = chance.choice(METHODS), chance.choice(PATHS)
        fields = [*chance.choice(CLIENTS)]
        if cookie := chance.choice(COOKIES).format(token=token):
            fields.append(f"Cookie: {cookie}")
        body = (
            b'{"q":1}' * chance.choice((1, 1, 400)) if method in ("POST", "PUT", "PATCH") else b""
        )
        seen = len(upstream.requests)
        asked = f"{method} {path} {fields} {len(body)}"
        try:
            answer = await client.ask(method, path, *fields, body=body)
        except (ConnectionError, EOFError) as error:
            wrong.append(f"{asked}: {error!r}")
            client = await clients(at)
            continue
        fault = wrong_with(answer, upstream.requests[seen:], token)
        if fault is not None:
            wrong.append(f"{asked}: {answer.status}: {fault}")
        if answer.get("Connection") == "close" or answer.status == 101:
            client = await clients(at)
    return wrong


def loaded(seed: int, upstream: Upstream, at: Embedded | None = None) -> Config | None:
    """The configuration of a seed, on the listeners of `at`; None if it does not pass its check."""
    more: dict[str, Any] = {"secret": "s" * 32, "drain": {"wait": "0s"}}
    if at is not None:
        more |= {"listen": f"127.0.0.1:{at.port}", "admin": f"127.0.0.1:{at.admin}"}
    text = json.dumps(more | configuration(seed, upstream.url))
    try:
        return load(text, source="-", environ={}, read_file=str)
    except ConfigError as error:
        assert str(error)
        return None


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_passes_the_check_serves(
    sidecar: Start, upstream: Upstream, client: Clients, seed: int
) -> None:
    """At the end nothing is left, and no defect is in the log: the fixture sees to that."""
    upstream.default = lambda request: replying(upstream, request)
    if loaded(seed, upstream) is None:
        return
    config = configuration(seed, upstream.url)
    at = await sidecar(config)
    assert await play(at, upstream, client, seed) == [], json.dumps(config)


@pytest.mark.parametrize("seed", range(0, 500, 50))
async def test_any_configuration_follows_any_other_without_a_fault(
    sidecar: Start, upstream: Upstream, client: Clients, seed: int
) -> None:
    """Reloads while users work: each connection goes on, and every token reaches its own user."""
    upstream.default = lambda request: replying(upstream, request)
    at = await sidecar(base(upstream.url))
    users = asyncio.create_task(play(at, upstream, client, seed))
    for following in range(seed, seed + 30):
        config = loaded(following, upstream, at)
        if config is not None:
            await at.sidecar.reload(config)
            await asyncio.sleep(0.005)
    assert await users == []
