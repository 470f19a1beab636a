"""What a 401 does, client by client and rule by rule, over the wire (behaviour: 401)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Clients, Embedded, Received, Start, Upstream, Wire

HOST = "Host: app.example.com\r\n"
SESSION = "Cookie: theme=dark; access_token=tok"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
HANDSHAKE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
HANDSHAKE += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://app.example.com"]


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API with a route for each rule, and pages."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    rows: dict[str, dict[str, Any]] = {
        "/api": {},
        "/api/optional": {"session": "optional"},
        "/api/login": {"session": "none"},
        "/api/soft": {"on_unauthorized": "envelope"},
        "/api/own": {"on_unauthorized": "pass"},
        "/api/bearer": {"authorization": "pass"},
    }
    table: list[dict[str, Any]] = [{"path": path, **api, **own} for path, own in rows.items()]
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [*table, {"path": "/", "kind": "page", "upstream": "main"}],
        **more,
    }


def refuses(upstream: Upstream, *fields: str, tokens: str = "tok") -> Callable[[Received], bytes]:
    """An upstream that answers 401 where one of these tokens is presented, or none is."""

    def answer(request: Received) -> bytes:
        bearer = (request.get("Authorization") or "").removeprefix("Bearer ")
        if bearer in ["", *tokens.split()]:
            return upstream.reply(b'{"message":"no"}', *fields, status="401 Unauthorized")
        return upstream.reply(b'{"token":"%b"}' % bearer.encode())

    return answer


async def is_alive(
    at: Embedded, upstream: Upstream, client: Clients, cookie: str = SESSION
) -> bool:
    """Whether the session is still injected."""
    count = len(upstream.requests)
    await (await client(at)).get("/api/optional/probe", cookie)
    return len(upstream.requests) > count and upstream.last.get("Authorization") is not None


# -- the challenge ---------------------------------------------------------------------------------

PLAIN = 'Bearer realm="sidecar"'
INVALID = f'{PLAIN}, error="invalid_token"'


@pytest.mark.parametrize(
    ("path", "fields", "challenge"),
    [
        ("/api/me", ["Sec-Purpose: prefetch"], PLAIN),
        ("/api/me", ["RSC: 1"], PLAIN),
        ("/api/me", ["RSC: 1", "Cookie: access_token=a,b"], PLAIN),
        ("/api/me", ["RSC: 1", SESSION], INVALID),
        ("/api/me", [SESSION, *HANDSHAKE], INVALID),
        ("/api/me", HANDSHAKE, PLAIN),
        ("/api/soft/me", FETCH, PLAIN),
        ("/api/soft/me", [SESSION, *FETCH], INVALID),
        ("/api/soft/me", [SESSION, *DOCUMENT], INVALID),
        ("/api/soft/said", [SESSION, *FETCH], INVALID),
        ("/api/logout?ticket={ticket}", FETCH, INVALID),
        ("/api/logout?ticket={ticket}", [*FETCH, "Cookie: access_token=other"], PLAIN),
        ("/needs", ["RSC: 1"], PLAIN),
    ],
)
async def test_every_401_of_the_sidecar_has_a_challenge(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    fields: list[str],
    challenge: str,
) -> None:
    """RFC 9110 11.6.1; an error is named if a token was there (RFC 6750 3.1)."""
    config = site(upstream)
    page = {"path": "/needs", "kind": "page", "upstream": "main", "session": "required"}
    config["routes"].append(page)
    upstream.default = lambda asked: (
        upstream.reply(b'{"message":"UnAuthentication"}')
        if asked.target == "/said"
        else refuses(upstream)(asked)
    )
    at = await sidecar(config)
    one = await client(at)
    led = await one.get("/api/me", SESSION) if "{ticket}" in path else None
    ticket = "" if led is None else (led.get("Location") or "").partition("?ticket=")[2]
    answer = await one.get(path.format(ticket=ticket), *fields)
    assert answer.status == 401
    assert answer.get("WWW-Authenticate") == challenge


@pytest.mark.parametrize("path", ["/api/login/x", "/api/own/x", "/api/bearer/x", "/page"])
async def test_challenge_of_an_upstream_passes_as_it_is(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """RFC 9110 11.6.1: no proxy may change it; without one the 401 stays the upstream's."""
    one = await client(await sidecar(site(upstream)))
    own = [SESSION] if "bearer" not in path else ["Authorization: Bearer mine"]
    for said in (['WWW-Authenticate: Basic realm="x", DPoP'], []):
        upstream.default = upstream.reply(b"{}", *said, status="401 Unauthorized")
        answer = await one.get(path, *own, *FETCH)
        assert answer.status == 401
        assert answer.all("WWW-Authenticate") == [line.partition(": ")[2] for line in said]


def test_every_error_of_status_401_has_a_challenge() -> None:
    def kinds(kind: type[ProxyError]) -> list[type[ProxyError]]:
        return [kind, *(below for one in kind.__subclasses__() for below in kinds(one))]

    for kind in kinds(ProxyError):
        assert bool(kind.challenge) is (kind.status == 401), kind


# -- who asks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_fields", [DOCUMENT, FETCH, [], ["Accept: text/html"]])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_rejected_token_leads_to_logout_with_a_ticket(
    sidecar: Start, upstream: Upstream, client: Clients, method: str, client_fields: list[str]
) -> None:
    """303, never 307 or 308, which would send the body to the logout (T38)."""
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    one = await client(at)
    body = b"secret" if method in ("POST", "PUT", "PATCH") else b""
    answer = await one.ask(method, "/api/me?x=1", SESSION, *client_fields, body=body)
    assert answer.status == 303
    assert answer.body == b""
    assert answer.get("Cache-Control") == "no-store"
    path, _, ticket = (answer.get("Location") or "").partition("?ticket=")
    assert path == "/api/logout"
    assert ticket.isprintable()
    assert "tok" not in ticket
    assert answer.all("Set-Cookie") == []
    assert not await is_alive(at, upstream, client)


@pytest.mark.parametrize(
    "mark",
    [
        "Sec-Purpose: prefetch",
        "Sec-Purpose: prefetch;prerender",
        "Purpose: prefetch",
        "X-Moz: prefetch",
        "Next-Router-Prefetch: 1",
    ],
)
@pytest.mark.parametrize("with_session", [True, False])
async def test_prefetch_touches_nothing(
    sidecar: Start, upstream: Upstream, client: Clients, *, mark: str, with_session: bool
) -> None:
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    lines = [SESSION] if with_session else []
    answer = await (await client(at)).get("/api/me", mark, *lines, *DOCUMENT)
    assert (answer.status, answer.code) == (401, "prefetch_unauthenticated")
    assert answer.get("Cache-Control") == "no-store"
    assert await is_alive(at, upstream, client)


@pytest.mark.parametrize("with_session", [True, False])
async def test_router_data_request_gets_401(
    sidecar: Start, upstream: Upstream, client: Clients, *, with_session: bool
) -> None:
    """So that the router loads the document; a session that was rejected is dead."""
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    lines = [SESSION] if with_session else []
    answer = await (await client(at)).get("/api/me", "RSC: 1", *lines, *FETCH)
    assert (answer.status, answer.get("Cache-Control")) == (401, "no-store")
    assert answer.get("Location") is None
    assert await is_alive(at, upstream, client) is not with_session


@pytest.mark.parametrize("with_session", [True, False])
async def test_websocket_handshake_gets_401(
    sidecar: Start, upstream: Upstream, client: Clients, *, with_session: bool
) -> None:
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    lines = [SESSION] if with_session else []
    answer = await (await client(at)).get("/api/ws", *HANDSHAKE, *lines)
    assert answer.status == 401
    assert await is_alive(at, upstream, client) is not with_session


@pytest.mark.parametrize(
    ("path", "cookie", "code", "dies"),
    [
        ("/api/soft", SESSION, "token_rejected", True),
        ("/api/soft", "Cookie: a=b", "session_required", False),
        ("/api/soft", "Cookie: access_token=a b", "session_required", False),
    ],
)
async def test_route_may_answer_an_envelope_instead(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    cookie: str,
    code: str,
    dies: bool,
) -> None:
    """The session is dead all the same."""
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    answer = await (await client(at)).get(path, cookie, *FETCH)
    assert (answer.status, answer.code) == (401, code)
    assert answer.json["isError"] is True
    assert await is_alive(at, upstream, client) is not dies


async def test_route_may_pass_the_upstreams_answer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """As any other 4xx, and the session is untouched."""
    upstream.default = refuses(upstream, "WWW-Authenticate: Bearer")
    at = await sidecar(site(upstream))
    answer = await (await client(at)).get("/api/own", SESSION)
    assert (answer.status, answer.json["message"]) == (401, "no")
    assert answer.get("WWW-Authenticate") == "Bearer"
    assert await is_alive(at, upstream, client)


# -- what counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("challenge", "counts"),
    [
        ("Bearer", True),
        ('Bearer error="invalid_token"', True),
        ('Bearer realm="x", error="invalid_token", error_description="expired"', True),
        ("Bearer error=invalid_token", True),
        ('Bearer error="insufficient_scope", scope="a"', False),
        ('Bearer error="insufficient_user_authentication", acr_values="x"', False),
        ('DPoP error="use_dpop_nonce", error_description="invalid_token"', False),
        ("Basic realm=x", True),
    ],
)
async def test_challenge_that_asks_for_more_is_no_logout(
    sidecar: Start, upstream: Upstream, client: Clients, challenge: str, counts: bool
) -> None:
    """Step-up and DPoP nonces: the answer passes, with the challenge."""
    upstream.default = refuses(upstream, f"WWW-Authenticate: {challenge}")
    at = await sidecar(site(upstream))
    answer = await (await client(at)).get("/api/me", SESSION)
    assert answer.status == (303 if counts else 401)
    assert counts or answer.get("WWW-Authenticate") == challenge
    assert await is_alive(at, upstream, client) is not counts


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        # A wrong password is no logout, whoever asks (behaviour: routes, session: none).
        ("/api/login", [], 401),
        ("/api/login", [SESSION], 401),
        # No credential was injected, so the 401 says nothing about one.
        ("/api/optional", [], 401),
        ("/api/optional", ["Cookie: access_token=a b"], 401),
        ("/page", [SESSION], 401),
        ("/page", [], 401),
        # The client's own bearer.
        ("/api/bearer", ["Authorization: Bearer tok"], 401),
    ],
)
async def test_401_without_an_injected_credential_passes(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    lines: list[str],
    status: int,
) -> None:
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream))
    answer = await (await client(at)).get(path, *lines)
    assert answer.status == status
    assert b"no" in answer.body
    assert await is_alive(at, upstream, client)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Oops"])
@pytest.mark.parametrize("pieces", [False, True])
async def test_message_counts_at_any_status(
    sidecar: Start, upstream: Upstream, client: Clients, status: str, pieces: bool
) -> None:
    """`UnAuthentication` by default, in one piece or several; other messages do not.

    In a success it must be all that there is: a stored text logs nobody out.
    """
    answers = [
        upstream.reply(b'{"message":"UnAuthentication"}', status=status),
        upstream.reply(b'{"message":"Unauthentication"}', status=status),
        upstream.reply(b'{"data":{"message":"UnAuthentication"}}', status=status),
        upstream.reply(b'"UnAuthentication"', status=status),
        upstream.reply(b'{"message":"UnAuthentication","id":7}', status=status),
    ]
    at = await sidecar(site(upstream))
    for number, whole in enumerate(answers):
        upstream.default = [whole[:-3], 0.01, whole[-3:]] if pieces else whole
        one = await client(at)
        answer = await one.get("/api/me", f"Cookie: access_token=t{number}")
        counts = number == 0 or (number == 4 and status > "4")
        assert answer.status == (303 if counts else int(status[:3])), whole
    upstream.default = answers[0]
    answer = await (await client(at)).get("/api/login", "Cookie: access_token=new")
    assert answer.status == int(status[:3])  # session: none


RULES = [
    {"path": "errors.0.extensions.code", "equals": "UNAUTHENTICATED"},
    {"path": "code", "equals": 7},
    {"path": "expired", "equals": True},
    {"path": "results.*.code", "equals": "EXPIRED"},
]


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ({"errors": [{"extensions": {"code": "UNAUTHENTICATED"}}]}, True),
        ({"errors": [{}, {"extensions": {"code": "UNAUTHENTICATED"}}]}, False),
        ({"errors": [], "data": 1}, False),
        ({"code": 7}, True),
        ({"code": "7"}, False),
        ({"expired": True}, True),
        ({"expired": 1}, False),
        ([7], False),
        ({"results": [{}, {"code": "EXPIRED"}]}, True),
        ([{"errors": [{"extensions": {"code": "UNAUTHENTICATED"}}]}, {"data": 1}], True),
        ([{"data": 1}, {"code": 7}], True),
    ],
)
async def test_configured_member_counts(
    sidecar: Start, upstream: Upstream, client: Clients, body: Any, counts: bool
) -> None:
    """GraphQL answers 200 to everything."""
    upstream.default = upstream.reply(json.dumps(body).encode())
    at = await sidecar(site(upstream, unauthorized={"match": RULES}))
    answer = await (await client(at)).post("/api/graphql", SESSION, body=b"{}")
    assert answer.status == (303 if counts else 200)


async def test_configured_statuses_count(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(b"{}", status="419 Page Expired")
    at = await sidecar(site(upstream, unauthorized={"status": [419], "messages": []}))
    assert (await (await client(at)).get("/api/me", SESSION)).status == 303
    upstream.default = upstream.reply(b'{"message":"UnAuthentication"}', status="401 X")
    assert (await (await client(at)).get("/api/me", "Cookie: access_token=t")).status == 401


@pytest.mark.parametrize("size", [100, 200_000])
async def test_body_of_the_401_is_not_waited_for(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """Its status is enough."""
    whole = upstream.reply(b"x" * size, status="401 Unauthorized", type="text/plain")
    upstream.answers([whole[:-50], "hang"])
    at = await sidecar(site(upstream))
    one = await client(at)
    assert (await one.get("/api/me", SESSION)).status == 303
    assert (await one.get("/api/login")).status == 200


# -- a dead session --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "cookie"),
    [
        ("/api/me", 303, None),
        ("/api/soft", 401, None),
        ("/api/optional", 200, "theme=dark"),
        ("/page", 200, "theme=dark"),
        ("/api/login", 200, "theme=dark"),
    ],
)
async def test_dead_session_counts_as_none(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    status: int,
    cookie: str | None,
) -> None:
    """Required is answered without the upstream, the rest forwarded anonymously; so is a replay."""
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    at = await sidecar(site(upstream))
    one = await client(at)
    assert (await one.get("/api/me", SESSION)).status == 303
    for _ in range(2):
        count = len(upstream.requests)
        answer = await one.get(path, SESSION)
        assert answer.status == status
        assert len(upstream.requests) == count + (status == 200)
        if status == 200:
            assert upstream.last.get("Cookie") == cookie
            assert upstream.last.get("Authorization") is None


async def test_dead_session_is_refused_on_a_connection_that_used_it_before(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What a connection remembers of its requests does not outlive the session."""
    at = await sidecar(site(upstream))
    busy, other = await client(at), await client(at)
    for _ in range(3):
        assert (await busy.get("/api/me", SESSION)).status == 200
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    assert (await other.get("/api/other", SESSION)).status == 303
    assert (await busy.get("/api/me", SESSION)).status == 303
    assert (await busy.get("/api/optional", SESSION)).status == 200
    assert upstream.last.get("Authorization") is None


async def test_other_sessions_live_on(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    upstream.default = refuses(upstream, tokens="tok")
    at = await sidecar(site(upstream))
    one = await client(at)
    assert (await one.get("/api/me", SESSION)).status == 303
    answer = await one.get("/api/me", "Cookie: access_token=other")
    assert answer.json["data"] == {"token": "other"}


async def test_late_answer_with_success_passes_though_the_session_died(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Only what comes after is refused."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            request = await upstream.receive(wire)
            if request.target == "/slow":
                await release.wait()
                wire.send(upstream.reply(b"{}"))
            else:
                wire.send(upstream.reply(b"{}", status="401 X"))

    upstream.serve = serve
    at = await sidecar(site(upstream))
    slow, fast = await client(at), await client(at)
    slow.send(f"GET /api/slow HTTP/1.1\r\n{HOST}{SESSION}\r\n\r\n")
    await at.wait_for(lambda _: bool(upstream.requests))
    assert (await fast.get("/api/me", SESSION)).status == 303
    release.set()
    assert (await slow.answer()).status == 200


async def test_flood_of_401s_ends_the_session_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """T36: every client gets its redirect, one session is counted."""
    upstream.default = [0.05, upstream.reply(b"{}", status="401 X")]
    at = await sidecar(site(upstream))
    many = [await client(at) for _ in range(20)]
    for one in many:
        one.send(f"GET /api/me HTTP/1.1\r\n{HOST}{SESSION}\r\n\r\n")
    answers = [await one.answer() for one in many]
    assert {answer.status for answer in answers} == {303}
    metrics = await at.metrics()
    assert metrics["sidecar_tombstones"] == 1
    assert metrics['sidecar_sessions_ended_total{reason="token_rejected"}'] == 1


async def test_missing_session_leads_to_a_ticket_that_names_none(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It ends nothing that is alive (T35)."""
    at = await sidecar(site(upstream))
    one = await client(at)
    for cookie in ("Cookie: a=b", "Cookie: access_token=a b"):
        answer = await one.get("/api/me", cookie)
        assert answer.status == 303
        location = answer.get("Location") or ""
        left = await one.get(location, *FETCH, cookie)
        assert (left.status, left.code) == (401, "session_expired")
        changed = await one.get(location, *FETCH, SESSION)
        assert (changed.status, changed.code) == (401, "session_changed")
    assert upstream.requests == []
    assert await is_alive(at, upstream, client)


async def test_return_parameter_carries_the_page_to_the_login(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Of a document that fills the window only, got by GET, and only its own path."""
    upstream.default = refuses(upstream)
    at = await sidecar(site(upstream, logout={"return_param": "from"}))
    one = await client(at)
    answer = await one.get("/api/report?a=1&b=%2F", SESSION, *DOCUMENT)
    login = await one.get(answer.get("Location") or "", SESSION, *DOCUMENT)
    assert login.get("Location") == "/login?from=%2Fapi%2Freport%3Fa%3D1%26b%3D%252F"
    for method, lines in (
        ("GET", FETCH),
        ("POST", DOCUMENT),
        ("HEAD", DOCUMENT),
        ("GET", ["Sec-Fetch-Dest: iframe", "Sec-Fetch-Mode: navigate"]),
    ):
        answer = await one.ask(method, "/api/report", SESSION, *lines)
        login = await one.get(answer.get("Location") or "", SESSION, *DOCUMENT)
        assert login.get("Location") == "/login"


# -- CSRF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("lines", "passes"),
    [
        ([], True),
        (["Sec-Fetch-Site: same-origin"], True),
        (["Sec-Fetch-Site: none"], True),
        (["Origin: http://app.example.com"], True),
        (["Origin: https://admin.example.com", "Sec-Fetch-Site: same-site"], True),
        (["Sec-Fetch-Site: same-site"], False),
        (["Sec-Fetch-Site: cross-site"], False),
        (["Origin: https://evil.example"], False),
        (["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"], False),
        (["Origin: null"], False),
        (["Origin: https://app.example.com"], False),
        (["Origin: http://app.example.com.evil.example"], False),
        (["Origin: https://evil.example", "X-Forwarded-Host: evil.example"], False),
    ],
)
async def test_unsafe_method_with_a_session_needs_a_trusted_origin(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    method: str,
    lines: list[str],
    passes: bool,
) -> None:
    """A refused one reaches no upstream and ends no session (behaviour: browser protection)."""
    at = await sidecar(site(upstream, cors={"origins": ["https://admin.example.com"]}))
    answer = await (await client(at)).ask(method, "/api/me", SESSION, *lines)
    assert answer.status == (200 if passes else 403)
    assert passes or answer.code == "csrf_rejected"
    assert len(upstream.requests) == passes
    assert await is_alive(at, upstream, client)


@pytest.mark.parametrize(
    ("method", "path", "cookie"),
    [
        ("GET", "/api/me", SESSION),
        ("HEAD", "/api/me", SESSION),
        ("POST", "/api/login", SESSION),
        ("POST", "/page", SESSION),
        ("POST", "/api/optional", "Cookie: a=b"),
    ],
)
async def test_csrf_rule_is_for_unsafe_requests_with_an_injected_credential(
    sidecar: Start, upstream: Upstream, client: Clients, *, method: str, path: str, cookie: str
) -> None:
    at = await sidecar(site(upstream))
    evil = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"]
    assert (await (await client(at)).ask(method, path, cookie, *evil)).status == 200


async def test_csrf_header_is_demanded_besides(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(site(upstream, csrf={"header": "X-CSRF"}))
    one = await client(at)
    same = "Sec-Fetch-Site: same-origin"
    assert (await one.post("/api/me", SESSION, same)).status == 403
    assert (await one.post("/api/me", SESSION, same, "x-csrf: 1")).status == 200
    assert (await one.post("/api/me", SESSION, "X-CSRF: 1", "Origin: http://x")).status == 403
    assert (await one.get("/api/me", SESSION)).status == 200


@pytest.mark.parametrize("pace", [0.0, 0.05])
async def test_client_that_goes_on_sending_gets_the_answer(
    sidecar: Start, upstream: Upstream, client: Clients, pace: float
) -> None:
    """A browser reads the answer to an upload only once it has sent it, fast or slowly."""

    async def serve(wire: Wire) -> None:
        await wire.read_head()
        wire.send(upstream.reply(b"{}", status="401 X"))

    upstream.serve = serve
    at = await sidecar(site(upstream))
    one = await client(at)
    size = 20 << 20 if not pace else 4 << 20
    head = f"POST /api/me HTTP/1.1\r\n{HOST}{SESSION}\r\nContent-Length: {size}\r\n\r\n"
    async with asyncio.timeout(20):
        await one.trickle(head.encode() + bytes(size), 1 << 16, pace)
    assert (await one.answer("POST")).status == 303
    assert await one.rest() == b""
