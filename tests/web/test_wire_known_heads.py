"""Responses whose heads are alike, byte for byte, are still those of their own requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Start, Upstream

DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"


def site(upstream: Upstream) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/public", "session": "none", **api},
            {"path": "/plain", "envelope": False, "session": "optional", **api},
            {"path": "/", "session": "optional", **api},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
    }


async def test_equal_heads_are_given_out_by_route_session_and_method(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Caching, type and length follow the request; ids and cookies are those of the response."""
    at = await sidecar(site(upstream))
    upstream.default = upstream.reply(b'{"data":1}', DATE, "ETag: W/1")
    wrapped = b'{"isError":false,"message":null,"data":1,"status":200,"errorData":null}'
    cases = [
        ("GET /public", [], wrapped, None),
        ("GET /a", [], wrapped, None),
        ("GET /a", ["Cookie: access_token=tok"], wrapped, "private"),
        ("GET /plain", [], b'{"data":1}', None),
        ("GET /plain", ["Cookie: access_token=tok"], b'{"data":1}', "private"),
        ("GET /a", ["Cookie: access_token=other"], wrapped, "private"),
        ("POST /a", [], wrapped, None),
    ]
    one = await client(at)
    ids: list[str | None] = []
    seen: dict[int, list[tuple[str, ...]]] = {}
    for _ in range(4):
        for number, (what, lines, body, caching) in enumerate(cases):
            method, _, path = what.partition(" ")
            answer = await one.ask(method, path, *lines)
            assert answer.body == body
            assert answer.get("Cache-Control") == caching
            assert answer.get("Date") == DATE.partition(": ")[2]
            ids.append(answer.get("X-Request-Id"))
            seen.setdefault(number, []).append(told(answer))
    assert len(set(ids)) == len(ids)
    assert all(len(set(heads)) == 1 for heads in seen.values())


def told(answer: Answer) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name, value in answer.fields if name != "X-Request-Id")
