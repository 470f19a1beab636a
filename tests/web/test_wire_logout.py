"""The logout path over the wire: who may end a session, what is expired, where they go next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.proof import Proof
from sidecar.sessions import tombstones

if TYPE_CHECKING:
    from tests.conftest import Answer, Client, Clients, Embedded, Running, Start, Upstream, Wire

HOST = "Host: app.example.com\r\n"
SESSION = "Cookie: theme=dark; access_token=tok"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate"]
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors"]
WORKER = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: navigate", "Accept: text/html,*/*;q=0.8"]
SAME, NONE, CROSS, SIBLING = [
    [f"Sec-Fetch-Site: {site}"] for site in ("same-origin", "none", "cross-site", "same-site")
]
BASES = ["authjs.session-token", "next-auth.session-token", "access_token"]


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API behind `/api`, its login, and pages."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", "session": "required", **api},
            {"path": "/api/optional", "session": "optional", **api},
            {"path": "/api/login", "session": "none", **api},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        **more,
    }


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    return await sidecar(site(upstream))


async def ticket_of(one: Client, upstream: Upstream, cookie: str = SESSION) -> str:
    """The location to which a 401 of this session leads."""
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    answer = await one.get("/api/me", cookie)
    assert answer.status == 303
    return answer.get("Location") or ""


async def is_alive(one: Client, upstream: Upstream, cookie: str = SESSION) -> bool:
    """Whether the session is still injected."""
    assert (await one.get("/api/optional/probe", cookie)).status == 200
    return upstream.last.get("Authorization") is not None


def expired(answer: Answer) -> set[str]:
    """The names whose cookies an answer expires, each checked for how."""
    names = set()
    for line in answer.all("Set-Cookie"):
        name, _, attributes = line.partition("=; ")
        assert attributes, line
        parts = attributes.split("; ")
        assert {"Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"} <= set(parts)
        assert any(part.startswith("Path=/") for part in parts)
        assert ("Secure" in parts) >= name.startswith("__")
        assert not name.startswith("__Host-") or not any("Domain" in part for part in parts)
        names.add(name)
    return names


# -- the way from a 401 to the login ---------------------------------------------------------------


async def test_document_follows_the_ticket_to_the_login(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """303 there, the cookies expired, nothing stored; and the cookie is of no more use."""
    one = await client(at)
    location = await ticket_of(one, upstream)
    for _ in range(2):  # it works more than once
        answer = await one.get(location, SESSION, *DOCUMENT, *SAME)
        assert (answer.status, answer.get("Location")) == (303, "/login")
        assert answer.get("Cache-Control") == "no-store"
        assert expired(answer) == {*BASES, *(f"__Secure-{base}" for base in BASES)}
    assert not await is_alive(one, upstream)


@pytest.mark.parametrize("lines", [FETCH + SAME, [], ["Accept: application/json"]])
async def test_fetch_follows_the_ticket_to_an_envelope(
    at: Embedded, upstream: Upstream, client: Clients, lines: list[str]
) -> None:
    """401 with the ways to go, so that `fetch` lands on JSON; the cookies are expired as well."""
    one = await client(at)
    answer = await one.get(await ticket_of(one, upstream), SESSION, *lines)
    assert (answer.status, answer.get("Content-Type")) == (401, "application/json")
    assert list(answer.json) == ["isError", "message", "data", "status", "errorData"]
    told = answer.json["errorData"]
    assert told["code"] == "session_expired"
    assert (told["loginUrl"], told["logoutUrl"]) == ("/login", "/api/logout")
    assert answer.json["isError"] is True
    assert expired(answer) >= set(BASES)


async def test_ticket_ends_nothing_once_there_is_another_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """A stale 401 cannot harm the login that came after it (T35)."""
    one = await client(at)
    location = await ticket_of(one, upstream)
    new = "Cookie: access_token=new"
    document = await one.get(location, new, *DOCUMENT, *SAME)
    assert (document.status, document.get("Location")) == (303, "/")
    fetched = await one.get(location, new, *FETCH, *SAME)
    assert (fetched.status, fetched.code) == (401, "session_changed")
    assert document.all("Set-Cookie") == fetched.all("Set-Cookie") == []
    assert await is_alive(one, upstream, new)


@pytest.mark.parametrize("cookie", ["Cookie: a=b", "Cookie: access_token=a b", "X: y"])
async def test_ticket_works_without_its_session_too(
    at: Embedded, upstream: Upstream, client: Clients, cookie: str
) -> None:
    """None, expired or unreadable: whoever has the ticket goes on to the login."""
    one = await client(at)
    location = await ticket_of(one, upstream)
    for site in (SAME, CROSS):
        answer = await one.get(location, cookie, *DOCUMENT, *site)
        assert (answer.status, answer.get("Location")) == (303, "/login")


@pytest.mark.parametrize("lines", [CROSS, ["Referer: https://evil.example/"]])
async def test_ticket_from_another_site_expires_no_cookie_that_stayed_at_home(
    at: Embedded, upstream: Upstream, client: Clients, lines: list[str]
) -> None:
    """SameSite=Strict: another site's link carries no cookie, and must not expire it either."""
    one = await client(at)
    location = await ticket_of(one, upstream)
    document = await one.get(location, "Cookie: theme=dark", "Accept: text/html", *lines)
    if lines == CROSS:
        document = await one.get(location, *DOCUMENT, *lines)
    assert (document.status, document.get("Location")) == (303, "/login")
    fetched = await one.get(location, *lines)
    assert (fetched.status, fetched.code) == (401, "session_required")
    assert document.all("Set-Cookie") == fetched.all("Set-Cookie") == []
    assert await is_alive(one, upstream, "Cookie: access_token=other")
    metrics = await at.metrics()
    assert metrics['sidecar_sessions_ended_total{reason="token_rejected"}'] == 1
    assert not metrics.get('sidecar_sessions_ended_total{reason="logout"}')


@pytest.mark.parametrize(
    "forge",
    [
        lambda ticket: "",
        lambda ticket: "x",
        lambda ticket: ticket[:-1] + ("A" if ticket[-1] != "A" else "B"),
        lambda ticket: ("A" if ticket[0] != "A" else "B") + ticket[1:],
        lambda ticket: ticket[:-2],
        lambda ticket: ticket + "AA",
        lambda ticket: ticket * 40,
        lambda ticket: "%00%ff%c3%28",
    ],
)
async def test_forged_ticket_is_none(
    at: Embedded, upstream: Upstream, client: Clients, forge: Any
) -> None:
    one = await client(at)
    ticket = (await ticket_of(one, upstream)).partition("ticket=")[2]
    live = "Cookie: access_token=live"
    answer = await one.get(f"/api/logout?ticket={forge(ticket)}", live, *FETCH, *SAME)
    assert answer.status == 405
    assert await is_alive(one, upstream, live)


async def test_ticket_of_another_secret_is_none(
    sidecar: Start, at: Embedded, upstream: Upstream, client: Clients
) -> None:
    other = await sidecar(site(upstream, secret="another secret of the tests, 32 bytes"))
    location = await ticket_of(await client(other), upstream)
    answer = await (await client(at)).get(location, SESSION, *FETCH, *SAME)
    assert answer.status == 405


async def test_ticket_of_a_rotated_secret_still_works(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And replicas that share a secret know each other's."""
    old, new = "the old secret of the tests, 32 bytes", "the new secret of the tests, 32 bytes"
    first = await sidecar(site(upstream, secret=old))
    second = await sidecar(site(upstream, secret=[new, old]))
    location = await ticket_of(await client(first), upstream, "Cookie: a=b; access_token=tok")
    answer = await (await client(second)).get(location, *DOCUMENT, *CROSS)
    assert (answer.status, answer.get("Location")) == (303, "/login")


# -- without a ticket ------------------------------------------------------------------------------

ENDS, CONFIRMS, REFUSES = 303, 200, 405


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        (DOCUMENT + SAME, ENDS),
        (DOCUMENT + NONE, ENDS),
        (["Accept: text/html"], CONFIRMS),
        (["Accept: text/html", "Referer: http://APP.example.com:80/a"], ENDS),
        (["Accept: text/html", "Referer: http://app.example.com/a"], ENDS),
        (DOCUMENT + CROSS, CONFIRMS),
        (DOCUMENT + SIBLING, CONFIRMS),
        (["Accept: text/html", "Referer: https://evil.example/"], CONFIRMS),
        (["Accept: text/html", "Referer: http://app.example.com.evil.example/"], CONFIRMS),
        (WORKER + SAME, ENDS),
        (WORKER + CROSS, CONFIRMS),
        (["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: navigate", *SAME], REFUSES),  # a download
        (["Accept: text/html", "X-Requested-With: com.example.app"], CONFIRMS),
        (FETCH + SAME, REFUSES),
        (FETCH + CROSS, REFUSES),
        (["Sec-Fetch-Dest: image", "Sec-Fetch-Mode: no-cors", *CROSS], REFUSES),
        (["Sec-Fetch-Dest: image", "Sec-Fetch-Mode: no-cors", *SAME], REFUSES),
        (["Sec-Fetch-Dest: iframe", "Sec-Fetch-Mode: navigate", *CROSS], REFUSES),
        (["Sec-Fetch-Dest: style", *SAME], REFUSES),
        (["RSC: 1", *FETCH, *SAME], REFUSES),
        (["Next-Router-Prefetch: 1", "RSC: 1", *FETCH, *SAME], REFUSES),
        (["Sec-Purpose: prefetch", *DOCUMENT, *SAME], REFUSES),
        (["Sec-Purpose: prefetch;prerender", *DOCUMENT, *NONE], REFUSES),
        (["Purpose: prefetch", "Accept: text/html"], REFUSES),
        (["Origin: https://evil.example"], REFUSES),
        (["Referer: https://evil.example/"], REFUSES),
        (["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x"], REFUSES),
    ],
)
async def test_get_without_a_ticket(
    at: Embedded, upstream: Upstream, client: Clients, lines: list[str], outcome: int
) -> None:
    """Ends the session, asks, or does nothing at all (T33)."""
    one = await client(at)
    answer = await one.get("/api/logout", SESSION, *lines)
    assert answer.status == outcome
    assert bool(expired(answer)) is (outcome == ENDS)
    assert answer.get("Allow") == ("GET, HEAD, POST" if outcome == REFUSES else None)
    assert await is_alive(await client(at), upstream) is (outcome != ENDS)


async def test_script_without_sec_fetch_ends_the_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """curl and servers: 200 with an envelope that says where to go."""
    one = await client(at)
    answer = await one.get("/api/logout", SESSION)
    assert answer.status == 200
    assert answer.json["isError"] is False
    assert answer.json["data"] == {
        "code": "logged_out",
        "loginUrl": "/login",
        "logoutUrl": "/api/logout",
    }
    assert expired(answer) >= {"access_token"}
    assert not await is_alive(one, upstream)


async def test_confirm_page_asks_and_its_button_works(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """No frame may hold it, nothing of the request is in it unescaped."""
    one = await client(at)
    evil = "/api/logout?next=/a%22%3E%3Cscript%3E&x=%3Cscript%3E"
    answer = await one.get(evil, SESSION, *DOCUMENT, *CROSS)
    assert (answer.status, answer.get("X-Frame-Options")) == (200, "DENY")
    assert (answer.get("Content-Type") or "").startswith("text/html")
    assert b'method="post"' in answer.body
    assert b"Do you want to log out?" in answer.body
    assert b"<script" not in answer.body
    assert answer.get("Cache-Control") == "no-store"
    origin = ["Origin: http://app.example.com", *DOCUMENT, *SAME]
    pressed = await one.post("/api/logout", SESSION, *origin)
    assert (pressed.status, pressed.get("Location")) == (303, "/login")
    assert not await is_alive(one, upstream)


async def test_head_is_judged_as_get(at: Embedded, upstream: Upstream, client: Clients) -> None:
    """A HEAD that proves nothing ends nothing; with the ticket it ends the session."""
    one = await client(at)
    assert (await one.ask("HEAD", "/api/logout", SESSION, *FETCH, *SAME)).status == 405
    asked = await one.ask("HEAD", "/api/logout", SESSION, *DOCUMENT, *CROSS)
    assert (asked.status, asked.all("Set-Cookie")) == (200, [])
    assert await is_alive(one, upstream)
    location = await ticket_of(one, upstream)
    ended = await one.ask("HEAD", location, SESSION, *DOCUMENT, *SAME)
    assert (ended.status, ended.get("Location")) == (303, "/login")
    assert expired(ended) >= {"access_token"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_method_ends_nothing_and_reaches_no_upstream(
    at: Embedded, upstream: Upstream, client: Clients, method: str
) -> None:
    one = await client(at)
    answer = await one.ask(method, "/api/logout", SESSION, *SAME)
    assert answer.status in (204, 405)
    assert expired(answer) == set()
    assert upstream.requests == []
    assert await is_alive(one, upstream)


@pytest.mark.parametrize(
    ("lines", "ends"),
    [
        (SAME, True),
        (NONE, True),
        ([], True),
        (["Origin: http://app.example.com"], True),
        (["Origin: http://app.example.com", *SAME], True),
        (CROSS, False),
        (SIBLING, False),
        (["Origin: https://evil.example"], False),
        (["Origin: https://evil.example", *CROSS], False),
        (["Origin: null"], False),
    ],
)
@pytest.mark.parametrize("body", [b"", b"csrfToken=x&callbackUrl=%2F"])
async def test_post_needs_the_same_origin(
    at: Embedded, upstream: Upstream, client: Clients, *, lines: list[str], ends: bool, body: bytes
) -> None:
    """T34 of docs/security.md."""
    one = await client(at)
    answer = await one.post("/api/logout", SESSION, *lines, body=body)
    assert answer.status == (200 if ends else 403)
    assert bool(expired(answer)) is ends
    assert await is_alive(one, upstream) is not ends


async def test_a_script_sends_the_field_that_csrf_wants(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A form cannot, so its origin alone counts."""
    one = await client(await sidecar(site(upstream, csrf={"header": "X-CSRF"})))
    answer = await one.post("/api/logout", SESSION, *FETCH, *SAME)
    assert (answer.status, answer.code, expired(answer)) == (403, "csrf_rejected", set())
    assert await is_alive(one, upstream)
    answer = await one.post("/api/logout", SESSION, *FETCH, *SAME, "X-CSRF: 1")
    assert answer.status == 200
    assert not await is_alive(one, upstream)
    other = "Cookie: access_token=other"
    answer = await one.post("/api/logout", other, *DOCUMENT, *SAME)
    assert answer.status == 303
    assert not await is_alive(one, upstream, other)


async def test_logout_twice_is_harmless(at: Embedded, upstream: Upstream, client: Clients) -> None:
    one = await client(at)
    first, second = [await one.post("/api/logout", SESSION, *SAME) for _ in range(2)]
    assert first.status == second.status == 200
    assert expired(first) == expired(second)
    assert (await one.post("/api/logout", *SAME)).status == 200  # nor without any session
    metrics = await at.metrics()
    assert metrics['sidecar_sessions_ended_total{reason="logout"}'] == 1
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path", ["/api/logout", "/api/logout/", "/api/%6cogout", "/api/logout?x", "/api/logout/x"]
)
async def test_logout_path_is_matched_whole_and_normalised(
    at: Embedded, upstream: Upstream, client: Clients, path: str
) -> None:
    """With one slash behind it or without. What it does not match is a path of the API."""
    one = await client(at)
    answer = await one.post(path, SESSION, *SAME)
    if path == "/api/logout/x":
        assert upstream.last.target == "/logout/x"
    else:
        assert upstream.requests == []
        assert expired(answer)


# -- what is expired -------------------------------------------------------------------------------


async def test_every_presented_session_cookie_is_expired_and_no_other(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Chunks of both kinds and every prefix; look-alikes stay."""
    swept = ["authjs.session-token.0", "__Secure-authjs.session-token.17", "access_token__3"]
    swept += ["__Secure-next-auth.session-token", "__Host-access_token"]
    kept = ["theme", "access_tokens", "xaccess_token", "access_token.x", "Access_Token"]
    kept += ["authjs.session-token.0.1", "authjs.csrf-token", "authjs.session-token."]
    cookie = "Cookie: " + "; ".join(f"{name}=v" for name in [*swept, *kept])
    answer = await (await client(at)).post("/api/logout", cookie, *SAME)
    assert expired(answer) >= set(swept)
    assert not expired(answer) & set(kept)


async def test_every_duplicate_of_a_session_cookie_is_expired_if_the_user_asks(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """A parent domain's and a path's cookie of that name come with others' tokens: none is kept."""
    cookie = "Cookie: access_token=tok; access_token=other; __Secure-access_token=third"
    answer = await (await client(at)).post("/api/logout", cookie, *SAME)
    assert expired(answer) >= {"access_token", "__Secure-access_token"}


@pytest.mark.parametrize("public", ["https://app.example.com", "http://app.example.com", None])
async def test_host_prefix_is_expired_on_https(
    sidecar: Start, upstream: Upstream, client: Clients, public: str | None
) -> None:
    at = await sidecar(site(upstream, public_url=public))
    answer = await (await client(at)).post("/api/logout", SESSION)
    https = public is not None and public.startswith("https")
    assert ("__Host-access_token" in expired(answer)) is https
    assert "__Secure-access_token" in expired(answer)


async def test_cookies_are_expired_on_every_configured_domain_and_path(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Host-only besides, each on a line of its own (T39)."""
    logout = {"domains": ["example.com"], "paths": ["/", "/app"], "cookies": ["sid"]}
    sources = [{"type": "cookie", "cookie": "sid"}]
    at = await sidecar(site(upstream, logout=logout, session={"sources": sources}))
    answer = await (await client(at)).post("/api/logout", "Cookie: sid=tok")
    lines = [line for line in answer.all("Set-Cookie") if line.startswith("sid=")]
    scopes = [[part for part in line.split("; ") if part[:4] in ("Path", "Doma")] for line in lines]
    assert sorted(scopes) == [
        ["Path=/"],
        ["Path=/", "Domain=example.com"],
        ["Path=/app"],
        ["Path=/app", "Domain=example.com"],
    ]


async def test_names_from_the_client_never_leave_their_line(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Nothing that is presented can write a header (T32)."""
    odd = 'Cookie: access_token.0"=v; access_token=tok; access_token.1 =w; =access_token; ;;'
    answer = await (await client(at)).post("/api/logout", odd, *SAME)
    assert answer.status == 200
    presented = {"access_token.1", "__Secure-access_token.1"}
    assert expired(answer) - presented == {*BASES, *(f"__Secure-{base}" for base in BASES)}


# -- where they go next ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/", "/"),
        ("/a/b?c=d#e", "/a/b?c=d#e"),
        ("/sign-in", "/sign-in"),
        ("https://evil.example", None),
        ("//evil.example", None),
        ("///evil.example", None),
        ("/\\evil.example", None),
        ("\\\\evil.example", None),
        ("/%2Fevil.example", None),
        ("/%5Cevil.example", None),
        ("/\t/evil.example", None),
        ("/\r\nLocation: https://evil.example", None),
        ("/a\r\nSet-Cookie: a=b", None),
        ("/a\x00", None),
        ("/../evil", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("evil.example", None),
        ("", None),
        (" /a", None),
        ("http:/evil.example", None),
        ("/a//evil.example", None),
        ("/@evil.example", "/@evil.example"),
        ("/käse/a b?q={1}|2", "/k%C3%A4se/a%20b?q=%7B1%7D%7C2"),
        ("/\u2028", None),
    ],
)
@pytest.mark.parametrize("name", ["next", "callbackUrl"])
async def test_next_leads_to_local_paths_only(
    at: Embedded, client: Clients, wanted: str, location: str | None, name: str
) -> None:
    """T31; anything else is ignored for the login."""
    encoded = "".join(f"%{octet:02x}" for octet in wanted.encode())
    one = await client(at)
    answer = await one.get(f"/api/logout?{name}={encoded}", SESSION, *DOCUMENT, *SAME)
    assert (answer.status, answer.get("Location")) == (303, location or "/login")


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Forwarded-Host: evil.example"],
        ["X-Forwarded-Proto: https", "Forwarded: host=evil.example"],
        ["X-Original-URL: //evil.example"],
    ],
)
async def test_location_is_never_built_from_headers(
    at: Embedded, client: Clients, lines: list[str]
) -> None:
    """Nor from Host (T16)."""
    one = await client(at)
    answer = await one.get("/api/logout", "Host: evil.example", SESSION, *DOCUMENT, *SAME, *lines)
    assert answer.get("Location") == "/login"
    assert not any("evil" in value for _, value in answer.fields)


async def test_login_elsewhere_must_be_configured(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    login = "https://login.example.com/in?a=b"
    logout = {"redirect_to": login, "allowed_origins": ["https://login.example.com"]}
    at = await sidecar(site(upstream, logout=logout))
    answer = await (await client(at)).get("/api/logout", SESSION, *DOCUMENT, *SAME)
    assert answer.get("Location") == login


# -- what comes back -------------------------------------------------------------------------------


async def test_same_token_handed_out_by_a_new_login_works_again(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """An API may give the same token twice; the login lifts the tombstone (behaviour: logout)."""
    one = await client(at)
    await one.post("/api/logout", SESSION, *SAME)
    assert not await is_alive(one, upstream)
    await asyncio.sleep(0.01)
    upstream.answers(upstream.reply(b"{}", "Set-Cookie: access_token=tok; Path=/"))
    login = await one.post("/api/login", *SAME, body=b"{}")
    assert login.all("Set-Cookie") == ["access_token=tok; Path=/"]
    assert await is_alive(one, upstream)


async def test_answer_from_before_the_logout_does_not_revive_the_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Its Set-Cookie is dropped, its other cookies pass."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            request = await upstream.receive(wire)
            if request.target == "/login":
                await release.wait()
            cookies = ["Set-Cookie: access_token=tok; Path=/", "Set-Cookie: other=1"]
            wire.send(upstream.reply(b"{}", *cookies))

    upstream.serve = serve
    slow, fast = await client(at), await client(at)
    slow.send(f"POST /api/login HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    await at.wait_for(lambda _: bool(upstream.requests))
    await asyncio.sleep(0.01)
    assert (await fast.post("/api/logout", SESSION, *SAME)).status == 200
    release.set()
    assert (await slow.answer()).all("Set-Cookie") == ["other=1"]
    assert not await is_alive(fast, upstream)


async def test_request_that_presents_the_dead_session_does_not_revive_it(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """A frontend that rolls its cookies (`updateAge`) would otherwise undo the logout."""
    one = await client(at)
    await one.post("/api/logout", SESSION, *SAME)
    await asyncio.sleep(0.01)
    for path in ("/page", "/api/login"):
        upstream.answers(upstream.reply(b"{}", "Set-Cookie: access_token=tok; Path=/"))
        assert (await one.get(path, SESSION)).all("Set-Cookie") == []
    assert not await is_alive(one, upstream)


async def test_another_token_is_a_new_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Which any answer may set, at any time."""
    one = await client(at)
    await one.post("/api/logout", SESSION, *SAME)
    upstream.answers(upstream.reply(b"{}", "Set-Cookie: access_token=new; Path=/"))
    assert (await one.get("/page", SESSION)).all("Set-Cookie") == ["access_token=new; Path=/"]
    assert await is_alive(one, upstream, "Cookie: access_token=new")


# -- the frontend's own sign-out -------------------------------------------------------------------

GONE = "Max-Age=0; Path=/"


@pytest.mark.parametrize(
    "lines",
    [
        [f"access_token=; {GONE}"],
        ["access_token=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"],
        [f"other=; {GONE}", f"access_token=; {GONE}"],
        ["access_token=; Path=/"],
    ],
)
@pytest.mark.parametrize("path", ["/signout", "/api/login/out"])
async def test_answer_that_expires_the_session_cookie_ends_the_session(
    at: Embedded, upstream: Upstream, client: Clients, path: str, lines: list[str]
) -> None:
    """Everywhere at once, as if the logout path had been asked (behaviour: logout)."""
    one = await client(at)
    assert await is_alive(one, upstream)
    upstream.answers(upstream.reply(b"", *(f"Set-Cookie: {line}" for line in lines), type=None))
    answer = await one.post(path, SESSION)
    assert answer.status == 200
    assert answer.get("Cache-Control") == "no-store"
    assert set(lines) <= set(answer.all("Set-Cookie"))
    assert any(line.startswith("authjs.session-token=; ") for line in answer.all("Set-Cookie"))
    assert not await is_alive(one, upstream)
    metrics = await at.metrics()
    assert metrics['sidecar_sessions_ended_total{reason="signed_out"}'] == 1


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/page", ["theme=; Max-Age=0"]),
        ("/page", ["access_token=new; Path=/"]),
        ("/page", [f"access_token=; {GONE}", "access_token=new; Path=/"]),
        ("/page", [f"access_token.0=; {GONE}"]),
        ("/page", ["access_token=tok; Max-Age=3600"]),
        # Other cookies of the same name (RFC 6265 5.3), and another session.
        ("/page", ["access_token=; Max-Age=0; Path=/legacy"]),
        ("/page", ["access_token=; Max-Age=0; Domain=other.example.com"]),
        ("/page", ["access_token=a b; Path=/"]),
        ("/page", ["access_token=x; Max-Age=--5"]),
        # Dropped on this route, so it ends nothing (T8).
        ("/api/me", [f"access_token=; {GONE}"]),
    ],
)
async def test_other_cookies_end_nothing(
    at: Embedded, upstream: Upstream, client: Clients, path: str, lines: list[str]
) -> None:
    """Nor does a session that is replaced: requests of the old one may still be under way."""
    one = await client(at)
    upstream.answers(upstream.reply(b"{}", *(f"Set-Cookie: {line}" for line in lines)))
    await one.get(path, SESSION)
    assert await is_alive(one, upstream)


async def test_sign_out_is_completed_where_the_frontend_cannot(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The configured domains and paths of a name that it has expired itself."""
    at = await sidecar(site(upstream, logout={"domains": ["example.com"]}))
    one = await client(at)
    upstream.answers(upstream.reply(b"", f"Set-Cookie: access_token=; {GONE}", type=None))
    answer = await one.post("/signout", SESSION)
    lines = [line for line in answer.all("Set-Cookie") if line.startswith("access_token=;")]
    assert any("Domain=example.com" in line for line in lines)


async def test_sign_out_closes_what_lives_with_the_session(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """And leads a page that is being rendered to the login."""
    upstream.answers(["hang"], upstream.reply(b"", f"Set-Cookie: access_token=; {GONE}", type=None))
    waiting, one = await client(at), await client(at)
    waiting.send(f"GET /page HTTP/1.1\r\n{HOST}{SESSION}\r\nSec-Fetch-Dest: document\r\n\r\n")
    await at.wait_for(lambda _: bool(upstream.requests))
    await one.post("/signout", SESSION)
    assert (await waiting.answer()).status == 303


async def test_logouts_are_counted_by_reason(
    at: Running, upstream: Upstream, client: Clients
) -> None:
    one = await client(at)
    location = await ticket_of(one, upstream)
    await one.get(location, SESSION, *FETCH)
    await one.post("/api/logout", "Cookie: access_token=other", *SAME)
    metrics = await at.metrics()
    assert metrics['sidecar_logouts_total{reason="unauthorized"}'] == 1
    assert metrics['sidecar_logouts_total{reason="user"}'] == 1
    assert metrics["sidecar_tombstones"] == 2


# -- logouts of nobody -----------------------------------------------------------------------------


async def log_out_nobody(one: Client, count: int, *, visit: str | None = None) -> None:
    """Logs out with cookies that are made up; `visit` is where each goes before."""
    for number in range(count):
        cookie = f"Cookie: access_token=made-up-{number}; __Secure-access_token=other-{number}"
        if visit is not None:
            assert (await one.get(visit, cookie)).status == 200
        assert (await one.post("/api/logout", cookie)).status == 200


@pytest.mark.parametrize("visit", [None, "/api/optional/public"])
async def test_logouts_of_nobody_bring_no_ended_session_back(
    at: Embedded,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    visit: str | None,
) -> None:
    """A session that its API had accepted; nor do those help that a public answer is given to."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 20 * tombstones.TOMBSTONE_COST))
    one = await client(at)
    assert await is_alive(one, upstream)
    assert (await one.post("/api/logout", SESSION)).status == 200
    assert not await is_alive(one, upstream)
    public = "Cache-Control: public, max-age=60"
    upstream.default = upstream.reply(b"{}", public)
    await log_out_nobody(one, 60, visit=visit)
    assert len(at.sidecar.runtime.revocations.tombstones) <= 21
    assert not await is_alive(one, upstream)
    assert await is_alive(one, upstream, "Cookie: access_token=made-up-0")


@pytest.mark.parametrize(
    ("answer", "is_accepted"),
    [
        ({}, True),
        ({"status": "202 Accepted"}, True),
        ({"status": "201 Created"}, True),
        ({"more": "Cache-Control: private"}, True),
        ({"more": "Cache-Control: Public"}, False),
        ({"more": "Cache-Control: max-age=1, s-maxage=5"}, False),
        ({"status": "302 Found"}, False),
        ({"status": "404 Not Found"}, False),
        ({"status": "401 Unauthorized"}, False),
        ({"status": "500 Oops"}, False),
    ],
)
async def test_a_token_is_accepted_by_2xx_that_not_everybody_gets(
    at: Embedded, upstream: Upstream, client: Clients, answer: dict[str, str], is_accepted: bool
) -> None:
    """Where it was injected."""
    one = await client(at)
    evidence = at.sidecar.runtime.revocations.evidence
    more = [answer["more"]] if "more" in answer else []
    upstream.default = upstream.reply(b"{}", *more, status=answer.get("status", "200 OK"))
    await one.get("/page", SESSION)
    assert len(evidence.accepted) == 0
    await one.get("/api/me", SESSION)
    assert len(evidence.accepted) == is_accepted


async def test_many_cookies_of_one_source_are_one_logout_a_name(
    at: Embedded, client: Clients
) -> None:
    """Anybody can write many into one header."""
    one = await client(at)
    cookies = "; ".join(f"access_token=t{number}" for number in range(100))
    assert (await one.post("/api/logout", f"Cookie: {cookies}")).status == 200
    assert len(at.sidecar.runtime.revocations.tombstones) == 1
    assert (await one.post("/api/logout?clear=cookies", f"Cookie: {cookies}")).status == 303
    assert len(at.sidecar.runtime.revocations.tombstones) <= 2


@pytest.mark.parametrize("host", ["[", "[::1", "a:99999", "a/b"])
async def test_forwarded_host_that_is_none_spoils_no_logout(
    sidecar: Start, upstream: Upstream, client: Clients, host: str
) -> None:
    """A proxy may pass on what its client says; the site is then that of the Host."""
    at = await sidecar(site(upstream), trusted_proxies=["127.0.0.1"])
    answer = await (await client(at)).post(
        "/api/logout", f"X-Forwarded-Host: {host}", "Cookie: access_token=tok"
    )
    assert answer.status == 200
    assert answer.all("Set-Cookie")
