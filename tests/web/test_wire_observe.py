"""`observe: true`: everything passes as it came, and what would have been done is told."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.formats import FORMATS

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Script, Start, Upstream

SECRET = "a secret of Auth.js, for the tests"
NAME = "authjs.session-token"
SOURCE = FORMATS["authjs"](secrets=[SECRET], token=("accessToken",))
COOKIE = "Cookie: a=1; access_token=tok; b=2"
CROSS = "Sec-Fetch-Site: cross-site"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
OVER = b'{"message":"UnAuthentication"}'


def config(upstream: Upstream, *more: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """An observed api, an api that is not, and other routes."""
    api = {"kind": "api", "upstream": "main"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/seen", **api, "observe": True, **keys},
            {"path": "/api", **api, "session": "optional"},
            *more,
        ],
    }


def would(at: Embedded) -> list[str | None]:
    """What the access log says of the requests to the observed route."""
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    requests = [line for line in told if line["event"] == "request"]
    return [line.get("would") for line in requests if line["route"] == "/seen"]


# -- requests --------------------------------------------------------------------------------------


async def test_request_passes_as_it_came(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Cookies byte for byte, and the client's own bearer."""
    one = await client(await sidecar(config(upstream)))
    assert (await one.get("/seen?a=%20b", COOKIE, "Authorization: Bearer own")).status == 200
    assert upstream.last.target == "/seen?a=%20b"
    assert upstream.last.get("Cookie") == COOKIE.removeprefix("Cookie: ")
    assert upstream.last.get("Authorization") == "Bearer own"


@pytest.mark.parametrize(
    ("method", "fields", "told"),
    [
        ("GET", [COOKIE], "inject, strip_cookies, wrap"),
        ("GET", [COOKIE, "Authorization: Bearer own"], "remove_authorization"),
        ("GET", [], "session_required"),
        ("GET", ["Cookie: a=1"], "session_required"),
        ("POST", [COOKIE, CROSS, "Origin: https://evil.example"], "csrf_rejected"),
        ("POST", [COOKIE, "Sec-Fetch-Site: same-origin"], "inject, strip_cookies, wrap"),
    ],
)
async def test_what_would_become_of_a_request_is_told(  # noqa: PLR0917
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    method: str,
    fields: list[str],
    told: str,
) -> None:
    """In the access log and as a metric; the upstream answers all the same."""
    at = await sidecar(config(upstream))
    one = await client(at)
    answer = await one.ask(method, "/seen", *fields)
    assert (answer.status, answer.json) == (200, {"a": 1})
    assert upstream.last.method == method
    (line,) = would(at)
    assert line is not None
    assert told in line
    metrics = await at.metrics()
    for what in told.split(", "):
        assert metrics[f'sidecar_observed_total{{route="/seen",would="{what}"}}'] == 1


async def test_what_lets_nobody_else_in_stays(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What only a proxy may say, hop-by-hop fields, and framing that is ambiguous."""
    at = await sidecar(config(upstream))
    one = await client(at)
    fields = ["X-Forwarded-User: admin", "X-Forwarded-For: 1.2.3.4", "Connection: X-A", "X-A: 1"]
    assert (await one.get("/seen", *fields)).status == 200
    assert upstream.last.all("X-Forwarded-User") == upstream.last.all("X-A") == []
    assert upstream.last.get("X-Forwarded-For") == "127.0.0.1"
    one.send(
        "POST /seen HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert (await one.answer()).status == 400


async def test_no_spelling_leads_from_an_observed_route_round_a_required_one(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    private = {"path": "/seen/private/", "kind": "api", "upstream": "main"}
    one = await client(await sidecar(config(upstream, private)))
    for path in ("/seen/private/", "/seen//private/", "/seen/private%2Fx", "/seen/private;a/"):
        assert (await one.get(path, *FETCH)).status == 303
    assert upstream.requests == []


async def test_preflight_reaches_the_upstream(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And its own policy the client, for credentials too."""
    allowed = ["Access-Control-Allow-Origin: https://a.example"]
    allowed += ["Access-Control-Allow-Credentials: true"]
    upstream.default = upstream.reply(b"", *allowed, status="204 No Content", type=None).replace(
        b"Content-Length: 0\r\n", b""
    )
    at = await sidecar(config(upstream), cors={"origins": ["https://a.example"]})
    one = await client(at)
    fields = ["Origin: https://a.example", "Access-Control-Request-Method: PUT"]
    answer = await one.ask("OPTIONS", "/seen", *fields)
    assert upstream.last.method == "OPTIONS"
    assert answer.get("Access-Control-Allow-Credentials") == "true"
    assert answer.get("Access-Control-Allow-Origin") == "https://a.example"


# -- responses -------------------------------------------------------------------------------------


async def test_response_passes_as_it_came(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Bytes, session cookies and what caches are told; nothing is added but Via and an id."""
    fields = ["Set-Cookie: access_token=new", "Set-Cookie: b=1", "Cache-Control: public"]
    fields += ["CDN-Cache-Control: max-age=5", "Date: Thu, 01 Jan 1970 00:00:00 GMT"]
    upstream.default = upstream.reply(b'{ "data": 1 }', *fields)
    at = await sidecar(config(upstream))
    answer = await (await client(at)).get("/seen", COOKIE)
    assert answer.body == b'{ "data": 1 }'
    came = {f"{name}: {value}".lower() for name, value in answer.fields}
    assert came >= {field.lower() for field in fields}
    assert set(answer.names) - {"via", "x-request-id"} == {
        *("set-cookie", "cache-control", "cdn-cache-control", "date"),
        *("content-length", "content-type"),
    }
    assert "drop_set_cookie" in (would(at)[0] or "")


async def test_every_field_of_a_response_passes(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Whatever else the sidecar would make true, weaken or take over; in its own spelling."""
    fields = [
        *("WWW-Authenticate: Bearer realm=a", 'ETag: "a"', "Accept-Ranges: bytes"),
        *(
            "Vary: Origin",
            "Vary: Accept",
            "Content-Language: de",
            "Server: api",
            "X-A: 1",
            "X-A: 2",
        ),
        *(
            "Digest: sha-256=abc=",
            "Content-MD5: abc",
            "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT",
        ),
        *("Content-Disposition: inline", "X-Content-Type-Options: nosniff", "Surrogate-Control: a"),
        *("Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X-A", "Expires: 0"),
        *("Location: https://elsewhere.example/", "Strict-Transport-Security: max-age=1"),
        *("X-Frame-Options: DENY", "Link: </a>; rel=preload", "Retry-After: 7"),
    ]
    upstream.default = upstream.reply(b'{"message":"no"}', *fields, status="403 Not This")
    answer = await (await client(await sidecar(config(upstream)))).get("/seen", COOKIE)
    assert answer.line == "HTTP/1.1 403 Not This"
    for name in {field.partition(":")[0] for field in fields}:
        sent = [field.partition(": ")[2] for field in fields if field.partition(":")[0] == name]
        assert ", ".join(answer.all(name)) == ", ".join(sent), name


@pytest.mark.parametrize("keys", [{}, {"on_unauthorized": "envelope"}, {"envelope": False}])
async def test_401_ends_nothing_and_is_told(
    sidecar: Start, upstream: Upstream, client: Clients, keys: dict[str, Any]
) -> None:
    at = await sidecar(config(upstream, **keys))
    one = await client(at)
    upstream.answers(upstream.reply(b'{"no":1}', status="401 Unauthorized"))
    answer = await one.get("/seen", COOKIE, *DOCUMENT)
    assert (answer.status, answer.body, answer.all("Set-Cookie")) == (401, b'{"no":1}', [])
    assert would(at) == ["inject, strip_cookies, logout"]
    assert (await one.get("/api", COOKIE)).status == 200
    assert upstream.last.get("Authorization") == "Bearer tok"
    metrics = await at.metrics()
    assert metrics['sidecar_sessions_ended_total{reason="token_rejected"}'] == 0


async def test_401_of_a_request_without_a_session_is_none_that_counts(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream, session="optional"))
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    assert (await (await client(at)).get("/seen")).status == 401
    assert would(at) == ["wrap"]


@pytest.mark.parametrize("is_wrapped", [True, False])
@pytest.mark.parametrize("how", ["whole", "pieces", "gzip", "gzip in pieces"])
async def test_message_that_would_end_the_session_is_told(
    sidecar: Start, upstream: Upstream, client: Clients, how: str, is_wrapped: bool
) -> None:
    """However the body comes, which the client gets as it is."""
    body, coding = OVER, []
    if "gzip" in how:
        body, coding = gzip.compress(OVER), ["Content-Encoding: gzip"]
    reply = upstream.reply(body, *coding)
    at_body = reply.index(b"\r\n\r\n") + 4
    in_pieces: Script = [
        reply[:at_body],
        0.02,
        reply[at_body : at_body + 9],
        0.02,
        reply[at_body + 9 :],
    ]
    upstream.answers(in_pieces if "pieces" in how else reply)
    at = await sidecar(config(upstream, envelope=is_wrapped))
    one = await client(at)
    answer = await one.get("/seen", COOKIE, "Accept-Encoding: gzip")
    assert (answer.status, answer.body) == (200, body)
    assert would(at) == ["inject, strip_cookies, logout"]
    await one.get("/api", COOKIE)
    assert upstream.last.get("Authorization") == "Bearer tok"


async def test_what_would_be_no_response_at_all_is_told(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A JSON type that is not JSON would be 502."""
    at = await sidecar(config(upstream))
    upstream.answers(upstream.reply(b"{not json"))
    answer = await (await client(at)).get("/seen", COOKIE)
    assert (answer.status, answer.body) == (200, b"{not json")
    assert would(at) == ["inject, strip_cookies, upstream_protocol"]


async def test_long_body_passes_and_is_not_looked_into(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    body = json.dumps({"a": "x" * 300_000}).encode()
    upstream.default = upstream.reply(body)
    at = await sidecar(config(upstream))
    assert (await (await client(at)).get("/seen", COOKIE)).body == body
    assert would(at) == ["inject, strip_cookies, wrap"]


async def test_own_sign_out_of_the_application_ends_nothing_here(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream))
    one = await client(at)
    gone = "Set-Cookie: access_token=; Max-Age=0; Path=/"
    upstream.answers(upstream.reply(b"{}", gone))
    assert (await one.get("/seen", COOKIE)).all("Set-Cookie") == [gone.removeprefix("Set-Cookie: ")]
    await one.get("/api", COOKIE)
    assert upstream.last.get("Authorization") == "Bearer tok"


async def test_event_stream_outlives_the_session(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    upstream.answers([head, b"data: 1\n\n", "hang"])
    one, other = await client(at), await client(at)
    one.send(f"GET /seen HTTP/1.1\r\nHost: a\r\n{COOKIE}\r\n\r\n")
    await one.read_head()
    assert await one.reader.readuntil(b"\n\n\r\n")
    assert (await other.post("/api/logout", COOKIE, *FETCH)).status == 200
    assert await one.is_silent()
    one.reset()


async def test_rule_for_who_is_let_in_is_told(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(
        config(upstream, allow=[{"claim": "groups", "any": ["staff"]}]),
        session={"sources": [{"type": "authjs", "secret": SECRET, "token": "accessToken"}]},
    )
    claims = {"sub": "u", "exp": int(time.time()) + 3600, "accessToken": "tok", "groups": []}
    cookie = SOURCE.opener.seal(claims, NAME)  # type: ignore[attr-defined]
    assert (await (await client(at)).get("/seen", f"Cookie: {NAME}={cookie}")).status == 200
    assert would(at) == ["inject, strip_cookies, not_allowed"]


async def test_body_that_is_waited_for_is_judged_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(config(upstream))
    one = await client(at)
    head = f"POST /seen HTTP/1.1\r\nHost: a\r\n{COOKIE}\r\nContent-Length: 10\r\n\r\n"
    await one.trickle(head.encode() + b"0123456789", 30, 0.01)
    assert (await one.answer()).status == 200
    assert upstream.last.body == b"0123456789"
    metrics = await at.metrics()
    assert metrics['sidecar_observed_total{route="/seen",would="inject"}'] == 1


async def test_websocket_of_another_origin_opens_and_outlives_the_session(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """As without a sidecar; that it would be refused is told."""
    at = await sidecar(config(upstream))
    accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
    switch = f"HTTP/1.1 101 A\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{accept}\r\n\r\n"
    upstream.answers([switch.encode(), "hang"])
    one, other = await client(at), await client(at)
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    fields += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: https://evil.example"]
    assert (await one.get("/seen", COOKIE, CROSS, *fields)).status == 101
    assert (await other.post("/api/logout", COOKIE, *FETCH)).status == 200
    assert await one.is_silent()
    one.reset()
    await at.wait_for(lambda metrics: metrics['sidecar_requests_in_flight{kind="stream"}'] == 0)
    assert would(at) == ["csrf_rejected"]
