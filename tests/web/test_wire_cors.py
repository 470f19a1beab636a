"""CORS over the wire: on every answer for listed origins, preflights before every other rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Embedded, Start, Upstream

APP = "https://app.example.com"
ORIGIN = f"Origin: {APP}"
SESSION = "Cookie: access_token=tok"
PREFLIGHT = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: content-type"]


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}, "gone": {"url": "http://127.0.0.1:9"}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/api/login", "session": "none", **api},
            {"path": "/api/gone", **api, "upstream": "gone"},
            {"path": "/pages", "kind": "page", "upstream": "main"},
            {"path": "/login", "kind": "page", "upstream": "main"},
        ],
        **more,
    }


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    return await sidecar(site(upstream, cors={"origins": [APP]}))


def is_readable(answer: Answer) -> bool:
    """Whether the page of the listed origin may read the answer; half a policy fails."""
    origin = answer.get("Access-Control-Allow-Origin")
    credentials = answer.get("Access-Control-Allow-Credentials")
    assert (origin, credentials) in ((APP, "true"), (None, None))
    varies = {name.strip() for line in answer.all("Vary") for name in line.lower().split(",")}
    assert "origin" in varies
    return origin is not None


@pytest.mark.parametrize(
    ("method", "path", "lines", "status"),
    [
        ("GET", "/api/me", [SESSION], 200),
        ("GET", "/api/me", [], 303),
        ("GET", "/api/login", [], 200),
        ("GET", "/api/gone", [SESSION], 502),
        ("GET", "/pages", [], 200),
        ("GET", "/pages/%2e%2e", [], 400),
        ("GET", "/nowhere", [], 404),
        ("POST", "/api/me", [SESSION], 200),
        ("PUT", "/api/logout", [], 405),
        ("GET", "/api/logout", ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: empty"], 405),
        ("POST", "/api/logout", [SESSION], 200),
    ],
)
async def test_every_answer_can_be_read_by_a_listed_origin(
    at: Embedded, client: Clients, *, method: str, path: str, lines: list[str], status: int
) -> None:
    """Its own errors and redirects too (behaviour: browser protection); others read nothing."""
    one = await client(at)
    answer = await one.ask(method, path, ORIGIN, *lines)
    assert answer.status == status
    assert is_readable(answer)
    one = await client(at)
    other = await one.ask(method, path, "Origin: https://evil.example", *lines)
    assert not is_readable(other)
    one = await client(at)
    assert not is_readable(await one.ask(method, path, *lines))


async def test_redirect_after_a_401_ends_in_readable_json(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """As fetch follows it: the Origin stays, the host is the same."""
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    one = await client(at)
    answer = await one.get("/api/me", SESSION, ORIGIN, "Sec-Fetch-Site: cross-site")
    assert answer.status == 303
    assert is_readable(answer)
    lines = [SESSION, ORIGIN, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: empty"]
    last = await one.get(answer.get("Location") or "", *lines)
    assert (last.status, last.code) == (401, "session_expired")
    assert is_readable(last)


@pytest.mark.parametrize("path", ["/api/me", "/api/login", "/api/logout", "/pages", "/api/gone"])
async def test_preflight_is_answered_before_session_and_csrf_rules(
    at: Embedded, upstream: Upstream, client: Clients, path: str
) -> None:
    """Browsers send it without cookies; the upstream does not see it."""
    answer = await (await client(at)).ask("OPTIONS", path, ORIGIN, *PREFLIGHT)
    assert (answer.status, answer.body) == (204, b"")
    assert is_readable(answer)
    assert "PUT" in (answer.get("Access-Control-Allow-Methods") or "")
    assert answer.get("Access-Control-Allow-Headers") == "content-type"
    assert answer.get("Access-Control-Max-Age") == "600"
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/api/me", "/api/login", "/api/logout"])
async def test_preflight_of_another_origin_gets_no_permission(
    at: Embedded, upstream: Upstream, client: Clients, path: str
) -> None:
    evil = "Origin: https://evil.example"
    answer = await (await client(at)).ask("OPTIONS", path, evil, *PREFLIGHT)
    assert answer.status == 204
    assert not is_readable(answer)
    assert not [name for name in answer.names if name.startswith("access-control")]
    assert upstream.requests == []


async def test_any_other_options_request_is_the_upstreams(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    assert (await (await client(at)).ask("OPTIONS", "/api/me", SESSION)).status == 200
    assert upstream.last.method == "OPTIONS"


POLICY = [
    "Access-Control-Allow-Origin: *",
    "Access-Control-Allow-Credentials: true",
    "Access-Control-Expose-Headers: X-Total",
]


async def test_upstreams_policy_gives_way(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """T66; what it wants exposed is, to those who may read."""
    upstream.default = upstream.reply(b"{}", *POLICY)
    one = await client(at)
    mine = await one.get("/api/me", SESSION, ORIGIN)
    assert is_readable(mine)
    assert "x-total" in (mine.get("Access-Control-Expose-Headers") or "")
    other = await one.get("/api/me", SESSION, "Origin: https://evil.example")
    assert not [name for name in other.names if name.startswith("access-control")]


async def test_page_keeps_its_own_policy_but_for_listed_origins(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Fonts and the like, on routes without an injected credential."""
    upstream.default = upstream.reply(b"", *POLICY, type="font/woff2")
    one = await client(at)
    other = await one.get("/pages/font", "Origin: https://other.example")
    assert other.get("Access-Control-Allow-Origin") == "*"
    assert other.get("Access-Control-Allow-Credentials") is None
    assert is_readable(await one.get("/pages/font", ORIGIN))


async def test_without_listed_origins_no_api_answer_can_be_read(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(b"{}", *POLICY)
    one = await client(await sidecar(site(upstream)))
    for answer in (
        await one.get("/api/me", SESSION, ORIGIN),
        await one.ask("OPTIONS", "/api/me", ORIGIN, *PREFLIGHT),
    ):
        assert not [name for name in answer.names if name.startswith("access-control")]
        assert "Origin" not in (answer.get("Vary") or "")
    page = await one.ask("OPTIONS", "/pages", ORIGIN, *PREFLIGHT)
    assert page.get("Access-Control-Allow-Origin") == "*"


async def test_unreadable_request_is_not_answered_for_the_one_before_it(
    at: Embedded, client: Clients
) -> None:
    """Behind a proxy a connection carries the requests of many."""
    one = await client(at)
    assert is_readable(await one.get("/api/me", SESSION, ORIGIN))
    one.send(b"GET /api/me HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n")
    answer = await one.answer()
    assert answer.status == 400
    assert answer.get("Access-Control-Allow-Origin") is None


async def test_websocket_handshake_of_a_listed_origin_may_carry_the_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """By the same rule as unsafe methods (behaviour: browser protection)."""
    handshake = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    handshake += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    evil = await (await client(at)).get("/api/ws", SESSION, "Origin: https://evil.x", *handshake)
    assert evil.status == 403
    assert (await (await client(at)).get("/api/ws", SESSION, ORIGIN, *handshake)).status == 200
