"""Who may log in, and who may use a route: rules over claims, with a real provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.formats import FORMATS
from sidecar.demo.idp import running_idp, tokens, web
from sidecar.runtime import Clock
from tests.web.test_wire_login import (
    CALLBACK,
    CROSS,
    DOCUMENT,
    FETCH,
    Browser,
    Browsers,
    Times,
    guarded,
    site,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.demo.idp import RunningIdp
    from tests.conftest import Client, Clients, Embedded, Start, Upstream

SECRET = "0123456789abcdef0123456789abcdef"
NAME = "authjs.session-token"
STAFF = {"claim": "groups", "any": ["staff"]}
EXAMPLE = {"claim": "email", "domain": ["example.com"]}
KEPT = ["cookie", "store"]
ONE_SECRET = {"secret": "s" * 32}


class Directory:
    """What the provider says of its users; tests change it."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.in_id_token = True

    def claims(self, subject: str, _: tuple[str, ...]) -> dict[str, Any]:
        known = {"name": subject.capitalize(), "email": f"{subject}@example.com"}
        return {**known, "email_verified": True, **self.told.get(subject, {})}

    def for_id_token(self, subject: str, scope: tuple[str, ...]) -> dict[str, Any]:
        return self.claims(subject, scope) if self.in_id_token else {}


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    one = Directory()
    monkeypatch.setattr(tokens, "personal_claims", one.for_id_token)
    monkeypatch.setattr(web, "personal_claims", one.claims)
    return one


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Times:
    clock = Times()
    monkeypatch.setattr("sidecar.web.proxy.time", clock.now)
    monkeypatch.setattr(Clock, "now", lambda _: clock.now())
    return clock


class Scene:
    """The provider, what it says of its users, the time, and the upstream."""

    def __init__(self, provider: RunningIdp, said: Directory, clock: Times, start: Start) -> None:
        self.provider = provider
        self.said = said.told
        self.directory = said
        self.clock = clock
        self.start = start
        self.upstream: Upstream

    async def gated(self, *allow: Mapping[str, Any], **more: Any) -> Embedded:
        """The site of the login's tests, for those alone whom a rule lets in."""
        oidc = {"allow": list(allow), **more}
        return await self.start({**site(self.upstream, self.provider, oidc=oidc), **ONE_SECRET})

    def with_login(self, **oidc: Any) -> dict[str, Any]:
        """The same for everybody."""
        return site(self.upstream, self.provider, oidc=oidc)

    async def with_gate(self, store: Any = None, secret: Any = None, **more: Any) -> Embedded:
        """The same for everybody, and with a page and an API for the staff."""
        whole = self.with_login()
        page = {"path": "/staff", "kind": "page", "upstream": "main", "session": "required"}
        api = {"path": "/api/staff", "kind": "api", "upstream": "main", "strip": "/api"}
        gate = {"allow": [STAFF], "sources": ["sidecar"]}
        whole["routes"] += [{**page, **gate}, {**api, **gate, **more}]
        if store is not None:
            whole |= {"store": store, "secret": secret}
        return await self.start(whole)


@pytest.fixture
async def scene(
    directory: Directory, clock: Times, sidecar: Start, upstream: Upstream
) -> AsyncIterator[Scene]:
    """Access tokens live for 30 s."""
    async with running_idp(
        host="localhost", clock=clock.now, opaque_access_tokens=True, redirect_uris=[CALLBACK]
    ) as provider:
        scene = Scene(provider, directory, clock, sidecar)
        scene.upstream = upstream
        upstream.default = guarded(upstream, provider)
        yield scene


@pytest.fixture
async def people(client: Clients) -> AsyncIterator[Browsers]:
    people = Browsers(client)
    yield people
    await people.close()


async def answered(one: Browser, query: str = "", user: str = "alice") -> Any:
    """What the sidecar says to the provider's answer."""
    return await one.get(await one.sign_in(await one.begin(query), user), *CROSS)


# -- who may log in -------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", KEPT)
async def test_login_of_somebody_whom_a_rule_lets_in(
    scene: Scene, people: Browsers, keep: str
) -> None:
    """One rule that holds is enough, wherever the session is kept."""
    scene.said["alice"] = {"groups": ["x", "staff"], "email_verified": False}
    rules: list[dict[str, Any]] = [STAFF, {"claim": "email", "domain": "elsewhere.example"}]
    at = await scene.gated(*rules, keep=keep)
    one = await people(at)
    assert (await answered(one, "?next=/private/x")).get("Location") == "/private/x"
    assert (await one.get("/private/x", *DOCUMENT)).status == 200
    assert (await one.get("/api/x", *FETCH)).status == 200


async def test_login_of_somebody_whom_no_rule_lets_in(scene: Scene, people: Browsers) -> None:
    """A page says so and who is logged in, offers another login, and there is no session.

    The tokens are revoked; it is counted, and the log names the claim without its value.
    """
    scene.said["alice"] = {"groups": ["guests<b>"], "email": "al<i>ce@example.com"}
    at = await scene.gated(STAFF)
    one = await people(at)
    page = await answered(one, "?next=/private/x?a=1")
    text = page.body.decode()
    assert (page.status, page.get("Cache-Control")) == (403, "no-store")
    assert "not_allowed" in text
    assert "al&lt;i&gt;ce@example.com" in text
    assert 'href="/auth/login?switch=1&amp;next=/private/x%3Fa%3D1"' in text
    assert one.names == set()
    assert (await one.who())["authenticated"] is False
    metrics = await at.wait_for(
        lambda seen: seen.get('sidecar_logins_total{outcome="not_allowed"}') == 1
    )
    assert metrics.get('sidecar_logins_total{outcome="done"}', 0) == 0
    log = at.log.getvalue()
    assert "groups has other values" in log
    assert "guests" not in log
    assert "al<i>ce" not in log
    await at.wait_for(lambda _: scene.provider.stats.revocations > 0)


async def test_login_as_somebody_else_is_a_new_question(scene: Scene, people: Browsers) -> None:
    """The provider asks who the user is, though it has a session, and the other one gets in."""
    scene.said["bob"] = {"groups": "staff"}
    at = await scene.gated(STAFF)
    one = await people(at)
    assert (await answered(one)).status == 403
    assert (await answered(one)).status == 403  # it knows who that is, and does not ask
    url = await one.begin("?switch=1&next=/private/x")
    assert "prompt=login" in url
    assert (await one.get(await one.sign_in(url, "bob"), *CROSS)).get("Location") == "/private/x"
    assert (await one.who())["subject"] == "bob"


async def test_unverified_email_lets_nobody_in(scene: Scene, people: Browsers) -> None:
    at = await scene.gated(EXAMPLE)
    for said in (False, None, "false"):
        scene.said["alice"] = {"email_verified": said}
        assert (await answered(await people(at))).status == 403
    scene.said["alice"] = {"email_verified": "true"}
    assert (await answered(await people(at))).status == 303


@pytest.mark.parametrize("keep", KEPT)
async def test_rule_is_judged_by_what_userinfo_says(
    scene: Scene, people: Browsers, keep: str
) -> None:
    """If the id_token does not say it; and it holds for as long as the session does."""
    scene.directory.in_id_token = False
    scene.said["alice"] = {"groups": ["staff"]}
    both = [{"claim": "email", "domain": ["example.com"]}]
    at = await scene.gated(*both, keep=keep)
    one = await people(at)
    assert (await answered(one)).status == 303
    assert (await one.get("/api/x", *FETCH)).status == 200
    scene.said["bob"] = {"email_verified": False}
    assert (await answered(await people(at), user="bob")).status == 403


@pytest.mark.parametrize("keep", KEPT)
async def test_rule_is_judged_again_at_each_renewal(
    scene: Scene, people: Browsers, keep: str
) -> None:
    """Once a new id_token no longer says it, the user is out; and in again once one does."""
    scene.said["alice"] = {"groups": ["staff"]}
    at = await scene.gated(STAFF, keep=keep)
    one = await people(at)
    await one.log_in()
    scene.said["alice"] = {}
    assert (await one.get("/api/x", *FETCH)).status == 200
    scene.clock.ahead += 25  # the token is about to expire
    refused = await one.get("/api/x", *FETCH)
    assert (refused.status, refused.json["errorData"]["code"]) == (403, "not_allowed")
    assert (await one.get("/private/x", *DOCUMENT)).status == 403
    scene.said["alice"] = {"groups": ["staff"]}
    scene.clock.ahead += 25
    assert (await one.get("/api/x", *FETCH)).status == 200


async def test_rule_holds_for_sessions_that_began_before_it(scene: Scene, people: Browsers) -> None:
    """Nobody is logged out by it: a rule that was wrong is corrected, and all goes on."""
    scene.said["alice"] = {"groups": ["staff"]}
    one = await people(await scene.gated())
    await one.log_in()
    for rule, status in (({"claim": "groups", "any": ["boss"]}, 403), (STAFF, 200)):
        again = await people(await scene.gated(rule))
        again.cookie = one.cookie
        assert (await again.get("/api/x", *FETCH)).status == status


async def test_stream_ends_once_its_user_is_not_allowed_any_more(
    scene: Scene, people: Browsers, client: Clients
) -> None:
    scene.said["alice"] = {"groups": ["staff"]}
    at = await scene.gated(STAFF)
    one = await people(at)
    await one.log_in()
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    scene.upstream.default = lambda _: [head + b"9\r\ndata: 1\n\n\r\n", "hang"]
    stream = await client(at)
    lines = ["GET /api/events HTTP/1.1", "Host: app.example.com", "Accept: text/event-stream"]
    stream.send("\r\n".join([*lines, f"Cookie: {one.cookie}", "", ""]).encode())
    assert b"data: 1" in await stream.reader.readuntil(b"data: 1\n\n")
    scene.said["alice"] = {}
    scene.clock.ahead += 25
    assert (await one.get("/api/x", *FETCH)).status == 403
    await stream.ends()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def streaming(scene: Scene, client: Clients, at: Embedded, one: Browser, path: str) -> Client:
    """An event stream that is open under the browser's session."""
    scene.upstream.default = lambda _: [STREAM + b"9\r\ndata: 1\n\n\r\n", "hang"]
    stream = await client(at)
    lines = [f"GET {path} HTTP/1.1", "Host: app.example.com", "Accept: text/event-stream"]
    stream.send("\r\n".join([*lines, f"Cookie: {one.cookie}", "", ""]).encode())
    await stream.reader.readuntil(b"data: 1\n\n")
    scene.upstream.default = guarded(scene.upstream, scene.provider)
    return stream


@pytest.mark.parametrize("keep", KEPT)
async def test_streams_of_all_processes_end_once_their_user_is_not_allowed(
    scene: Scene, people: Browsers, client: Clients, tmp_path: Path, keep: str
) -> None:
    """Though one of them alone has renewed the session, and no request comes to the other."""
    scene.said["alice"] = {"groups": ["staff"]}
    shared = {"store": {"url": f"sqlite://{tmp_path}/store.db"}, **ONE_SECRET}
    whole = {**scene.with_login(allow=[STAFF], keep=keep), **shared}
    here, elsewhere = [await scene.start(whole) for _ in range(2)]
    one = await people(here)
    await one.log_in()
    stream = await streaming(scene, client, elsewhere, one, "/api/events")
    scene.said["alice"] = {}
    scene.clock.ahead += 25
    assert (await one.get("/api/x", *FETCH)).status == 403
    await stream.ends()


async def test_streams_behind_a_gate_end_in_all_processes_and_no_others(
    scene: Scene, people: Browsers, client: Clients, tmp_path: Path
) -> None:
    """By the renewal alone: the user need not ask for the route again."""
    scene.said["alice"] = {"groups": ["staff"]}
    shared = {"store": {"url": f"sqlite://{tmp_path}/store.db"}, **ONE_SECRET}
    here, elsewhere = [await scene.with_gate(**shared) for _ in range(2)]
    one = await people(here)
    await one.log_in()
    gated = [await streaming(scene, client, at, one, "/api/staff/x") for at in (here, elsewhere)]
    open_to_all = await streaming(scene, client, elsewhere, one, "/api/events")
    scene.said["alice"] = {}
    scene.clock.ahead += 25
    assert (await one.get("/api/x", *FETCH)).status == 200
    for stream in gated:
        await stream.ends()
    scene.upstream.answers(scene.upstream.reply(b"{}"))
    assert (await one.get("/api/staff/x", *FETCH)).status == 403
    rest = asyncio.create_task(open_to_all.reader.read())
    done, _ = await asyncio.wait([rest], timeout=0.5)
    rest.cancel()
    assert not done, "it has not ended"


# -- who may use a route --------------------------------------------------------------------------


async def test_route_is_for_those_whom_its_rules_let_in(scene: Scene, people: Browsers) -> None:
    """Others keep their session, and get 403 in the route's shape without the upstream."""
    scene.said["bob"] = {"groups": ["staff"]}
    at = await scene.with_gate()
    alice, bob = await people(at), await people(at)
    await alice.log_in()
    await bob.log_in(user="bob")
    for target in ("/staff/x", "/api/staff/x"):
        assert (await bob.get(target, *FETCH)).status == 200
    before = len(scene.upstream.requests)
    page = await alice.get("/staff/x?y=1", *DOCUMENT)
    assert (page.status, page.get("Content-Type")) == (403, "text/html; charset=utf-8")
    text = page.body.decode()
    assert "alice@example.com" in text
    assert 'href="/auth/login?switch=1&amp;next=/staff/x%3Fy%3D1"' in text
    answer = await alice.get("/api/staff/x", *FETCH)
    assert (answer.status, answer.json["errorData"]["code"]) == (403, "not_allowed")
    assert len(scene.upstream.requests) == before
    assert (await alice.get("/api/x", *FETCH)).status == 200
    assert (await (await people(at)).get("/api/staff/x", *FETCH)).status in (303, 401)


@pytest.mark.parametrize(
    "target", ["//staff/x", "/staff;a=1/x", "/%2Fstaff/x", "/other/..;/staff", "/staff%2Fx"]
)
async def test_no_other_spelling_of_a_path_gets_round_its_rules(
    scene: Scene, people: Browsers, target: str
) -> None:
    at = await scene.with_gate()
    one = await people(at)
    await one.log_in()
    before = len(scene.upstream.requests)
    assert (await one.get(target, *DOCUMENT)).status in (400, 403, 404)
    assert len(scene.upstream.requests) == before


@pytest.mark.parametrize("errors", ["problem", "graphql", "envelope"])
async def test_refusal_has_the_shape_of_the_route(
    scene: Scene, people: Browsers, errors: str
) -> None:
    at = await scene.with_gate(errors=errors)
    one = await people(at)
    await one.log_in()
    answer = await one.get("/api/staff/x", *FETCH)
    found = answer.json
    code = {
        "problem": lambda: found["code"],
        "graphql": lambda: found["errors"][0]["extensions"]["code"],
        "envelope": lambda: found["errorData"]["code"],
    }[errors]()
    assert (answer.status, code) == (403, "not_allowed")


def seal(**claims: Any) -> str:
    """A session as Auth.js writes it."""
    source: Any = FORMATS["authjs"](secrets=[SECRET])
    return str(source.opener.seal({"exp": int(time.time()) + 9999, **claims}, NAME))


async def ask(one: Client, **claims: Any) -> int:
    answer = await one.get("/api/x", f"Cookie: {NAME}={seal(accessToken='tok', **claims)}", *FETCH)
    return answer.status


async def test_rules_look_into_the_sessions_of_libraries(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What an application has sealed is believed; an email only beside its verification."""
    api = {"path": "/api", "kind": "api", "upstream": "main"}
    rules = [{"claim": "user.roles", "all": ["a", "b"]}, EXAMPLE]
    at = await sidecar(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "routes": [{**api, "allow": rules}, {"path": "/", "kind": "page", "upstream": "main"}],
            "session": {"sources": [{"type": "authjs", "secret": SECRET}]},
        }
    )
    one = await client(at)
    assert await ask(one, user={"roles": ["b", "a"]}) == 200
    assert await ask(one, user={"roles": ["a"]}) == 403
    assert await ask(one, roles=["a", "b"]) == 403
    assert await ask(one, email="a@example.com") == 403
    assert await ask(one, email="a@example.com", email_verified=True) == 200
