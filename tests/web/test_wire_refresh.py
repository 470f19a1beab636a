"""Renewal over the wire, with a real provider: nobody is logged out by accident."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sidecar.core.cookies import with_set_cookies
from sidecar.core.credential import read_credential
from sidecar.core.formats import FORMATS
from sidecar.demo.idp import running_idp

if TYPE_CHECKING:
    from sidecar.demo.idp import RunningIdp
    from tests.conftest import Answer, Clients, Embedded, Received, Start, Upstream

SECRET = "a secret of Auth.js, for the tests"
NAME = "authjs.session-token"
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none"]
PATHS = {"token": ("accessToken",), "refresh_token": ("refreshToken",), "expires_at": ("exp2",)}


@pytest.fixture
async def idp() -> AsyncIterator[RunningIdp]:
    """Rotation with reuse detection, access tokens of 30 s."""
    async with running_idp(opaque_access_tokens=True) as one:
        yield one


def site(upstream: Upstream, idp: RunningIdp, **more: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    source = {"type": "authjs", "secret": SECRET, "token": "accessToken"}
    source |= {"refresh_token": "refreshToken", "expires_at": "exp2"}
    raw = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
    refresh = {"issuer": idp.issuer, "client_id": idp.client_id}
    refresh |= {"client_secret": idp.client_secret, "leeway": "10s"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/api/optional", "session": "optional", **api},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": [source, raw]},
        "refresh": refresh,
        **more,
    }


def guarded(upstream: Upstream, idp: RunningIdp) -> Callable[[Received], bytes]:
    """An API that takes the provider's live tokens and no others, and tells which it took."""

    def answer(request: Received) -> bytes:
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        if request.target.startswith("/page"):
            return upstream.reply(b"page", type="text/html")
        if not idp.verify(token).is_live:
            return upstream.reply(b'{"message":"no"}', status="401 Unauthorized")
        return upstream.reply(json.dumps({"token": token}).encode())

    return answer


SOURCE = FORMATS["authjs"](secrets=[SECRET], **PATHS)


def seal(claims: dict[str, Any]) -> str:
    """A session cookie as Auth.js writes it."""
    return f"{NAME}={SOURCE.opener.seal(claims, NAME)}"  # type: ignore[attr-defined]


def claims_of(cookie: str) -> dict[str, Any]:
    """What Auth.js reads in a Cookie header."""
    from sidecar.core.cookies import CookieJar

    reading = read_credential([SOURCE], CookieJar.parse(cookie), time.time())
    assert reading.claims is not None
    return dict(reading.claims)


def session(tokens: dict[str, Any], *, expires_in: float, **more: Any) -> str:
    """A session with the provider's tokens, whose access token is said to expire soon."""
    now = time.time()
    claims = {"name": "Zoë", "sub": "7", "iat": int(now), "exp": int(now) + 3600, **more}
    claims |= {"accessToken": tokens["access_token"], "refreshToken": tokens["refresh_token"]}
    return seal({**claims, "exp2": int(now + expires_in)})


def after(cookie: str, answer: Answer) -> str:
    """The Cookie header that a browser presents after an answer."""
    lines = [line.encode("latin-1") for line in answer.all("Set-Cookie")]
    return with_set_cookies(cookie, lines, time.time())


STEP = 'sidecar_logout_steps_total{{outcome="{1}",step="{0}"}}'


def logged(at: Embedded) -> list[dict[str, Any]]:
    """The lines of the log."""
    return [json.loads(line) for line in at.log.getvalue().splitlines()]


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, idp: RunningIdp) -> Embedded:
    upstream.default = guarded(upstream, idp)
    return await sidecar(site(upstream, idp))


# -- before expiry ---------------------------------------------------------------------------------


async def test_token_is_renewed_before_it_expires(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """The upstream gets the new one, the browser the same session with it."""
    old = idp.tokens()
    cookie = session(old, expires_in=5)
    answer = await (await client(at)).get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert answer.status == 200
    token = answer.json["data"]["token"]
    assert token != old["access_token"]
    assert answer.get("Cache-Control") == "no-store"
    (line,) = answer.all("Set-Cookie")
    assert "; Path=/; Expires=" in line
    assert line.endswith("; HttpOnly; SameSite=Lax")
    before, now = claims_of(cookie), claims_of(after(cookie, answer))
    assert now["accessToken"] == token
    assert now["refreshToken"] != before["refreshToken"]
    assert now["exp2"] > before["exp2"] + 10
    changed = {"accessToken", "refreshToken", "exp2", "sidecar"}
    assert {k: v for k, v in now.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert set(now["sidecar"]) == {"fingerprint", "issuedAt", "mac"}


async def test_token_that_is_good_is_left_alone(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    answer = await (await client(at)).get(
        "/api/me", f"Cookie: {session(idp.tokens(), expires_in=25)}"
    )
    assert answer.status == 200
    assert answer.all("Set-Cookie") == []
    assert idp.stats.refresh_exchanges == 0


async def test_short_tokens_are_not_renewed_at_every_request(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """The leeway is at most half of a token's lifetime."""
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp)
    config["refresh"]["leeway"] = "60s"
    at = await sidecar(config)
    one, cookie = await client(at), session(idp.tokens(), expires_in=5)
    for _ in range(4):
        answer = await one.get("/api/me", f"Cookie: {cookie}")
        assert answer.status == 200
        cookie = after(cookie, answer)
    assert idp.stats.refresh_exchanges == 1


async def test_page_is_given_the_renewed_session(
    at: Embedded, idp: RunningIdp, upstream: Upstream, client: Clients
) -> None:
    """In its Cookie header, so that its own calls carry the new token; the browser gets it too."""
    cookie = session(idp.tokens(), expires_in=5)
    lines = [f"Cookie: theme=dark; {cookie}", *DOCUMENT]
    answer = await (await client(at)).get("/page", *lines)
    assert answer.status == 200
    forwarded = upstream.last.get("Cookie") or ""
    assert forwarded.startswith("theme=dark")
    assert claims_of(forwarded) == claims_of(after(cookie, answer))
    assert idp.stats.refresh_exchanges == 1


@pytest.mark.parametrize(
    "lines", [["Sec-Fetch-Dest: style"], ["Sec-Fetch-Dest: empty", "Next-Router-Prefetch: 1"]]
)
async def test_parts_of_pages_and_prefetches_renew_nothing(
    at: Embedded, idp: RunningIdp, client: Clients, lines: list[str]
) -> None:
    cookie = session(idp.tokens(), expires_in=5)
    await (await client(at)).get("/page/x", f"Cookie: {cookie}", *lines)
    assert idp.stats.refresh_exchanges == 0


async def test_session_in_chunks_is_written_back_in_chunks(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """And a whole one that shrank loses its chunks; sizes are the library's."""
    large = session(idp.tokens(), expires_in=5, note="x" * 6000).partition("=")[2]
    parts = [large[i : i + 3936] for i in range(0, len(large), 3936)]
    cookie = "; ".join(f"{NAME}.{n}={part}" for n, part in enumerate(parts))
    answer = await (await client(at)).get("/api/me", f"Cookie: {cookie}")
    assert answer.status == 200
    names = [line.partition("=")[0] for line in answer.all("Set-Cookie")]
    assert names == [f"{NAME}.{n}" for n in range(len(parts))]
    assert claims_of(after(cookie, answer))["note"] == "x" * 6000


# -- many at once ----------------------------------------------------------------------------------


async def test_many_requests_at_expiry_make_one_exchange(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """100 answers, and the family lives: a second use would have killed it."""
    idp.set(refresh_delay=0.2)
    cookie = session(idp.tokens(), expires_in=-5)
    many = [await client(at) for _ in range(100)]
    answers = await asyncio.gather(*(one.get("/api/me", f"Cookie: {cookie}") for one in many))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["data"]["token"] for answer in answers}) == 1
    assert idp.stats.refresh_exchanges == 1
    assert idp.stats.refresh_reuses == 0
    last = after(cookie, answers[0])
    assert (await many[0].get("/api/me", f"Cookie: {last}")).status == 200


async def test_late_caller_gets_the_successor_and_the_cookie_once_more(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """A server-side call may have lost the first Set-Cookie."""
    cookie = session(idp.tokens(), expires_in=-5)
    one = await client(at)
    first = await one.get("/api/me", f"Cookie: {cookie}", "User-Agent: node")
    second = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert first.json["data"] == second.json["data"]
    assert claims_of(after(cookie, first)) == claims_of(after(cookie, second))
    assert idp.stats.refresh_exchanges == 1


async def test_old_session_leads_on_until_grace_is_over(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """Then whoever still has it is out of date: no exchange, and nobody else loses a session."""
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp)
    config["refresh"]["grace"] = "200ms"
    at = await sidecar(config)
    old, one = session(idp.tokens(), expires_in=-5), await client(at)
    new = after(old, await one.get("/api/me", f"Cookie: {old}"))
    assert (await one.get("/api/me", f"Cookie: {new}")).status == 200
    assert (await one.get("/api/me", f"Cookie: {old}")).status == 200
    await asyncio.sleep(0.3)
    answer = await one.get("/api/me", f"Cookie: {old}", *FETCH)
    assert answer.status == 303
    left = await one.get(answer.get("Location") or "", f"Cookie: {old}", *FETCH)
    assert (left.status, left.code) == (401, "session_expired")
    assert (await one.get("/api/me", f"Cookie: {new}")).status == 200
    assert idp.stats.refresh_exchanges == 1
    assert idp.stats.refresh_reuses == 0


# -- after a 401 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b'{"a":1}')])
async def test_401_is_met_with_a_new_token_and_the_request_repeated(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream, *, method: str, body: bytes
) -> None:
    """The client sees neither."""
    tokens = idp.tokens()
    idp.set(burst=1)
    cookie = session(tokens, expires_in=25)
    answer = await (await client(at)).ask(method, "/api/me", f"Cookie: {cookie}", *FETCH, body=body)
    assert answer.status == 200
    assert answer.json["data"]["token"] != tokens["access_token"]
    assert len(answer.all("Set-Cookie")) == 1
    assert [request.body for request in upstream.requests] == [body, body]
    assert idp.stats.refresh_exchanges == 1


async def test_401_for_an_old_token_never_harms_the_newer_session(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """Rule 1: the newer generation is used, without another exchange."""
    idp.set(burst=1)
    cookie, one = session(idp.tokens(), expires_in=25), await client(at)
    answer = await one.get("/api/me", f"Cookie: {cookie}")
    again = await one.get("/api/me", f"Cookie: {cookie}")
    assert (answer.status, again.status) == (200, 200)
    assert idp.stats.refresh_exchanges == 1


async def test_request_that_cannot_be_repeated_says_so(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """Its body went through as a stream: 401 `token_refreshed`, and the new cookie."""
    idp.set(burst=1)
    cookie, one = session(idp.tokens(), expires_in=25), await client(at)
    answer = await one.post("/api/me", f"Cookie: {cookie}", body=b"x" * 200_000)
    assert (answer.status, answer.code) == (401, "token_refreshed")
    cookie = after(cookie, answer)
    assert (await (await client(at)).get("/api/me", f"Cookie: {cookie}")).status == 200


async def test_token_that_is_refused_twice_ends_the_session(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream
) -> None:
    """One renewal, one repetition, then the logout (rule 3)."""
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    cookie, one = session(idp.tokens(), expires_in=25), await client(at)
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    assert len(upstream.requests) == 2
    assert idp.stats.refresh_exchanges == 1
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    assert len(upstream.requests) == 2


async def test_newer_token_that_is_refused_as_well_is_renewed(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream
) -> None:
    """Rule 1, then rule 2: its refresh token has not been tried, and is good."""
    allows, taken = guarded(upstream, idp), list[str]()

    def answer(request: Received) -> bytes:
        taken.append((request.get("Authorization") or "").removeprefix("Bearer "))
        is_refused = taken[-1] in refused
        return upstream.reply(b"{}", status="401 Unauthorized") if is_refused else allows(request)

    refused = set[str]()
    upstream.default = answer
    tokens = idp.tokens()
    refused.add(tokens["access_token"])
    cookie, one = session(tokens, expires_in=25), await client(at)
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 200
    newer = taken[-1]
    refused.add(newer)
    taken.clear()
    again = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert again.status == 200
    assert taken[:-1] == [newer]  # what was rejected before is not tried again
    assert claims_of(after(cookie, again))["accessToken"] == taken[-1]
    assert idp.stats.refresh_exchanges == 2
    refused.update(taken)
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    assert idp.stats.refresh_exchanges == 3


# -- trouble ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outage", ["close", "error", "html", "unavailable"])
async def test_providers_trouble_is_no_logout(
    at: Embedded, idp: RunningIdp, client: Clients, outage: str
) -> None:
    """A good token serves meanwhile, without one it is 503; its return is noticed."""
    good, expired = session(idp.tokens(), expires_in=5), session(idp.tokens("bob"), expires_in=-5)
    idp.set(outage=outage)
    one = await client(at)
    assert (await one.get("/api/me", f"Cookie: {good}")).status == 200
    answer = await one.get("/api/me", f"Cookie: {expired}", *FETCH)
    assert (answer.status, answer.code) == (503, "refresh_unavailable")
    assert answer.get("Retry-After") is not None
    assert answer.all("Set-Cookie") == []
    idp.set(outage="none")
    async with asyncio.timeout(10):
        while (await one.get("/api/me", f"Cookie: {expired}")).status == 503:
            await asyncio.sleep(0.1)
    answer = await one.get("/api/me", f"Cookie: {expired}")
    assert answer.status == 200


async def test_slow_provider_holds_a_good_token_up_for_a_moment_only(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """The exchange goes on, and its successor is there when it has come."""
    idp.set(refresh_delay=3.0)
    cookie, one = session(idp.tokens(), expires_in=9), await client(at)
    answer = await one.get("/api/me", f"Cookie: {cookie}")
    assert (answer.status, answer.all("Set-Cookie")) == (200, [])
    async with asyncio.timeout(5):
        while not answer.all("Set-Cookie"):
            answer = await one.get("/api/me", f"Cookie: {cookie}")
            assert answer.status == 200
    assert idp.stats.refresh_exchanges == 1


async def test_client_that_leaves_does_not_cut_the_exchange_short(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    idp.set(refresh_delay=0.5)
    cookie, one = session(idp.tokens(), expires_in=-5), await client(at)
    one.send(f"GET /api/me HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")
    async with asyncio.timeout(5):
        while idp.stats.refresh_exchanges == 0:
            await asyncio.sleep(0.01)
    one.reset()
    answer = await (await client(at)).get("/api/me", f"Cookie: {cookie}")
    assert answer.status == 200
    assert (idp.stats.refresh_exchanges, idp.stats.refresh_reuses) == (1, 0)


async def test_invalid_grant_ends_the_session(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """The one answer that does."""
    idp.set(invalid_grant=1)
    cookie, one = session(idp.tokens(), expires_in=-5), await client(at)
    answer = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert answer.status == 303
    left = await one.get(answer.get("Location") or "", f"Cookie: {cookie}", *FETCH)
    assert (left.status, left.code) == (401, "session_expired")
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    assert (await at.metrics())["sidecar_tombstones"] == 1


# -- logout ----------------------------------------------------------------------------------------


async def test_logout_revokes_both_tokens(at: Embedded, idp: RunningIdp, client: Clients) -> None:
    """RFC 7009, of the newest generation, and it is on record (behaviour: logout)."""
    old, one = session(idp.tokens(), expires_in=-5), await client(at)
    answer = await one.get("/api/me", f"Cookie: {old}")
    new, token = after(old, answer), answer.json["data"]["token"]
    assert idp.verify(token).is_live
    assert (await one.post("/api/logout", f"Cookie: {old}")).status == 200
    await at.wait_for(lambda m: m.get(STEP.format("access_token", "done"), 0) == 1)
    assert not idp.verify(token).is_live
    assert idp.stats.revocations == 2
    assert (await one.get("/api/me", f"Cookie: {new}")).status == 303
    receipt = next(line for line in logged(at) if line["event"] == "session ended")
    assert (receipt["refresh_token"], receipt["access_token"]) == ("done", "done")
    assert (receipt["reason"], receipt["level"]) == ("logout", "info")
    assert token not in at.log.getvalue()


async def test_logout_after_a_401_revokes_once(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream
) -> None:
    """Of many 401s, and doing it twice is harmless (T36)."""
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    cookie, one = session(idp.tokens(), expires_in=25), await client(at)
    for _ in range(3):
        answer = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
        await one.get(answer.get("Location") or "", f"Cookie: {cookie}", *FETCH)
    await at.wait_for(lambda m: m.get(STEP.format("access_token", "done"), 0) >= 1)
    assert idp.stats.revocations == 2


async def test_provider_that_is_down_does_not_hold_the_logout_up(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """T45: ended here all the same, and revoked once it is back."""
    cookie, one = session(idp.tokens(), expires_in=-5), await client(at)
    token = (await one.get("/api/me", f"Cookie: {cookie}")).json["data"]["token"]
    idp.set(outage="close")
    assert (await one.post("/api/logout", f"Cookie: {cookie}")).status == 200
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    idp.set(outage="none")
    metrics = await at.wait_for(lambda m: m.get(STEP.format("refresh_token", "done"), 0) == 1)
    assert metrics.get(STEP.format("access_token", "done")) == 1
    assert not idp.verify(token).is_live


async def test_hooks_are_told(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """With the session's token where configured, and once more where that failed."""
    told: list[Received] = []

    def answer(request: Received) -> bytes:
        if not request.target.startswith("/hook"):
            return upstream.reply(b"{}")
        told.append(request)
        return upstream.reply(status="500 Oops" if len(told) == 1 else "204 X", type=None)

    upstream.default = answer
    hook = {"url": f"{upstream.url}/hook", "headers": {"X-Key": "k"}, "token": True}
    at = await sidecar(site(upstream, idp, logout={"hooks": [hook]}))
    tokens = idp.tokens()
    cookie, one = session(tokens, expires_in=25), await client(at)
    assert (await one.post("/api/logout", f"Cookie: {cookie}")).status == 200
    await at.wait_for(lambda m: m.get(STEP.format("hook", "done"), 0) == 1)
    assert len(told) == 2
    assert told[1].get("Authorization") == f"Bearer {tokens['access_token']}"
    assert told[1].get("X-Key") == "k"
    assert set(json.loads(told[1].body)) == {"session", "reason"}


# -- raw cookies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_access", [True, False])
async def test_raw_cookies_are_renewed(
    at: Embedded, idp: RunningIdp, client: Clients, has_access: bool
) -> None:
    """After a 401, or where only what renews them is left; the session keeps its name."""
    tokens = idp.tokens()
    cookie = f"refresh_token={tokens['refresh_token']}"
    if has_access:
        cookie = f"access_token={tokens['access_token']}; {cookie}"
        idp.set(burst=1)
    one = await client(at)
    answer = await one.get("/api/me", f"Cookie: {cookie}", *FETCH)
    assert answer.status == 200
    names = [line.partition("=")[0] for line in answer.all("Set-Cookie")]
    assert names == ["access_token", "refresh_token"]
    cookie = after(cookie, answer)
    assert (await one.get("/api/me", f"Cookie: {cookie}")).json["data"] == answer.json["data"]
    assert len({line["session"] for line in logged(at) if line.get("status") == 200}) == 1


async def test_refresh_cookie_is_a_session_cookie(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream
) -> None:
    """It reaches no API, and goes at the logout."""
    tokens = idp.tokens()
    cookie = f"access_token={tokens['access_token']}; refresh_token={tokens['refresh_token']}; a=b"
    one = await client(at)
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 200
    assert upstream.last.get("Cookie") == "a=b"
    answer = await one.post("/api/logout", f"Cookie: {cookie}")
    gone = {line.partition("=")[0] for line in answer.all("Set-Cookie")}
    assert {"access_token", "refresh_token"} <= gone


# -- sessions are not mixed up ---------------------------------------------------------------------


@pytest.fixture
async def json_at(sidecar: Start, upstream: Upstream, idp: RunningIdp) -> Embedded:
    """A refresh endpoint of one's own, which revokes nothing: r1 → (tok2, r2) → (tok3, r3) …"""

    def answer(request: Received) -> bytes:
        if request.target == "/refresh":
            number = int(json.loads(request.body)["t"].removeprefix("r")) + 1
            tokens = {"access_token": f"tok{number}", "refresh_token": f"r{number}"}
            return upstream.reply(json.dumps({**tokens, "expires_in": 60}).encode())
        if request.target.startswith("/login"):
            lines = [
                f"Set-Cookie: {name}=BOB; Path=/" for name in ("access_token", "refresh_token")
            ]
            return upstream.reply(b"", *lines, type="text/html")
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        if token == "tok1":
            return upstream.reply(b"{}", status="401 Unauthorized")
        return upstream.reply(json.dumps({"token": token}).encode())

    upstream.default = answer
    config = site(upstream, idp)
    config["refresh"] = {
        "type": "http",
        "request": {"url": f"{upstream.url}/refresh", "json": {"t": "{refresh_token}"}},
    }
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    config["routes"] += [
        {"path": "/api/open", "session": "none", **api},
        {"path": "/api/token", "authorization": "session", **api},
    ]
    return await sidecar(config)


PAIR = "access_token=tok1; refresh_token=r1"
NEW = "access_token=tok2; refresh_token=r2"


async def test_late_answer_does_not_put_old_tokens_back(
    at: Embedded, idp: RunningIdp, client: Clients, upstream: Upstream
) -> None:
    """As `/api/auth/session` seals what it was presented, however long it takes."""
    cookie, one = session(idp.tokens(), expires_in=-5), await client(at)
    new = after(cookie, await one.get("/api/me", f"Cookie: {cookie}"))
    upstream.answers(upstream.reply(b"{}", f"Set-Cookie: {cookie}; Path=/"))
    late = await one.get("/page", f"Cookie: {new}", *FETCH)
    assert late.all("Set-Cookie") == []
    resealed = seal({**claims_of(new), "iat": 1})
    upstream.answers(upstream.reply(b"{}", f"Set-Cookie: {resealed}; Path=/"))
    assert len((await one.get("/page", f"Cookie: {new}", *FETCH)).all("Set-Cookie")) == 1


async def test_login_as_somebody_else_is_not_overwritten_by_a_renewal(
    json_at: Embedded, client: Clients
) -> None:
    """The answer that sets a session says which one it is."""
    one = await client(json_at)
    answer = await one.post("/login", "Cookie: refresh_token=r1", *DOCUMENT)
    set_ = [line.partition(";")[0] for line in answer.all("Set-Cookie")]
    assert set_ == ["access_token=BOB", "refresh_token=BOB"]


async def test_nobody_becomes_somebody_by_a_bearer(json_at: Embedded, client: Clients) -> None:
    """What is learned of a session that a token stands for is remembered for its cookies alone."""
    one = await client(json_at)
    assert (await one.get("/api/me", f"Cookie: {PAIR}")).json["data"] == {"token": "tok2"}
    await one.get("/api/open/x", f"Cookie: {NEW}")
    answer = await one.get("/api/token/x", "Authorization: Bearer tok2")
    assert answer.json["data"] == {"token": "tok2"}
    for path in ("/api/me", "/api/optional/x", "/api/token/x"):
        answer = await one.get(path)
        assert answer.status == 303 or answer.json["data"] == {"token": ""}


async def test_token_alone_buys_neither_cookies_nor_a_newer_token(
    json_at: Embedded, client: Clients
) -> None:
    """Whoever has but an access token gets no more than that is good for."""
    one = await client(json_at)
    await one.get("/api/open/x", f"Cookie: {PAIR}")
    await one.get("/api/optional/x", f"Cookie: {PAIR}")
    answer = await one.get("/api/token/x", "Authorization: Bearer tok1")
    assert answer.status == 401
    assert answer.all("Set-Cookie") == []
    assert b"tok2" not in answer.body


async def test_renewed_token_stands_for_its_session_too(
    json_at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """Also before the browser has presented its new cookies; and no longer once it has ended."""
    one = await client(json_at)
    await one.get("/api/me", f"Cookie: {PAIR}")
    bearer = "Authorization: Bearer tok2"
    answer = await one.get("/api/token/x", bearer)
    assert answer.json["data"] == {"token": "tok2"}
    await one.post("/api/logout", f"Cookie: {NEW}")
    count = len(upstream.requests)
    assert (await one.get("/api/token/x", bearer)).status == 303
    assert len(upstream.requests) == count


@pytest.mark.parametrize(
    "cookie",
    [
        PAIR,
        NEW,
        "access_token=tok1",
        "access_token=tok2",
        "refresh_token=r1",
        "refresh_token=r2",
        "access_token=other; refresh_token=r2",
        "access_token=other; refresh_token=r1",
    ],
)
@pytest.mark.parametrize("presented", [PAIR, NEW])
async def test_no_piece_of_a_dead_session_brings_it_back(
    json_at: Embedded, client: Clients, upstream: Upstream, presented: str, cookie: str
) -> None:
    """Whichever generation was logged out (behaviour: logout)."""
    one = await client(json_at)
    assert (await one.get("/api/me", f"Cookie: {PAIR}")).status == 200
    await one.get("/api/optional/y", "Cookie: access_token=other; refresh_token=r2")
    assert (await one.post("/api/logout", f"Cookie: {presented}")).status == 200
    await json_at.wait_for(lambda m: m.get(STEP.format("access_token", "none"), 0) >= 1)
    count = len(upstream.requests)
    assert (await one.get("/api/me", f"Cookie: {cookie}")).status == 303
    assert len(upstream.requests) == count


async def test_logout_while_a_renewal_is_under_way(
    at: Embedded, idp: RunningIdp, client: Clients
) -> None:
    """The waiting request brings nothing back, and its tokens are revoked."""
    tokens = idp.tokens()
    cookie = f"access_token={tokens['access_token']}; refresh_token={tokens['refresh_token']}"
    one, other = await client(at), await client(at)
    idp.set(burst=1, refresh_delay=0.5)
    one.send(f"GET /api/me HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")
    async with asyncio.timeout(5):
        while idp.stats.refresh_exchanges == 0:
            await asyncio.sleep(0.01)
    assert (await other.post("/api/logout", f"Cookie: {cookie}")).status == 200
    answer = await one.answer()
    assert answer.status == 303
    assert answer.all("Set-Cookie") == []
    await at.wait_for(lambda m: m.get(STEP.format("refresh_token", "done"), 0) >= 2)


@pytest.mark.parametrize("token", ["r2\r\nX-Injected: yes", "r2; Domain=evil", "r€", ""])
async def test_refresh_token_that_no_cookie_can_hold(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients, token: str
) -> None:
    """It reaches no header; the session serves as long as it is remembered here."""

    def answer(request: Received) -> bytes:
        body = (
            {"access_token": "tok2", "refresh_token": token} if "refresh" in request.target else {}
        )
        return upstream.reply(json.dumps(body).encode())

    upstream.default = answer
    config = site(upstream, idp)
    config["refresh"] = {"type": "http", "request": {"url": f"{upstream.url}/refresh"}}
    at = await sidecar(config)
    got = await (await client(at)).get("/api/me", "Cookie: refresh_token=r1")
    assert got.status in (200, 503)
    assert got.get("X-Injected") is None
    assert not any("evil" in line for line in got.all("Set-Cookie"))


async def test_renewed_cookie_stays_on_its_host(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """`logout.domains` says what is expired besides; only the source says where cookies are set."""
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp, logout={"domains": ["example.com"]})
    at = await sidecar(config)
    cookie = session(idp.tokens(), expires_in=5)
    (line,) = (await (await client(at)).get("/api/me", f"Cookie: {cookie}")).all("Set-Cookie")
    assert "Domain" not in line
    config["session"]["sources"][0]["domain"] = "example.com"
    at = await sidecar(config)
    cookie = session(idp.tokens(), expires_in=5)
    (line,) = (await (await client(at)).get("/api/me", f"Cookie: {cookie}")).all("Set-Cookie")
    assert "; Domain=example.com; " in line


async def test_what_waits_for_a_renewal_counts_against_its_budget(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """A provider that hangs does not pile requests up."""
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, limits={"in_flight": {"api": 2}}))
    idp.set(refresh_delay=1.0)
    cookie = session(idp.tokens(), expires_in=-5)
    many = [await client(at) for _ in range(5)]
    answers = await asyncio.gather(*(one.get("/api/me", f"Cookie: {cookie}") for one in many))
    assert sorted(answer.status for answer in answers) == [200, 200, 503, 503, 503]
    assert (await many[0].get("/api/me", f"Cookie: {cookie}")).status == 200


async def test_call_that_was_repeated_is_counted_once(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """Else router data of its session would be held for ever (`bridge.hold`)."""
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, bridge={"hold": "3s"}))
    idp.set(burst=1)
    one = await client(at)
    answer = await one.get("/api/me", f"Cookie: {session(idp.tokens(), expires_in=25)}")
    assert answer.status == 200
    assert at.sidecar._proxy._planner._bridge._calls == {}


async def test_logout_of_a_revived_session_is_carried_out_again(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """An API that hands the same token out again has another session, and that ends too."""
    told: list[Received] = []

    def answer(request: Received) -> bytes:
        if request.target == "/hook":
            told.append(request)
        lines = ["Set-Cookie: access_token=tok; Path=/"] if request.target == "/login" else []
        return upstream.reply(b"{}", *lines)

    upstream.default = answer
    at = await sidecar(site(upstream, idp, logout={"hooks": [{"url": f"{upstream.url}/hook"}]}))
    one = await client(at)
    for number in (1, 2):
        await one.post("/login", *DOCUMENT)
        assert (await one.post("/api/logout", "Cookie: access_token=tok")).status == 200
        wanted = float(number)
        await at.wait_for(lambda m, n=wanted: m.get(STEP.format("hook", "done"), 0) == n)  # type: ignore[misc]
    assert len(told) == 2


# -- a JSON endpoint of one's own ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((200, {"data": {"accessToken": "fresh", "refreshToken": "r2", "expiresIn": 60}}), 200),
        ((200, {"data": {}}), 503),
        ((401, {"message": "no"}), 303),
        ((500, {"message": "oops"}), 503),
    ],
)
async def test_json_endpoint(
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    client: Clients,
    *,
    reply: tuple[int, Any],
    status: int,
) -> None:
    """`type: http`: template and paths as configured."""

    def answer(request: Received) -> bytes:
        if request.target == "/refresh":
            assert (request.get("Content-Type"), request.get("X-Key")) == ("application/json", "k")
            assert json.loads(request.body) == {"refreshToken": "r1", "n": [1]}
            return upstream.reply(msgspec.json.encode(reply[1]), status=f"{reply[0]} X")
        return upstream.reply(json.dumps({"token": request.get("Authorization")}).encode())

    upstream.default = answer
    config = site(upstream, idp)
    config["refresh"] = {
        "type": "http",
        "request": {
            "url": f"{upstream.url}/refresh",
            "headers": {"X-Key": "k"},
            "json": {"refreshToken": "{refresh_token}", "n": [1]},
        },
        "response": {
            "access_token": "data.accessToken",
            "refresh_token": "data.refreshToken",
            "expires_in": "data.expiresIn",
        },
    }
    at = await sidecar(config)
    cookie = session({"access_token": "a1", "refresh_token": "r1"}, expires_in=-5)
    got = await (await client(at)).get("/api/me", f"Cookie: {cookie}")
    assert got.status == status
    if status == 200:
        assert got.json["data"] == {"token": "Bearer fresh"}
        assert claims_of(after(cookie, got))["refreshToken"] == "r2"


async def test_token_of_unknown_lifetime_is_renewed_by_no_process_before_a_401(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """`expires_in` may be missing (RFC 6749 5.1). The old token's expiry is not the new one's."""
    renewals = 0

    def answer(request: Received) -> bytes:
        nonlocal renewals
        if request.target != "/refresh":
            return upstream.reply(json.dumps({"token": request.get("Authorization")}).encode())
        renewals += 1
        return upstream.reply(json.dumps({"a": f"a{renewals}", "r": f"r{renewals}"}).encode())

    upstream.default = answer
    config = site(upstream, idp)
    request = {"url": f"{upstream.url}/refresh", "json": {"token": "{refresh_token}"}}
    config["refresh"] = {
        "type": "http",
        "request": request,
        "response": {"access_token": "a", "refresh_token": "r"},
    }
    replicas = [await client(await sidecar(config)) for _ in range(2)]
    cookie = session({"access_token": "a0", "refresh_token": "r0"}, expires_in=-5)
    for one in [*replicas, *replicas]:
        got = await one.get("/api/me", f"Cookie: {cookie}")
        assert got.json["data"] == {"token": "Bearer a1"}
        cookie = after(cookie, got)
    assert renewals == 1
    assert "exp2" not in claims_of(cookie)
