"""What an upstream has rejected is sent to it no more: its cookies lead to the newest tokens."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.web.test_wire_foresight import explained
from tests.web.test_wire_login import (  # noqa: F401
    Browsers,
    browsers,
    guarded,
    idp,
    redis,
    times,
    where,
)
from tests.web.test_wire_login import site as site_with_login
from tests.web.test_wire_refresh import FETCH, after, session

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.demo.idp import RunningIdp
    from tests.conftest import (
        Answer,
        Clients,
        Embedded,
        Received,
        Running,
        Start,
        StartCommand,
        Upstream,
    )
    from tests.web.test_wire_login import Redis

PATIENCE: Final = 20.0
MANY: Final = 24  # connections, among which each of two processes has one
SERIAL: Final = count(1)
FIRST: Final = {"access_token": "a0", "refresh_token": "r0"}
API: Final = {"kind": "api", "upstream": "main", "strip": "/api"}
OTHER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
COOKIES: Final = {
    "sealed": session(FIRST, expires_in=3000),
    "raw": "access_token=a0; refresh_token=r0",
}


class Api:
    """An API that rejects some tokens, and the refresh endpoint that hands them out."""

    def __init__(self, upstream: Upstream, *, rotates: bool) -> None:
        self.upstream = upstream
        self.rotates = rotates
        self.rejected: set[str] = set()
        self.seen: list[str] = []
        self.exchanges = 0
        self.names: list[str] = []  # what it hands out, if that is not always a new one
        upstream.default = self.answer

    def answer(self, request: Received) -> bytes:
        if request.target == "/refresh":
            self.exchanges += 1
            told = json.loads(request.body)["t"]
            name = self.names[self.exchanges - 1] if self.names else f"a{self.exchanges}"
            tokens = {"access_token": name, "refresh_token": told}
            if self.rotates:
                tokens["refresh_token"] = f"r{self.exchanges}"
            return self.upstream.reply(json.dumps({**tokens, "expires_in": 3000}).encode())
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        self.seen.append(token)
        if token in self.rejected:
            return self.upstream.reply(b"{}", status="401 Unauthorized")
        return self.upstream.reply(json.dumps({"token": token}).encode())

    def site(self, **more: Any) -> dict[str, Any]:
        source = {"type": "authjs", "secret": "a secret of Auth.js, for the tests"}
        source |= {"token": "accessToken", "refresh_token": "refreshToken", "expires_at": "exp2"}
        raw = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
        request = {"url": f"{self.upstream.url}/refresh", "json": {"t": "{refresh_token}"}}
        return {
            "upstreams": {"main": {"url": self.upstream.url}},
            "routes": [
                {"path": "/api", **API},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
            "session": {"sources": [source, raw]},
            "refresh": {"type": "http", "request": request},
            **more,
        }


async def ask(client: Clients, at: Running, cookie: str, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    one = await client(at)
    method = "POST" if body else "GET"
    answer = await one.ask(method, "/api/me", f"Cookie: {cookie}", *FETCH, body=body)
    await one.gone()
    return answer


async def heard(client: Clients, here: Running, there: Running, processes: int = 1) -> None:
    """Returns once all processes `there` have heard what was sent `here` before.

    Another session ends here, which those there know as a living one: they are told of that last.
    """
    other = f"access_token=other-{next(SERIAL)}"
    for _ in range(1 if processes == 1 else MANY):
        assert (await ask(client, there, other)).status == 200
    one = await client(here)
    assert (await one.post("/api/logout", f"Cookie: {other}", *FETCH)).status == 200
    refusals = 0
    async with asyncio.timeout(PATIENCE):
        while refusals < (1 if processes == 1 else MANY):
            is_refused = (await ask(client, there, other)).status != 200
            refusals = refusals + 1 if is_refused else 0
            if not is_refused:
                await asyncio.sleep(0.05)


class Replicas:
    """Replicas on one store; one alone where the store is its own memory."""

    def __init__(self, start: Start, client: Clients, config: dict[str, Any]) -> None:
        self.start = start
        self.client = client
        self.config = config
        self.all: list[Embedded] = []

    async def begin(self) -> Embedded:
        self.all.append(await self.start(self.config))
        return self.all[-1]

    async def renewed(self, cookie: str) -> str:
        """What a browser presents after a renewal at the first one, of which all have heard."""
        answer = await ask(self.client, self.all[0], cookie)
        assert answer.status == 200
        for other in self.all[1:]:
            await heard(self.client, self.all[0], other)
        return after(cookie, answer)

    async def tokens(self, *cookies: str) -> set[str]:
        """The tokens that requests with these cookies, at all replicas, are answered with."""
        bodies = (b"", b"x" * 200_000)  # one that goes through as a stream can not be repeated
        asked = [
            ask(self.client, one, cookie, body)
            for one in self.all
            for cookie in cookies
            for body in bodies
            for _ in range(3)
        ]
        answers = await asyncio.gather(*asked)
        assert {answer.status for answer in answers} == {200}
        return {answer.json["data"]["token"] for answer in answers}


async def lead_on(replicas: Replicas, api: Api, first: str) -> None:
    """Two renewals, each after a 401: one exchange for each rejected token, which is sent to the
    API no more by whoever comes with it, whatever else is in the header.
    """
    assert await replicas.tokens(first) == {"a0"}
    api.rejected.add("a0")
    second = await replicas.renewed(first)
    api.seen.clear()
    assert await replicas.tokens(first, f"{first}; a=b", second) == {"a1"}
    assert "a0" not in api.seen
    api.rejected.add("a1")
    third = await replicas.renewed(second)
    api.seen.clear()
    assert await replicas.tokens(first, f"{first}; c=d", second, f"{second}; c=d", third) == {"a2"}
    assert api.rejected.isdisjoint(api.seen)
    assert api.exchanges == 2


@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize("kind", COOKIES)
async def test_cookies_with_a_rejected_token_lead_to_the_newest_one(
    sidecar: Start, upstream: Upstream, client: Clients, *, kind: str, rotates: bool
) -> None:
    """In one process; those that wait at once, and those that come later."""
    api = Api(upstream, rotates=rotates)
    replicas = Replicas(sidecar, client, api.site())
    await replicas.begin()
    await lead_on(replicas, api, COOKIES[kind])


@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize("kind", COOKIES)
@pytest.mark.parametrize("is_redis", [True, False])
async def test_they_do_so_at_each_replica(
    redis: Redis,  # noqa: F811 - it outlives the replicas
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    tmp_path: Path,
    *,
    is_redis: bool,
    kind: str,
    rotates: bool,
) -> None:
    """Those that run are told, and one that begins later finds it in the store."""
    api, first = Api(upstream, rotates=rotates), COOKIES[kind]
    url = redis.url if is_redis else f"sqlite://{tmp_path}/store.db"
    replicas = Replicas(sidecar, client, api.site(store={"url": url}))
    for _ in range(2):
        await replicas.begin()
    await lead_on(replicas, api, first)
    await replicas.begin()
    assert await replicas.tokens(first) == {"a2"}
    assert api.rejected.isdisjoint(api.seen)
    assert api.exchanges == 2


async def test_they_do_so_in_each_worker(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    api, first = Api(upstream, rotates=True), COOKIES["sealed"]
    at = await command(api.site(workers=2))
    assert await at.serving()
    for _ in range(MANY):
        assert (await ask(client, at, first)).json["data"] == {"token": "a0"}
    api.rejected.add("a0")
    assert (await ask(client, at, first)).status == 200
    await heard(client, at, at, processes=2)
    api.seen.clear()
    for number in range(MANY):
        for cookie in (first, f"{first}; n={number}"):
            assert (await ask(client, at, cookie)).json["data"] == {"token": "a1"}
    assert "a0" not in api.seen
    assert api.exchanges == 1


async def test_replica_loads_a_login_session_anew_whose_token_was_rejected_elsewhere(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    idp: RunningIdp,  # noqa: F811
    browsers: Browsers,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Its cookie stays the same, and the store has its tokens."""
    live = guarded(upstream, idp)
    upstream.default = lambda it: OTHER if b"other-" in it.raw else live(it)
    config = site_with_login(upstream, idp, **where("sqlite", tmp_path))
    config["session"] = {"sources": [{"type": "cookie", "cookie": "access_token"}]}
    here, there = await sidecar(config), await sidecar(config)
    one, other = await browsers(here), await browsers(there)
    await one.log_in()
    other.cookie = one.cookie
    old = (await other.get("/api/me", *FETCH)).json["data"]["token"]
    idp.set(burst=1)
    new = (await one.get("/api/me", *FETCH)).json["data"]["token"]
    assert new != old
    await heard(client, here, there)
    upstream.requests.clear()
    assert (await other.get("/api/me", *FETCH)).json["data"]["token"] == new
    assert len(upstream.requests) == 1
    assert idp.stats.refresh_exchanges == 1


async def test_after_grace_a_rejected_token_is_as_one_that_has_expired(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Its cookie is out of date, no exchange is made for it, and the session goes on."""
    api, first = Api(upstream, rotates=True), COOKIES["sealed"]
    config = api.site()
    config["refresh"]["grace"] = "200ms"
    at = await sidecar(config)
    api.rejected.add("a0")
    second = after(first, await ask(client, at, first))
    for cookie in (second, first):
        assert (await ask(client, at, cookie)).json["data"] == {"token": "a1"}
    await asyncio.sleep(0.3)
    for cookie in (first, f"{first}; a=b"):
        assert (await ask(client, at, cookie)).status == 303
    assert (await ask(client, at, second)).json["data"] == {"token": "a1"}
    assert api.exchanges == 1


async def test_the_same_token_handed_out_again_is_no_rejected_one(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Some providers hand out the same access token for a while: none is asked at every request."""
    api, first = Api(upstream, rotates=False), COOKIES["raw"]
    at = await sidecar(api.site())
    for rejected, count_of in (("a0", 1), ("a1", 2)):
        api.rejected = {rejected}
        api.names = ["a1", "a0"]
        answer = await ask(client, at, first)
        assert (answer.status, api.exchanges) == (200, count_of)
        first = after(first, answer)
    for _ in range(3):
        assert (await ask(client, at, first)).json["data"] == {"token": "a0"}
    assert api.exchanges == 2


async def test_explain_says_that_a_rejected_token_is_led_on(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """For a header that was presented, and for one that only the store can say something of."""
    api = Api(upstream, rotates=True)
    replicas = Replicas(sidecar, client, api.site())
    at = await replicas.begin()
    first = COOKIES["sealed"]
    assert await replicas.tokens(first) == {"a0"}
    request = "\n".join(("GET /api/me", "Host: app.example.com", *FETCH))
    assert (await explained(at, client, request, first))["state"] == "live"
    api.rejected.add("a0")
    await replicas.renewed(first)
    for cookie in (first, f"{first}; a=b"):
        assert (await explained(at, client, request, cookie))["state"] == "due"
    assert api.exchanges == 1


@pytest.mark.parametrize("kind", COOKIES)
async def test_header_that_was_led_on_is_served_with_its_token_handed_out_again(
    sidecar: Start, upstream: Upstream, client: Clients, *, kind: str
) -> None:
    """It is good again, for every header that holds it, and nobody is asked for another one."""
    api, first = Api(upstream, rotates=False), COOKIES[kind]
    api.names = ["a1", "a0"]
    replicas = Replicas(sidecar, client, api.site())
    at = await replicas.begin()
    api.rejected = {"a0"}
    second = await replicas.renewed(first)
    assert await replicas.tokens(f"{first}; a=b") == {"a1"}
    api.rejected = {"a1"}
    assert (await ask(client, at, second)).json["data"]["token"] == "a0"
    api.rejected = set()
    assert await replicas.tokens(first, f"{first}; a=b") == {"a0"}
    assert api.exchanges == 2


async def test_provider_that_hands_out_the_rejected_token_is_asked_a_few_times_only(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """For a request; it is no better the next time."""
    api = Api(upstream, rotates=False)
    api.names, api.rejected = ["a0"] * 20, {"a0"}
    at = await sidecar(api.site())
    assert (await ask(client, at, COOKIES["raw"])).status in (401, 503)
    assert 1 <= api.exchanges <= 3
