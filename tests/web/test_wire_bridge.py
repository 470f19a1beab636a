"""The server-render bridge over the wire: a page whose API call was refused leads to the logout."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Embedded, Received, Start, Upstream, Wire

SESSION = "Cookie: theme=dark; access_token=tok"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none"]
ROUTER = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin", "RSC: 1"]
CORS = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
WORKER = [
    *("Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"),
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8",
]
DOWNLOAD = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
NODE = ["Sec-Fetch-Mode: cors", "User-Agent: node", "Accept: */*"]
REFUSED = b'{"message":"expired"}'


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """A frontend and its API behind one sidecar."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/api/token", "authorization": "session", **api},
            {"path": "/needs", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        **more,
    }


class Frontend:
    """A server that renders pages out of API calls, made through the sidecar as Node makes them.

    `/calls…` answers nothing before its call is back; `/streams…` sends its head and a piece first.
    `good`: whether the API accepts the token; `pause`: seconds that the API takes.
    """

    def __init__(self, upstream: Upstream, client: Clients) -> None:
        self.good = False
        self.pause = 0.05
        self.gate = asyncio.Event()
        self.call: Callable[[Received], Awaitable[int]] = self._call
        self.at: Embedded | None = None
        self._upstream = upstream
        self._client = client
        upstream.serve = self._serve

    async def _serve(self, wire: Wire) -> None:
        while True:
            request = await self._upstream.receive(wire)
            if request.target.endswith("/data"):
                await asyncio.sleep(self.pause)
                status = "200 OK" if self.good else "401 Unauthorized"
                wire.send(self._upstream.reply(REFUSED if not self.good else b"{}", status=status))
            elif request.target.startswith("/calls"):
                status_ = await self.call(request)
                wire.send(self._upstream.reply(b"page %d" % status_, type="text/html"))
            elif request.target.startswith("/streams"):
                await self._stream(wire, request)
            else:
                body = b"" if request.method == "HEAD" else b"page"
                wire.send(self._upstream.reply(body, type="text/html"))

    async def _stream(self, wire: Wire, request: Received) -> None:
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"5\r\nfirst\r\n")
        if request.target.endswith("large"):
            wire.send(b"%x\r\n%b\r\n" % (1 << 17, b"x" * (1 << 17)))
        if request.target.endswith("calls-late"):
            await asyncio.sleep(0.01)
        if "calls" in request.target:
            status = await self.call(request)
            wire.send(b"3\r\n%d\r\n" % status)
        if request.target.endswith("open"):
            await self.gate.wait()
        wire.send(b"0\r\n\r\n")

    async def _call(self, request: Received) -> int:
        """A call on behalf of the page's request, redirects followed as fetch does."""
        assert self.at is not None
        one = await self._client(self.at)
        cookie = f"Cookie: {request.get('Cookie')}"
        answer = await one.get("/api/data", cookie, *NODE)
        while answer.status == 303:
            answer = await one.get(answer.get("Location") or "", cookie, *NODE)
        return answer.status

    async def call_with_token(self, request: Received) -> int:
        """The same with the token and without the cookie, as wrappers around `auth()` do."""
        assert self.at is not None
        one = await self._client(self.at)
        token = (request.get("Cookie") or "").partition("access_token=")[2]
        answer = await one.get("/api/token/data", f"Authorization: Bearer {token}", *NODE)
        return answer.status


@pytest.fixture
def frontend(upstream: Upstream, client: Clients) -> Frontend:
    return Frontend(upstream, client)


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, frontend: Frontend) -> Embedded:
    frontend.at = await sidecar(site(upstream))
    return frontend.at


async def die(one: Client) -> None:
    """Has the API refuse the session's token."""
    assert (await one.get("/api/data", SESSION)).status == 303


async def test_document_whose_call_is_refused_leads_to_the_logout(
    at: Embedded, client: Clients
) -> None:
    """And the ticket leads on to the login with the cookies gone: no code in the frontend."""
    one = await client(at)
    answer = await one.get("/calls?x=1", SESSION, *DOCUMENT)
    assert (answer.status, answer.body) == (303, b"")
    assert answer.get("Cache-Control") == "no-store"
    location = answer.get("Location") or ""
    assert location.startswith("/api/logout?ticket=")
    login = await one.get(location, SESSION, *DOCUMENT)
    assert (login.status, login.get("Location")) == (303, "/login")
    assert any(line.startswith("access_token=; ") for line in login.all("Set-Cookie"))


async def test_document_whose_call_is_answered_is_drawn(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    frontend.good = True
    answer = await (await client(at)).get("/calls", SESSION, *DOCUMENT)
    assert (answer.status, answer.body) == (200, b"page 200")
    assert answer.all("Set-Cookie") == []


async def test_redirect_comes_at_once(at: Embedded, client: Clients, frontend: Frontend) -> None:
    """However long the frontend goes on rendering; its request is given up."""

    async def call(request: Received) -> int:
        status = await frontend._call(request)
        await frontend.gate.wait()
        return status

    frontend.call = call
    answer = await (await client(at)).get("/calls", SESSION, *DOCUMENT)
    assert answer.status == 303
    frontend.gate.set()


async def test_document_whose_head_has_left_goes_on(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """Streamed pages: the next document is the redirect."""
    one = await client(at)
    answer = await one.get("/streams-calls", SESSION, *DOCUMENT)
    assert (answer.status, answer.body) == (200, b"first401")
    assert (await one.get("/any", SESSION, *DOCUMENT)).status == 303


async def test_page_that_requires_the_session_leads_to_the_logout(
    at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """Else nothing would take the dead cookies away. Who has none is told where the login is."""
    one = await client(at)
    answer = await one.get("/needs", *DOCUMENT)
    assert (answer.status, b'href="/login">Log in</a>' in answer.body) == (401, True)
    await die(one)
    count = len(upstream.requests)
    answer = await one.get("/needs/x", SESSION, *DOCUMENT)
    assert answer.status == 303
    location = answer.get("Location") or ""
    assert location.startswith("/api/logout?ticket=")
    logout = await one.get(location, SESSION, *DOCUMENT)
    assert any(line.startswith("access_token=; ") for line in logout.all("Set-Cookie"))
    assert (await one.get("/needs/x", SESSION, *ROUTER)).status == 401
    kept = await one.get("/needs/x", SESSION, *DOCUMENT)  # the browser keeps the cookie
    assert (kept.status, b'href="/login">Log in</a>' in kept.body) == (401, True)
    assert len(upstream.requests) == count


async def test_next_navigation_after_a_refusal_leads_to_the_logout(
    at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """A document by redirect, router data by a 401 that makes the router load the document."""
    one = await client(at)
    await die(one)
    count = len(upstream.requests)
    assert (await one.get("/any", SESSION, *DOCUMENT)).status == 303
    answer = await one.get("/any", SESSION, *ROUTER)
    assert (answer.status, answer.get("Cache-Control")) == (401, "no-store")
    assert answer.get("Location") is None
    assert len(upstream.requests) == count


@pytest.mark.parametrize("lines", [["X-Nextjs-Data: 1"], []])
async def test_page_data_of_a_dead_session_make_the_router_load_the_document(
    at: Embedded, client: Clients, upstream: Upstream, lines: list[str]
) -> None:
    """Next.js's Pages Router, by its header or by the place of its data."""
    one = await client(at)
    await die(one)
    count = len(upstream.requests)
    answer = await one.get("/_next/data/build/orders.json", SESSION, *CORS, *lines)
    assert (answer.status, answer.get("Cache-Control")) == (401, "no-store")
    assert len(upstream.requests) == count


async def test_page_data_whose_call_is_refused_become_a_401(at: Embedded, client: Clients) -> None:
    """While the frontend renders them."""
    one = await client(at)
    answer = await one.get("/calls", SESSION, *CORS, "X-Nextjs-Data: 1")
    assert (answer.status, answer.get("Location")) == (401, None)


async def test_navigation_by_a_service_worker_leads_to_the_login(
    at: Embedded, client: Clients
) -> None:
    """It says `empty` for its destination, here and at the logout."""
    one = await client(at)
    answer = await one.get("/calls", SESSION, *WORKER)
    assert answer.status == 303
    login = await one.get(answer.get("Location") or "", SESSION, *WORKER)
    assert (login.status, login.get("Location")) == (303, "/login")


@pytest.mark.parametrize("is_dead", [True, False])
async def test_posted_form_of_a_dead_session_leads_to_the_logout(
    at: Embedded, client: Clients, *, is_dead: bool
) -> None:
    """By GET (303), whether the session died before or while the frontend answers."""
    one = await client(at)
    if is_dead:
        await die(one)
    form = "Content-Type: application/x-www-form-urlencoded"
    answer = await one.post("/calls", SESSION, *DOCUMENT, form, body=b"a=1")
    assert answer.status == 303
    assert (answer.get("Location") or "").startswith("/api/logout?ticket=")


@pytest.mark.parametrize("lines", [["Sec-Fetch-Dest: document"], ["Sec-Fetch-Dest: iframe"]])
async def test_document_is_not_led_to_the_logout_for_ever(
    at: Embedded, client: Clients, upstream: Upstream, lines: list[str]
) -> None:
    """A cookie that stays is left out, so that a login elsewhere (`/de/login`) can be drawn; the
    log names it, once.
    """
    one = await client(at)
    await die(one)
    assert (await one.get("/de/login", SESSION, *ROUTER)).status == 401  # the router looked first
    assert (await one.get("/de/login", SESSION, *DOCUMENT)).status == 303
    assert "session cookie not deleted" not in at.log.getvalue()
    for method in ("GET", "POST"):
        answer = await one.ask(method, "/de/login", SESSION, "Accept: text/html", *lines)
        assert (answer.status, answer.body) == (200, b"page")
        assert upstream.last.get("Cookie") == "theme=dark"
    told = [line for line in at.log.getvalue().splitlines() if "session cookie not deleted" in line]
    assert [json.loads(line)["cookies"] for line in told] == [["access_token"]]


@pytest.mark.parametrize(
    ("method", "path", "lines"),
    [
        ("GET", "/login", DOCUMENT),
        ("GET", "/login?next=/a", ROUTER),
        ("GET", "/any", [*DOCUMENT, "Sec-Purpose: prefetch"]),
        ("GET", "/any", [*ROUTER, "Next-Router-Prefetch: 1"]),
        ("GET", "/style.css", ["Sec-Fetch-Dest: style"]),
        ("GET", "/any", ["Sec-Fetch-Dest: empty"]),
        ("POST", "/any", [*ROUTER, "Next-Action: abc"]),
        ("POST", "/login", DOCUMENT),
        ("GET", "/any", DOWNLOAD),
    ],
)
async def test_everything_else_passes_without_the_dead_cookies(
    at: Embedded, client: Clients, upstream: Upstream, *, method: str, path: str, lines: list[str]
) -> None:
    """The login, prefetches, parts of pages, downloads and actions."""
    one = await client(at)
    await die(one)
    answer = await one.ask(method, path, SESSION, *lines)
    assert answer.status == 200
    assert upstream.last.target == path
    assert upstream.last.get("Cookie") == "theme=dark"


async def test_login_page_takes_the_dead_cookies_away(
    at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """So that the way through an identity provider and back is not taken for the dead session."""
    one = await client(at)
    await die(one)
    answer = await one.get("/login", SESSION, *DOCUMENT)
    assert any(line.startswith("access_token=; ") for line in answer.all("Set-Cookie"))
    assert answer.get("Cache-Control") == "no-store"
    assert (await one.get("/login", "Cookie: access_token=new", *DOCUMENT)).all("Set-Cookie") == []


async def test_other_sessions_pages_are_not_touched(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """Only the pages of the session that was refused become redirects."""

    async def wait(request: Received) -> int:
        await frontend.gate.wait()
        return 200

    frontend.call = wait
    mine, other, api = await client(at), await client(at), await client(at)
    mine.send(page("/calls", SESSION))
    other.send(page("/calls", "Cookie: access_token=other"))
    await at.wait_for(lambda m: m['sidecar_requests_in_flight{kind="page"}'] == 2)
    await die(api)
    assert (await mine.answer()).status == 303
    frontend.gate.set()
    assert (await other.answer()).status == 200


def page(path: str, *lines: str) -> str:
    head = [f"GET {path} HTTP/1.1", "Host: app.example.com", *lines, *DOCUMENT]
    return "".join(f"{line}\r\n" for line in [*head, ""])


# -- router data -----------------------------------------------------------------------------------


async def test_router_data_is_not_held_by_default(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """Its head leaves as it comes."""
    one = await client(at)
    answer = await one.get("/streams-calls", SESSION, *ROUTER)
    assert (answer.status, answer.body) == (200, b"first401")


@pytest.fixture
async def holding(sidecar: Start, upstream: Upstream, frontend: Frontend) -> Embedded:
    frontend.at = await sidecar(site(upstream, bridge={"hold": "3s"}))
    return frontend.at


@pytest.mark.parametrize("path", ["/streams-calls", "/streams-calls-late"])
async def test_held_router_data_becomes_a_401(
    holding: Embedded, client: Clients, path: str
) -> None:
    """Also where the call begins after the answer's head has come."""
    one = await client(holding)
    answer = await one.get(path, SESSION, *ROUTER)
    assert (answer.status, answer.get("Cache-Control")) == (401, "no-store")
    assert (await one.get(path, SESSION, *DOCUMENT)).status == 303


async def test_held_router_data_goes_out_whole_where_the_call_succeeds(
    holding: Embedded, client: Clients, frontend: Frontend
) -> None:
    frontend.good = True
    answer = await (await client(holding)).get("/streams-calls", SESSION, *ROUTER)
    assert (answer.status, answer.body) == (200, b"first200")


@pytest.mark.parametrize("path", ["/streams-open", "/streams-large"])
async def test_router_data_is_held_no_longer_than_calls_are_under_way(
    holding: Embedded, client: Clients, frontend: Frontend, path: str
) -> None:
    """Nor beyond 64 KiB: what comes slowly for another reason is passed on as it comes."""
    one = await client(holding)
    one.send(page(path, SESSION).replace("\r\n\r\n", "\r\nRSC: 1\r\n\r\n"))
    async with asyncio.timeout(2):
        _, fields, _ = await one.read_head()
        assert ("Transfer-Encoding", "chunked") in fields
        assert (await one.reader.readuntil(b"first")).endswith(b"first")
    frontend.gate.set()
    async with asyncio.timeout(2):
        assert (await one.reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")


async def test_data_that_keeps_coming_is_not_held_without_a_call(
    holding: Embedded, client: Clients, upstream: Upstream
) -> None:
    """A page that streams by itself: its pieces are passed on as they come."""

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: t/x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not wire.writer.is_closing():
            wire.send(b"5\r\npiece\r\n")
            await wire.writer.drain()
            await asyncio.sleep(0.03)

    upstream.serve = serve
    one = await client(holding)
    one.send(page("/drip", SESSION).replace("\r\n\r\n", "\r\nRSC: 1\r\n\r\n"))
    async with asyncio.timeout(1):
        await one.read_head()


async def test_hold_ends_with_its_time(
    sidecar: Start, upstream: Upstream, client: Clients, frontend: Frontend
) -> None:
    """A call that takes longer holds nothing up."""
    frontend.at = await sidecar(site(upstream, bridge={"hold": "100ms"}))
    frontend.pause = 1.0
    answer = await (await client(frontend.at)).get("/streams-calls", SESSION, *ROUTER)
    assert (answer.status, answer.body) == (200, b"first401")


async def test_documents_are_never_held(holding: Embedded, client: Clients) -> None:
    """Their streaming is what the user sees first."""
    answer = await (await client(holding)).get("/streams-calls", SESSION, *DOCUMENT)
    assert (answer.status, answer.body) == (200, b"first401")


async def test_client_that_leaves_ends_what_is_held(
    holding: Embedded, client: Clients, frontend: Frontend
) -> None:
    frontend.pause = 0.3
    one = await client(holding)
    one.send(page("/streams-calls", SESSION).replace("\r\n\r\n", "\r\nRSC: 1\r\n\r\n"))
    await holding.wait_for(lambda m: m['sidecar_requests_in_flight{kind="api"}'] == 1)
    one.reset()
    await holding.wait_for(lambda m: m['sidecar_requests_in_flight{kind="page"}'] == 0)


# -- calls that send the token, not the cookie -----------------------------------------------------


async def test_token_of_a_known_session_stands_for_it(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """`authorization: session`: wrappers that add the bearer by themselves need no change."""
    frontend.call = frontend.call_with_token
    one = await client(at)
    frontend.good = True
    assert (await one.get("/calls", SESSION, *DOCUMENT)).body == b"page 200"
    frontend.good = False
    answer = await one.get("/calls", SESSION, *DOCUMENT)
    assert answer.status == 303
    assert (await one.get("/api/data", SESSION)).status == 303


async def test_token_is_recognised_once_its_session_is_known(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """Also on a connection that sent it before anybody had presented the cookie."""
    frontend.good = True
    bearer = ["Authorization: Bearer tok", *NODE]
    node, browser = await client(at), await client(at)
    assert (await node.get("/api/token/data", *bearer)).status == 200
    assert (await browser.get("/any", SESSION, *DOCUMENT)).status == 200
    frontend.good = False
    assert (await node.get("/api/token/data", *bearer)).status == 303
    assert (await browser.get("/any", SESSION, *DOCUMENT)).status == 303


async def test_dead_sessions_token_is_not_sent_upstream_again(
    at: Embedded, client: Clients, upstream: Upstream
) -> None:
    one = await client(at)
    await die(one)
    count = len(upstream.requests)
    answer = await one.get("/api/token/data", "Authorization: Bearer tok", *NODE)
    assert answer.status == 303
    assert len(upstream.requests) == count


@pytest.mark.parametrize("value", ["Bearer strange", "Basic dG9r", "bearer", "Bearer a b"])
async def test_unknown_authorization_passes_and_never_counts(
    at: Embedded, client: Clients, upstream: Upstream, value: str
) -> None:
    """As with `authorization: pass`: of mobile clients, and of sessions other replicas opened."""
    one = await client(at)
    answer = await one.get("/api/token/data", f"Authorization: {value}", *NODE)
    assert (answer.status, answer.json["message"]) == (401, "expired")
    assert upstream.last.get("Authorization") == value


async def test_own_token_is_removed_where_a_session_cookie_is_presented(
    at: Embedded, client: Clients, upstream: Upstream, frontend: Frontend
) -> None:
    frontend.good = True
    one = await client(at)
    await one.get("/api/token/data", "Authorization: Bearer other", SESSION)
    assert upstream.last.all("Authorization") == ["Bearer tok"]


async def test_token_is_no_cookie_so_no_other_site_can_send_it(
    at: Embedded, client: Clients, frontend: Frontend
) -> None:
    """The CSRF rule is about what browsers attach by themselves (behaviour: browser protection)."""
    frontend.good = True
    one = await client(at)
    assert (await one.get("/api/data", SESSION)).status == 200
    lines = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"]
    answer = await one.post("/api/token/data", "Authorization: Bearer tok", *lines)
    assert answer.status == 200
    assert (await one.post("/api/token/data", SESSION, *lines)).status == 403
