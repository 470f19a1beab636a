"""What `explain` says of a request is what then becomes of it, over real sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.web.explanation import explain_request
from sidecar.web.foresight import Foresight
from tests.web.test_wire_admin_end import end, logged_in
from tests.web.test_wire_allow import Scene, clock, directory, people, scene  # noqa: F401

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Answer, Clients, Embedded, Start, Upstream
    from tests.web.test_wire_login import Browsers

SECRET = "a secret of the tests, 32 bytes or more"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
DOCUMENT += ["Accept: text/html"]
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
HANDSHAKE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
HANDSHAKE += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
FOREIGN = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"]
PREFLIGHT = ["Origin: https://other.example", "Access-Control-Request-Method: PUT"]

_HOPS = frozenset(("host", "x-request-id", "content-length", "transfer-encoding", "connection"))
"""Fields that belong to the connection, or that come last."""

# -- what is asked ---------------------------------------------------------------------------------

ROUTES: dict[str, dict[str, Any]] = {
    "/api/": {"kind": "api", "strip": "/api"},
    "/api/login": {"kind": "api", "session": "none"},
    "/api/optional/": {"kind": "api", "session": "optional", "cookies": "forward"},
    "/api/soft/": {"kind": "api", "on_unauthorized": "envelope"},
    "/api/hard/": {"kind": "api", "on_unauthorized": "pass"},
    "/api/bearer/": {"kind": "api", "authorization": "pass"},
    "/api/known/": {"kind": "api", "authorization": "session"},
    "/api/one/": {"kind": "api", "sources": ["signed"]},
    "/api/some/": {
        "kind": "api",
        "sources": ["signed"],
        "allow": [{"claim": "role", "any": ["admin"]}],
    },
    "/api/named/": {"kind": "page", "headers": {"set": {"X-User-Name": "claim.sub"}}},
    "/needs/": {"kind": "page", "session": "required"},
    "/seen/": {"kind": "api", "observe": True},
    "/login": {"kind": "page"},
    "/page/": {"kind": "page"},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "public": {"public_url": "https://app.example.com", "csrf": {"header": "X-CSRF"}},
    "trusted": {"trusted_proxies": ["127.0.0.1"], "logout": {"return_param": "back"}},
    "cors": {"cors": {"origins": ["https://other.example"]}, "csrf": {"enabled": False}},
}
PATHS = (
    *("/api/a%2Fb?x=1", "/api", "/api/login", "/api/optional/a", "/api/soft/a", "/api/hard/a"),
    *("/api/bearer/a", "/api/known/a", "/api/one/a", "/api/some/a", "/api/named/a", "/needs/a"),
    *(
        "/needs//a",
        "//needs/a",
        "/seen/a",
        "/login",
        "/page/a",
        "/other",
        "/api/logout",
        "/api/../x",
    ),
)
FIELDS: dict[str, list[str]] = {
    "script": FETCH,
    "document": DOCUMENT,
    "no browser": [],
    "router": ["RSC: 1", *FETCH],
    "prefetch": ["Sec-Purpose: prefetch", *DOCUMENT],
    "image": ["Sec-Fetch-Dest: image", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: same-origin"],
    "foreign": FOREIGN,
    "own origin": ["Origin: https://app.example.com", "X-CSRF: 1"],
    "own origin by a proxy": ["Origin: https://app.example.com", "X-Forwarded-Proto: https"],
    "no host": ["Host: a:99999"],
    "two bearers": ["Authorization: Bearer a", "Authorization: Bearer b"],
    "own bearer": ["Authorization: Bearer own", *FETCH],
    "no expectation": ["Expect: something"],
    "last hop": ["Max-Forwards: 0"],
    "hops": ["X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.9", "X-User: root", "X-A: 1"],
    "handshake": [*HANDSHAKE, "Origin: http://app.example.com"],
    "foreign handshake": [*HANDSHAKE, *FOREIGN],
    "preflight": PREFLIGHT,
}


def jwt(number: int, **claims: Any) -> str:
    """A signed session with a token of its own."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    body = {"accessToken": f"tok{number}", "sub": f"user{number}", **claims}
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(body)}"
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def cookies(number: int) -> dict[str, str]:
    """Cookie headers in every state, none of which was presented before."""
    now = int(time.time())
    good = jwt(number, exp=now + 3600, role="admin")
    return {
        "none": "theme=dark",
        "raw": f"theme=dark; access_token=raw{number}",
        "raw, and no token": "access_token=a,b",
        "signed": f"session={good}; theme=dark",
        "both": f"session={good}; access_token=raw{number}",
        "user": f"session={jwt(number, exp=now + 3600)}",
        "expired": f"session={jwt(number, exp=now - 3600)}; access_token=raw{number}",
        "not yet": f"session={jwt(number, nbf=now + 3600, exp=now + 7200)}",
        "forged": f"session={good[:-4]}AAAA",
        "dead": f"access_token=dead{number}; theme=dark",
        "dead, and another": f"session={good}; access_token=dead{number}",
    }


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    rows = [{"path": path, "upstream": "main", **own} for path, own in ROUTES.items()]
    sources = [
        {"type": "cookie", "cookie": "access_token", "name": "raw"},
        {"type": "jwt", "cookie": "session", "secret": SECRET, "token": "accessToken"},
    ]
    sources[1]["name"] = "signed"
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": rows,
        "session": {"sources": sources},
        "secret": SECRET,
        **more,
    }


def _hosted(fields: list[str]) -> list[str]:
    """The fields with the host that a request names by itself."""
    is_there = any(one.startswith("Host:") for one in fields)
    return fields if is_there else ["Host: app.example.com", *fields]


async def explained(at: Embedded, client: Clients, request: str, cookie: str) -> Any:
    """What the admin listener says of a request."""
    one = await client(at.admin)
    lines = ["X-Sidecar-Admin: 1", "Content-Type: application/json", "Connection: close"]
    body = json.dumps({"cookie": cookie, "request": request}).encode()
    answer = await one.post("/explain", f"Host: 127.0.0.1:{at.admin}", *lines, body=body)
    assert answer.status == 200, answer.body
    return answer.json["request"]


def _code(answer: Answer) -> str | None:
    """The code of the sidecar's own error, in an envelope or on a page; None of the upstream's."""
    if not answer.body:
        return None
    if answer.get("Content-Type") != "application/json":
        found = re.search(rb"[a-z]+_[a-z_]+(?=</)", answer.body)
        return found and found[0].decode()
    data = answer.json.get("errorData")
    return data.get("code") if isinstance(data, dict) else None


def _location(answer: Answer) -> str | None:
    """Where it leads, whatever the ticket is."""
    location = answer.get("Location")
    return location and re.sub(r"=[^&]*", "=…", location)


class Play:
    """One sidecar, and requests that are explained first and made then."""

    def __init__(self, at: Embedded, upstream: Upstream, clients: Clients) -> None:
        self._at = at
        self._upstream = upstream
        self._clients = clients
        self._count = 0
        self.faults: list[str] = []
        self.outcomes: set[str] = set()

    async def explained(self, method: str, path: str, fields: list[str], cookie: str) -> Any:
        """What `POST /explain` says of a request, which must leave no trace."""
        before = self._memory()
        request = "\n".join((f"{method} {path}", *_hosted(fields)))
        said = await explained(self._at, self._clients, request, cookie)
        assert self._memory() == before, "it left a trace"
        return said

    def _alone(self, method: str, path: str, fields: list[str], cookie: str) -> Any:
        """What the command says, which has the configuration alone."""
        request = "\n".join((f"{method} {path}", *_hosted(fields)))
        foresight = Foresight(self._at.sidecar.runtime.policy)
        found = explain_request(foresight, request, cookie, time.time())["request"]
        return json.loads(json.dumps(found))

    def _memory(self) -> tuple[object, ...]:
        runtime = self._at.sidecar.runtime
        metrics = runtime.metrics
        return (
            runtime.directory.cached,
            runtime.revocations.revision,
            len(self._upstream.requests),
            repr(metrics.responses),
            repr(metrics.observed),
            repr(metrics.sessions.__dict__ if hasattr(metrics.sessions, "__dict__") else None),
            repr(metrics.sessions_ended),
        )

    async def made(self, method: str, path: str, fields: list[str], cookie: str) -> Answer:
        """The request itself."""
        one = await self._clients(self._at)
        sent = [f"Cookie: {cookie}"] if cookie else []
        answer = await one.ask(method, path, *fields, *sent)
        await one.gone()
        return answer

    async def check(self, method: str, path: str, name: str, state: str) -> None:
        """Compares what was said with what became of it, by a good and by a bad upstream."""
        for is_rejecting in (False, True):
            self._count += 1
            cookie, fields = cookies(self._count)[state], FIELDS[name]
            if "dead" in state:
                await self.made("POST", "/api/logout", [], f"access_token=dead{self._count}")
            status = "401 Unauthorized" if is_rejecting else "200 OK"
            self._upstream.default = self._upstream.reply(b'{"a":1}', status=status)
            said = await self.explained(method, path, fields, cookie)
            if "dead" not in state:
                assert said == self._alone(method, path, fields, cookie)
            asked = len(self._upstream.requests)
            answer = await self.made(method, path, fields, cookie)
            was_asked = len(self._upstream.requests) > asked
            for fault in self._differences(said, answer, was_asked=was_asked):
                rejecting = " rejecting" if is_rejecting else ""
                self.faults.append(f"{method} {path} ({name}, {state}){rejecting}: {fault}")
            self.outcomes.add(f"{said['status']} {said['code']} {was_asked} {said['rejected']}")
            if not was_asked:
                return

    def _differences(self, said: Any, answer: Answer, *, was_asked: bool) -> list[str]:
        if said["endpoint"] is not None:
            return ["the upstream was asked"] if was_asked else []
        told = (said["status"], said["code"], said["location"])
        came = (answer.status, _code(answer), _location(answer))
        if said["status"] is not None or said["upstream_path"] is None:
            if was_asked:
                return ["the upstream was asked"]
            return [] if told == came else [f"{told} became {came}"]
        if not was_asked:
            return [f"the upstream was not asked: {came} {answer.body[:99]!r}"]
        got = self._upstream.last
        faults = []
        if got.target.partition("?")[0] != said["upstream_path"]:
            faults.append(f"{said['upstream_path']} became {got.target}")
        names, sends = set(got.names) - _HOPS, set(said["sends"]) - _HOPS
        if names != sends:
            faults.append(f"fields differ by {names ^ sends}")
        if got.get("Authorization") and said["state"] == "none" and said["route"] != "/seen/":
            faults += [] if got.get("Authorization") == "Bearer own" else ["a token without state"]
        if answer.status != 200:
            wanted = said["rejected"] or [401, None]
            if [*came[:2]] != wanted:
                faults.append(f"a 401 became {came[0]}, not {wanted}")
        return faults


@pytest.mark.parametrize("name", CONFIGS)
async def test_explanation_is_what_becomes_of_the_request(
    sidecar: Start, upstream: Upstream, client: Clients, name: str
) -> None:
    """Every path with every client and every state of its session, a part of them in each run."""
    play = Play(await sidecar(site(upstream, **CONFIGS[name])), upstream, client)
    states, fields = list(cookies(0)), list(FIELDS)
    for number, path in enumerate(PATHS):
        for at, state in enumerate(states):
            await play.check("GET", path, fields[(number + at) % len(fields)], state)
            await play.check("POST", path, fields[(2 * number + at) % 15], state)
            await play.check("OPTIONS", path, ("last hop", "preflight")[at % 2], state)
    assert play.faults == []
    assert len(play.outcomes) > 10


# -- what only the store and the provider know -----------------------------------------------------


@pytest.mark.parametrize("kept", ["cookie", "store", "sqlite"])
async def test_renewal_that_is_due_is_told_and_not_made(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    client: Clients,
    tmp_path: Path,
    kept: str,
) -> None:
    """Nobody asks the provider, writes to the store or hands out a cookie for an explanation."""
    at = await logged_in(scene, kept, tmp_path)
    one = await people(at)
    await one.log_in()
    request = "\n".join(("GET /api/x", "Host: app.example.com", *FETCH))
    assert (await explained(at, client, request, one.cookie))["state"] == "live"
    scene.clock.ahead = 29
    exchanged = scene.provider.stats.refresh_exchanges
    for _ in range(2):
        said = await explained(at, client, request, one.cookie)
        assert (said["state"], said["status"]) == ("due", None)
        assert "authorization" in said["sends"]
    assert scene.provider.stats.refresh_exchanges == exchanged
    assert at.sidecar.runtime.refresher is not None
    assert at.sidecar.runtime.refresher.under_way == 0
    assert (await one.get("/api/x", *FETCH)).status == 200
    assert scene.provider.stats.refresh_exchanges == exchanged + 1
    assert (await explained(at, client, request, one.cookie))["state"] == "live"


async def test_session_that_ended_elsewhere_is_told_and_not_learned(
    sidecar: Start, upstream: Upstream, client: Clients, tmp_path: Path
) -> None:
    """The store is asked as for a request, and what it says is forgotten at once."""
    config = site(upstream, store={"url": f"sqlite://{tmp_path}/store.db"})
    cookie = cookies(1)["both"]
    logout = await (await client(await sidecar(config))).post("/api/logout", f"Cookie: {cookie}")
    assert logout.status == 200
    at = await sidecar(config)
    runtime = at.sidecar.runtime
    known = runtime.revocations.revision, runtime.directory.cached
    for path in ("/api/soft/a", "/api/optional/a"):
        request = "\n".join((f"GET {path}", "Host: app.example.com", *FETCH))
        said = await explained(at, client, request, cookie)
        assert said["state"] == "ended"
        assert (runtime.revocations.revision, runtime.directory.cached) == known
    assert "authorization" not in said["sends"]
    assert "cookie" not in said["sends"]
    answer = await (await client(at)).get("/api/soft/a", f"Cookie: {cookie}", *FETCH)
    assert (answer.status, answer.code) == (401, "session_required")


async def test_login_that_ended_elsewhere_is_told(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    client: Clients,
    tmp_path: Path,
) -> None:
    """Its session is in the store no longer."""
    first = await logged_in(scene, "sqlite", tmp_path)
    one = await people(first)
    await one.log_in()
    cookie = one.cookie
    assert (await end(first, "X-Sidecar-Admin: 1", sub="alice")).json["ended"] == 1
    at = await logged_in(scene, "sqlite", tmp_path)
    request = "\n".join(("GET /api/x", "Host: app.example.com", *FETCH))
    revision = at.sidecar.runtime.revocations.revision
    for _ in range(2):
        said = await explained(at, client, request, cookie)
        assert (said["state"] in ("ended", "none"), said["upstream_path"]) == (True, None)
    assert at.sidecar.runtime.revocations.revision == revision
    assert at.sidecar.runtime.directory.cached == 0
    answer = await (await client(at)).get("/api/x", f"Cookie: {cookie}", *FETCH)
    assert (answer.status, _code(answer)) == (said["status"], said["code"])
