"""A secret that is not the application's: it costs a deployment's attempt, and nobody's session."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.attributes import Scope
from sidecar.core.formats import FORMATS
from sidecar.core.formats.login_session import Lifetimes, Profile, login_cookie_source, new_session
from sidecar.core.token_set import TokenSet

if TYPE_CHECKING:
    from tests.conftest import Answer, Client, Clients, Embedded, Start, Upstream

RIGHT, WRONG = "the secret of the application, 32 bytes", "another secret, also of 32 bytes"
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
SEALED = ("authjs.session-token", "next-auth.session-token")
COUNT = 'sidecar_sessions_unreadable_total{{source="{}"}}'


def seal(secret: str, type_: str, name: str) -> str:
    opener: Any = FORMATS[type_](secrets=[secret]).opener  # type: ignore[attr-defined]
    return f"{name}={opener.seal({'accessToken': 'token', 'exp': int(time.time()) + 600}, name)}"


def authjs(secret: str) -> str:
    return seal(secret, "authjs", SEALED[0])


def own(secret: str) -> str:
    """A login session of the sidecar's own."""
    lifetimes = Lifetimes(600.0, 600.0)
    source = login_cookie_source(cookie="sidecar", secrets=[secret.encode()], lifetimes=lifetimes)
    session = new_session(
        bytes(32),
        lambda id_: id_[:22],
        cookie="sidecar",
        subject="alice",
        sid=None,
        tokens=TokenSet("token"),
        profile=Profile(),
        now=time.time(),
    )
    return source.lines(session, (), Scope())[0].decode().partition(";")[0]


def site(upstream: Upstream, secret: str) -> dict[str, Any]:
    sources = [{"type": "authjs", "secret": secret}, {"type": "nextauth", "secret": RIGHT}]
    api = {"kind": "api", "upstream": "main"}
    return {
        "secret": secret,
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": [*sources, {"type": "cookie", "cookie": "raw"}]},
    }


async def after_a_401(one: Client, cookie: str) -> Answer:
    """What the ticket of a 401 leads to."""
    sent = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert sent.status == 303
    return await one.get(sent.get("Location") or "", f"Cookie: {cookie}", *FETCH)


def expired(answer: Answer) -> set[str]:
    return {line.partition("=")[0] for line in answer.all("Set-Cookie")}


def events(at: Embedded) -> list[str]:
    lines = map(json.loads, at.log.getvalue().splitlines())
    return [line["event"] for line in lines if line["level"] == "warning"]


async def test_good_cookies_survive_a_wrong_secret(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Those of other sources go as ever; and somebody is told which secret it is."""
    at = await sidecar(site(upstream, WRONG))
    one = await client(at)
    cookie = f"{authjs(RIGHT)}; raw=odd value"
    answer = await after_a_401(one, cookie)
    assert answer.status == 401
    assert not {name for name in expired(answer) if "authjs" in name}
    assert {"raw", "next-auth.session-token"} <= expired(answer)
    assert events(at) == ["no session opens"]
    assert "source authjs.session-token" in at.log.getvalue()
    metrics = await at.metrics()
    assert metrics[COUNT.format("authjs.session-token")] >= 2


async def test_a_chunked_cookie_survives_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    name, _, value = authjs(RIGHT).partition("=")
    half = len(value) // 2
    cookie = f"__Secure-{name}.0={value[:half]}; __Secure-{name}.1={value[half:]}"
    one = await client(await sidecar(site(upstream, WRONG)))
    assert not {name for name in expired(await after_a_401(one, cookie)) if "authjs" in name}


@pytest.mark.parametrize("state", ["alive", "expired"])
async def test_once_a_session_has_opened_an_unreadable_one_is_expired(
    sidecar: Start, upstream: Upstream, client: Clients, state: str
) -> None:
    """Then the secret is right: it is the cookie that is old, or somebody's invention."""
    at = await sidecar(site(upstream, RIGHT))
    one = await client(at)
    opener: Any = FORMATS["authjs"](secrets=[RIGHT]).opener  # type: ignore[attr-defined]
    end = 1 if state == "expired" else int(time.time()) + 600
    good = opener.seal({"accessToken": "token", "exp": end}, SEALED[0])
    await one.get("/api/me", f"Cookie: {SEALED[0]}={good}", *FETCH)
    assert {SEALED[0]} <= expired(await after_a_401(one, authjs(WRONG)))
    assert events(at) == ["sessions do not open"]


async def test_a_logout_that_the_user_asks_for_expires_what_cannot_be_read(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The application may have a right secret: on a shared computer the cookie must be gone."""
    one = await client(await sidecar(site(upstream, WRONG)))
    answer = await one.post("/api/logout", f"Cookie: {authjs(RIGHT)}", *FETCH)
    assert {SEALED[0]} <= expired(answer)


async def test_the_sidecars_own_sessions_survive_a_wrong_secret(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    config = site(upstream, WRONG)
    config["oidc"] = {"issuer": upstream.url, "client_id": "app", "client_secret": "s"}
    at = await sidecar(config)
    one = await client(at)
    answer = await after_a_401(one, own(RIGHT))
    assert not {name for name in expired(answer) if "sidecar" in name}
    assert events(at)[-1] == "no session opens"
    await one.get("/api/me", f"Cookie: {own(WRONG)}", *FETCH)
    assert {"sidecar"} <= expired(await after_a_401(one, own(RIGHT)))
