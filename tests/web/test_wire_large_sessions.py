"""Sessions with large tokens: no browser is locked out by them, and somebody is told what helps."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from sidecar.core.cookies import with_set_cookies
from sidecar.core.formats import FORMATS

if TYPE_CHECKING:
    from tests.conftest import Answer, Client, Clients, Embedded, Received, Start, Upstream

FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none"]
KEY = ECKey.generate_key("P-256", {"kid": "k"})
NODE_LIMIT = 16_384  # bytes of a head that Node.js takes
PAGE_LIMIT = 8192  # the same of many page servers


class Site:
    """A provider whose tokens grow, an API and a page, and a browser with what it was given."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.at_login: dict[str, Any] = {}
        self.at_refresh: dict[str, Any] = {}
        self.nonce = ""
        self.refreshes = 0
        self.cookie = ""
        upstream.default = self.answer

    def tokens(self, *, expires_in: float, claims: dict[str, Any], **more: Any) -> bytes:
        now = int(time.time())
        whole = {"iss": self.upstream.url, "aud": "app", "sub": "alice", "iat": now}
        whole |= {"exp": now + 600, "nonce": self.nonce, **claims}
        signed = jwt.encode({"alg": "ES256", "kid": "k"}, whole, KEY)
        given = {"token_type": "bearer", "id_token": signed, "expires_in": expires_in, **more}
        return json.dumps(given).encode()

    def answer(self, request: Received) -> bytes:
        url, path = self.upstream.url, request.target.partition("?")[0]
        form = dict(parse_qsl(request.body.decode()))
        body = b"{}"
        if path == "/.well-known/openid-configuration":
            paths = {"authorization_endpoint": "/authorize", "token_endpoint": "/token"}
            paths["end_session_endpoint"] = "/end"
            metadata: dict[str, Any] = {name: url + path for name, path in paths.items()}
            metadata |= {"issuer": url, "jwks_uri": f"{url}/jwks"}
            metadata["id_token_signing_alg_values_supported"] = ["ES256"]
            body = json.dumps(metadata).encode()
        elif path == "/jwks":
            body = json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()
        elif path == "/token" and form["grant_type"] == "refresh_token":
            self.refreshes += 1
            given = {"access_token": "a1", "refresh_token": "r1", "claims": {}, **self.at_refresh}
            body = self.tokens(expires_in=300, **given)
        elif path == "/token":
            given = {"access_token": "a0", "refresh_token": "r0", "claims": {}, **self.at_login}
            body = self.tokens(expires_in=300, **given)
        elif path == "/api/me" and request.get("Authorization") == "Bearer a0":
            return self.upstream.reply(body, status="401 Unauthorized")
        return self.upstream.reply(body)

    def config(self, **more: Any) -> dict[str, Any]:
        oidc = {"issuer": self.upstream.url, "client_id": "app", "client_secret": "s"}
        return {
            "upstreams": {"main": {"url": self.upstream.url}},
            "routes": [
                {"path": "/api", "kind": "api", "upstream": "main"},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
            "oidc": {**oidc, "userinfo": "never", **more},
        }

    async def get(self, one: Client, target: str, *lines: str) -> Answer:
        answer = await one.get(target, *([f"Cookie: {self.cookie}"] if self.cookie else []), *lines)
        sets = [line.encode("latin-1") for line in answer.all("Set-Cookie")]
        self.cookie = with_set_cookies(self.cookie, sets, time.time())
        return answer

    async def log_in(self, one: Client) -> Answer:
        begun = await self.get(one, "/auth/login", *DOCUMENT)
        asked = dict(parse_qsl(urlsplit(begun.get("Location") or "").query))
        self.nonce = asked["nonce"]
        back = urlencode({"code": "c", "state": asked["state"]})
        return await self.get(one, f"/auth/callback?{back}", *DOCUMENT)


@pytest.fixture
def site(upstream: Upstream) -> Site:
    return Site(upstream)


def warnings(at: Embedded) -> list[str]:
    lines = map(json.loads, at.log.getvalue().splitlines())
    return [
        line["event"] for line in lines if line["level"] == "warning" and "cookie" in line["event"]
    ]


GROUPS = {"groups": [f"group-{n:04d}-{'a' * 20}" for n in range(1200)]}
INCOMPRESSIBLE = {"groups": [f"{hash((n, 'x')):x}" for n in range(1000)]}


@pytest.mark.parametrize("claims", [GROUPS, INCOMPRESSIBLE], ids=["alike", "at random"])
async def test_a_session_that_was_small_at_login_stays_small(
    sidecar: Start, client: Clients, site: Site, claims: dict[str, Any]
) -> None:
    """A refresh brings the id_token again that was left out at login; pages must not refuse it."""
    site.at_login = site.at_refresh = {"claims": claims}
    at = await sidecar(site.config())
    one = await client(at)
    assert (await site.log_in(one)).status == 303
    before = len(site.cookie)
    assert (await site.get(one, "/api/me", *FETCH)).status == 200
    assert site.refreshes == 1
    assert len(site.cookie) < before + 500 < 4096
    page = await site.get(one, "/page", *DOCUMENT)
    assert page.status == 200
    assert len(site.upstream.last.raw) < PAGE_LIMIT
    assert warnings(at) == []


async def test_ten_kilobytes_of_tokens_are_fewer_in_cookies(
    sidecar: Start, client: Clients, site: Site
) -> None:
    """As many an access token is: a JWT with groups, of which the id_token has the same."""
    groups = [f"group-of-people-{n:04d}" for n in range(100)]
    access = jwt.encode({"alg": "ES256"}, {"sub": "alice", "groups": groups}, KEY)
    site.at_login = {"access_token": access, "claims": {"groups": groups}}
    site.at_login["refresh_token"] = jwt.encode({"alg": "ES256"}, {"groups": groups}, KEY)
    at = await sidecar(site.config())
    await site.log_in(await client(at))
    assert 3 * len(access) * 4 / 3 > 10_000
    assert len(site.cookie) < 4096
    assert warnings(at) == []


async def test_large_cookies_are_warned_of_once_with_what_helps(
    sidecar: Start, client: Clients, site: Site
) -> None:
    """At a login or a renewal, whichever is first. Never of a session in a store."""
    site.at_refresh = {"access_token": "t" * 6000}
    at = await sidecar(site.config())
    one = await client(at)
    await site.log_in(one)
    assert warnings(at) == []
    await site.get(one, "/api/me", *FETCH)
    assert warnings(at) == ["session cookies are large"]
    assert "oidc.keep: store" in at.log.getvalue()
    assert "cookies: strip" in at.log.getvalue()
    site.cookie, site.at_login = "", site.at_refresh
    await site.log_in(one)
    assert len(warnings(at)) == 1
    kept = await sidecar(site.config(keep="store"))
    site.cookie = ""
    await site.log_in(await client(kept))
    assert warnings(kept) == []


async def test_tokens_that_no_cookies_take_lock_nobody_out(
    sidecar: Start, client: Clients, site: Site
) -> None:
    """The old cookie leads on to them, by one exchange. A logout works, and a login is refused."""
    site.at_refresh = {"access_token": "t" * 40_000}
    at = await sidecar(site.config())
    one = await client(at)
    await site.log_in(one)
    before = site.cookie
    for _ in range(3):
        answer = await site.get(one, "/api/me", *FETCH)
        assert (answer.status, site.cookie) == (200, before)
        assert (site.upstream.last.get("Authorization") or "").endswith("t" * 40_000)
    assert site.refreshes == 1
    assert warnings(at) == ["renewed tokens do not fit into cookies"]
    assert (await site.get(one, "/auth/logout", *DOCUMENT)).status == 303
    assert site.cookie == ""
    site.at_login = site.at_refresh
    answer = await site.log_in(one)
    assert answer.status == 400
    assert b"session_too_large" in answer.body


async def test_a_refresh_leaves_an_id_token_out_that_no_store_takes(
    sidecar: Start, client: Clients, site: Site
) -> None:
    """Nor does a provider take it in the address of a logout."""
    site.at_refresh = {"claims": {"x": "y" * 37_000}}
    one = await client(await sidecar(site.config(keep="store")))
    await site.log_in(one)
    assert (await site.get(one, "/api/me", *FETCH)).status == 200
    assert site.upstream.last.get("Authorization") == "Bearer a1"
    location = (await site.get(one, "/auth/logout", *DOCUMENT)).get("Location") or ""
    assert location.startswith(f"{site.upstream.url}/end?")
    assert "id_token_hint" not in location


# -- other people's sessions -----------------------------------------------------------------------

SECRET = "a secret of Auth.js, for the tests"


@pytest.mark.parametrize("type_", ["authjs", "cookie"])
async def test_an_applications_session_does_not_grow_until_nobody_takes_it(
    sidecar: Start, upstream: Upstream, client: Clients, type_: str
) -> None:
    """Half of what a request's head may be is the most; what has been larger before may stay so."""
    source: dict[str, Any] = {"type": "cookie", "cookie": "a", "refresh_cookie": "r"}
    cookie = "a=old; r=r0"
    if type_ == "authjs":
        paths = {"token": ("accessToken",), "refresh_token": ("refreshToken",)}
        source = {"type": "authjs", "secret": SECRET, "refresh_token": "refreshToken"}
        opener: Any = FORMATS["authjs"](secrets=[SECRET], **paths).opener  # type: ignore[attr-defined]
        sealed = opener.seal({"accessToken": "old", "refreshToken": "r0"}, "authjs.session-token")
        cookie = f"authjs.session-token={sealed}"
    tokens = {"access_token": "t" * 40_000, "refresh_token": "r1", "expires_in": 300}

    def answer(request: Received) -> bytes:
        if request.target == "/token":
            return upstream.reply(json.dumps(tokens).encode())
        is_good = (request.get("Authorization") or "").endswith("ttt")
        return upstream.reply(b"{}", status="200 OK" if is_good else "401 Unauthorized")

    upstream.default = answer
    at = await sidecar(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "routes": [{"path": "/api", "kind": "api", "upstream": "main"}],
            "session": {"sources": [source]},
            "refresh": {"token_endpoint": f"{upstream.url}/token", "client_id": "app"},
        }
    )
    one = await client(at)
    for _ in range(2):
        got = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
        assert (got.status, got.all("Set-Cookie")) == (200, [])
    assert warnings(at) == ["renewed tokens do not fit into cookies"]
