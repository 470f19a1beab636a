"""Fields that tell an upstream who the user is: of every kind of session, and of no client."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.formats import FORMATS
from tests.web.test_wire_allow import (  # noqa: F401 - fixtures
    NAME,
    SECRET,
    Scene,
    clock,
    directory,
    people,
    scene,
)
from tests.web.test_wire_login import FETCH

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Embedded, Received, Start, Upstream
    from tests.web.test_wire_login import Browsers

NAMES = ("X-User", "X-Groups", "X-Employee")
FIELDS = {"X-User": "claim.email", "set": {"X-Groups": "claim.groups", "X-Employee": "claim.no"}}
COOKIES = {
    "authjs": "authjs.session-token",
    "nextauth": "next-auth.session-token",
    "auth0": "__session",
    "better-auth": "better-auth.account_data",
}


def seal(type_: str = "authjs", **claims: Any) -> str:
    """The cookie of a session as its library writes it."""
    source: Any = FORMATS[type_](secrets=[SECRET])
    name = COOKIES[type_]
    tokens = {"accessToken": "tok", "tokenSet": {"accessToken": "tok"}}
    sealed = source.opener.seal({"exp": int(time.time()) + 9999, **tokens, **claims}, name)
    return f"Cookie: {name}={sealed}"


def site(upstream: Upstream, *more: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """An API that is told who the user is, and pages that are not."""
    api = {"path": "/api", "kind": "api", "upstream": "main", "session": "optional"}
    sources = [{"type": one, "secret": SECRET} for one in COOKIES]
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {**api, "headers": FIELDS},
            {"path": "/", "kind": "page", "upstream": "main"},
            *more,
        ],
        "session": {"sources": sources},
        **keys,
    }


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    upstream.default = lambda request: upstream.reply(json.dumps(told(request)).encode())
    return await sidecar(site(upstream))


def told(request: Received) -> dict[str, list[str]]:
    """The fields that any upstream might take for the user's name."""
    read = {name.lower().replace("_", "-").replace(".", "-") for name, _ in request.fields}
    assert {"x-user-", "x-user"} & read <= {"x-user"}
    found = {name: request.all(name) for name in NAMES}
    return {name: values for name, values in found.items() if values}


async def seen(one: Client, target: str, *lines: str) -> dict[str, list[str]]:
    """What the upstream is told."""
    answer = await one.get(target, *FETCH, *lines)
    assert answer.status == 200, answer
    found: dict[str, list[str]] = answer.json.get("data", answer.json)
    return found


@pytest.mark.parametrize("type_", COOKIES)
async def test_upstream_is_told_who_the_user_is(at: Embedded, client: Clients, type_: str) -> None:
    """By the claims that the session's library has sealed."""
    one = await client(at)
    cookie = seal(type_, email="Zoë@example.com", groups=["a", "b,c"])
    expected = {"X-User": ["Zo%C3%AB@example.com"], "X-Groups": ["a,b%2Cc"]}
    assert await seen(one, "/api/x", cookie) == expected
    assert await seen(one, "/api/x", cookie) == expected  # from the plan that is remembered


@pytest.mark.parametrize("name", ["X-User", "x-user", "X_User", "X.User", "x-groups", "X-Employee"])
@pytest.mark.parametrize("target", ["/api/x", "/x"])
async def test_no_client_says_it_itself(
    at: Embedded, client: Clients, name: str, target: str
) -> None:
    """With a session or without one, on the route that tells it and on any other."""
    one, forged = await client(at), f"{name}: root"
    assert await seen(one, target, forged) == {}
    known = {"X-User": ["a@b.c"]} if target == "/api/x" else {}
    assert await seen(one, target, forged, seal(email="a@b.c")) == known
    assert await seen(one, target, forged, "Connection: X-User, X-Groups", seal()) == {}


async def test_session_that_has_ended_has_no_user(at: Embedded, client: Clients) -> None:
    one, cookie = await client(at), seal(email="a@b.c")
    assert await seen(one, "/api/x", cookie) == {"X-User": ["a@b.c"]}
    assert (await one.post("/api/logout", cookie, *FETCH)).status == 200
    assert await seen(one, "/api/x", cookie) == {}


async def test_unsafe_request_of_another_site_is_not_the_users(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The name makes the upstream act for the user as a token would, so the same rule holds."""
    page = {"path": "/app", "kind": "page", "upstream": "main", "headers": FIELDS}
    at = await sidecar(site(upstream, page))
    one, cookie = await client(at), seal(email="a@b.c")
    cross = ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"]
    assert (await one.post("/app/x", cookie, *cross)).status == 403
    assert (await one.post("/app/x", cookie, *FETCH)).status == 200
    assert (await one.post("/app/x", *cross)).status == 200
    shake = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    assert (await one.get("/app/ws", cookie, *shake, key, *cross)).status == 403


async def test_response_that_depends_on_the_user_is_private(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    page = {"path": "/app", "kind": "page", "upstream": "main", "headers": FIELDS}
    at = await sidecar(site(upstream, page))
    upstream.default = lambda _: upstream.reply(b"x", "Cache-Control: public, max-age=60")
    one = await client(at)
    answer = await one.get("/app/x", seal(email="a@b.c"))
    assert answer.get("Cache-Control") == "max-age=60, private"
    assert "Cookie" in (answer.get("Vary") or "")
    assert "Cookie" in ((await one.get("/app/x")).get("Vary") or "")


@pytest.mark.parametrize("keep", ["cookie", "store"])
async def test_upstream_is_told_who_has_logged_in_here(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    keep: str,
) -> None:
    """By the newest id_token, and by UserInfo if that alone says it."""
    whole = scene.with_login(keep=keep)
    api = whole["routes"][0]
    api["headers"] = {"X-User": "claim.sub", "X-Groups": "claim.groups", "X-Employee": "claim.no"}
    at = await scene.start(whole)
    seen: list[dict[str, list[str]]] = []

    def answer(request: Received) -> bytes:
        seen.append(told(request))
        return scene.upstream.reply(b"{}")

    scene.upstream.default = answer
    scene.said["alice"] = {"groups": ["a"], "no": 7}
    one = await people(at)
    await one.log_in()
    await one.get("/api/x", *FETCH)
    scene.said["alice"] = {"groups": ["b"]}
    scene.clock.ahead += 25
    await one.get("/api/x", *FETCH)
    assert seen == [
        {"X-User": ["alice"], "X-Groups": ["a"], "X-Employee": ["7"]},
        {"X-User": ["alice"], "X-Groups": ["b"]},
    ]
    scene.directory.in_id_token = False
    other = await people(at)
    await other.log_in()
    await other.get("/api/x", *FETCH)
    assert seen[2] == {"X-User": ["alice"], "X-Groups": ["b"]}
