"""The sidecar's own login over the wire, with a real provider: sessions from login to end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import pytest
from aiohttp import ClientSession, CookieJar, TCPConnector
from aiohttp.web import Application, AppRunner, Request, Response, TCPSite
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from yarl import URL

from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL
from sidecar.core.cookies import CookieJar as Cookies
from sidecar.core.cookies import with_set_cookies
from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.login_session import store_key
from sidecar.demo.idp import RegisteredClient as RelyingParty
from sidecar.demo.idp import running_idp
from sidecar.net.store.sqlite import SqliteStore
from sidecar.runtime import Clock
from sidecar.sessions import logins
from sidecar.sessions.bounds import Budget
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.demo.idp import RunningIdp
    from tests.conftest import Answer, Client, Clients, Embedded, Received, Start, Upstream

ORIGIN = "http://app.example.com"
CALLBACK = f"{ORIGIN}/auth/callback"
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
CROSS = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site"]
FORM = "Content-Type: application/x-www-form-urlencoded"
KEPT = ["cookie", "memory", "sqlite"]
STEP = 'sidecar_logout_steps_total{{outcome="{1}",step="{0}"}}'


class Times:
    """A clock for sidecar and provider that a test can set forward."""

    ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr("sidecar.web.proxy.time", times.now)
    monkeypatch.setattr(Clock, "now", lambda _: times.now())
    return times


@pytest.fixture
async def idp(times: Times) -> AsyncIterator[RunningIdp]:
    """Rotation with reuse detection, access tokens of 30 s."""
    async with running_idp(
        host="localhost",
        clock=times.now,
        opaque_access_tokens=True,
        redirect_uris=[CALLBACK],
        post_logout_redirect_uris=[f"{ORIGIN}/", f"{ORIGIN}/bye"],
    ) as one:
        yield one


def site(upstream: Upstream, idp: RunningIdp, *, oidc: Any = None, **more: Any) -> dict[str, Any]:
    """An API behind `/api` and pages, one of which demands a session."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    login: dict[str, Any] = {"issuer": idp.issuer, "client_id": idp.client_id}
    login["client_secret"] = idp.client_secret
    login["scopes"] = ["openid", "profile", "email", "offline_access"]
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/api/optional", "session": "optional", **api},
            {"path": "/api/known", "authorization": "session", **api},
            {"path": "/private", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "refresh": {"leeway": "10s"},
        "oidc": {**login, **(oidc or {})},
        **more,
    }


def where(kept: str, tmp_path: Path) -> dict[str, Any]:
    """The keys that keep sessions there."""
    if kept == "sqlite":
        return {"store": {"url": f"sqlite://{tmp_path}/store.db"}}
    return {"oidc": {"keep": "store" if kept == "memory" else "cookie"}}


def guarded(upstream: Upstream, idp: RunningIdp) -> Callable[[Received], bytes]:
    """An API that takes the provider's live tokens and no others, and tells which it took."""

    def answer(request: Received) -> bytes:
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        if request.get("Authorization") is None:
            return upstream.reply(b"page", type="text/html")
        if not idp.verify(token).is_live:
            return upstream.reply(b'{"message":"no"}', status="401 Unauthorized")
        return upstream.reply(json.dumps({"token": token}).encode())

    return answer


class Browser:
    """Keeps the sidecar's cookies, and signs in at the provider's pages, which have others."""

    def __init__(self, one: Client, at_provider: ClientSession) -> None:
        self.one = one
        self.at_provider = at_provider
        self.cookie = ""

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        fields = [f"Cookie: {self.cookie}"] if self.cookie else []
        answer = await self.one.ask(method, target, *fields, *lines, body=body)
        self.take(answer)
        return answer

    async def get(self, target: str, *lines: str) -> Answer:
        return await self.ask("GET", target, *lines)

    def take(self, answer: Answer) -> None:
        """Keeps what an answer sets."""
        sets = [line.encode("latin-1") for line in answer.all("Set-Cookie")]
        self.cookie = with_set_cookies(self.cookie, sets, time.time())

    @property
    def names(self) -> set[str]:
        """All but the trace of the last login, which is no session's and ends after 30 s."""
        names = Cookies.parse(self.cookie).names()
        return {name for name in names if name and not name.endswith("trace-sidecar")}

    async def begin(self, query: str = "") -> str:
        """Begins a login; returns where it leads to at the provider."""
        answer = await self.get(f"/auth/login{query}", *DOCUMENT)
        assert answer.status == 303, answer
        return answer.get("Location") or ""

    async def sign_in(self, url: str, user: str = "alice") -> str:
        """Signs in there; returns the target at the sidecar that the provider leads to."""
        async with self.at_provider.get(URL(url, encoded=True), allow_redirects=False) as page:
            location, text = page.headers.get("Location"), await page.text()
        if location is None:
            found = re.search(r'name="interaction" value="([^"]+)"', text)
            assert found, text
            form = {"interaction": found[1], "user": user}
            issuer = URL(url, encoded=True).origin()
            async with self.at_provider.post(
                issuer / "sign-in", data=form, allow_redirects=False
            ) as answer:
                location = answer.headers["Location"]
        assert location.startswith(f"{CALLBACK}?")
        return location.removeprefix(ORIGIN)

    async def log_in(self, query: str = "", user: str = "alice") -> Answer:
        """A whole login."""
        target = await self.sign_in(await self.begin(query), user)
        answer = await self.get(target, *CROSS)
        assert answer.status == 303, answer
        return answer

    async def who(self) -> dict[str, Any]:
        answer = await self.get("/auth/session", *FETCH)
        assert (answer.status, answer.get("Cache-Control")) == (200, "no-store")
        assert answer.all("Set-Cookie") == []
        found: dict[str, Any] = answer.json
        return found


class Browsers:
    """`await browsers(at)` is a new one."""

    def __init__(self, client: Clients) -> None:
        self._client = client
        self._sessions: list[ClientSession] = []

    async def __call__(self, at: Embedded) -> Browser:
        # Not kept alive: the provider goes without waiting for idle connections.
        session = ClientSession(
            cookie_jar=CookieJar(unsafe=True), connector=TCPConnector(force_close=True)
        )
        self._sessions.append(session)
        return Browser(await self._client(at), session)

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()


@pytest.fixture
async def browsers(client: Clients) -> AsyncIterator[Browsers]:
    browsers = Browsers(client)
    yield browsers
    await browsers.close()


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream, idp: RunningIdp) -> Embedded:
    upstream.default = guarded(upstream, idp)
    return await sidecar(site(upstream, idp))


@pytest.fixture(params=KEPT)
async def kept(
    request: pytest.FixtureRequest,
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    tmp_path: Path,
) -> Embedded:
    """One that keeps its sessions in cookies, in memory or in SQLite."""
    upstream.default = guarded(upstream, idp)
    return await sidecar(site(upstream, idp, **where(request.param, tmp_path)))


async def until(is_left: Callable[[], Awaitable[object]]) -> None:
    """Waits until nothing is left."""
    async with asyncio.timeout(5):
        while await is_left():
            await asyncio.sleep(0.02)


async def revoked(at: Embedded) -> None:
    """Waits until a logout has done what it does behind its answer."""
    await at.wait_for(lambda m: m.get(STEP.format("access_token", "done"), 0) == 1)


def logged(at: Embedded) -> list[dict[str, Any]]:
    return [json.loads(line) for line in at.log.getvalue().splitlines()]


# -- the whole life --------------------------------------------------------------------------------


async def test_session_from_its_login_to_its_end(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, upstream: Upstream, times: Times
) -> None:
    """Login, work, renewal, logout; and what was good then is good for nothing after it."""
    one = await browsers(kept)
    assert (await one.who())["authenticated"] is False
    answer = await one.log_in("?next=/orders?page=2")
    assert answer.get("Location") == "/orders?page=2"
    assert answer.get("Cache-Control") == "no-store"
    assert not any("login" in name for name in one.names)
    who = await one.who()
    assert (who["subject"], who["name"], who["email"]) == ("alice", "Alice", "alice@example.com")

    first = await one.get("/api/me", *FETCH)
    assert first.status == 200
    assert first.all("Set-Cookie") == []
    assert upstream.last.get("Cookie") is None
    times.ahead += 25  # the token is about to expire
    second = await one.get("/api/me", *FETCH)
    third = await one.get("/api/me", *FETCH)
    assert second.json["data"] == third.json["data"] != first.json["data"]
    assert idp.stats.refresh_exchanges == 1

    before, token = one.cookie, second.json["data"]["token"]
    assert idp.verify(token).is_live
    answer = await one.get("/auth/logout", *DOCUMENT)
    assert answer.status == 303
    assert one.names == set()
    assert (await one.who())["authenticated"] is False
    await kept.wait_for(lambda m: m.get(STEP.format("refresh_token", "done"), 0) == 1)
    assert not idp.verify(token).is_live
    one.cookie = before
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert (await one.who())["authenticated"] is False
    text = kept.log.getvalue()
    assert not any(secret in text for secret in (token, before, "alice"))
    name = next(line["session"] for line in logged(kept) if line["event"] == "login")
    await until(lambda: kept.sidecar.runtime.store.get(store_key(name)))
    assert (await kept.metrics())['sidecar_logins_total{outcome="done"}'] == 1


@pytest.mark.parametrize("kept_in", KEPT)
async def test_cookie_of_a_session(
    *,
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    browsers: Browsers,
    tmp_path: Path,
    kept_in: str,
) -> None:
    """`__Host-`, for this host and scripts out of reach; no token in it where the store has it."""
    keys = {"public_url": "https://app.example.com", **where(kept_in, tmp_path)}
    at = await sidecar(site(upstream, idp, **keys, logout={"domains": ["example.com"]}))
    idp.register(
        RelyingParty(redirect_uris=(CALLBACK.replace("http:", "https:"),), offline_access=True)
    )
    one = await browsers(at)
    url = await one.begin()
    assert {name[:21] for name in one.names} == {"__Host-sidecar-login-"}
    target = (await sign_in_with_https(one, url)).removeprefix("https://app.example.com")
    answer = await one.get(target, *CROSS)
    sets = answer.all("Set-Cookie")
    assert one.names == {"__Host-sidecar"}
    for line in sets:
        parts = line.split("; ")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(parts)
        assert "Domain" not in line
    value = Cookies.parse(one.cookie).values("__Host-sidecar")[0]
    assert (len(value) < 80) is (kept_in != "cookie")


async def sign_in_with_https(one: Browser, url: str) -> str:
    async with one.at_provider.get(URL(url, encoded=True)) as page:
        found = re.search(r'name="interaction" value="([^"]+)"', await page.text())
        assert found
    form = {"interaction": found[1], "user": "alice"}
    address = URL(url, encoded=True).origin() / "sign-in"
    async with one.at_provider.post(address, data=form, allow_redirects=False) as answer:
        return answer.headers["Location"]


async def test_what_is_asked_of_the_provider(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers
) -> None:
    """A code, with PKCE (S256), state and nonce, and what the configuration adds."""
    more = {"parameters": {"audience": "orders", "prompt": "login"}}
    one = await browsers(await sidecar(site(upstream, idp, oidc=more)))
    asked = {
        name: values[0] for name, values in parse_qs(urlsplit(await one.begin()).query).items()
    }
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == CALLBACK
    assert asked["code_challenge_method"] == "S256"
    assert (asked["audience"], asked["prompt"]) == ("orders", "login")
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) == 43
    again = parse_qs(urlsplit(await one.begin()).query)
    assert all(asked[name] != again[name][0] for name in ("state", "nonce", "code_challenge"))


# -- the way to the login, and back ----------------------------------------------------------------


async def test_document_without_a_session_is_led_to_the_login_and_back(
    at: Embedded, browsers: Browsers, upstream: Upstream
) -> None:
    """By the logout, which ends what is left; nothing has been written but `oidc`."""
    one = await browsers(at)
    answer = await one.get("/private/report?year=1", *DOCUMENT)
    while answer.status == 303 and (answer.get("Location") or "").startswith("/"):
        target = answer.get("Location") or ""
        answer = await one.get(target, *DOCUMENT)
    assert target == "/auth/login?next=%2Fprivate%2Freport%3Fyear%3D1"
    assert upstream.requests == []
    back = await one.get(await one.sign_in(answer.get("Location") or ""), *CROSS)
    assert back.get("Location") == "/private/report?year=1"
    assert (await one.get("/private/report?year=1", *DOCUMENT)).body == b"page"


async def test_script_without_a_session_is_told_where_the_login_is(
    at: Embedded, browsers: Browsers
) -> None:
    one = await browsers(at)
    answer = await one.get("/api/me", *FETCH)
    answer = await one.get(answer.get("Location") or "", *FETCH)
    assert answer.status == 401
    told = answer.json["errorData"]
    assert (told["loginUrl"], told["logoutUrl"]) == ("/auth/login", "/api/logout")


@pytest.mark.parametrize(
    "lines",
    [
        FETCH,
        ["RSC: 1"],
        ["Next-Router-Prefetch: 1"],
        ["Sec-Purpose: prefetch", *DOCUMENT],
        ["Accept: text/event-stream"],
    ],
)
async def test_only_a_document_begins_a_login(
    at: Embedded, client: Clients, lines: list[str]
) -> None:
    """A script cannot follow to the provider, and a prefetch must not."""
    answer = await (await client(at)).get("/auth/login", *lines)
    assert answer.status == 401
    assert answer.all("Set-Cookie") == []


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/%2Fevil.example",
        "/%5Cevil.example",
        "javascript:alert(1)",
        "/a%0d%0aSet-Cookie:x=y",
        "/\r\nX: y",
        "/..",
        "evil",
        "",
        "/auth/login",
        "/auth/login?next=/",
        "/auth/logout#x",
        "/api/logout",
        "/" + "a" * 3000,
    ],
)
async def test_login_leads_nowhere_else(at: Embedded, browsers: Browsers, wanted: str) -> None:
    """T31, T32, T37: not to another site, into a header or round in circles."""
    one = await browsers(at)
    answer = await one.log_in(f"?next={quote(wanted, safe='')}")
    assert answer.get("Location") == "/"
    assert {line.partition("=")[0] for line in answer.all("Set-Cookie")} >= {"sidecar"}


@pytest.mark.parametrize("name", [*ENDPOINTS, FRONTCHANNEL])
async def test_no_other_spelling_of_an_own_path_reaches_an_upstream(
    sidecar: Start, browsers: Browsers, upstream: Upstream, idp: RunningIdp, name: str
) -> None:
    """A server behind may fold it onto a login or a logout of its own."""
    one = await browsers(await sidecar(site(upstream, idp, oidc={"frontchannel": True})))
    for path in (f"/AUTH/{name}", f"/auth/{name.title()}/", f"//auth/{name}", f"/Auth%2F{name};x"):
        for method in ("GET", "POST"):
            assert (await one.ask(method, path)).status == 404
    assert upstream.requests == []
    assert (await one.get(f"/AUTH/{name}/more")).status == 200


async def test_several_tabs_log_in_at_once(at: Embedded, browsers: Browsers) -> None:
    """Each comes back to where it began; the session before is no more."""
    one = await browsers(at)
    first, second = await one.begin("?next=/first"), await one.begin("?next=/second")
    answers = [await one.sign_in(first), await one.sign_in(second)]
    assert (await one.get(answers[1], *CROSS)).get("Location") == "/second"
    old = one.cookie
    assert (await one.get(answers[0], *CROSS)).get("Location") == "/first"
    assert (await one.get("/api/me", *FETCH)).status == 200
    one.cookie = old
    assert (await one.get("/api/me", *FETCH)).status == 303


async def test_logins_that_come_to_nothing_do_not_pile_up(at: Embedded, browsers: Browsers) -> None:
    """Or the browser would send more cookies than any server takes."""
    one = await browsers(at)
    for number in range(30):
        await one.begin(f"?next=/orders/{number}")
    assert len(one.names) >= 12
    assert len(one.cookie) < 4200
    first = await one.sign_in(await one.begin("?next=/orders/first"))
    assert (await one.get(first, *CROSS)).get("Location") == "/orders/first"


async def test_login_whose_cookie_is_lost_leads_to_its_place_all_the_same(
    at: Embedded, browsers: Browsers
) -> None:
    """It is not believed, but its place is where the next try goes; where one is logged in
    meanwhile, it goes there at once.
    """
    one = await browsers(at)
    target = await one.sign_in(await one.begin("?next=/orders/7%3Fa%3D1"))
    one.cookie = ""
    answer = await one.get(target, *CROSS)
    assert (answer.status, answer.all("Set-Cookie")) == (400, [])
    assert b"<code>login_expired</code>" in answer.body
    assert b'href="/auth/login?next=/orders/7%3Fa%3D1"' in answer.body
    await one.log_in()
    answer = await one.get(target, *CROSS)
    assert (answer.status, answer.get("Location")) == (303, "/orders/7?a=1")


@pytest.mark.parametrize(("minutes", "is_over"), [(59, False), (61, True)])
async def test_login_page_may_be_left_open(
    at: Embedded, browsers: Browsers, times: Times, *, minutes: int, is_over: bool
) -> None:
    """For an hour (`oidc.attempt`)."""
    one = await browsers(at)
    url = await one.begin("?next=/here")
    times.ahead += minutes * 60
    answer = await one.get(await one.sign_in(url), *CROSS)
    if is_over:
        assert answer.status == 400
        assert b'href="/auth/login?next=/here"' in answer.body
    else:
        assert (answer.status, answer.get("Location")) == (303, "/here")


async def test_how_long_a_login_page_may_be_left_open_is_configured(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, times: Times
) -> None:
    """Its cookie lasts as long."""
    one = await browsers(await sidecar(site(upstream, idp, oidc={"attempt": "5m"})))
    begun = await one.get("/auth/login", *DOCUMENT)
    (cookie,) = begun.all("Set-Cookie")
    lasts = parsedate_to_datetime(cookie.partition("Expires=")[2].partition(";")[0]).timestamp()
    assert 298 < lasts - time.time() <= 300
    times.ahead += 301
    target = await one.sign_in(begun.get("Location") or "")
    assert (await one.get(target, *CROSS)).status == 400


@pytest.mark.parametrize("begun", [True, False])
async def test_providers_own_error_is_named(
    at: Embedded, browsers: Browsers, *, begun: bool
) -> None:
    """On the page and in the log, with its description; where no login waits, anybody may have
    written it: then its registered code alone, and nobody is alarmed.
    """
    one = await browsers(at)
    url = await one.begin("?next=/here")
    query = {"error": "server_error", "error_description": "Come <b>back\n\x1b[2J"}
    query["iss"] = url.partition("/authorize")[0]
    if begun:
        query["state"] = parse_qs(urlsplit(url).query)["state"][0]
    answer = await one.get(f"/auth/callback?{urlencode(query)}", *CROSS)
    assert answer.status == (502 if begun else 400)
    assert b"<code>server_error</code>" in answer.body
    assert (b"<p>Come &lt;b&gt;back?[2J</p>" in answer.body) is begun
    (line,) = [line for line in at.log.getvalue().splitlines() if '"login failed"' in line]
    told = json.loads(line)
    assert told["level"] == ("error" if begun else "warning")
    assert told["code"] == "server_error"
    said = "the provider answered server_error: Come <b>back?[2J"
    assert (told["detail"] == said) is begun
    assert ("no login of this browser" in told["detail"]) is not begun
    assert ("Come" in at.log.getvalue()) is begun


@pytest.mark.parametrize("state", ["", "x", "of another browser"])
async def test_nobody_writes_into_the_log_by_a_link(
    at: Embedded, browsers: Browsers, state: str
) -> None:
    """To the callback: no word of what it holds is in the log, on the page or in a metric."""
    one, other = await browsers(at), await browsers(at)
    await one.begin()
    url = await other.begin()
    if state == "of another browser":
        state = parse_qs(urlsplit(url).query)["state"][0]
    for error in ("forged", "access_denied"):
        query = {"error": error, "error_description": "forged text", "error_uri": "//forged"}
        query |= {"iss": url.partition("/authorize")[0], "state": state, "forged": "forged"}
        answer = await one.get(f"/auth/callback?{urlencode(query)}", *CROSS)
        assert (answer.status, b"forged" in answer.body) == (400, False)
    assert at.log.getvalue().count('"login failed"') == 2
    assert "forged" not in at.log.getvalue()


@pytest.mark.parametrize(
    ("host", "moves"),
    [
        ("app.example.com", False),
        ("APP.example.com:80", False),
        ("www.example.com", True),
        ("app.example.com:8080", True),
        ("127.0.0.1:8080", True),
    ],
)
async def test_login_begins_under_the_public_host(
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    client: Clients,
    *,
    host: str,
    moves: bool,
) -> None:
    """The provider leads back there, and cookies of another host would not come along."""
    one = await client(await sidecar(site(upstream, idp, public_url=ORIGIN)))
    answer = await one.get("/auth/login?next=%2Fa%3Fb%3D%2B&x=%FF", f"Host: {host}", *DOCUMENT)
    location = answer.get("Location") or ""
    assert answer.status == 303
    if moves:
        assert location == f"{ORIGIN}/auth/login?next=/a%3Fb%3D%2B&moved=1"
        assert answer.all("Set-Cookie") == []
        # A proxy that hides the host is not gone round for ever.
        path = location.removeprefix(ORIGIN)
        again = await one.get(path, f"Host: {host}", *DOCUMENT)
        assert (again.get("Location") or "").startswith(f"{idp.issuer}/authorize?")
    else:
        assert location.startswith(f"{idp.issuer}/authorize?")


async def test_origin_that_a_trusted_proxy_names_is_the_one_asked_for(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    """Whatever the proxy calls this host itself. On https a login over http has no cookies."""
    public = "https://app.example.com"
    config = site(upstream, idp, public_url=public, trusted_proxies=["127.0.0.1"])
    one = await client(await sidecar(config))
    for host, scheme, place in (
        ("app.example.com", "https", idp.issuer),
        ("app.example.com", "", idp.issuer),
        ("www.example.com", "https", public),
        ("app.example.com", "http", public),
    ):
        lines = [f"X-Forwarded-Host: {host}", f"X-Forwarded-Proto: {scheme}", *DOCUMENT]
        answer = await one.get("/auth/login", "Host: sidecar:8080", *lines)
        assert (answer.get("Location") or "").startswith(place)


async def test_cookies_of_a_login_reach_no_api(
    at: Embedded, browsers: Browsers, upstream: Upstream
) -> None:
    one = await browsers(at)
    await one.log_in()
    await one.begin()
    one.cookie += "; a=b"
    assert (await one.get("/api/me", *FETCH)).status == 200
    assert upstream.last.get("Cookie") == "a=b"


# -- the provider's answer -------------------------------------------------------------------------


async def test_answer_is_redeemed_once_however_often_it_comes(
    kept: Embedded, browsers: Browsers, idp: RunningIdp
) -> None:
    """A code that is sent twice ends what it gave; a reload gets the same session, or goes on."""
    one = await browsers(kept)
    target = await one.sign_in(await one.begin("?next=/here"))
    cookie, tabs = one.cookie, [await browsers(kept) for _ in range(5)]
    for tab in tabs:
        tab.cookie = cookie
    answers = await asyncio.gather(*(tab.get(target, *CROSS) for tab in tabs))
    answers.append(await one.get(target, *CROSS))  # later, and its cookies are still the old ones
    assert {(one.status, one.get("Location")) for one in answers} == {(303, "/here")}
    assert len({tab.one and (await tab.who())["absoluteExpiresAt"] for tab in tabs}) == 1
    reloaded = await one.get(target, *CROSS)
    assert (reloaded.status, reloaded.get("Location")) == (303, "/here")
    assert (idp.stats.code_exchanges, idp.stats.code_reuses) == (1, 0)
    assert (await one.get("/api/me", *FETCH)).status == 200


async def test_prefetch_redeems_nothing(at: Embedded, browsers: Browsers, idp: RunningIdp) -> None:
    """And leaves the answer for the one who follows it."""
    one = await browsers(at)
    target = await one.sign_in(await one.begin("?next=/here"))
    answer = await one.get(target, "Sec-Purpose: prefetch", *CROSS)
    assert answer.status == 401
    assert b"prefetch_unauthenticated" in answer.body
    assert (answer.all("Set-Cookie"), idp.stats.code_exchanges) == ([], 0)
    assert (await one.get(target, *CROSS)).get("Location") == "/here"


async def test_client_that_leaves_does_not_cut_the_login_short(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, client: Clients
) -> None:
    """What it comes back with is still good for the session that was made meanwhile."""
    one = await browsers(kept)
    target = await one.sign_in(await one.begin())
    gone = await client(kept)
    gone.send(f"GET {target} HTTP/1.1\r\nHost: app.example.com\r\nCookie: {one.cookie}\r\n\r\n")
    async with asyncio.timeout(5):
        while idp.stats.code_exchanges == 0:
            await asyncio.sleep(0.01)
    gone.reset()
    assert (await one.get(target, *CROSS)).status == 303
    assert (await one.get("/api/me", *FETCH)).status == 200
    assert (idp.stats.code_exchanges, idp.stats.code_reuses) == (1, 0)


async def test_answers_that_are_redeemed_at_once_are_bounded(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can make them up; one that is not sent is good later."""
    one = await browsers(kept)
    target = await one.sign_in(await one.begin())
    with monkeypatch.context() as patch:
        patch.setattr(logins, "AT_ONCE", 0)
        answer = await one.get(target, *CROSS)
        assert (answer.status, idp.stats.code_exchanges) == (503, 0)
        assert b"login_unavailable" in answer.body
    assert (await one.get(target, *CROSS)).status == 303


async def test_made_up_answers_leave_little_in_the_store(
    kept: Embedded, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so many it is noted that they failed, and no more."""
    runtime = kept.sidecar.runtime
    assert runtime.login is not None
    monkeypatch.setattr(runtime.login.logins, "_failures", Budget(2, 0))
    seen: list[bytes | None] = []
    for number in range(5):
        one = await browsers(kept)
        target = await one.sign_in(await one.begin())
        answer = await one.get(changed(target, code=f"made-up-{number}"), *CROSS)
        assert answer.status == 400
        state = parse_qs(urlsplit(target).query)["state"][0]
        hashed = runtime.policy.signer.fingerprint(state)
        seen.append(await runtime.store.get(f"login:{hashed}"))
    assert seen == [b"failed", b"failed", None, None, None]


def changed(target: str, **parameters: str | None) -> str:
    """The provider's answer with other parameters; None takes one away."""
    path, _, query = target.partition("?")
    given = {**dict(parse_qsl(query)), **parameters}
    return f"{path}?{urlencode({k: v for k, v in given.items() if v is not None})}"


FORGED: dict[str, tuple[dict[str, str | None], str]] = {
    "another state": ({"state": "x" * 43}, "login_expired"),
    "no state": ({"state": None}, "login_expired"),
    "another provider": ({"iss": "https://evil.example"}, "bad_answer"),
    "no provider": ({"iss": None}, "bad_answer"),
    "no code": ({"code": None}, "bad_answer"),
    "another code": ({"code": "nonsense"}, "bad_answer"),
    "an error": ({"error": "access_denied", "code": None}, "access_denied"),
    "an error with markup": ({"error": "<script>alert(1)</script>"}, "unknown_error"),
}


@pytest.mark.parametrize("forgery", FORGED)
async def test_answer_that_is_not_believed(at: Embedded, browsers: Browsers, forgery: str) -> None:
    """No session comes of it; the page says so, and how to try again (T29, T44)."""
    one = await browsers(at)
    parameters, code = FORGED[forgery]
    target = changed(await one.sign_in(await one.begin("?next=/here")), **parameters)
    answer = await one.get(target, *CROSS)
    assert answer.status == 400
    text = answer.body.decode()
    assert f"<code>{code}</code>" in text
    assert 'href="/auth/login' in text
    assert "<script" not in text
    assert answer.get("Referrer-Policy") == "no-referrer"
    assert (await one.who())["authenticated"] is False
    assert "sidecar" not in one.names
    one.cookie = ""
    assert (await one.log_in()).status == 303  # nothing is spoiled


async def test_answer_of_another_browsers_login(at: Embedded, browsers: Browsers) -> None:
    """Login CSRF: a link that would log the victim in as the attacker (T29)."""
    attacker, victim = await browsers(at), await browsers(at)
    target = await attacker.sign_in(await attacker.begin(), "bob")
    await victim.begin()
    answer = await victim.get(target, *CROSS)
    assert answer.status == 400
    assert (await victim.who())["authenticated"] is False
    await victim.log_in()
    reloaded = await victim.get(target, *CROSS)
    assert (reloaded.status, reloaded.get("Location")) == (303, "/")
    assert (await victim.who())["subject"] == "alice"


@pytest.mark.parametrize("planted", ["sidecar=planted", "sidecar.0=a; sidecar.1=b", "sidecar=a.b"])
async def test_session_id_is_new_at_each_login(
    kept: Embedded, browsers: Browsers, planted: str
) -> None:
    """Fixation: what was there before is replaced (T29)."""
    one = await browsers(kept)
    one.cookie = planted
    await one.log_in()
    first = one.cookie
    assert one.names == {"sidecar"}
    assert "planted" not in first
    await one.log_in()
    assert one.cookie != first
    one.cookie = first
    assert (await one.who())["authenticated"] is False


async def test_new_login_leaves_the_tokens_of_one_provider_session_alone(
    kept: Embedded, browsers: Browsers, idp: RunningIdp
) -> None:
    """Revoking the old ones may end the new ones; another user's are revoked."""
    one = await browsers(kept)
    await one.log_in()
    token = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    await one.log_in()
    assert (await one.get("/api/me", *FETCH)).status == 200
    await kept.wait_for(lambda m: m.get(STEP.format("access_token", "none"), 0) == 1)
    assert idp.stats.revocations == 0
    assert idp.verify(token).is_live
    one.at_provider.cookie_jar.clear()
    await one.log_in(user="bob")
    await revoked(kept)
    assert idp.stats.revocations == 2


@pytest.mark.parametrize("outage", ["close", "error", "html", "unavailable"])
async def test_provider_that_is_down_is_told_and_the_login_can_go_on_later(
    at: Embedded, browsers: Browsers, idp: RunningIdp, outage: str
) -> None:
    """503 at the beginning; at the end no half a session."""
    one = await browsers(at)
    target = await one.sign_in(await one.begin())
    idp.set(outage=outage, outage_of=["token"])
    answer = await one.get(target, *CROSS)
    assert answer.status in (400, 503)
    assert "sidecar" not in one.names
    idp.set(outage="none")
    await one.log_in()
    assert (await one.who())["authenticated"] is True


async def test_wrong_client_secret_is_no_fault_of_the_user(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers
) -> None:
    """502 with a code, and one line of the log that names the cause and the keys; no secret."""
    at = await sidecar(site(upstream, idp, oidc={"client_secret": "wrong-canary"}))
    one = await browsers(at)
    answer = await one.get(await one.sign_in(await one.begin()), *CROSS)
    assert answer.status == 502
    assert b"login_misconfigured" in answer.body
    (told,) = [line for line in logged(at) if line["event"] == "login failed"]
    assert told["level"] == "error"
    assert told["request_id"] == answer.get("X-Request-Id")
    assert "invalid_client" in told["detail"]
    assert "oidc.client_secret" in told["detail"]
    assert "canary" not in at.log.getvalue()


async def in_circles(one: Browser, drops: str = "") -> tuple[int, Answer]:
    """Follows redirects through logout, login and provider; how many logins, and the last answer.

    Cookies whose name is `drops` do not come back.
    """
    logins, target = 0, "/private"
    for _ in range(40):
        answer = await one.get(target, *DOCUMENT)
        one.cookie = "; ".join(
            pair for pair in one.cookie.split("; ") if drops != pair.partition("=")[0]
        )
        if answer.status not in (302, 303):
            return logins, answer
        target = answer.get("Location") or ""
        if target.startswith("http"):
            logins, target = logins + 1, await one.sign_in(target)
    pytest.fail("it goes round in circles")


@pytest.mark.parametrize("trouble", ["rejected", "dropped"])
async def test_login_loop_ends_on_a_page_and_is_told(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, trouble: str
) -> None:
    """Be it an upstream that takes no token, or a session cookie that never comes back.

    The page's link begins anew, and a login that is of use ends the row.
    """
    route = {"path": "/", "kind": "page", "upstream": "main", "session": "required"}
    routes = [{**route, "inject": True, "on_unauthorized": "logout"}]
    at = await sidecar(site(upstream, idp, routes=routes))
    page = upstream.reply(b"page", type="text/html")
    upstream.default = page
    if trouble == "rejected":
        upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    one = await browsers(at)
    drops = "sidecar" if trouble == "dropped" else ""
    for _ in range(2):
        logins, answer = await in_circles(one, drops)
        assert logins == 3
        assert answer.status == (502 if trouble == "rejected" else 400)
        assert answer.get("Content-Type") == "text/html; charset=utf-8"
        assert b"login_loop" in answer.body
        assert b"/auth/login?next=/private" in answer.body
    told = [line for line in logged(at) if line["event"] == "login loop"]
    assert [line["level"] for line in told] == ["warning"] * 2
    cause = "rejects the token" if trouble == "rejected" else "did not come back"
    assert cause in told[0]["detail"]
    if trouble == "rejected":
        assert "route /" in told[0]["detail"]
    upstream.default = page
    logins, answer = await in_circles(one)
    assert (logins, answer.body) == (1, b"page")


async def test_who_logs_out_and_in_again_is_in_no_loop(at: Embedded, browsers: Browsers) -> None:
    """However quickly, and in several tabs."""
    one = await browsers(at)
    for _ in range(6):
        await one.log_in()
        await one.get("/auth/logout", *DOCUMENT)
    targets = [await one.sign_in(await one.begin()) for _ in range(5)]
    for target in targets:
        assert (await one.get(target, *CROSS)).status == 303
    for _ in range(5):
        await one.log_in()
    assert not [line for line in logged(at) if line["event"] == "login loop"]


async def test_login_whose_cookies_do_not_come_back_says_how_it_was_reached(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers
) -> None:
    """Secure cookies over plain http: the log names both schemes."""
    at = await sidecar(site(upstream, idp, public_url="https://app.example.com"))
    answer = await (await browsers(at)).get("/auth/callback?state=x&code=y", *CROSS)
    assert answer.status == 400
    (told,) = [line for line in logged(at) if line["event"] == "login failed"]
    assert "https://app.example.com, the request came over http" in told["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("access_denied", 400),
        ("login_required", 400),
        ("unauthorized_client", 502),
        ("invalid_scope", 502),
        ("server_error", 502),
        ("temporarily_unavailable", 503),
    ],
)
async def test_errors_of_the_provider_that_no_user_can_help_are_5xx(
    at: Embedded, browsers: Browsers, error: str, status: int
) -> None:
    one = await browsers(at)
    target = changed(await one.sign_in(await one.begin()), error=error, code=None)
    answer = await one.get(target, *CROSS)
    assert answer.status == status
    assert error.encode() in answer.body
    (told,) = [line for line in logged(at) if line["event"] == "login failed"]
    assert told["level"] == ("warning" if status == 400 else "error")


async def test_login_needs_the_providers_metadata(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, client: Clients
) -> None:
    idp.set(outage="error")
    at = await sidecar(site(upstream, idp))
    answer = await (await client(at)).get("/auth/login", *DOCUMENT)
    assert answer.status == 503
    assert b"login_unavailable" in answer.body
    assert answer.get("Retry-After") is not None
    idp.set(outage="none")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/auth/login", "GET, HEAD"),
        ("POST", "/auth/callback", "GET"),
        ("HEAD", "/auth/callback", "GET"),
        ("POST", "/auth/session", "GET, HEAD"),
        ("GET", "/auth/backchannel-logout", "POST"),
        ("PUT", "/auth/logout", "GET, HEAD, POST"),
    ],
)
async def test_other_methods_do_nothing(
    at: Embedded, client: Clients, upstream: Upstream, *, method: str, path: str, allowed: str
) -> None:
    """405 names those that the path knows."""
    answer = await (await client(at)).ask(method, path, "Sec-Fetch-Site: same-origin")
    assert (answer.status, answer.get("Allow")) == (405, allowed)
    assert upstream.requests == []


async def test_head_of_a_gated_page_leads_to_the_provider(
    at: Embedded, client: Clients, idp: RunningIdp
) -> None:
    """Link checkers follow redirects by HEAD: none of them is 405."""
    one = await client(at)
    page = await one.ask("HEAD", "/private", *DOCUMENT)
    logout = await one.ask("HEAD", page.get("Location") or "", *DOCUMENT)
    login = await one.ask("HEAD", logout.get("Location") or "", *DOCUMENT)
    assert [page.status, logout.status, login.status] == [303, 303, 303]
    assert (login.get("Location") or "").startswith(idp.issuer)


async def test_what_is_no_endpoint_goes_to_its_route(
    at: Embedded, client: Clients, upstream: Upstream
) -> None:
    """Front-channel logout is none unless it is configured."""
    one = await client(at)
    for path in ("/auth", "/auth/", "/auth/login/x", "/auth/frontchannel-logout", "/authx/login"):
        assert (await one.get(path)).status == 200
        assert upstream.last.target == path


# -- who is it -------------------------------------------------------------------------------------


async def test_session_endpoint_tells_of_the_session_and_nothing_else(
    kept: Embedded, browsers: Browsers, times: Times
) -> None:
    """Never a token; dates by the server's clock; and asking does not prolong it."""
    one = await browsers(kept)
    nobody = await one.who()
    assert set(nobody) == {
        *("authenticated", "subject", "name", "email", "picture"),
        *("expiresAt", "idleExpiresAt", "absoluteExpiresAt", "serverTime"),
    }
    assert {value for name, value in nobody.items() if name != "serverTime"} == {False, None}
    await one.log_in()
    who = await one.who()
    assert who["authenticated"] is True
    assert who["serverTime"] == pytest.approx(times.now(), abs=5)
    assert who["idleExpiresAt"] == who["expiresAt"] == pytest.approx(times.now() + 86400, abs=5)
    assert who["absoluteExpiresAt"] == pytest.approx(times.now() + 30 * 86400, abs=5)
    times.ahead += 40_000
    later = await one.who()
    assert {**later, "serverTime": 0} == {**who, "serverTime": 0}


async def test_session_without_a_refresh_token_ends_with_its_token(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, times: Times
) -> None:
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, oidc={"scopes": ["openid"]}))
    one = await browsers(at)
    await one.log_in()
    who = await one.who()
    assert who["expiresAt"] == pytest.approx(times.now() + 30, abs=5)
    assert who["expiresAt"] < who["idleExpiresAt"]
    times.ahead += 31
    assert (await one.get("/api/me", *FETCH)).status == 303


# -- renewal ---------------------------------------------------------------------------------------


async def test_many_requests_at_expiry_make_one_exchange(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, times: Times
) -> None:
    one = await browsers(kept)
    await one.log_in()
    tabs = [await browsers(kept) for _ in range(30)]
    for tab in tabs:
        tab.cookie = one.cookie
    times.ahead += 31
    answers = await asyncio.gather(*(tab.get("/api/me", *FETCH) for tab in tabs))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["data"]["token"] for answer in answers}) == 1
    assert (idp.stats.refresh_exchanges, idp.stats.refresh_reuses) == (1, 0)
    times.ahead += 31
    assert (await tabs[7].get("/api/me", *FETCH)).status == 200
    assert (idp.stats.refresh_exchanges, idp.stats.refresh_reuses) == (2, 0)


async def test_replica_with_old_tokens_takes_the_newer_ones(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, tmp_path: Path
) -> None:
    """However old they are, and whether it notices by their end or by a 401."""
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp, **where("sqlite", tmp_path))
    config["refresh"]["grace"] = "100ms"
    at = await sidecar(config)
    one, other = await browsers(at), await browsers(await sidecar(config))
    await one.log_in()
    other.cookie = one.cookie
    for refreshes in (1, 2, 3):
        assert (await other.get("/api/me", *FETCH)).status == 200
        idp.set(burst=1)
        for _ in range(2):  # the second one presents what the first one got
            one.one = (await browsers(at)).one
            assert (await one.get("/api/me", *FETCH)).status == 200
        assert idp.stats.refresh_exchanges == refreshes
        await asyncio.sleep(0.2)
    assert (await other.get("/api/me", *FETCH)).status == 200
    assert (idp.stats.refresh_exchanges, idp.stats.refresh_reuses) == (3, 0)
    idp.set(burst=1)  # of the newest token, unless the other one has not been told of it yet
    assert (await other.get("/api/me", *FETCH)).status == 200
    assert idp.stats.refresh_exchanges in (3, 4)
    assert idp.stats.refresh_reuses == 0


async def test_session_that_is_known_by_its_bearer_is_nobody_elses(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, client: Clients, times: Times
) -> None:
    """A frontend's server sends the token alone: what is renewed then is in no other's request."""
    one, server = await browsers(kept), await client(kept)
    await one.log_in()
    token = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    bearer = f"Authorization: Bearer {token}"
    assert (await server.get("/api/known/me", bearer)).status == 200
    times.ahead += 25
    answer = await server.get("/api/known/me", bearer)
    assert answer.status == 200
    assert answer.all("Set-Cookie") == []
    idp.set(burst="all")
    await server.get("/api/known/me", bearer)
    idp.set(burst=0)
    assert (await server.get("/api/me")).status == 303
    assert (await server.get("/auth/session")).json["authenticated"] is False
    assert (await one.get("/api/me", *FETCH)).status == 200


async def test_401_is_met_with_a_new_token(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, upstream: Upstream
) -> None:
    """And the next request carries it at once, though its cookie may be the same."""
    one = await browsers(kept)
    await one.log_in()
    assert (await one.get("/api/me", *FETCH)).status == 200
    idp.set(burst=1)
    assert (await one.get("/api/me", *FETCH)).status == 200
    upstream.requests.clear()
    assert (await one.get("/api/me", *FETCH)).status == 200
    assert len(upstream.requests) == 1
    assert idp.stats.refresh_exchanges == 1


async def test_invalid_grant_ends_the_session(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, times: Times
) -> None:
    one = await browsers(kept)
    await one.log_in()
    idp.set(invalid_grant=1)
    times.ahead += 31
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert (await one.who())["authenticated"] is False


# -- the ends of a session -------------------------------------------------------------------------


async def test_session_ends_when_it_is_not_used(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, times: Times
) -> None:
    """A day later at the latest, by default; and it goes on as long as it is used before."""
    idp.set(refresh_token_lifetime=10**7)
    one = await browsers(kept)
    await one.log_in()
    for _ in range(4):
        times.ahead += 80_000
        assert (await one.get("/api/me", *FETCH)).status == 200
    times.ahead += 86_401
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert (await one.who())["authenticated"] is False


@pytest.mark.parametrize("kept_in", KEPT)
async def test_use_is_noted_where_no_token_is_renewed(
    *,
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    browsers: Browsers,
    times: Times,
    tmp_path: Path,
    kept_in: str,
) -> None:
    """Sealed sessions by a second, small cookie; stored ones in the store."""
    idp.set(access_token_lifetime=86_400)
    keys = where(kept_in, tmp_path)
    keys["oidc"] = {"idle": "10m", "absolute": "1h", **keys.get("oidc", {})}
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, **keys))
    one = await browsers(at)
    await one.log_in()
    session = Cookies.parse(one.cookie).values("sidecar")
    for _ in range(7):
        times.ahead += 500
        answer = await one.get("/api/me", *FETCH)
        assert answer.status == 200
        names = [line.partition("=")[0] for line in answer.all("Set-Cookie")]
        assert names == (["sidecar-used"] if kept_in == "cookie" else [])
        assert (await one.get("/api/me", *FETCH)).all("Set-Cookie") == []  # not at every use
        until = times.now() + 590
        async with asyncio.timeout(5):
            while (who := await one.who())["idleExpiresAt"] < min(until, who["absoluteExpiresAt"]):
                await asyncio.sleep(0.01)
    assert Cookies.parse(one.cookie).values("sidecar") == session
    assert upstream.last.get("Cookie") is None
    times.ahead += 101  # an hour after the login
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert idp.stats.refresh_exchanges == 0


async def test_session_ends_some_day_however_much_it_is_used(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, times: Times
) -> None:
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, oidc={"absolute": "1h"}))
    one = await browsers(at)
    await one.log_in()
    for _ in range(5):
        times.ahead += 700
        assert (await one.get("/api/me", *FETCH)).status == 200
    times.ahead += 101
    assert (await one.get("/api/me", *FETCH)).status == 303


async def test_new_keys_within_a_minute_end_no_session(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, times: Times
) -> None:
    """The id_tokens that renewals bring by the later ones cannot be verified yet: the session goes
    on with the new tokens, and the log says once a minute that the id_token before stays.
    """
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp))
    one = await browsers(at)
    await one.log_in()
    tokens = set()
    for _ in range(3):
        idp.rotate_key()
        times.ahead += 20
        answer = await one.get("/api/me", *FETCH)
        assert answer.status == 200
        tokens.add(answer.json["data"]["token"])
    assert len(tokens) == 3
    assert idp.stats.refresh_exchanges == 3
    assert at.log.getvalue().count("a refreshed id_token was not verified, the old one stays") == 1
    location = (await one.get("/auth/logout", *DOCUMENT)).get("Location") or ""
    assert location.startswith(f"{idp.issuer}/end_session?id_token_hint=")


async def test_secrets_are_rotated_by_a_list(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, times: Times
) -> None:
    """The first seals, all open; once all is sealed anew the old one can go."""
    old, new = "the old secret, with its 32 bytes", "the new secret, with its 32 bytes"
    upstream.default = guarded(upstream, idp)
    one = await browsers(await sidecar(site(upstream, idp, secret=[old])))
    await one.log_in()
    both, alone = [
        (await browsers(await sidecar(site(upstream, idp, secret=secrets)))).one
        for secrets in ([new, old], [new])
    ]
    one.one = alone
    assert (await one.get("/api/optional/me", *FETCH)).body == b"page"
    one.one = both
    assert (await one.get("/api/me", *FETCH)).status == 200
    times.ahead += 25
    assert len((await one.get("/api/me", *FETCH)).all("Set-Cookie")) == 1
    one.one = alone
    assert (await one.get("/api/me", *FETCH)).status == 200


async def test_parallel_requests_of_one_header_have_one_session(
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    *,
    browsers: Browsers,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The login session, though another source's cookie stands beside it and the store is slow.

    A store that cannot be asked is 503, and never the other source's session.
    """
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp, **where("sqlite", tmp_path))
    config["session"] = {"sources": [{"type": "cookie", "cookie": "access_token"}]}
    one = await browsers(await sidecar(config))
    await one.log_in()
    header = f"Cookie: {one.cookie}; access_token=another"
    own = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    get, is_down = SqliteStore.get, False

    async def slow(store: SqliteStore, key: str) -> bytes | None:
        await asyncio.sleep(0.05)
        if is_down:
            raise StoreUnavailable("down")
        return await get(store, key)

    monkeypatch.setattr(SqliteStore, "get", slow)
    for is_down in (True, False):
        again = await sidecar(config)
        clients = [await client(again) for _ in range(20)]
        answers = await asyncio.gather(*(c.get("/api/me", header, *FETCH) for c in clients))
        if is_down:
            assert {answer.status for answer in answers} == {503}
        else:
            assert {answer.json["data"]["token"] for answer in answers} == {own}


async def test_stored_session_outlives_a_restart(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, tmp_path: Path
) -> None:
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp, **where("sqlite", tmp_path))
    one = await browsers(await sidecar(config))
    await one.log_in()
    one.one = (await browsers(await sidecar(config))).one
    assert (await one.get("/api/me", *FETCH)).status == 200
    assert (await one.who())["subject"] == "alice"


# -- logout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/auth/logout", "/api/logout"])
async def test_document_ends_the_providers_session_too(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, path: str
) -> None:
    """RP-initiated: with the id_token, and back to where the logout would have led."""
    one = await browsers(kept)
    await one.log_in()
    answer = await one.get(f"{path}?next=/bye", *DOCUMENT)
    url = URL(answer.get("Location") or "", encoded=True)
    assert str(url.with_query(None)) == f"{idp.issuer}/end_session"
    assert url.query["client_id"] == idp.client_id
    assert url.query["post_logout_redirect_uri"] == f"{ORIGIN}/bye"
    async with one.at_provider.get(url, allow_redirects=False) as gone:
        assert (gone.status, gone.headers["Location"]) == (303, f"{ORIGIN}/bye")
    async with one.at_provider.get(f"{idp.issuer}/") as page:
        assert "Nobody is signed in" in await page.text()
    again = await one.get(path, *DOCUMENT)
    assert (again.status, again.get("Location")) == (303, "/")


async def test_logout_does_not_lead_to_where_one_is_logged_in_again_at_once(
    at: Embedded, browsers: Browsers
) -> None:
    one = await browsers(at)
    await one.log_in()
    answer = await one.get("/auth/logout", *DOCUMENT)
    query = parse_qs(urlsplit(answer.get("Location") or "").query)
    assert query["post_logout_redirect_uri"] == [f"{ORIGIN}/"]
    await revoked(at)


async def test_401_does_not_end_the_single_sign_on_session(
    at: Embedded, browsers: Browsers, upstream: Upstream, idp: RunningIdp
) -> None:
    """An API's 401 leads by the ticket to the login."""
    one = await browsers(at)
    await one.log_in()
    upstream.default = upstream.reply(b"{}", status="401 X")
    answer = await one.get("/api/me", *DOCUMENT)
    answer = await one.get(answer.get("Location") or "", *DOCUMENT)
    assert (answer.status, answer.get("Location")) == (303, "/auth/login?next=%2Fapi%2Fme")
    assert idp.stats.sessions_ended == 0


async def test_script_logs_out(kept: Embedded, browsers: Browsers) -> None:
    one = await browsers(kept)
    await one.log_in()
    answer = await one.ask("POST", "/auth/logout", *FETCH)
    assert answer.status == 200
    told = answer.json["data"]
    assert (told["code"], told["loginUrl"]) == ("logged_out", "/auth/login")
    assert one.names == set()
    await revoked(kept)


async def ends_at_the_provider(one: Browser, idp: RunningIdp, url: str, *lines: str) -> None:
    """Goes to a logout URL, and from there to the provider, whose session ends."""
    assert re.fullmatch(r"/api/logout\?onward=[\w.-]+(&next=/bye)?", url)
    answer = await one.get(url, *(lines or DOCUMENT))
    assert answer.status == 303
    location = URL(answer.get("Location") or "", encoded=True)
    assert str(location.with_query(None)) == f"{idp.issuer}/end_session"
    back = "/bye" if "next" in url else "/"
    assert location.query["post_logout_redirect_uri"] == f"{ORIGIN}{back}"
    async with one.at_provider.get(location, allow_redirects=False) as gone:
        assert (gone.status, gone.headers["Location"]) == (303, f"{ORIGIN}{back}")
    assert idp.stats.sessions_ended == 1


@pytest.mark.parametrize("lines", [DOCUMENT, ["Accept: text/html"], CROSS])
async def test_page_that_logged_out_by_a_script_ends_the_providers_session(
    kept: Embedded, browsers: Browsers, idp: RunningIdp, lines: list[str]
) -> None:
    """At the `logoutUrl` of the answer, in which no token can be read.

    Nothing is ended or expired there, so it does not matter who leads to it.
    """
    one = await browsers(kept)
    await one.log_in()
    told = (await one.ask("POST", "/auth/logout", *FETCH)).json["data"]
    again = (await one.ask("POST", told["logoutUrl"], *FETCH)).json["data"]
    assert not re.search(r"eyJ[\w-]*\.eyJ", told["logoutUrl"].partition("..")[2])
    await ends_at_the_provider(one, idp, again["logoutUrl"] + "&next=/bye", *lines)
    await revoked(kept)


async def test_script_that_a_401_logged_out_can_end_the_providers_session(
    at: Embedded, browsers: Browsers, upstream: Upstream, idp: RunningIdp
) -> None:
    """By itself a 401 does not."""
    one = await browsers(at)
    await one.log_in()
    upstream.default = upstream.reply(b"{}", status="401 X")
    location = (await one.get("/api/me", *FETCH)).get("Location") or ""
    told = (await one.get(location, *FETCH)).json["errorData"]
    assert idp.stats.sessions_ended == 0
    await ends_at_the_provider(one, idp, told["logoutUrl"])


async def test_link_to_the_providers_logout_is_short_lived_and_ends_nothing_here(
    at: Embedded, browsers: Browsers, upstream: Upstream, idp: RunningIdp, times: Times
) -> None:
    """Whoever has logged in again is asked, as by any link from elsewhere."""
    one = await browsers(at)
    await one.log_in()
    url = (await one.ask("POST", "/auth/logout", *FETCH)).json["data"]["logoutUrl"]
    script = await one.get(url, *FETCH)
    assert script.status == 405
    await one.log_in()
    answer = await one.get(url, *CROSS)
    assert (answer.status, answer.all("Set-Cookie")) == (200, [])
    assert (await one.who())["authenticated"]
    one.cookie = ""
    forged = await one.get(url[:-4] + "AAAA", *CROSS)
    assert forged.status == 200  # asks
    times.ahead += 301
    assert (await one.get(url, *CROSS)).status == 200


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        ("GET", CROSS, 200),
        ("GET", ["Sec-Fetch-Dest: image", "Sec-Fetch-Site: cross-site"], 405),
        ("GET", ["Next-Router-Prefetch: 1"], 405),
        ("POST", CROSS, 403),
    ],
)
async def test_another_site_logs_nobody_out(
    at: Embedded, browsers: Browsers, method: str, lines: list[str], status: int
) -> None:
    """The rule is that of both paths (behaviour: logout); the page posts to where it was asked."""
    one = await browsers(at)
    await one.log_in()
    answer = await one.ask(method, "/auth/logout", *lines)
    assert answer.status == status
    if status == 200:
        assert b'action="/auth/logout"' in answer.body
    assert (await one.who())["authenticated"] is True


async def test_logout_counts_on_other_replicas_at_once(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, tmp_path: Path
) -> None:
    """Within a second, though they had the session in memory."""
    upstream.default = guarded(upstream, idp)
    config = site(upstream, idp, **where("sqlite", tmp_path))
    one = await browsers(await sidecar(config))
    await one.log_in()
    other = await browsers(await sidecar(config))
    other.cookie = one.cookie
    assert (await other.get("/api/me", *FETCH)).status == 200
    await one.get("/auth/logout", *DOCUMENT)
    async with asyncio.timeout(5):
        while (await other.get("/api/me", *FETCH)).status == 200:
            await asyncio.sleep(0.05)
    assert (await other.who())["authenticated"] is False


async def test_page_that_expires_the_cookie_ends_the_session(
    kept: Embedded, browsers: Browsers, upstream: Upstream
) -> None:
    """A frontend's own sign-out (behaviour: logout)."""
    one = await browsers(kept)
    await one.log_in()
    cookie = one.cookie
    upstream.answers(upstream.reply(b"bye", "Set-Cookie: sidecar=; Max-Age=0; Path=/"))
    assert (await one.get("/bye", *DOCUMENT)).status == 200
    one.cookie = cookie
    assert (await one.who())["authenticated"] is False
    await revoked(kept)


async def test_logout_is_no_logout_of_the_store(
    kept: Embedded, browsers: Browsers, upstream: Upstream
) -> None:
    """A cookie that another session's name was put into ends nothing but itself."""
    one, other = await browsers(kept), await browsers(kept)
    await one.log_in()
    name = next(line["session"] for line in logged(kept) if line["event"] == "login")
    other.cookie = f"sidecar=guessed.{name}"
    await other.get("/auth/logout", *DOCUMENT)
    assert (await one.get("/api/me", *FETCH)).status == 200


# -- trouble with the store ------------------------------------------------------------------------


class Redis:
    """A redis-server that can be stopped in its tracks, and goes on."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
async def redis(require_program: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Redis]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(require_program("redis-server"), "--bind", "127.0.0.1", "--port", str(port)),
        *("--dir", str(tmp_path), "--save", "", "--appendonly", "no"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.02)
    yield Redis(process, f"redis://127.0.0.1:{port}")
    process.kill()
    await process.wait()


@pytest.fixture
async def shared(sidecar: Start, upstream: Upstream, idp: RunningIdp, redis: Redis) -> Embedded:
    """One whose sessions are in Redis, with tokens that live for some minutes."""
    upstream.default = guarded(upstream, idp)
    idp.set(access_token_lifetime=300)
    keys = {"store": {"url": redis.url}, "refresh": {"leeway": "60s"}}
    return await sidecar(site(upstream, idp, **keys))


async def test_store_that_hangs_logs_nobody_out(
    shared: Embedded, browsers: Browsers, redis: Redis, times: Times
) -> None:
    """What is known here goes on; what is not is 503, and there again afterwards (T61)."""
    one, other = await browsers(shared), await browsers(shared)
    await one.log_in()
    other.cookie = f"{one.cookie}; a=b"  # not opened yet
    for _ in range(2):
        assert (await one.get("/api/me", *FETCH)).status == 200
    redis.freeze()
    assert (await one.get("/api/me", *FETCH)).status == 200
    for path in ("/api/me", "/auth/session"):
        answer = await other.get(path, *FETCH)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert answer.get("Retry-After") is not None
        assert answer.all("Set-Cookie") == []
    times.ahead += 250  # its token is about to expire, and still good
    assert (await one.get("/api/me", *FETCH)).status == 200
    redis.thaw()
    async with asyncio.timeout(10):
        while (await other.get("/api/me", *FETCH)).status == 503:
            await asyncio.sleep(0.1)
    assert (await other.who())["authenticated"] is True


async def test_logout_while_the_store_hangs(
    shared: Embedded, browsers: Browsers, redis: Redis, idp: RunningIdp
) -> None:
    """Answered, and carried out once the store is back."""
    one, other = await browsers(shared), await browsers(shared)
    await one.log_in()
    token = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    other.cookie = f"{one.cookie}; a=b"
    redis.freeze()
    answer = await other.get("/auth/logout", *DOCUMENT)
    assert answer.status == 303
    assert other.names == {"a"}
    redis.thaw()
    async with asyncio.timeout(10):
        while (await one.get("/api/me", *FETCH)).status == 200:
            await asyncio.sleep(0.1)
    await revoked(shared)
    assert not idp.verify(token).is_live


async def test_ticket_is_not_believed_while_the_store_hangs(
    shared: Embedded, browsers: Browsers, redis: Redis
) -> None:
    """It may be about another session than the one that cannot be looked at (T35)."""
    one, stale = await browsers(shared), await browsers(shared)
    await one.log_in()
    answer = await stale.get("/api/me", *FETCH)
    redis.freeze()
    answer = await one.get(answer.get("Location") or "", *FETCH)
    assert (answer.status, answer.code) == (503, "store_unavailable")
    redis.thaw()
    async with asyncio.timeout(10):
        while (await one.get("/api/me", *FETCH)).status == 503:
            await asyncio.sleep(0.1)
    assert (await one.who())["authenticated"] is True


async def test_login_while_the_store_hangs_goes_on_with_a_reload(
    shared: Embedded, browsers: Browsers, redis: Redis, idp: RunningIdp
) -> None:
    """The code is not sent before it is known that nobody else sends it."""
    one = await browsers(shared)
    target = await one.sign_in(await one.begin("?next=/here"))
    redis.freeze()
    answer = await one.get(target, *CROSS)
    assert answer.status == 503
    assert idp.stats.code_exchanges == 0
    redis.thaw()
    async with asyncio.timeout(10):
        while (answer := await one.get(target, *CROSS)).status == 503:
            await asyncio.sleep(0.1)
    assert (answer.status, answer.get("Location")) == (303, "/here")
    assert idp.stats.code_exchanges == 1


async def test_back_channel_logout_while_the_store_hangs_may_come_again(
    shared: Embedded, browsers: Browsers, redis: Redis, idp: RunningIdp
) -> None:
    """503, and the same token counts later: trouble is no replay."""
    one = await browsers(shared)
    tokens: list[str] = []
    await one.log_in()

    async def keep(request: Request) -> Response:
        tokens.append(str((await request.post())["logout_token"]))
        return Response()

    async with serving(keep) as url:
        idp.register(RelyingParty(redirect_uris=(CALLBACK,), backchannel_logout_uri=url))
        await idp.end_sessions("alice")
    redis.freeze()
    assert (await post_token(one.one, tokens[0])).status == 503
    redis.thaw()
    async with asyncio.timeout(10):
        while (answer := await post_token(one.one, tokens[0])).status == 503:
            await asyncio.sleep(0.1)
    assert answer.status == 200
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert (await post_token(one.one, tokens[0])).status == 400


@asynccontextmanager
async def serving(handler: Callable[[Request], Awaitable[Response]]) -> AsyncIterator[str]:
    """Serves one path; its URL."""
    application = Application()
    application.router.add_post("/told", handler)
    runner = AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/told"
    await runner.cleanup()


# -- the provider ends a session -------------------------------------------------------------------


async def told(at: Embedded, idp: RunningIdp, user: str = "alice") -> None:
    """The provider ends a user's sessions, and tells the sidecar."""
    idp.register(
        RelyingParty(
            redirect_uris=(CALLBACK,),
            backchannel_logout_uri=f"http://127.0.0.1:{at.port}/auth/backchannel-logout",
        )
    )
    await idp.end_sessions(user)


async def test_provider_ends_a_session_by_the_back_channel(
    kept: Embedded, browsers: Browsers, idp: RunningIdp
) -> None:
    """That one and no other; its tokens are revoked, and it is on record."""
    one, other = await browsers(kept), await browsers(kept)
    await one.log_in()
    await other.log_in(user="bob")
    token = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    await told(kept, idp)
    assert (idp.stats.back_channel_delivered, idp.stats.back_channel_failed) == (1, 0)
    assert (await one.get("/api/me", *FETCH)).status == 303
    assert (await one.who())["authenticated"] is False
    assert (await other.get("/api/me", *FETCH)).status == 200
    metrics = await kept.wait_for(lambda m: m.get(STEP.format("access_token", "done"), 0) == 1)
    assert metrics['sidecar_backchannel_logouts_total{outcome="done"}'] == 1
    assert metrics['sidecar_sessions_ended_total{reason="backchannel"}'] == 1
    assert not idp.verify(token).is_live
    receipt = next(line for line in logged(kept) if line["event"] == "session ended")
    assert receipt["reason"] == "backchannel"


async def test_session_in_a_cookie_is_ended_before_it_is_presented_again(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers
) -> None:
    """Its tokens are in the cookie alone, and are revoked once that comes."""
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp))
    one = await browsers(at)
    await one.log_in()
    await told(at, idp)
    answer = await one.get("/api/me", *FETCH)
    assert answer.status == 303
    assert idp.stats.revocations == 0
    await one.get(answer.get("Location") or "", *FETCH)
    await revoked(at)
    assert idp.stats.revocations == 2


@pytest.mark.parametrize("presented", [True, False])
async def test_back_channel_logout_after_a_restart_ends_older_sessions(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, *, presented: bool
) -> None:
    """Whether they were presented since or not; and not those that begin later.

    With sessions in cookies and the store in memory, nothing else knows of them.
    """
    upstream.default = guarded(upstream, idp)
    first = await sidecar(site(upstream, idp))
    alice, bob = await browsers(first), await browsers(first)
    await alice.log_in()
    await bob.log_in(user="bob")
    second = await sidecar(site(upstream, idp))  # another one with an empty memory
    for one in (alice, bob):
        one.one = (await browsers(second)).one
        if presented:
            assert (await one.get("/api/me", *FETCH)).status == 200
    await told(second, idp)
    assert (await alice.who())["authenticated"] is False
    assert (await alice.get("/api/me", *FETCH)).status == 303
    assert (await bob.get("/api/me", *FETCH)).status == 200
    alice.at_provider.cookie_jar.clear()
    await alice.log_in()
    assert (await alice.get("/api/me", *FETCH)).status == 200


async def test_back_channel_logout_counts_in_every_process_after_the_store_was_lost(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, tmp_path: Path
) -> None:
    """Workers without a store have one that ends with each run; sessions in cookies do not.

    It ends those that another process alone has seen since, and those that nobody has.
    """
    upstream.default = guarded(upstream, idp)

    def config(run: str) -> dict[str, Any]:
        store = {"url": f"sqlite://{tmp_path}/{run}.db"}
        return site(upstream, idp, oidc={"keep": "cookie"}, store=store)

    seen, unseen, bob = [await browsers(await sidecar(config("first"))) for _ in range(3)]
    for one, user in ((seen, "alice"), (unseen, "alice"), (bob, "bob")):
        await one.log_in(user=user)
    told_of, other = [await sidecar(config("second")) for _ in range(2)]
    for one in (seen, unseen, bob):
        one.one = (await browsers(other)).one
    assert (await seen.get("/api/me", *FETCH)).status == 200
    await told(told_of, idp)
    ended = 'sidecar_sessions_ended_total{reason="backchannel"}'
    assert (await other.wait_for(lambda m: m[ended] > 0))[ended] == 1
    assert (await seen.get("/api/me", *FETCH)).status == 303
    assert (await unseen.get("/api/me", *FETCH)).status == 303
    assert (await bob.get("/api/me", *FETCH)).status == 200
    unseen.at_provider.cookie_jar.clear()
    await unseen.log_in()
    assert (await unseen.get("/api/me", *FETCH)).status == 200


@pytest.fixture
def key() -> ECKey:
    return ECKey.generate_key("P-256", {"kid": "k"})


@pytest.fixture
def provider(upstream: Upstream, key: ECKey) -> str:
    """A provider made of documents: what is signed with `key` is its word. Returns its issuer."""
    issuer = f"{upstream.url}/idp"
    documents = {
        "/idp/.well-known/openid-configuration": {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "id_token_signing_alg_values_supported": ["ES256"],
        },
        "/idp/jwks": KeySet([key]).as_dict(private=False),
    }

    def answer(request: Received) -> bytes:
        if request.target in documents:
            return upstream.reply(json.dumps(documents[request.target]).encode())
        if request.target == "/idp/token":
            return upstream.reply(json.dumps(upstream.token_answer).encode())  # type: ignore[attr-defined]  # set by tests
        return upstream.reply(b"{}")

    upstream.default = answer
    return issuer


def logout_token(key: ECKey, issuer: str, /, *, typ: str = "logout+jwt", **claims: Any) -> str:
    """A logout token that is right but for the claims given; None takes one away."""
    now = int(time.time())
    event: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    whole = {
        "iss": issuer,
        "aud": "app",
        "iat": now,
        "exp": now + 120,
        "jti": f"{time.monotonic_ns()}",
        "events": event,
        "sub": "nobody",
        **claims,
    }
    header = {"alg": "ES256", "kid": "k", "typ": typ}
    return jwt.encode(header, {k: v for k, v in whole.items() if v is not None}, key)


async def post_token(one: Client, token: str, *lines: str) -> Answer:
    form = urlencode({"logout_token": token}).encode()
    return await one.post("/auth/backchannel-logout", *(lines or (FORM,)), body=form)


def with_provider(upstream: Upstream, issuer: str, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [{"path": "/", "kind": "page", "upstream": "main"}],
        "oidc": {"issuer": issuer, "client_id": "app", "client_secret": "s", **more},
    }


WRONG_TOKENS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "other"},
    "several audiences": {"aud": ["app", "other"], "azp": "other"},
    "neither subject nor session": {"sub": None},
    "a subject that is none": {"sub": 7},
    "a nonce": {"nonce": "n"},
    "no event": {"events": {}},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "no jti": {"jti": None},
    "no iat": {"iat": None},
    "expired": {"exp": 1, "iat": 1},
    "from the future": {"iat": 2**40, "exp": 2**41},
    "an id_token": {"typ": "JWT+id"},
}


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
async def test_logout_token_that_is_not_believed(
    *, sidecar: Start, upstream: Upstream, client: Clients, key: ECKey, provider: str, wrong: str
) -> None:
    """All checks of Back-Channel Logout 2.6; the answer says which one failed (T40)."""
    at = await sidecar(with_provider(upstream, provider))
    one = await client(at)
    answer = await post_token(one, logout_token(key, provider, **WRONG_TOKENS[wrong]))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.get("Cache-Control") == "no-store"
    metrics = await at.metrics()
    assert metrics['sidecar_backchannel_logouts_total{outcome="refused"}'] == 1
    assert (await post_token(one, logout_token(key, provider))).status == 200


async def test_logout_token_counts_once(
    sidecar: Start, upstream: Upstream, client: Clients, key: ECKey, provider: str
) -> None:
    at = await sidecar(with_provider(upstream, provider))
    one, token = await client(at), logout_token(key, provider)
    assert (await post_token(one, token)).status == 200
    answer = await post_token(one, token)
    assert (answer.status, answer.json["error_description"]) == (400, "it was used before")
    metrics = await at.metrics()
    assert metrics['sidecar_backchannel_logouts_total{outcome="nothing"}'] == 1


async def test_logout_token_of_another_key_or_algorithm(
    sidecar: Start, upstream: Upstream, client: Clients, key: ECKey, provider: str
) -> None:
    one = await client(await sidecar(with_provider(upstream, provider)))
    other = ECKey.generate_key("P-256", {"kid": "k"})
    head, payload, _ = logout_token(key, provider).split(".")
    unsigned = "eyJhbGciOiJub25lIn0"
    for token in (
        logout_token(other, provider),
        f"{unsigned}.{payload}.",
        f"{head}.{payload}.",
        "",
        "x" * 60_000,
        "a.b.c",
    ):
        assert (await post_token(one, token)).status == 400


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        (["Content-Type: application/json"], b"{}", 400),
        ([], b"logout_token=x", 400),
        ([FORM], b"", 400),
        ([FORM], b"logout_token=a&logout_token=b", 400),
        ([FORM], b"logout_token=" + b"x" * 70_000, 413),
    ],
)
async def test_what_is_no_logout_token(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    provider: str,
    *,
    lines: list[str],
    body: bytes,
    status: int,
) -> None:
    at = await sidecar(with_provider(upstream, provider))
    answer = await (await client(at)).post("/auth/backchannel-logout", *lines, body=body)
    assert answer.status == status


async def test_logout_token_while_the_keys_cannot_be_had(
    sidecar: Start, upstream: Upstream, client: Clients, key: ECKey
) -> None:
    """503: the provider may try again."""
    issuer = f"{upstream.url}/idp"
    upstream.default = upstream.reply(b"{}", status="500 X")
    at = await sidecar(with_provider(upstream, issuer))
    answer = await post_token(await client(at), logout_token(key, issuer))
    assert answer.status == 503
    metrics = await at.metrics()
    assert metrics['sidecar_backchannel_logouts_total{outcome="unavailable"}'] == 1


async def test_provider_ends_a_session_through_the_browser(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, browsers: Browsers, client: Clients
) -> None:
    """Front-channel: by its name alone, in a frame, without this site's cookies."""
    upstream.default = guarded(upstream, idp)
    at = await sidecar(site(upstream, idp, oidc={"frontchannel": True}))
    idp.register(
        RelyingParty(
            redirect_uris=(CALLBACK,),
            frontchannel_logout_uri=f"http://127.0.0.1:{at.port}/auth/frontchannel-logout",
        )
    )
    one, framed = await browsers(at), await client(at)
    await one.log_in()
    async with one.at_provider.get(f"{idp.issuer}/end_session") as page:
        found = re.search(r'name="interaction" value="([^"]+)"', await page.text())
    assert found
    form = {"interaction": found[1], "confirm": "yes"}
    address = f"{idp.issuer}/end_session/confirm"
    async with one.at_provider.post(address, data=form) as page:
        frame = re.search(r'<iframe src="([^"]+)"', await page.text())
    assert frame
    target = URL(frame[1].replace("&amp;", "&")).raw_path_qs
    for wrong in (
        "/auth/frontchannel-logout",
        changed(target, iss="https://evil.example"),
        changed(target, iss=None),
        changed(target, sid=None),
        f"{changed(target, sid=None)}&sid=%FF",
    ):
        assert (await framed.get(wrong)).status == 400
    assert (await framed.get(changed(target, sid="another"))).status == 200
    assert (await one.who())["authenticated"] is True
    answer = await framed.get(target, "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: cross-site")
    assert (answer.status, answer.get("Cache-Control")) == (200, "no-store")
    assert answer.get("X-Frame-Options") is None
    assert "frame-ancestors" not in (answer.get("Content-Security-Policy") or "")
    assert (await one.who())["authenticated"] is False
    assert (await one.get("/api/me", *FETCH)).status == 303
    await revoked(at)


# -- odd providers ---------------------------------------------------------------------------------


async def answered(
    at: Embedded, browsers: Browsers, upstream: Upstream, key: ECKey, issuer: str, **more: Any
) -> tuple[Browser, Answer]:
    """A login that the provider answers with these members and claims; None takes one away."""
    one = await browsers(at)
    asked = dict(parse_qsl(urlsplit(await one.begin()).query))
    now = int(time.time())
    claims = {"iss": issuer, "aud": "app", "sub": "alice", "iat": now, "exp": now + 60}
    claims |= {"nonce": asked["nonce"], **more.pop("claims", {})}
    signed = jwt.encode({"alg": "ES256", "kid": "k"}, claims, more.pop("signed_with", key))
    whole = {"access_token": "at", "token_type": "bearer", "expires_in": 60, "id_token": signed}
    whole |= {"refresh_token": "rt", **more}
    upstream.token_answer = {k: v for k, v in whole.items() if v is not None}  # type: ignore[attr-defined]  # see `provider`
    target = f"/auth/callback?{urlencode({'code': 'c', 'state': asked['state']})}"
    return one, await one.get(target, *CROSS)


@pytest.mark.parametrize(
    "more",
    [
        {"id_token": None},
        {"access_token": None},
        {"access_token": "a b\r\nX: y"},
        {"token_type": "DPoP"},
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"aud": "other"}},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"exp": 1}},
        {"claims": {"sub": None}},
        {"claims": {"at_hash": "wrong"}},
        {"signed_with": ECKey.generate_key("P-256", {"kid": "k"})},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_tokens_that_are_not_believed(
    *,
    sidecar: Start,
    upstream: Upstream,
    browsers: Browsers,
    key: ECKey,
    provider: str,
    more: dict[str, Any],
) -> None:
    """No session, and no word of them in the log."""
    at = await sidecar(with_provider(upstream, provider))
    one, answer = await answered(at, browsers, upstream, key, provider, **more)
    assert answer.status == 400
    assert b"bad_answer" in answer.body
    assert "sidecar" not in one.names
    assert "canary" not in at.log.getvalue()


@pytest.mark.parametrize("keep", ["cookie", "store"])
async def test_large_tokens_and_profiles(
    *, sidecar: Start, upstream: Upstream, browsers: Browsers, key: ECKey, provider: str, keep: str
) -> None:
    """In chunks, the id_token left out where that helps; what is too large for all is told."""
    at = await sidecar(with_provider(upstream, provider, keep=keep))
    named = {"name": "n" * 400, "email": "e" * 400, "picture": "https://a/" + "p" * 400}
    one, answer = await answered(at, browsers, upstream, key, provider, claims=named)
    assert answer.status == 303
    assert (await one.who())["name"] == named["name"]
    endless = {"name": "n" * 5000, "picture": "javascript:x", "email": 7}
    one, answer = await answered(at, browsers, upstream, key, provider, claims=endless)
    who = await one.who()
    assert (who["authenticated"], who["name"], who["picture"]) == (True, None, None)

    one, answer = await answered(
        at, browsers, upstream, key, provider, access_token="t" * 9000, claims={"x": "y" * 30_000}
    )
    assert answer.status == 303
    assert (await one.who())["authenticated"] is True
    assert len(one.names) == (4 if keep == "cookie" else 1)
    assert (await one.get("/auth/logout", *DOCUMENT)).status == 303
    assert one.names == set()

    one, answer = await answered(at, browsers, upstream, key, provider, access_token="t" * 60_000)
    assert answer.status == 400
    assert b"session_too_large" in answer.body


# -- several processes on one store ----------------------------------------------------------------


class Shelf:
    """A store's file, which can go back to what it was: as one that is restored from a copy."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[Any, ...]] = []

    def save(self) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            self._rows = connection.execute("SELECT * FROM sidecar_entries").fetchall()

    def go_back(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            connection.execute("DELETE FROM sidecar_entries")
            connection.executemany("INSERT INTO sidecar_entries VALUES (?, ?, ?)", self._rows)


@pytest.fixture
async def two(
    sidecar: Start, upstream: Upstream, idp: RunningIdp, tmp_path: Path
) -> list[Embedded]:
    """Two processes on one file."""
    upstream.default = guarded(upstream, idp)
    keys = where("sqlite", tmp_path)
    return [await sidecar(site(upstream, idp, **keys)) for _ in range(2)]


async def elsewhere(browsers: Browsers, at: Embedded, one: Browser) -> Browser:
    """The same browser, at another process."""
    other = await browsers(at)
    other.cookie = one.cookie
    return other


async def noticed(*processes: Embedded) -> None:
    """Waits until each of them knows that its store has lost writes."""
    for at in processes:
        await at.wait_for(lambda m: m["sidecar_store_losses_total"] >= 1)


@pytest.mark.parametrize("lost", ["login", "renewal"])
async def test_store_that_has_gone_back_logs_nobody_out(
    *,
    two: list[Embedded],
    browsers: Browsers,
    idp: RunningIdp,
    times: Times,
    tmp_path: Path,
    lost: str,
) -> None:
    """What the living know is written once more: sessions, their newest tokens, their index."""
    shelf, one = Shelf(tmp_path / "store.db"), await browsers(two[0])
    if lost == "login":
        shelf.save()
    await one.log_in()
    assert (await one.get("/api/me", *FETCH)).status == 200
    if lost == "renewal":
        shelf.save()
        times.ahead += 25
    token = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    await asyncio.sleep(1)
    shelf.go_back()
    await noticed(*two)
    other = await elsewhere(browsers, two[1], one)
    async with asyncio.timeout(10):
        while (answer := await other.get("/api/me", *FETCH)).status == 503:
            await asyncio.sleep(0.05)
    assert (answer.status, answer.json["data"]) == (200, {"token": token})
    assert idp.stats.refresh_exchanges == (lost == "renewal")
    assert idp.stats.refresh_reuses == 0
    name = next(line["session"] for line in logged(two[0]) if line["event"] == "login")
    own = two[1].sidecar.runtime.login
    assert own is not None
    assert [entry.fingerprint for entry in await own.sessions.find("alice", None)] == [name]


async def test_store_that_has_gone_back_brings_no_ended_session_back(
    *,
    two: list[Embedded],
    browsers: Browsers,
    sidecar: Start,
    upstream: Upstream,
    idp: RunningIdp,
    tmp_path: Path,
) -> None:
    """For a process that begins later."""
    shelf, one = Shelf(tmp_path / "store.db"), await browsers(two[0])
    await one.log_in()
    assert (await one.get("/api/me", *FETCH)).status == 200
    last = await elsewhere(browsers, two[1], one)
    assert (await last.get("/api/me", *FETCH)).status == 200
    shelf.save()
    assert (await one.ask("POST", "/auth/logout", *FETCH, f"Origin: {ORIGIN}")).status == 200
    await asyncio.sleep(1)
    shelf.go_back()
    await noticed(*two)
    await asyncio.sleep(1)
    later = await sidecar(site(upstream, idp, **where("sqlite", tmp_path)))
    for at in (*two, later):
        again = await elsewhere(browsers, at, last)
        assert (await again.get("/api/me", *FETCH)).status == 303


async def test_renewals_are_ordered_by_succession(
    two: list[Embedded],
    browsers: Browsers,
    idp: RunningIdp,
    times: Times,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not by the clocks of the processes that made them."""
    behind = two[1].sidecar.runtime.clock
    lag = {behind: 1800.0}
    monkeypatch.setattr(Clock, "now", lambda self: times.now() - lag.get(self, 0.0))
    one = await browsers(two[0])
    await one.log_in()
    times.ahead += 25
    first = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    other = await elsewhere(browsers, two[1], one)
    idp.set(burst=1)
    second = (await other.get("/api/me", *FETCH)).json["data"]["token"]
    assert second != first
    name = next(line["session"] for line in logged(two[0]) if line["event"] == "login")
    own = two[0].sidecar.runtime.login
    assert own is not None
    session = await own.sessions.get(name)
    assert session is not None
    assert (session.tokens.access_token, session.tokens.generation) == (second, 2)
    assert (await one.get("/api/me", *FETCH)).json["data"]["token"] == second
    assert (idp.stats.refresh_exchanges, idp.stats.refresh_reuses) == (2, 0)


async def test_session_endpoint_without_oidc_is_the_upstreams(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(upstream=upstream.url)
    answer = await (await client(at)).get("/auth/session")
    assert (answer.status, upstream.last.target) == (200, "/auth/session")
