"""The sidecar's own errors over the wire, in the shape that a route names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Embedded, Start, Upstream

SESSION = "Cookie: access_token=tok"
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
GRAPHQL = "Accept: application/graphql-response+json, application/json"


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    """`/problem`, `/graphql` and `/plain` are APIs, `/page` a page that speaks problems."""
    api = {"kind": "api", "upstream": "main", "envelope": False}
    return await sidecar(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "limits": {"body": 100},
            "routes": [
                {"path": "/problem", "errors": "problem", **api},
                {"path": "/graphql", "errors": "graphql", **api},
                {"path": "/plain", **api},
                {"path": "/page", "kind": "page", "upstream": "main", "errors": "problem"},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
        }
    )


def check(answer: Answer, path: str, status: int, code: str) -> dict[str, Any]:
    """Checks the shape of an error, and returns what it says besides."""
    assert answer.status == status
    assert answer.get("Cache-Control") == "no-store"
    if path in ("/problem", "/page"):
        assert answer.get("Content-Type") == "application/problem+json"
        said: dict[str, Any] = answer.json
        assert (said["type"], said["status"]) == ("about:blank", status)
        assert {"title", "detail"} <= said.keys()
    else:
        assert answer.get("Content-Type") == "application/json"
        (error,) = answer.json["errors"]
        assert error["message"] == answer.json["message"]
        said = error["extensions"]
        assert answer.code == code
    assert said["code"] == code
    assert said["requestId"] == answer.get("X-Request-Id")
    return said


@pytest.mark.parametrize("path", ["/problem", "/graphql"])
async def test_every_error_of_a_route_has_its_shape(
    at: Embedded, upstream: Upstream, client: Clients, path: str
) -> None:
    """No session, another origin, a body too large, an upstream that breaks off."""
    one = await client(at)
    evil = "Origin: https://evil.example"
    check(await one.post(path, SESSION, evil, body=b"a"), path, 403, "csrf_rejected")
    upstream.answers(["close"])
    check(await one.post(path, SESSION, body=b"a"), path, 502, "upstream_unreachable")
    answer = await one.post(path, SESSION, body=b"a" * 101)
    check(answer, path, 413, "body_too_large")


@pytest.mark.parametrize("path", ["/problem", "/graphql"])
async def test_logout_that_a_401_leads_to_speaks_as_its_route(
    at: Embedded, upstream: Upstream, client: Clients, path: str
) -> None:
    """The ticket knows the shape, so that `fetch` lands on what its caller reads."""
    one = await client(at)
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    location = (await one.post(path, SESSION, *FETCH, body=b"a")).get("Location") or ""
    said = check(await one.get(location, SESSION, *FETCH), path, 401, "session_expired")
    assert (said["loginUrl"], said["logoutUrl"]) == ("/login", "/api/logout")
    changed = await one.get(location, "Cookie: access_token=new", *FETCH)
    check(changed, path, 401, "session_changed")
    cross = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: cross-site"]
    check(await one.get(location, *cross), path, 401, "session_required")
    login = await one.get(location, SESSION, *DOCUMENT)
    assert (login.status, login.get("Location")) == (303, "/login")


async def test_graphql_client_reads_errors_without_the_key_as_well(
    at: Embedded, client: Clients
) -> None:
    """Where answers are not wrapped, by what it accepts; others get an envelope."""
    one = await client(at)
    location = (await one.post("/plain", GRAPHQL, *FETCH, body=b"a")).get("Location") or ""
    check(await one.get(location, GRAPHQL, *FETCH), "/graphql", 401, "session_expired")
    location = (await one.post("/plain", *FETCH, body=b"a")).get("Location") or ""
    answer = await one.get(location, *FETCH)
    assert list(answer.json) == ["isError", "message", "data", "status", "errorData"]


async def test_page_route_may_name_a_shape(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Otherwise it is a page."""
    one = await client(at)
    upstream.answers(["close"], ["close"])
    check(await one.post("/page", body=b"a"), "/page", 502, "upstream_unreachable")
    answer = await one.post("/", body=b"a")
    assert (answer.status, answer.get("Content-Type")) == (502, "text/html; charset=utf-8")
