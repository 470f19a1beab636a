"""Whose session a request has: one header, one session, in every spelling, until it has ended."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.formats import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Answer, Client, Clients, Embedded, Received, Start, Upstream

SECRET = "0123456789abcdef0123456789abcdef"
NAME = "authjs.session-token"
SOURCE = FORMATS["authjs"](secrets=[SECRET])
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Accept: text/html"]
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]


def seal(**claims: Any) -> str:
    """The value of a session cookie as Auth.js writes it."""
    claims = {"exp": int(time.time()) + 9999, "jti": str(time.monotonic_ns()), **claims}
    return str(SOURCE.opener.seal(claims, NAME))  # type: ignore[attr-defined]


def site(upstream: Upstream, *sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An API, the pages, and a login that needs no session."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api/", **api},
            {"path": "/api/login", "session": "none", **api},
            {"path": "/open/", "kind": "page", "upstream": "main", "session": "none"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": list(sources) or [{"type": "authjs", "secret": SECRET}]},
        **more,
    }


def echo(upstream: Upstream) -> None:
    """The upstream says what it was shown."""

    def answer(request: Received) -> bytes:
        shown = {"cookie": request.get("Cookie"), "token": request.get("Authorization")}
        return upstream.reply(json.dumps(shown).encode())

    upstream.default = answer


async def token(one: Client, target: str, cookie: str) -> str | None:
    """The token that the API was given, None if the request did not get there."""
    answer = await one.get(target, f"Cookie: {cookie}", *FETCH)
    if answer.status != 200:
        return None
    given = answer.json["data"]["token"]
    return str(given).removeprefix("Bearer ") if given else None


async def log_out(one: Client, cookie: str) -> Answer:
    return await one.post("/api/logout", f"Cookie: {cookie}", *FETCH)


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    echo(upstream)
    return await sidecar(site(upstream))


# -- one session, however it is spelled ------------------------------------------------------------


def spellings(value: str) -> list[str]:
    half = len(value) // 2
    return [
        f"{NAME}={value}",
        f"{NAME}=%{ord(value[0]):02x}{value[1:]}",
        f'{NAME}="{value}"',
        f'{NAME}="{value}x',
        f"{NAME}.0={value[:half]}; {NAME}.1={value[half:]}",
        f"{NAME}.1={value[half:]}; {NAME}.0={value[:half]}",
        f"{NAME}.0=%{ord(value[0]):02X}{value[1:half]}; {NAME}.1={value[half:]}",
        f"{NAME}=x; {NAME}={value}",
        f"a=b;{NAME}={value};c=d",
    ]


def oddities(value: str) -> list[str]:
    """What Auth.js reads as its session, and no library ever writes."""
    half = len(value) // 2
    return [
        f"{NAME}.5={value}",
        f"{NAME}-x={value}",
        f"{NAME}.x.0={value}",
        f"{NAME}={value[:half]}; {NAME}.1={value[half:]}",
        f"{NAME}={value[:half]}; {NAME}-x={value[half:]}",
        f"{NAME}.1={value[:half]}; {NAME}.2={value[half:]}",
        f"{NAME}.00={value}",
        f"\xa0{NAME}={value}",
        f"{NAME}={value}=",
        f"{NAME}={value[:-9]}%20{value[-9:]}",
        f"{NAME}.0={value[:half]}; {NAME}.1={value[half:]}=",
    ]


@pytest.mark.parametrize("number", range(len(spellings("xx"))))
async def test_a_dead_session_is_dead_in_every_spelling(
    at: Embedded, client: Clients, number: int
) -> None:
    one, value = await client(at), seal(sub="alice", accessToken="tok")
    spelled = spellings(value)[number]
    assert await token(one, "/api/me", spelled) == "tok"
    assert (await log_out(one, f"{NAME}={value}")).status == 200
    assert await token(one, "/api/me", spelled) is None
    assert (await one.get("/", f"Cookie: {spelled}", *DOCUMENT)).status == 303
    for target in ("/part.js", "/open/"):
        answer = await one.get(target, f"Cookie: theme=dark; {spelled}")
        cookie = answer.json["cookie"]
        assert cookie.startswith("theme=dark")
        assert value[1:20] not in cookie
        assert value[-20:-1] not in cookie


@pytest.mark.parametrize("number", range(len(oddities("xx"))))
async def test_what_only_a_library_would_read_reaches_no_upstream(
    at: Embedded, client: Clients, number: int
) -> None:
    """Dead or alive, on pages and on routes without a session; so no answer can be made of it."""
    one, value = await client(at), seal(sub="alice", accessToken="tok")
    odd = oddities(value)[number]
    for _ in range(2):
        for target in ("/", "/open/"):
            answer = await one.get(target, f"Cookie: theme=dark; {odd}")
            cookie = answer.json["cookie"]
            assert cookie.startswith("theme=dark")
            assert not (value[1:20] in cookie and value[-20:-1] in cookie)
        assert await token(one, "/api/me", odd) is None
        await log_out(one, f"{NAME}={value}")


async def test_a_dead_session_does_not_rise_by_an_answer_to_another_spelling(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    one, value = await client(at), seal(sub="alice", accessToken="tok")
    await log_out(one, f"{NAME}={value}")
    again = f"Set-Cookie: {NAME}={seal(sub='alice', accessToken='tok')}; Path=/"
    for odd in oddities(value):
        upstream.answers(upstream.reply(b"{}", again))
        answer = await one.get("/auth/session", f"Cookie: {odd}", *FETCH)
        assert not [line for line in answer.all("Set-Cookie") if "Max-Age=0" not in line]
    assert await token(one, "/api/me", f"{NAME}={value}") is None


async def test_a_living_session_hides_no_dead_one_from_a_page(
    at: Embedded, client: Clients
) -> None:
    """Of one name in several cookies, a page's server may read another one than the sidecar."""
    one = await client(at)
    dead, alive = seal(sub="alice", accessToken="dead"), seal(sub="alice", accessToken="alive")
    await log_out(one, f"{NAME}={dead}")
    for both in (f"{NAME}={dead}; {NAME}={alive}", f"{NAME}={alive}; {NAME}={dead}"):
        answer = await one.get("/", f"Cookie: {both}", *DOCUMENT)
        assert answer.json["cookie"] == f"{NAME}={alive}"
        assert await token(one, "/api/me", both) == "alive"


async def test_cookies_that_do_not_open_reach_the_page(at: Embedded, client: Clients) -> None:
    """The frontend may know a secret that the sidecar does not."""
    one = await client(at)
    for unknown in (f"{NAME}=eyJ.unknown", f"{NAME}.0=eyJ; {NAME}.1=unknown"):
        answer = await one.get("/", f"Cookie: a=b; {unknown}", *DOCUMENT)
        assert answer.json["cookie"] == f"a=b; {unknown}"


# -- answers that come late ------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/auth/session", "/api/login", "/open/refresh"])
@pytest.mark.parametrize("spelled", ["{name}={value}", "{name}={value}=", "{name}-x={value}"])
async def test_an_answer_under_way_at_logout_sets_no_session(
    at: Embedded, upstream: Upstream, client: Clients, target: str, spelled: str
) -> None:
    """Whatever is in it; and what is in it is dead as well."""
    one, two = await client(at), await client(at)
    value, rotated = seal(accessToken="tok-1"), seal(accessToken="tok-2")
    line = f"Set-Cookie: {NAME}={rotated}; Path=/"
    upstream.answers([0.3, upstream.reply(b"{}", line, "Set-Cookie: theme=dark")])
    cookie = spelled.format(name=NAME, value=value)
    late = asyncio.create_task(one.get(target, f"Cookie: {cookie}", *FETCH))
    await asyncio.sleep(0.1)
    assert (await log_out(two, f"{NAME}={value}")).status == 200
    assert (await late).all("Set-Cookie") == ["theme=dark"]
    assert await token(two, "/api/me", f"{NAME}={rotated}") is None


async def test_a_login_after_the_logout_works_with_any_token(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    one, value = await client(at), seal(accessToken="tok")
    for given in ("tok", "next"):
        await log_out(one, f"{NAME}={value}")
        line = f"{NAME}={seal(accessToken=given)}; Path=/"
        upstream.answers(upstream.reply(b"{}", f"Set-Cookie: {line}"))
        answer = await one.post("/api/login", *FETCH)
        assert answer.all("Set-Cookie") == [line]
        assert await token(one, "/api/me", line.partition(";")[0]) == given


# -- what an application's user writes into the session --------------------------------------------


@pytest.mark.parametrize("more", [{}, {"mac": "AAAAAAAAAAAAAAAAAAAAAA"}, {"mac": None}])
async def test_no_claim_names_another_session(
    at: Embedded, upstream: Upstream, client: Clients, more: dict[str, Any]
) -> None:
    """A fingerprint is no secret: it is in logs and hooks."""
    one = await client(at)
    other = f"{NAME}={seal(sub='other', accessToken='tok-other')}"
    assert await token(one, "/api/me", other) == "tok-other"
    logged = [json.loads(line) for line in at.log.getvalue().splitlines()]
    known = next(line["session"] for line in reversed(logged) if line.get("session"))
    claim = {"fingerprint": known, "issuedAt": None, **more}
    mine = f"{NAME}={seal(sub='me', accessToken='tok-me', sidecar=claim)}"
    assert await token(one, "/api/me", mine) == "tok-me"
    await log_out(one, mine)
    assert await token(one, "/api/me", mine) is None
    assert await token(one, "/api/me", other) == "tok-other"


# -- sessions without a token ----------------------------------------------------------------------


async def test_a_session_without_a_token_can_be_ended(at: Embedded, client: Clients) -> None:
    """The page is served with it, then no more; another login of the same user goes on."""
    one = await client(at)
    value, another = seal(sub="alice", name="Alice"), seal(sub="alice", name="Alice")
    for cookie in (f"{NAME}={value}", f"{NAME}={another}"):
        answer = await one.get("/", f"Cookie: {cookie}", *DOCUMENT)
        assert answer.json["cookie"] == cookie
    assert (await log_out(one, f"{NAME}={value}")).status == 200
    assert (await one.get("/", f"Cookie: {NAME}={value}", *DOCUMENT)).status == 303
    assert (await one.get("/part", f"Cookie: a=b; {NAME}={value}")).json["cookie"] == "a=b"
    answer = await one.get("/", f"Cookie: {NAME}={another}", *DOCUMENT)
    assert answer.json["cookie"] == f"{NAME}={another}"


async def test_a_session_without_a_token_stays_the_same_when_it_is_sealed_again(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """Auth.js does at each look at it; all of its cookies end with it."""
    one = await client(at)
    values = [seal(sub="alice", name="Alice", iat=number) for number in range(3)]
    for old, new in pairwise(values):
        upstream.answers(upstream.reply(b"{}", f"Set-Cookie: {NAME}={new}; Path=/"))
        answer = await one.get("/auth/session", f"Cookie: {NAME}={old}", *FETCH)
        assert answer.all("Set-Cookie") == [f"{NAME}={new}; Path=/"]
    await log_out(one, f"{NAME}={values[-1]}")
    for value in values:
        assert (await one.get("/", f"Cookie: {NAME}={value}", *DOCUMENT)).status == 303


# -- several applications --------------------------------------------------------------------------

BOTH = "app=user; admin=boss"


@pytest.fixture
async def two(sidecar: Start, upstream: Upstream) -> Embedded:
    """Two applications on one host, each with the cookie of its own."""

    def answer(request: Received) -> bytes:
        if request.get("Authorization") == "Bearer user" and request.target == "/fail":
            return upstream.reply(b"{}", status="401 Unauthorized")
        shown = {"cookie": request.get("Cookie"), "token": request.get("Authorization")}
        return upstream.reply(json.dumps(shown).encode())

    upstream.default = answer
    app, admin = ({"type": "cookie", "cookie": name} for name in ("app", "admin"))
    config = site(upstream, app, {**admin, "name": "backoffice"})
    api = {"kind": "api", "upstream": "main"}
    config["routes"] += [
        {"path": "/api/app/", "strip": "/api/app", "sources": ["app"], **api},
        {"path": "/api/admin/", "strip": "/api/admin", "sources": ["backoffice"], **api},
    ]
    return await sidecar(config)


async def test_a_route_takes_the_token_of_its_own_sources(two: Embedded, client: Clients) -> None:
    one = await client(two)
    for cookie in (BOTH, "admin=boss; app=user"):
        assert await token(one, "/api/app/x", cookie) == "user"
        assert await token(one, "/api/admin/x", cookie) == "boss"
        assert await token(one, "/api/x", cookie) == "user"
    assert await token(one, "/api/admin/x", "app=user") is None


async def test_a_dead_session_hides_no_living_one(two: Embedded, client: Clients) -> None:
    """And the way to its logout ends nothing of the other application."""
    one = await client(two)
    answer = await one.get("/api/app/fail", f"Cookie: {BOTH}", *FETCH)
    assert answer.status == 303
    assert await token(one, "/api/admin/x", BOTH) == "boss"
    assert await token(one, "/api/x", BOTH) == "boss"
    assert await token(one, "/api/app/x", BOTH) is None
    assert (await one.get("/", f"Cookie: {BOTH}", *DOCUMENT)).json["cookie"] == "admin=boss"
    left = await one.get(answer.get("Location") or "", f"Cookie: {BOTH}", *FETCH)
    assert (left.status, left.code) == (401, "session_expired")
    expired = {line.partition("=")[0] for line in left.all("Set-Cookie")}
    assert "app" in expired
    assert not {"admin", "__Secure-admin"} & expired
    assert await token(one, "/api/admin/x", BOTH) == "boss"


async def test_a_logout_ends_all_that_is_presented(two: Embedded, client: Clients) -> None:
    """Its answer expires all their cookies, and a replay must not open any of them."""
    one = await client(two)
    assert (await log_out(one, BOTH)).status == 200
    for target in ("/api/x", "/api/app/x", "/api/admin/x"):
        for cookie in (BOTH, "app=user", "admin=boss"):
            assert await token(one, target, cookie) is None


async def test_a_frontends_sign_out_ends_its_own_session_alone(
    two: Embedded, upstream: Upstream, client: Clients
) -> None:
    one = await client(two)
    upstream.answers(upstream.reply(b"bye", "Set-Cookie: admin=; Path=/; Max-Age=0"))
    answer = await one.post("/signout", f"Cookie: {BOTH}", *FETCH)
    assert not any(line.startswith("app=") for line in answer.all("Set-Cookie"))
    assert await token(one, "/api/admin/x", BOTH) is None
    assert await token(one, "/api/app/x", BOTH) == "user"


# -- the rewritten header --------------------------------------------------------------------------


async def test_other_cookies_stay_as_they_came(at: Embedded, client: Clients) -> None:
    one = await client(at)
    alive = f"{NAME}={seal(accessToken='tok')}"
    for cookie, shown in (
        (f"a=1; {alive}; b=2", "a=1; b=2"),
        (f"{alive}; b=2; c=3", "b=2; c=3"),
        (f"a=1; {alive}", "a=1"),
    ):
        answer = await one.get("/api/x", f"Cookie: {cookie}", *FETCH)
        assert answer.json["data"]["cookie"] == shown


# -- what a dead session could still be used for ---------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer {}", "Bearer  {}", "JWT {}", "Basic x, Bearer {}"])
async def test_a_bearer_of_a_dead_session_reaches_no_upstream(
    at: Embedded, client: Clients, scheme: str
) -> None:
    """Its token, or the sealed session itself, out of which libraries take it."""
    one, value = await client(at), seal(accessToken="tok")
    for field in map(scheme.format, ("tok", "tok=", value)):
        answer = await one.get("/part", f"Authorization: {field}")
        assert answer.json["token"] == field
    await log_out(one, f"{NAME}={value}")
    for field in map(scheme.format, ("tok", "tok=", value)):
        answer = await one.get("/part", f"Authorization: {field}")
        assert answer.json["token"] is None


async def test_a_request_that_waited_looks_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Its session may have ended while it waited for new tokens."""
    refresh = {"type": "http", "request": {"url": f"{upstream.url}/token", "json": {"t": "x"}}}
    source = {"type": "cookie", "cookie": "at", "refresh_cookie": "rt"}
    at = await sidecar(site(upstream, source, refresh=refresh))
    echo(upstream)
    one, two = await client(at), await client(at)
    upstream.answers([0.4, upstream.reply(b'{"accessToken": "new", "refreshToken": "rt2"}')])
    waiting = asyncio.create_task(one.get("/part", "Cookie: rt=rt1"))
    await asyncio.sleep(0.1)
    assert (await log_out(two, "rt=rt1")).status == 200
    answer = await waiting
    assert answer.json["cookie"] is None
    assert answer.all("Set-Cookie") == []


async def test_older_generations_end_with_a_logout_and_not_by_a_401(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """The application rotates tokens itself; who has the older cookie is late, not logged out."""
    one = await client(at)
    old, new = (f"{NAME}={seal(sub='alice', accessToken=f'tok-{n}')}" for n in (1, 2))
    upstream.answers(upstream.reply(b"{}", f"Set-Cookie: {new}; Path=/"))
    await one.get("/auth/session", f"Cookie: {old}", *FETCH)
    upstream.answers(upstream.reply(b"{}", status="401 Unauthorized"))
    assert await token(one, "/api/me", old) is None
    assert await token(one, "/api/me", new) == "tok-2"
    await log_out(one, new)
    for cookie in (old, new):
        assert await token(one, "/api/me", cookie) is None


async def test_a_ticket_of_nobody_ends_no_session_without_a_token(
    at: Embedded, client: Clients
) -> None:
    """Anybody gets such a ticket."""
    one, cookie = await client(at), f"{NAME}={seal(sub='alice')}"
    ticket = (await one.get("/api/me", *FETCH)).get("Location") or ""
    answer = await one.get(ticket, f"Cookie: {cookie}", *FETCH)
    assert (answer.status, answer.code) == (401, "session_changed")
    assert (await one.get("/", f"Cookie: {cookie}", *DOCUMENT)).json["cookie"] == cookie


@pytest.mark.parametrize("secrets", [["n" * 40, "o" * 40], ["o" * 40, "n" * 40]])
async def test_dead_session_is_dead_for_a_replica_with_another_first_secret(
    sidecar: Start, upstream: Upstream, client: Clients, tmp_path: Path, secrets: list[str]
) -> None:
    """While a secret is rotated some replicas have it first and others last; either ends sessions.

    Also those of a process that began afterwards.
    """
    shared = {"store": {"url": f"sqlite:///{tmp_path}/store"}}
    cookie, mode = "Cookie: access_token=tok", "Sec-Fetch-Site: same-origin"
    first = await client(await sidecar(secret=secrets, **shared))
    assert (await first.get("/x", cookie)).status == 200
    assert upstream.last.get("Authorization") == "Bearer tok"
    assert (await first.post("/api/logout", cookie, mode)).status == 200
    await asyncio.sleep(0.3)
    second = await client(await sidecar(secret=secrets[::-1], **shared))
    await second.get("/x", cookie)
    assert upstream.last.get("Authorization") is None
