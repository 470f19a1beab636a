"""`limits.per_client`: one address that logs in, logs out, renews or connects too often."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from sidecar.core.formats import FORMATS

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Received, Script, Start, Upstream

SECRET = "a secret of Auth.js, for the tests"
NAME = "authjs.session-token"
PATHS = {"token": ("accessToken",), "refresh_token": ("refreshToken",), "expires_at": ("exp2",)}
SOURCE = FORMATS["authjs"](secrets=[SECRET], **PATHS)
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
ONE = "X-Forwarded-For: 203.0.113.9"
OTHER = "X-Forwarded-For: 203.0.113.10"
LIMITED = 'sidecar_rate_limited_total{{limit="{0}"}}'


def lines(at: Embedded, event: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    return [line for line in told if line["event"] == event]


# -- logout ----------------------------------------------------------------------------------------


async def test_logouts_of_one_address_have_a_rate(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """429 with Retry-After in the client's shape, and the session lives; others go on."""
    at = await sidecar(trusted_proxies=["127.0.0.1"], limits={"per_client": {"logout": "2/h"}})
    one = await client(at)
    for path in ("/api/logout", "/api/logout/"):
        assert (await one.post(path, ONE, *FETCH)).status == 200
    answer = await one.post("/api/logout", ONE, *FETCH, "Cookie: access_token=t")
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert 1700 < int(answer.get("Retry-After") or 0) <= 1800
    assert answer.all("Set-Cookie") == []
    page = await one.get("/api/logout", ONE, *DOCUMENT)
    assert (page.status, page.get("Content-Type")) == (429, "text/html; charset=utf-8")
    assert (await one.get("/", ONE, "Cookie: access_token=t")).status == 200
    assert upstream.last.get("Authorization") == "Bearer t"
    assert (await one.post("/api/logout", OTHER, *FETCH)).status == 200
    assert (await at.metrics())[LIMITED.format("logout")] == 2
    (told,) = lines(at, "client limited")
    assert (told["level"], told["client"]) == ("warning", "203.0.113.9")
    assert told["limit"] == "limits.per_client.logout: above 2/h"


async def test_way_out_of_too_many_cookies_counts_as_a_logout(
    sidecar: Start, client: Clients
) -> None:
    at = await sidecar(limits={"per_client": {"logout": "1/h"}})
    cookie = f"Cookie: a={'x' * 80_000}"
    for status in (303, 429):
        one = await client(at)
        answer = await one.post("/api/logout", cookie, "Sec-Fetch-Site: same-origin")
        assert answer.status == status


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:3::4", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("127.0.0.1", "127.0.0.1", False),  # the proxies themselves have no limit
    ],
)
async def test_ipv6_counts_by_subnet_and_proxies_do_not_count(
    sidecar: Start, client: Clients, first: str, second: str, is_one: bool
) -> None:
    at = await sidecar(trusted_proxies=["127.0.0.1"], limits={"per_client": {"logout": "1/h"}})
    one = await client(at)
    assert (await one.post("/api/logout", f"X-Forwarded-For: {first}", *FETCH)).status == 200
    answer = await one.post("/api/logout", f"X-Forwarded-For: {second}", *FETCH)
    assert answer.status == (429 if is_one else 200)


async def test_what_a_client_writes_itself_gives_no_other_address(
    sidecar: Start, client: Clients
) -> None:
    """Without a trusted proxy it is the peer, and the log says what that may mean."""
    at = await sidecar(limits={"per_client": {"logout": "1/h"}})
    one = await client(at)
    assert (await one.post("/api/logout", ONE, *FETCH)).status == 200
    assert (await one.post("/api/logout", OTHER, *FETCH)).status == 429
    (told,) = lines(at, "client limited")
    assert (told["client"], "trusted_proxies" in told["detail"]) == ("127.0.0.1", True)


async def test_without_the_key_nothing_is_limited(sidecar: Start, client: Clients) -> None:
    at = await sidecar(limits={"per_client": None})
    one = await client(at)
    for _ in range(300):
        assert (await one.post("/api/logout", *FETCH)).status == 200


# -- login -----------------------------------------------------------------------------------------


async def test_logins_of_one_address_have_a_rate(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Those begun and the answers of the provider, each by itself; nobody else's session ends."""
    endpoints = {"authorization_endpoint": "/authorize", "token_endpoint": "/token"}
    endpoints |= {"jwks_uri": "/jwks"}
    at = await sidecar(
        limits={"per_client": {"login": "2/h"}},
        oidc={"issuer": upstream.url, "client_id": "app"}
        | {key: upstream.url + path for key, path in endpoints.items()},
    )
    one = await client(at)
    for path, status in (("/auth/login", 303), ("/auth/callback?state=s&code=c", 400)):
        for _ in range(2):
            assert (await one.get(path, *DOCUMENT)).status == status
        page = await one.get(path, *DOCUMENT)
        assert (page.status, b"rate_limited" in page.body) == (429, True)
        assert page.get("Content-Type") == "text/html; charset=utf-8"
        assert int(page.get("Retry-After") or 0) > 1000
    assert (await one.get("/auth/session", *FETCH)).status == 200
    assert (await at.metrics())[LIMITED.format("login")] == 2


# -- renewals --------------------------------------------------------------------------------------


def sealed(user: str, *, expires_in: float) -> str:
    now = time.time()
    claims = {"sub": user, "iat": int(now), "exp": int(now) + 3600, "exp2": now + expires_in}
    claims |= {"accessToken": f"old-{user}", "refreshToken": user}
    return f"Cookie: {NAME}={SOURCE.opener.seal(claims, NAME)}"  # type: ignore[attr-defined]


class Site:
    """A token endpoint at `/token`, else an API that says which token it was given."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.renewals = 0
        upstream.default = self.answer

    def answer(self, request: Received) -> Script:
        if request.target != "/token":
            token = (request.get("Authorization") or "").removeprefix("Bearer ")
            return self.upstream.reply(json.dumps({"token": token}).encode())
        self.renewals += 1
        (token,) = parse_qs(request.body.decode())["refresh_token"]
        tokens = {"access_token": f"new-{token}", "refresh_token": f"next-{token}"}
        return self.upstream.reply(json.dumps({**tokens, "expires_in": 3600}).encode())

    @property
    def config(self) -> dict[str, Any]:
        url = self.upstream.url
        source = {"type": "authjs", "secret": SECRET, "token": "accessToken"}
        source |= {"refresh_token": "refreshToken", "expires_at": "exp2"}
        return {
            "upstreams": {"main": {"url": url}},
            "routes": [
                {"path": "/api", "kind": "api", "upstream": "main"},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
            "session": {"sources": [source]},
            "refresh": {"token_endpoint": f"{url}/token", "client_id": "app", "leeway": "30s"},
            "limits": {"per_client": {"refresh": "2/h"}},
            "trusted_proxies": ["127.0.0.1"],
        }


async def test_renewals_that_one_address_causes_have_a_rate(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Above it a token that has expired is 429; one that is still good serves, and so do pages."""
    site = Site(upstream)
    at = await sidecar(site.config)
    one = await client(at)
    for user in ("a", "b"):
        answer = await one.get("/api/me", ONE, sealed(user, expires_in=-5))
        assert answer.json["data"] == {"token": f"new-{user}"}
    answer = await one.get("/api/me", ONE, sealed("c", expires_in=-5))
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert int(answer.get("Retry-After") or 0) > 1000
    good = await one.get("/api/me", ONE, sealed("d", expires_in=25))
    assert good.json["data"] == {"token": "old-d"}
    assert (await one.get("/page", ONE, sealed("e", expires_in=-5))).status == 200
    assert site.renewals == 2
    other = await one.get("/api/me", OTHER, sealed("c", expires_in=-5))
    assert other.json["data"] == {"token": "new-c"}
    assert (await at.metrics())[LIMITED.format("refresh")] == 3


async def test_requests_that_get_what_another_one_renewed_count_for_nothing(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A page comes with many requests that hold the same old cookie."""
    site = Site(upstream)
    one = await client(await sidecar(site.config))
    cookie = sealed("a", expires_in=-5)
    for _ in range(20):
        answer = await one.get("/api/me", ONE, cookie)
        assert answer.json["data"] == {"token": "new-a"}
    assert site.renewals == 1
    assert (await one.get("/api/me", ONE, sealed("b", expires_in=-5))).status == 200


# -- connections -----------------------------------------------------------------------------------


async def test_connections_of_one_address_are_limited(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The newest is closed; one that ends makes room, and it is told once."""
    at = await sidecar(limits={"per_client": {"connections": 3}})
    kept = [await client(at) for _ in range(3)]
    for one in kept:
        assert (await one.get("/a")).status == 200
    for _ in range(4):
        assert await (await client(at)).ends() == b""
    metrics = await at.metrics()
    assert metrics['sidecar_limited_connections_total{outcome="per_client"}'] == 4
    assert metrics["sidecar_client_connections"] == 3
    assert len(lines(at, "client limited")) == 1
    for one in kept:
        assert (await one.get("/b")).status == 200
    await kept.pop().gone()
    await at.wait_for(lambda found: found["sidecar_client_connections"] == 2)
    assert (await (await client(at)).get("/c")).status == 200


async def test_connections_of_proxies_are_not_limited(sidecar: Start, client: Clients) -> None:
    at = await sidecar(trusted_proxies=["127.0.0.0/8"], limits={"per_client": {"connections": 1}})
    for one in [await client(at) for _ in range(3)]:
        assert (await one.get("/a")).status == 200


async def test_reload_counts_the_connections_that_are_there(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """With the limit that holds from now on; what is open stays open."""
    at = await sidecar()
    kept = [await client(at) for _ in range(2)]
    for one in kept:
        assert (await one.get("/a")).status == 200
    config = at.sidecar.runtime.policy.config
    per_client = config.limits.per_client.model_copy(update={"connections": 2, "logout": None})
    limits = config.limits.model_copy(update={"per_client": per_client})
    await at.sidecar.reload(config.model_copy(update={"limits": limits}))
    assert await (await client(at)).ends() == b""
    for one in kept:
        assert (await one.get("/b")).status == 200
    await at.sidecar.reload(config)
    assert (await (await client(at)).get("/c")).status == 200
