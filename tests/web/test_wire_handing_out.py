"""A token that has ended lives again once its API hands it out anew, by JSON as by a cookie."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Received, Start, Upstream

FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
TOKEN = "same/token+for.ever=="
COOKIE = f"Cookie: access_token={TOKEN}"


def site(upstream: Upstream, **login: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api, "on_unauthorized": "envelope"},
            {"path": "/api/login", "session": "none", **api, **login},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
    }


async def is_alive(one: Client) -> bool:
    return (await one.get("/api/me", COOKIE, *FETCH)).status == 200


async def logged_out(one: Client) -> None:
    assert await is_alive(one)
    assert (await one.post("/api/logout", COOKIE, *FETCH)).status == 200
    assert not await is_alive(one)


def answers(upstream: Upstream, body: bytes, *fields: str, status: str = "200 OK") -> None:
    """What the API says at a login; it is content with every other request."""
    login = upstream.reply(body, *fields, status=status)

    def answer(request: Received) -> bytes:
        return login if request.target == "/api/login" else upstream.reply(b"{}")

    upstream.default = answer


BODIES = {
    "a member": {"token": TOKEN},
    "deeper": {"data": {"user": {"id": 7}, "tokens": [{"type": "access", "value": TOKEN}]}},
    "the whole": TOKEN,
}
ROUTES: dict[str, dict[str, Any]] = {
    "wrapped": {},
    "as it comes": {"envelope": False},
    "a page's": {"kind": "page"},
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_token_that_is_handed_out_again_lives_again(
    sidecar: Start, upstream: Upstream, client: Clients, route: dict[str, Any], body: Any
) -> None:
    """Or its user would be locked out for 30 days."""
    answers(upstream, json.dumps(body).encode())
    one = await client(await sidecar(site(upstream, **route)))
    await logged_out(one)
    assert (await one.post("/api/login", *FETCH)).status == 200
    assert await is_alive(one)


@pytest.mark.parametrize("route", [{}, {"envelope": False}], ids=["wrapped", "as it comes"])
@pytest.mark.parametrize("how", ["escaped", "compressed", "in pieces", "far behind"])
async def test_however_the_body_comes(
    sidecar: Start, upstream: Upstream, client: Clients, route: dict[str, Any], how: str
) -> None:
    text = json.dumps({"note": "x" * 100_000 * (how == "far behind"), "token": TOKEN})
    body = text.replace("/", "\\/").encode() if how == "escaped" else text.encode()
    fields = []
    if how == "compressed":
        body, fields = gzip.compress(body), ["Content-Encoding: gzip"]
    answers(upstream, body, *fields)
    one = await client(await sidecar(site(upstream, **route)))
    await logged_out(one)
    if how == "in pieces":
        whole = upstream.reply(body)
        upstream.answers([whole[:-10], 0.05, whole[-10:]])
    assert (await one.post("/api/login", *FETCH)).status == 200
    assert await is_alive(one)


DEAD: dict[str, dict[str, Any]] = {
    "an error": {"status": "400 Bad", "body": {"message": "no", "token": TOKEN}},
    "a name": {"body": {TOKEN: "x"}},
    "another token": {"body": {"token": TOKEN[1:]}},
    "behind many others": {"body": {"rows": ["x"] * 1000, "token": TOKEN}},
    "no JSON": {"body": f'"{TOKEN}', "fields": ["Content-Type: text/plain"]},
}


@pytest.mark.parametrize("route", [{}, {"envelope": False}], ids=["wrapped", "as it comes"])
@pytest.mark.parametrize("case", DEAD.values(), ids=DEAD)
async def test_what_hands_nothing_out_revives_nothing(
    sidecar: Start, upstream: Upstream, client: Clients, route: dict[str, Any], case: dict[str, Any]
) -> None:
    body, fields = json.dumps(case["body"]).encode(), case.get("fields", [])
    reply = upstream.reply(body, status=case.get("status", "200 OK"))
    if fields:
        reply = upstream.reply(body, type="text/plain")
    one = await client(await sidecar(site(upstream, **route)))
    await logged_out(one)
    upstream.answers(reply)
    await one.post("/api/login", *FETCH)
    assert not await is_alive(one)


async def test_whoever_presents_the_dead_session_does_not_revive_it(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nor does a response that was under way at the logout, nor one of another route."""
    answers(upstream, json.dumps({"token": TOKEN}).encode())
    one = await client(await sidecar(site(upstream)))
    await logged_out(one)
    await one.post("/api/login", COOKIE, *FETCH)
    assert not await is_alive(one)
    upstream.answers(upstream.reply(json.dumps({"token": TOKEN}).encode()))
    await one.get("/page", *FETCH)
    assert not await is_alive(one)


async def test_a_response_that_was_under_way_at_the_logout_revives_nothing(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(site(upstream))
    one, other = await client(at), await client(at)
    answers(upstream, b"{}")
    assert await is_alive(one)
    upstream.answers([0.5, upstream.reply(json.dumps({"token": TOKEN}).encode())])
    other.send("POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0.1)
    await logged_out(one)
    assert (await other.answer()).status == 200
    assert not await is_alive(one)


ECHOES: dict[str, tuple[str, list[str], bytes]] = {
    "JSON": ("/api/login", [], json.dumps({"name": TOKEN}).encode()),
    "JSON, escaped": ("/api/login", [], b'{"name": "\\u0073ame\\/token+for.ever=="}'),
    "a form": ("/api/login", [], b"name=same%2Ftoken%2Bfor.ever%3d%3D"),
    "a form, twice": ("/api/login", [], b"name=same%252Ftoken%252Bfor.ever%253d%253D"),
    "the query": ("/api/login?q=%73ame/token%2Bfor.ever", [], b""),
    "a field": ("/api/login", [f"X-Name: {TOKEN}"], b""),
    "a bearer": ("/api/login", [f"Authorization: Bearer {TOKEN}"], b""),
    "base64": ("/api/login", [f"X-Name: {base64.b64encode(TOKEN.encode()).decode()}"], b""),
    "a body that is coded": ("/api/login", ["Content-Encoding: gzip"], gzip.compress(b"x")),
    "a long body": ("/api/login", [], b"x" * 200_000),
}


@pytest.mark.parametrize("route", [{}, {"envelope": False}], ids=["wrapped", "as it comes"])
@pytest.mark.parametrize("case", ECHOES.values(), ids=ECHOES)
async def test_what_a_request_holds_itself_is_not_handed_out(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    route: dict[str, Any],
    case: tuple[str, list[str], bytes],
) -> None:
    """Whoever has stolen the token finds an endpoint that repeats what it is sent."""
    target, fields, body = case
    answer = upstream.reply(json.dumps({"name": TOKEN}).encode())

    def answers(request: Received) -> bytes:
        return answer if request.target.startswith("/api/login") else upstream.reply(b"{}")

    upstream.default = answers
    at = await sidecar(site(upstream, **route))
    one = await client(at)
    await logged_out(one)
    assert (await (await client(at)).post(target, *fields, *FETCH, body=body)).status == 200
    assert not await is_alive(one)


@pytest.mark.parametrize(
    ("method", "fields"), [("GET", []), ("POST", ["Cache-Control: public, max-age=60"])]
)
async def test_what_anybody_can_read_is_not_handed_out(
    sidecar: Start, upstream: Upstream, client: Clients, method: str, fields: list[str]
) -> None:
    """A public page may hold what its author wrote: the token that was stolen."""
    answers(upstream, json.dumps({"name": TOKEN}).encode(), *fields)
    at = await sidecar(site(upstream))
    one = await client(at)
    await logged_out(one)
    assert (await (await client(at)).ask(method, "/api/login", *FETCH)).status == 200
    assert not await is_alive(one)


async def test_a_jwt_with_another_signature_is_not_handed_out_to_who_sent_it(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A session is known by its token without the signature; so is what a request repeats."""
    token, forged = "aGVhZA.Ym9keQ.c2lnbg", "aGVhZA.Ym9keQ.AAAA"
    cookie = f"Cookie: access_token={token}"
    answers(upstream, json.dumps({"name": token}).encode())
    one = await client(await sidecar(site(upstream)))
    assert (await one.get("/api/me", cookie, *FETCH)).status == 200
    assert (await one.post("/api/logout", cookie, *FETCH)).status == 200
    await one.post("/api/login", *FETCH, body=json.dumps({"name": forged}).encode())
    assert (await one.get("/api/me", cookie, *FETCH)).status == 401
