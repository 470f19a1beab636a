"""A provider in trouble with one token, or with all: who is held up by it, and for how long."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from sidecar.core.formats import FORMATS
from sidecar.net.outbound_answer import address_of
from sidecar.sessions import locked_refresh, refresh_grants
from sidecar.sessions import refresher as module

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Embedded, Received, Script, Start, Upstream

SECRET = "a secret of Auth.js, for the tests"
NAME = "authjs.session-token"
PATHS = {"token": ("accessToken",), "refresh_token": ("refreshToken",), "expires_at": ("exp2",)}
SOURCE = FORMATS["authjs"](secrets=[SECRET], **PATHS)
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
PROMPT = 5.0  # seconds that nobody may take whose own token is fine; those in trouble take ten
NOTICED = 10.0  # seconds within which the return of a provider is noticed
UNAVAILABLE = "refresh_unavailable"


def reply(body: bytes, status: str = "200 OK", type_: str = "application/json") -> bytes:
    """The bytes of an answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {type_}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def error(status: str, code: str) -> bytes:
    """An answer with an OAuth 2 error."""
    return reply(json.dumps({"error": code}).encode(), status)


FAILED = reply(b"oops", "500 Internal Server Error", "text/plain")


class TokenEndpoint:
    """What the upstream answers: as a token endpoint at `/token`, else as an API.

    `said` is what comes to a refresh token whose name begins so; to any other, new tokens.
    """

    def __init__(self) -> None:
        self.said: dict[str, Script] = {}
        self.calls: list[str] = []

    def __call__(self, request: Received) -> Script:
        if request.target != "/token":
            token = (request.get("Authorization") or "").removeprefix("Bearer ")
            return reply(json.dumps({"token": token}).encode())
        token = parse_qs(request.body.decode())["refresh_token"][0]
        self.calls.append(token)
        for beginning, script in self.said.items():
            if token.startswith(beginning):
                return script
        tokens = {"access_token": f"new-{token}", "refresh_token": f"next-{token}"}
        return reply(json.dumps({**tokens, "expires_in": 3600}).encode())

    def count(self, beginning: str) -> int:
        """How often tokens whose name begins so have come."""
        return sum(token.startswith(beginning) for token in self.calls)


@pytest.fixture
async def endpoint(upstream: Upstream) -> AsyncIterator[TokenEndpoint]:
    one = TokenEndpoint()
    upstream.default = one
    yield one
    await upstream.stop()  # who hangs there is let go


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, endpoint: TokenEndpoint) -> Embedded:
    return await sidecar(site(upstream))


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    source = {"type": "authjs", "secret": SECRET, "token": "accessToken"}
    source |= {"refresh_token": "refreshToken", "expires_at": "exp2"}
    raw = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/account", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": [source, raw]},
        "refresh": {"token_endpoint": f"{upstream.url}/token", "client_id": "app", "leeway": "10s"},
        **more,
    }


def sealed(name: str, *, expires_in: float = -5) -> str:
    """The session cookie of a user, whose refresh token is called so."""
    now = time.time()
    claims = {"sub": name, "iat": int(now), "exp": int(now) + 3600, "exp2": now + expires_in}
    claims |= {"accessToken": f"old-{name}", "refreshToken": name}
    return f"{NAME}={SOURCE.opener.seal(claims, NAME)}"  # type: ignore[attr-defined]


def made_up(name: str) -> str:
    """A cookie that anybody can write."""
    return f"refresh_token={name}"


def logged(at: Embedded, *events: str) -> list[dict[str, Any]]:
    """The lines of the log about some events."""
    lines = [json.loads(line) for line in at.log.getvalue().splitlines()]
    return [line for line in lines if line["event"] in events]


class Asked:
    """Requests of many at once, and how long each took."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seconds: list[float] = []

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    async def ask(self, client: Clients, at: Embedded, cookie: str) -> Answer:
        one, began = await client(at), time.monotonic()
        answer = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
        one.close()  # thousands are asked, and descriptors are few
        self.answers.append(answer)
        self.seconds.append(time.monotonic() - began)
        return answer

    async def all(self, client: Clients, at: Embedded, cookies: Sequence[str]) -> Asked:
        await asyncio.gather(*(self.ask(client, at, cookie) for cookie in cookies))
        return self


@asynccontextmanager
async def going_on(ask: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Asks again and again meanwhile; at the end what is under way is waited for."""
    over = asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            await ask()
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        yield
        over.set()


# -- one token -------------------------------------------------------------------------------------

TROUBLE: dict[str, Script] = {
    "500": FAILED,
    "reset": ["reset"],
    "closed": ["close"],
    "unknown error": error("400 Bad Request", "something_else"),
    "page": reply(b"<html>", type_="text/html"),
    "hang": ["hang"],
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("cookie_of", [sealed, made_up])
async def test_token_that_always_fails_holds_nobody_else_up(
    at: Embedded,
    endpoint: TokenEndpoint,
    client: Clients,
    *,
    trouble: str,
    cookie_of: Callable[[str], str],
) -> None:
    """40 of 40 are renewed beside it, at once, at whatever moment they come."""
    endpoint.said["bad"] = TROUBLE[trouble]
    one = await client(at)

    async def ask() -> None:
        one.send(f"GET /api/me HTTP/1.1\r\nHost: a\r\nCookie: {cookie_of('bad')}\r\n\r\n")
        if trouble != "hang":
            assert (await one.answer()).status == 503

    asked = Asked()
    async with going_on(ask):
        await asyncio.sleep(0.1)
        for first in range(0, 40, 10):
            users = [cookie_of(f"user{number}") for number in range(first, first + 10)]
            await asked.all(client, at, users)
            await asyncio.sleep(0.1)
    assert asked.statuses == {200: 40}
    assert endpoint.count("user") == 40
    assert max(asked.seconds) < PROMPT
    assert endpoint.count("bad") >= 1


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_strangers_made_up_cookies_hold_no_user_up(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, trouble: str
) -> None:
    """A hundred of them, and whatever the provider says to them: 20 of 20 are renewed at once."""
    endpoint.said["bad"] = TROUBLE[trouble]
    strangers = [await client(at) for _ in range(100)]
    for number, one in enumerate(strangers):
        one.send(f"GET /api/me HTTP/1.1\r\nHost: a\r\nCookie: {made_up(f'bad{number}')}\r\n\r\n")
    async with asyncio.timeout(20):
        while endpoint.count("bad") < 3:
            await asyncio.sleep(0.05)
    asked = await Asked().all(client, at, [sealed(f"user{number}") for number in range(20)])
    assert asked.statuses == {200: 20}
    assert max(asked.seconds) < PROMPT


async def test_user_of_a_plain_cookie_is_proven_by_a_renewal(
    at: Embedded, endpoint: TokenEndpoint, client: Clients
) -> None:
    """Nobody can make up what the provider handed out here."""
    endpoint.said["bad"] = FAILED
    assert (await Asked().ask(client, at, made_up("user"))).status == 200
    await Asked().all(client, at, [made_up(f"bad{number}") for number in range(20)])
    endpoint.said["again"] = FAILED
    cookie = "access_token=; refresh_token=next-user"
    assert (await Asked().ask(client, at, cookie)).status == 200
    assert (await Asked().ask(client, at, made_up("fresh"))).status == 200  # the provider is there


@pytest.mark.parametrize("trouble", ["500", "reset", "unknown error", "page"])
async def test_one_failing_token_is_sent_a_bounded_number_of_times(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, trouble: str
) -> None:
    """However often it is asked for: after 0.5, 1, 2 and then 5 s, which is 15 times a minute."""
    endpoint.said["bad"] = TROUBLE[trouble]
    asked, cookies = Asked(), [sealed("bad")] * 3
    async with going_on(lambda: asked.all(client, at, cookies)):
        await asyncio.sleep(4.2)
    assert len(asked.answers) > 100
    assert asked.statuses == {503: len(asked.answers)}
    assert 3 <= endpoint.count("bad") <= 4  # at 0, 0.5, 1.5 and 3.5 s


# -- all tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["500", "reset", "closed"])
async def test_provider_that_is_down_for_all_is_tried_by_one_at_a_time(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, trouble: str
) -> None:
    """Valid tokens go on, expired ones are 503; its return is noticed, and all are renewed."""
    endpoint.said["user"] = TROUBLE[trouble]
    expired = [sealed(f"user{number}") for number in range(20)]
    for cookie in expired[:3]:
        assert (await Asked().ask(client, at, cookie)).code == UNAVAILABLE
    sent = len(endpoint.calls)
    assert sent == 3
    good = [sealed(f"user-good{number}", expires_in=5) for number in range(5)]
    began, asked = time.monotonic(), Asked()
    while time.monotonic() < began + 4:
        asked = await Asked().all(client, at, [*expired, *good])
        assert asked.statuses == {503: len(expired), 200: len(good)}
        assert max(asked.seconds) < PROMPT
    assert 1 <= len(endpoint.calls) - sent <= 4
    endpoint.said.clear()
    began, sent = time.monotonic(), len(endpoint.calls)
    while (await asked.ask(client, at, expired[-1])).status == 503:
        assert time.monotonic() < began + NOTICED
        await asyncio.sleep(0.05)
    assert len(endpoint.calls) == sent + 1  # and no stampede at its return
    # Who has failed himself waits for the end of his own pause; all the others go on at once.
    asked = await Asked().all(client, at, [sealed(f"user{number}") for number in range(100, 140)])
    assert asked.statuses == {200: 40}
    while (await Asked().all(client, at, expired)).statuses != {200: len(expired)}:
        assert time.monotonic() < began + NOTICED
        await asyncio.sleep(0.1)
    assert max(Counter(endpoint.calls[sent:]).values()) == 1
    assert [line["event"] for line in logged(at, "refreshes paused", "refreshes resumed")] == [
        "refreshes paused",
        "refreshes resumed",
    ]


async def test_try_that_hangs_is_the_only_one(
    at: Embedded,
    endpoint: TokenEndpoint,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half-open: however many come meanwhile, none is sent besides."""
    endpoint.said["user"] = FAILED
    await Asked().all(client, at, [sealed(f"user{number}") for number in range(10)])
    endpoint.said["user"] = ["hang"]
    monkeypatch.setattr(refresh_grants, "ANSWER", 1.0)
    await asyncio.sleep(0.6)
    sent = len(endpoint.calls)
    first = asyncio.create_task(Asked().ask(client, at, sealed("user-first")))
    await asyncio.sleep(0.2)
    asked = await Asked().all(client, at, [sealed(f"user{number}") for number in range(20, 60)])
    assert asked.statuses == {503: 40}
    assert max(asked.seconds) < 0.7
    assert len(endpoint.calls) == sent + 1
    assert (await first).status == 503


# -- an exchange that hangs ------------------------------------------------------------------------


def test_hanging_exchange_is_given_up_after_8_seconds() -> None:
    assert (refresh_grants.ANSWER, module.WAIT, module.SHORT_WAIT) == (8.0, 8.0, 2.0)
    assert vars(locked_refresh)["ANSWER"] == refresh_grants.ANSWER


async def test_hanging_exchange_holds_its_session_for_a_bounded_time(
    at: Embedded,
    endpoint: TokenEndpoint,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An expired token gets 503 then, and the cause is in the log; afterwards it is renewed."""
    monkeypatch.setattr(refresh_grants, "ANSWER", 1.0)
    endpoint.said["user"] = ["hang"]
    asked = Asked()
    assert (await asked.ask(client, at, sealed("user"))).code == UNAVAILABLE
    assert 0.9 < asked.seconds[0] < 1.5
    (line,) = logged(at, "refresh failed")
    assert line["detail"].endswith("/token: timed out after 1 s")
    endpoint.said.clear()
    await asyncio.sleep(0.6)
    assert (await asked.ask(client, at, sealed("user"))).status == 200


async def test_token_that_expires_while_it_is_renewed_is_waited_for(
    at: Embedded, endpoint: TokenEndpoint, client: Clients
) -> None:
    """As long as for one that had expired before."""
    tokens = {"access_token": "new", "refresh_token": "next", "expires_in": 3600}
    late = reply(json.dumps(tokens).encode())
    endpoint.said["user"] = [3.0, late]
    asked = await Asked().all(
        client, at, [sealed("user-a", expires_in=1), sealed("user-b"), sealed("user-c")]
    )
    assert asked.statuses == {200: 3}
    assert {answer.json["data"]["token"] for answer in asked.answers} == {"new"}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        error("400 Bad Request", "login_required"),
        error("403 Forbidden", "interaction_required"),
        error("401 Unauthorized", "token_inactive"),
        error("200 OK", "bad_refresh_token"),
    ],
)
async def test_clear_refusal_ends_the_session(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, said: bytes
) -> None:
    endpoint.said["user"] = said
    answer = await Asked().ask(client, at, sealed("user"))
    assert answer.status == 303
    (line,) = logged(at, "refresh refused")
    assert line["level"] == "info"
    assert "/token: status " in line["detail"]
    assert (await Asked().ask(client, at, sealed("user"))).status == 303
    assert endpoint.count("user") == 1


@pytest.mark.parametrize(
    "code", ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"]
)
async def test_fault_of_the_configuration_ends_no_session(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, code: str
) -> None:
    """It is logged as an error, since nobody but the administrator can mend it."""
    endpoint.said["user"] = error("401 Unauthorized", code)
    assert (await Asked().ask(client, at, sealed("user"))).code == UNAVAILABLE
    (line,) = logged(at, "refresh misconfigured")
    assert line["level"] == "error"
    assert line["detail"].endswith(f"/token: expected tokens, got status 401, {code}")
    endpoint.said.clear()
    await asyncio.sleep(0.6)
    assert (await Asked().ask(client, at, sealed("user"))).status == 200


@pytest.mark.parametrize("others_are_renewed", [True, False])
async def test_invalid_request_ends_the_session_after_three_tries_beside_renewals(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, others_are_renewed: bool
) -> None:
    """Without a renewal of another it may be the provider or the client, and nobody is ended.

    The user can log out in any case.
    """
    endpoint.said["user"] = error("400 Bad Request", "invalid_request")
    tries = []
    for number in range(4):
        answer = await Asked().ask(client, at, sealed("user"))
        tries.append(answer.status)
        if others_are_renewed:
            assert (await Asked().ask(client, at, sealed(f"other{number}"))).status == 200
        await asyncio.sleep((0.6, 1.1, 0.1, 0.0)[number])
    assert tries == ([503, 503, 303, 303] if others_are_renewed else [503] * 4)
    left = await (await client(at)).post("/api/logout", f"Cookie: {sealed('user')}", *FETCH)
    assert left.status == 200


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
async def test_endpoint_of_ones_own_refuses_by_its_status(
    sidecar: Start, upstream: Upstream, client: Clients, status: int
) -> None:
    request = {"url": f"{upstream.url}/token?key=hush", "json": {"t": "{refresh_token}"}}
    at = await sidecar(site(upstream, refresh={"type": "http", "request": request}))
    upstream.default = reply(b'{"message":"no"}', f"{status} X")
    assert (await Asked().ask(client, at, sealed("user"))).status == 303
    (line,) = logged(at, "refresh refused")
    assert line["detail"] == f"{upstream.url}/token: status {status}"
    assert "hush" not in at.log.getvalue()


# -- pages and the logout --------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["500", "reset", "page"])
async def test_page_is_served_while_its_session_cannot_be_renewed(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, upstream: Upstream, trouble: str
) -> None:
    """With the cookies as they were presented; 503 only where the session is needed."""
    endpoint.said["user"] = TROUBLE[trouble]
    cookie, one = f"theme=dark; {sealed('user')}", await client(at)
    for _ in range(2):
        answer = await one.get("/", f"Cookie: {cookie}", *DOCUMENT)
        assert answer.status == 200
        assert upstream.last.get("Cookie") == cookie
        assert upstream.last.get("Authorization") is None
        assert answer.all("Set-Cookie") == []
    required = await one.get("/account", f"Cookie: {cookie}", *DOCUMENT)
    injected = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert (required.status, injected.status) == (503, 503)


async def test_page_with_a_token_is_served_without_it_while_it_cannot_be_renewed(
    sidecar: Start, endpoint: TokenEndpoint, client: Clients, upstream: Upstream
) -> None:
    """`session: optional` serves users as it serves strangers; an expired token is not sent."""
    page = {"path": "/", "kind": "page", "upstream": "main", "inject": True}
    at = await sidecar(site(upstream) | {"routes": [page]})
    endpoint.said["user"] = TROUBLE["500"]
    one = await client(at)
    for _ in range(2):
        answer = await one.get("/", f"Cookie: {sealed('user')}", *DOCUMENT)
        assert answer.status == 200
        assert upstream.last.get("Authorization") is None
    endpoint.said.clear()
    await asyncio.sleep(1.1)
    await one.get("/", f"Cookie: {sealed('user')}", *DOCUMENT)
    assert (upstream.last.get("Authorization") or "").startswith("Bearer ")


async def test_page_whose_token_is_rejected_is_served_without_it_while_it_cannot_be_renewed(
    sidecar: Start, endpoint: TokenEndpoint, client: Clients, upstream: Upstream
) -> None:
    """As one whose token has expired. A 401 to the repetition ends no session."""
    page = {"path": "/", "kind": "page", "upstream": "main", "inject": True}
    counting = page | {"on_unauthorized": "logout"}
    needed = counting | {"path": "/account", "session": "required"}
    at = await sidecar(site(upstream) | {"routes": [counting, needed]})
    endpoint.said["user"] = TROUBLE["500"]
    cookie, one = sealed("user", expires_in=600), await client(at)

    def answer(request: Received) -> Script:
        if request.target == "/token":
            return endpoint(request)
        is_served = request.get("Authorization") is None and request.target == "/open"
        return reply(b"page", "200 OK" if is_served else "401 Unauthorized", "text/html")

    upstream.default = answer
    assert (await one.get("/open", f"Cookie: {cookie}", *DOCUMENT)).status == 200
    assert (await one.get("/account", f"Cookie: {cookie}", *DOCUMENT)).status == 503
    assert (await one.get("/closed", f"Cookie: {cookie}", *DOCUMENT)).status == 401
    assert (await one.get("/open", f"Cookie: {cookie}", *DOCUMENT)).status == 200


async def test_page_does_not_wait_for_a_renewal_for_ever(
    at: Embedded,
    endpoint: TokenEndpoint,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.5)
    endpoint.said["user"] = ["hang"]
    answer = await (await client(at)).get("/", f"Cookie: {sealed('user')}", *DOCUMENT)
    assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_logout_never_waits_for_a_renewal(
    at: Embedded, endpoint: TokenEndpoint, client: Clients, method: str
) -> None:
    """Neither for one that is under way, nor for one that would be due."""
    endpoint.said["user"] = ["hang"]
    cookie, one = sealed("user"), await client(at)
    one.send(f"GET /api/me HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")
    while not endpoint.calls:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    lines = [*DOCUMENT, "Sec-Fetch-User: ?1"] if method == "GET" else FETCH
    answer = await (await client(at)).ask(method, "/api/logout", f"Cookie: {cookie}", *lines)
    assert answer.status == (303 if method == "GET" else 200)
    assert time.monotonic() - began < PROMPT
    assert any(line.startswith(f"{NAME}=;") for line in answer.all("Set-Cookie"))


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("500", "expected tokens, got status 500, invalid JSON"),
        ("closed", "the connection was closed without an answer"),
        ("reset", "connection reset by peer"),
        ("page", "expected tokens, got status 200, a page"),
        ("unknown error", "expected tokens, got status 400, something_else"),
    ],
)
async def test_failure_names_its_cause_once(
    at: Embedded,
    endpoint: TokenEndpoint,
    client: Clients,
    upstream: Upstream,
    *,
    trouble: str,
    cause: str,
) -> None:
    """However many wait for it; and no token is in the log."""
    endpoint.said["s3cret"] = TROUBLE[trouble]
    await Asked().all(client, at, [sealed("s3cret")] * 5)
    (line,) = logged(at, "refresh failed")
    assert line["detail"] == f"{upstream.url}/token: {cause}"
    assert line["level"] == "warning"
    assert "s3cret" not in at.log.getvalue()


async def test_provider_that_takes_no_connection_is_named(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    refresh = {"token_endpoint": "http://127.0.0.1:1/token", "client_id": "app"}
    at = await sidecar(site(upstream, refresh=refresh))
    assert (await Asked().ask(client, at, sealed("user"))).status == 503
    (line,) = logged(at, "refresh failed")
    assert line["detail"] == "http://127.0.0.1:1/token: connection refused"


def test_address_in_the_log_has_neither_user_nor_query() -> None:
    assert address_of("http://user:hush@a:1/token?key=hush#hush") == "http://a:1/token"
