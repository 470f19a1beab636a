"""Signed sessions over real connections, with keys that are fetched and change."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from joserfc import jws
from joserfc.jwk import ECKey

from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Received, Script, Start, Upstream

FIRST, SECOND = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("first", "second"))
PATIENCE = 20.0


def session(key: ECKey, token: str) -> str:
    claims = {"accessToken": token, "exp": time.time() + 600}
    text = jws.serialize_compact({"alg": "ES256", "kid": key.kid}, json.dumps(claims), key)
    return f"Cookie: session={text}"


def site(upstream: Upstream, **source: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main"},
            {"path": "/login", "kind": "page", "upstream": "main", "session": "none"},
        ],
        "session": {"sources": [{"type": "jwt", "cookie": "session", **source}]},
    }


class Publisher:
    """What the upstream answers at `/jwks`: the keys that are published now; else the bearer."""

    def __init__(self, upstream: Upstream, *keys: ECKey) -> None:
        self.upstream = upstream
        self.keys = keys
        self.asked = 0
        upstream.default = self

    def __call__(self, request: Received) -> Script:
        if request.target != "/jwks":
            return self.upstream.reply(json.dumps(request.get("Authorization")).encode())
        self.asked += 1
        keys = [key.as_dict(private=False) for key in self.keys]
        return self.upstream.reply(json.dumps({"keys": keys}).encode())


async def test_session_by_a_public_key(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    """The token is injected, and another key's session is none."""
    Publisher(upstream)
    at = await sidecar(site(upstream, key=FIRST.as_pem(private=False).decode()))
    one = await client(at)
    assert (await one.get("/", session(FIRST, "t-1"))).json["data"] == "Bearer t-1"
    assert (await one.get("/", session(SECOND, "t-2"), "Sec-Fetch-Mode: cors")).status != 200


async def test_keys_are_there_at_the_first_request_and_a_new_one_is_found(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The provider's rotation ends no session, though the first of a new key may come too early."""
    published = Publisher(upstream, FIRST)
    at = await sidecar(site(upstream, jwks=f"{upstream.url}/jwks"))
    one = await client(at)
    assert (await one.get("/", session(FIRST, "t-1"))).json["data"] == "Bearer t-1"
    assert published.asked == 1
    published.keys = (SECOND, FIRST)
    new = session(SECOND, "t-2")
    async with asyncio.timeout(PATIENCE):
        while (await one.get("/", new)).status != 200:
            await asyncio.sleep(0.02)
    assert published.asked == 2
    assert (await one.get("/", session(FIRST, "t-1"))).status == 200


async def test_invented_keys_cause_one_fetch_in_a_while(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    published = Publisher(upstream, FIRST)
    at = await sidecar(site(upstream, jwks=f"{upstream.url}/jwks"))
    one = await client(at)
    for number in range(20):
        stranger = ECKey.generate_key("P-256", {"kid": f"made up {number}"})
        assert (await one.get("/", session(stranger, "t"))).status != 200
    assert (await one.get("/", session(FIRST, "t-1"))).status == 200
    assert published.asked <= 2


async def test_keys_that_cannot_be_fetched_are_told_and_hold_up_nobody(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    Publisher(upstream)
    url = f"http://127.0.0.1:{free_port()}/jwks"
    at = await sidecar(site(upstream, jwks=url))
    assert (await (await client(at)).get("/", session(FIRST, "t-1"))).status != 200
    (line,) = [line for line in at.log.getvalue().splitlines() if "keys of sessions" in line]
    assert json.loads(line)["detail"] == f"{url}: connection refused"
