"""Storms of 401: an upstream that suddenly rejects everybody logs nobody else out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from sidecar.core.formats import FORMATS

if TYPE_CHECKING:
    from tests.conftest import Answer, Client, Clients, Embedded, Received, Script, Start, Upstream

SECRET = "a secret of Auth.js, for the tests"
NAME = "authjs.session-token"
SOURCE = FORMATS["authjs"](secrets=[SECRET], token=("accessToken",))
FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
ENGAGED = 'sidecar_brake_engaged{route="/api"}'
BRAKED = 'sidecar_decisions_total{decision="braked",route="/api"}'
ENDED = 'sidecar_sessions_ended_total{reason="token_rejected"}'
BRAKE = {"sessions": 3, "window": "10m"}


@pytest.fixture(autouse=True)
def no_end_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the brake is engaged no session ends, however long a test takes."""
    monkeypatch.setattr("sidecar.core.brake.FIRST_GAP", 1e9)


class Api:
    """Accepts the tokens for which `accepts` says so, on every path but `/public`."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.renewals = 0
        self.is_broken = False
        upstream.default = self.answer

    def accepts(self, token: str) -> bool:
        return not self.is_broken and "made-up" not in token

    def answer(self, request: Received) -> Script:
        reply = self.upstream.reply
        if request.target == "/token":
            self.renewals += 1
            (token,) = parse_qs(request.body.decode())["refresh_token"]
            tokens = {"access_token": f"new{self.renewals}-{token}", "refresh_token": token}
            return reply(json.dumps({**tokens, "expires_in": 3600}).encode())
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        if request.target == "/public" or self.accepts(token):
            return reply(json.dumps({"token": token}).encode())
        return reply(b'{"message":"no"}', status="401 Unauthorized")

    def config(self, **more: Any) -> dict[str, Any]:
        authjs = {"type": "authjs", "secret": SECRET, "token": "accessToken"}
        raw = {"type": "cookie", "cookie": "access_token"}
        api = {"kind": "api", "upstream": "main"}
        return {
            "upstreams": {"main": {"url": self.upstream.url}},
            "routes": [
                {"path": "/api", "strip": "/api", **api},
                {"path": "/other", "strip": "/other", **api},
                {
                    "path": "/",
                    "kind": "page",
                    "upstream": "main",
                    "inject": True,
                    "on_unauthorized": "logout",
                },
            ],
            "session": {"sources": [authjs, raw]},
            "unauthorized": {"brake": BRAKE},
            **more,
        }


@pytest.fixture
def api(upstream: Upstream) -> Api:
    return Api(upstream)


def user(name: str, **more: object) -> str:
    """The Cookie line of a user's session."""
    now = int(time.time())
    claims = {"sub": name, "iat": now, "exp": now + 3600, "accessToken": f"t-{name}", **more}
    return f"Cookie: {NAME}={SOURCE.opener.seal(claims, NAME)}"  # type: ignore[attr-defined]


def lines(at: Embedded, event: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    return [line for line in told if line["event"] == event]


def is_logout(answer: Answer) -> bool:
    return answer.status == 303 and "/api/logout?ticket=" in (answer.get("Location") or "")


def is_spared(answer: Answer) -> bool:
    return answer.status == 401 and answer.code == "token_rejected"


async def storm(one: Client, cookies: list[str], target: str = "/api/me") -> list[Answer]:
    return [await one.get(target, cookie, *FETCH) for cookie in cookies]


async def test_most_sessions_outlive_an_upstream_that_rejects_everybody(
    sidecar: Start, client: Clients, api: Api
) -> None:
    """The first ones end; then it is a 401 in the route's shape, and all is well afterwards."""
    at = await sidecar(api.config())
    one, cookies = await client(at), [user(f"u{number}") for number in range(8)]
    api.is_broken = True
    answers = await storm(one, cookies)
    assert [is_logout(answer) for answer in answers] == [True] * 2 + [False] * 6
    assert all(is_spared(answer) and not answer.all("Set-Cookie") for answer in answers[2:])
    api.is_broken = False
    answers = await storm(one, cookies)
    assert [answer.status for answer in answers] == [303] * 2 + [200] * 6
    assert (await at.metrics())[ENDED] == 2


async def test_it_alarms_once_when_it_engages_and_once_when_it_is_released(
    sidecar: Start, client: Clients, api: Api
) -> None:
    at = await sidecar(api.config())
    one = await client(at)
    assert (await at.metrics())[ENGAGED] == 0
    api.is_broken = True
    await storm(one, [user(f"u{number}") for number in range(8)])
    metrics = await at.metrics()
    assert (metrics[ENGAGED], metrics[BRAKED]) == (1, 6)
    (told,) = lines(at, "brake engaged")
    assert (told["level"], told["route"], told["upstream"]) == ("error", "/api", "main")
    assert "401 to 3 of 3 users" in told["detail"]
    assert not lines(at, "brake released")
    api.is_broken = False
    await storm(one, [user(f"good{number}") for number in range(9)])
    assert (await at.metrics())[ENGAGED] == 0
    assert len(lines(at, "brake released")) == len(lines(at, "brake engaged")) == 1
    assert "t-u" not in at.log.getvalue()


async def test_it_is_released_when_nobody_comes_any_more(
    sidecar: Start, client: Clients, api: Api
) -> None:
    at = await sidecar(api.config(unauthorized={"brake": {"sessions": 2, "window": "1s"}}))
    one, number = await client(at), 0
    api.is_broken = True
    while (await at.metrics())[ENGAGED] == 0:
        number += 1
        await storm(one, [user(f"u{number}")])
    await at.wait_for(lambda metrics: metrics[ENGAGED] == 0)
    assert len(lines(at, "brake released")) == len(lines(at, "brake engaged")) > 0


async def test_one_users_requests_engage_nothing(sidecar: Start, client: Clients, api: Api) -> None:
    """However many, and with however many sessions."""
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    cookies = [user("u", accessToken=f"t-{number}") for number in range(9)]
    assert all(map(is_logout, await storm(one, cookies)))


async def test_other_routes_go_on_as_they_did(sidecar: Start, client: Clients, api: Api) -> None:
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    await storm(one, [user(f"u{number}") for number in range(5)])
    (answer,) = await storm(one, [user("other")], "/other/me")
    assert is_logout(answer)


async def test_strangers_tokens_engage_nothing(sidecar: Start, client: Clients, api: Api) -> None:
    """Made-up plain cookies are no evidence, so a session that the API rejects still ends."""
    at = await sidecar(api.config())
    one = await client(at)
    made_up = [f"Cookie: access_token=made-up-{number}" for number in range(20)]
    assert all(map(is_logout, await storm(one, made_up)))
    api.is_broken = True
    answers = await storm(one, [user("u")])
    assert is_logout(answers[0])
    assert not lines(at, "brake engaged")


async def test_strangers_whom_an_upstream_accepts_on_some_path_spare_no_sealed_session(
    sidecar: Start, client: Clients, api: Api
) -> None:
    """Plain sessions that count as accepted have a brake of their own."""
    at = await sidecar(api.config())
    one = await client(at)
    made_up = [f"Cookie: access_token=made-up-{number}" for number in range(6)]
    assert {answer.status for answer in await storm(one, made_up, "/api/public")} == {200}
    answers = await storm(one, made_up)
    assert [is_spared(answer) for answer in answers] == [False] * 2 + [True] * 4
    api.is_broken = True
    assert is_logout((await storm(one, [user("u")]))[0])


async def test_plain_sessions_are_spared_as_well(sidecar: Start, client: Clients, api: Api) -> None:
    """Those that the API has accepted; and all of them in a storm of sealed ones."""
    at = await sidecar(api.config())
    one, plain = await client(at), [f"Cookie: access_token=t-{number}" for number in range(5)]
    assert {answer.status for answer in await storm(one, plain)} == {200}
    api.is_broken = True
    await storm(one, [user(f"u{number}") for number in range(3)])
    assert all(map(is_spared, await storm(one, [*plain, "Cookie: access_token=unknown"])))


async def test_documents_get_a_page(sidecar: Start, client: Clients, api: Api) -> None:
    """And no redirect to the login, where the next token would be rejected too; but a way there."""
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    answers = [await one.get("/", user(f"u{number}"), *DOCUMENT) for number in range(4)]
    assert [answer.status for answer in answers] == [303, 303, 401, 401]
    assert answers[-1].get("Content-Type") == "text/html; charset=utf-8"
    assert b"token_rejected" in answers[-1].body
    assert b'href="/"' in answers[-1].body  # once more
    assert b'href="/api/logout"' in answers[-1].body


async def test_explicit_logout_is_never_braked(sidecar: Start, client: Clients, api: Api) -> None:
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    cookies = [user(f"u{number}") for number in range(4)]
    assert is_spared((await storm(one, cookies))[-1])
    assert (await one.post("/api/logout", cookies[-1], *FETCH)).status == 200
    api.is_broken = False
    assert (await storm(one, cookies[-1:]))[0].status == 303


async def test_one_session_ends_now_and_then(
    sidecar: Start, client: Clients, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So users whose tokens have really ended come to the login again."""
    monkeypatch.setattr("sidecar.core.brake.FIRST_GAP", 0.05)
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    cookies = [user(f"u{number}") for number in range(4)]
    await storm(one, cookies)
    while not is_logout((await storm(one, cookies[-1:]))[0]):
        assert (await at.metrics())[ENGAGED] == 1


async def test_without_the_brake_everybody_is_logged_out(
    sidecar: Start, client: Clients, api: Api
) -> None:
    at = await sidecar(api.config(unauthorized={"brake": None}))
    one = await client(at)
    api.is_broken = True
    assert all(map(is_logout, await storm(one, [user(f"u{number}") for number in range(30)])))
    assert ENGAGED not in await at.metrics()


async def test_tokens_that_end_one_by_one_are_no_storm(
    sidecar: Start, client: Clients, api: Api
) -> None:
    """Others are accepted meanwhile."""
    at = await sidecar(api.config())
    one = await client(at)
    for number in range(9):
        assert is_logout((await storm(one, [user(f"made-up-{number}")]))[0])
        good = [user(f"u{number}-{more}") for more in range(2)]
        assert {answer.status for answer in await storm(one, good)} == {200}


async def test_reload_does_not_release_it(sidecar: Start, client: Clients, api: Api) -> None:
    at = await sidecar(api.config())
    one = await client(at)
    api.is_broken = True
    await storm(one, [user(f"u{number}") for number in range(3)])
    await at.sidecar.reload(at.sidecar.runtime.policy.config)
    assert is_spared((await storm(await client(at), [user("after")]))[0])


# -- with renewals ---------------------------------------------------------------------------------


async def test_renewed_tokens_that_are_rejected_too_are_no_end_and_no_flood_at_the_provider(
    sidecar: Start, upstream: Upstream, client: Clients, api: Api
) -> None:
    """A session is renewed once within the window; its new token is kept."""
    source = {"type": "authjs", "secret": SECRET, "token": "accessToken"}
    at = await sidecar(
        api.config(
            session={"sources": [source | {"refresh_token": "refreshToken"}]},
            refresh={"token_endpoint": f"{upstream.url}/token", "client_id": "app"},
        )
    )
    one = await client(at)
    cookies = [user(f"u{number}", refreshToken=f"r{number}") for number in range(5)]
    api.is_broken = True
    answers = await storm(one, cookies)
    assert [is_spared(answer) for answer in answers] == [False] * 2 + [True] * 3
    renewed = answers[-1].all("Set-Cookie")[0].partition(";")[0]
    assert renewed.startswith(NAME)
    renewals = api.renewals
    for _ in range(5):
        assert all(map(is_spared, await storm(one, [f"Cookie: {renewed}", *cookies[2:]])))
    assert api.renewals == renewals == 5
    api.is_broken = False
    assert (await storm(one, [f"Cookie: {renewed}"]))[0].status == 200
