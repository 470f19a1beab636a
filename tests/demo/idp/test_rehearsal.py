"""The switches: each makes the trouble that it promises, and ends it again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc.jwk import KeySet

from sidecar.demo.idp import Stats
from sidecar.demo.idp.control import Actions
from sidecar.demo.idp.options import ENDPOINTS, Options, Switches
from sidecar.demo.idp.state import State
from tests.demo.idp.party import Clock, Party, StartParty

PAGE = Path(__file__).parents[3] / "docs" / "rehearsal.md"


# -- turning them ---------------------------------------------------------------------------------


async def test_a_switch_is_an_option_a_method_and_json(party: StartParty) -> None:
    alice = await party(access_token_lifetime=7)
    assert (await alice.tokens())["expires_in"] == 7
    alice.idp.set(access_token_lifetime=8)
    assert (await alice.tokens())["expires_in"] == 8
    got = await alice.control(access_token_lifetime=9)
    assert (got.status, got.json["switches"]["access_token_lifetime"]) == (200, 9)
    assert (await alice.tokens())["expires_in"] == 9


async def test_the_control_endpoint_shows_switches_and_counters(party: StartParty) -> None:
    alice = await party()
    await alice.tokens()
    got = (await alice.ask("GET", "/_rehearsal")).json
    assert "for demos and tests only" in got["notice"]
    assert got["issuer"] == alice.idp.issuer
    assert set(got["switches"]) == set(Switches.model_fields)
    assert (got["stats"]["logins"], got["stats"]["code_exchanges"]) == (1, 1)
    got = (await alice.control(reset_stats=True)).json
    assert set(got["stats"].values()) == {0}
    assert alice.idp.stats.logins == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rotatoin": False}, "rotatoin"),
        ({"access_token_lifetime": 0}, "access_token_lifetime"),
        ({"access_token_lifetime": 0.5}, "access_token_lifetime"),
        ({"refresh_delay": -1}, "refresh_delay"),
        ({"outage": "flood"}, "outage"),
        ({"outage_of": ["toaster"]}, "outage_of.0"),
        ({"sign_in_as": "eve"}, "sign_in_as"),
        ({"client_secret": "new"}, "client_secret"),
        ({"rotate_key": "perhaps"}, "rotate_key"),
    ],
)
async def test_a_bad_change_changes_nothing(
    party: StartParty, changes: dict[str, Any], fault: str
) -> None:
    """All or none: what is good beside it is not carried out either."""
    alice = await party()
    await alice.log_in()
    good = {"id_token_lifetime": 5, "revoke_grants": "*", "end_sessions": "*"}
    got = await alice.control(**{**good, **changes})
    assert got.status == 422
    assert any(fault in line for line in got.json["error"])
    assert alice.idp.options.id_token_lifetime == 300
    assert "code" in (await alice.authorize(prompt="none")).location
    if fault != "rotate_key":
        with pytest.raises(ValueError, match=fault.split(".", maxsplit=1)[0]):
            alice.idp.set(**changes)


async def test_a_page_elsewhere_cannot_turn_switches(party: StartParty) -> None:
    """Browsers send JSON to other origins only after a preflight, which nothing here allows."""
    alice = await party()
    change = json.dumps({"outage": "error"})
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": content_type, "Origin": "https://evil.example"}
        got = await alice.ask("POST", "/_rehearsal", data=change, headers=headers)
        assert got.status == 415
    preflight = await alice.ask("OPTIONS", "/_rehearsal", headers={"Origin": "https://x.example"})
    assert "Access-Control-Allow-Origin" not in preflight.headers
    assert alice.idp.options.outage == "none"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1", "127.0.0.2"])
async def test_other_hosts_are_not_served(party: StartParty, host: str) -> None:
    """A name elsewhere that resolves to this address (DNS rebinding)."""
    alice = await party()
    for path in ("/_rehearsal", "/.well-known/openid-configuration", "/authorize"):
        assert (await alice.ask("GET", path, headers={"Host": host})).status == 421


@pytest.mark.parametrize(("body", "status"), [("{", 400), ("[]", 400), ("1", 400), ("{}", 200)])
async def test_what_is_no_json_object_is_refused(party: StartParty, body: str, status: int) -> None:
    alice = await party()
    headers = {"Content-Type": "application/json"}
    got = await alice.ask("POST", "/_rehearsal", data=body, headers=headers)
    assert got.status == status


# -- the troubles ---------------------------------------------------------------------------------


async def test_a_burst_of_401s_hits_some_tokens(party: StartParty, clock: Clock) -> None:
    """The first that come, each time that they come, until the burst is over."""
    alice = await party(access_token_lifetime=100)
    tokens = [(await alice.tokens())["access_token"] for _ in range(4)]
    alice.idp.set(burst=2, burst_seconds=10)
    for _ in range(2):
        verdicts = [alice.idp.verify(one).verdict for one in tokens]
        assert verdicts == ["revoked", "revoked", "live", "live"]
    bearer = {"Authorization": f"Bearer {tokens[0]}"}
    assert (await alice.ask("GET", "/userinfo", headers=bearer)).status == 401
    assert (await alice.introspect(tokens[0]))["active"] is False
    clock.advance(10)
    assert [alice.idp.verify(one).verdict for one in tokens] == ["live"] * 4
    assert alice.idp.stats.checks_revoked == 6


async def test_a_burst_of_401s_hits_all_tokens(party: StartParty, clock: Clock) -> None:
    """New ones as well; and it can be called off."""
    alice = await party(access_token_lifetime=100)
    first = await alice.tokens()
    await alice.control(burst="all", burst_seconds=10)
    second = (await alice.refresh(first["refresh_token"])).json
    for tokens in (first, second):
        assert alice.idp.verify(tokens["access_token"]).verdict == "revoked"
    clock.advance(10)
    assert alice.idp.verify(first["access_token"]).is_live
    alice.idp.set(burst="all")
    assert not alice.idp.verify(first["access_token"]).is_live
    alice.idp.set(burst=0)
    assert alice.idp.verify(first["access_token"]).is_live


async def test_a_burst_does_not_start_again_by_itself(party: StartParty, clock: Clock) -> None:
    """Not by another switch."""
    alice = await party(burst="all", burst_seconds=10, access_token_lifetime=100)
    token = (await alice.tokens())["access_token"]
    assert not alice.idp.verify(token).is_live
    clock.advance(10)
    alice.idp.set(rotation=False)
    assert alice.idp.verify(token).is_live


async def test_slow_refreshes_are_carried_out_at_once(party: StartParty) -> None:
    """So a client that gives up has lost the answer; other endpoints are as fast as ever."""
    alice = await party(refresh_delay=30)
    token = (await alice.tokens())["refresh_token"]
    waiting = asyncio.create_task(alice.refresh(token))
    while alice.idp.stats.refresh_exchanges == 0:
        await asyncio.sleep(0.01)
    assert (await alice.introspect(token))["active"] is False
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    alice.idp.set(refresh_delay=0.2)
    before = time.monotonic()
    assert (await alice.refresh(token)).error == (400, "invalid_grant")
    assert time.monotonic() - before >= 0.2


async def test_refreshes_are_refused(party: StartParty) -> None:
    """The next ones, as many as said; each ends its grant."""
    alice = await party()
    one, two = await alice.tokens(), await alice.tokens()
    alice.idp.set(invalid_grant=1)
    assert (await alice.refresh(one["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.options.invalid_grant == 0
    assert (await alice.refresh(two["refresh_token"])).status == 200
    assert (await alice.refresh(one["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.verify(one["access_token"]).verdict == "revoked"


async def test_answers_are_lost(party: StartParty) -> None:
    """The exchange took place: to ask again with the old token is a reuse."""
    alice = await party()
    token = (await alice.tokens())["refresh_token"]
    alice.idp.set(lost_refreshes=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await alice.refresh(token)
    stats = alice.idp.stats
    assert (stats.refresh_exchanges, stats.lost_answers) == (1, 1)
    assert (await alice.refresh(token)).error == (400, "invalid_grant")
    assert alice.idp.stats.refresh_reuses == 1


async def test_without_reuse_detection_a_spent_token_is_only_refused(party: StartParty) -> None:
    alice = await party(reuse_detection=False)
    first = await alice.tokens()
    second = (await alice.refresh(first["refresh_token"])).json
    assert (await alice.refresh(first["refresh_token"])).error == (400, "invalid_grant")
    assert (await alice.refresh(second["refresh_token"])).status == 200


async def test_without_rotation_the_refresh_token_stays(party: StartParty) -> None:
    """And the answer names none."""
    alice = await party(rotation=False)
    token = (await alice.tokens())["refresh_token"]
    for _ in range(3):
        got = await alice.refresh(token)
        assert got.status == 200
        assert "refresh_token" not in got.json


async def test_a_refresh_may_come_without_an_id_token(party: StartParty) -> None:
    alice = await party(id_token_on_refresh=False)
    tokens = await alice.tokens()
    assert "id_token" in tokens
    assert "id_token" not in (await alice.refresh(tokens["refresh_token"])).json


async def touch(alice: Party) -> dict[str, int | str]:
    """What each endpoint does: a status, or that the connection broke."""
    asks: dict[str, tuple[str, str, dict[str, Any]]] = {
        "discovery": ("GET", "/.well-known/openid-configuration", {}),
        "jwks": ("GET", "/jwks", {}),
        "authorization": ("GET", "/authorize?client_id=app", {}),
        "token": ("POST", "/token", {"data": {"grant_type": "x"}, "headers": alice.basic()}),
        "userinfo": ("GET", "/userinfo", {}),
        "revocation": ("POST", "/revoke", {"data": {"token": "x"}, "headers": alice.basic()}),
        "introspection": ("POST", "/introspect", {"data": {"token": "x"}, "headers": {}}),
        "end_session": ("GET", "/end_session", {}),
    }
    assert set(asks) == set(ENDPOINTS)
    seen: dict[str, int | str] = {}
    for name, (method, path, more) in asks.items():
        try:
            seen[name] = (await alice.ask(method, path, **more)).status
        except aiohttp.ClientConnectionError:
            seen[name] = "broken"
    return seen


@pytest.mark.parametrize(
    ("outage", "seen"), [("close", "broken"), ("error", 500), ("html", 200), ("unavailable", 503)]
)
async def test_an_outage_is_of_everything_and_ends(
    party: StartParty, caplog: pytest.LogCaptureFixture, outage: str, seen: int | str
) -> None:
    """But the control endpoint, which ends it. It is no defect that would be logged."""
    alice = await party()
    before = await touch(alice)
    alice.idp.set(outage=outage)
    assert await touch(alice) == dict.fromkeys(ENDPOINTS, seen)
    again = 2 if outage == "close" else 1  # aiohttp's client may ask once more after a broken GET
    assert len(ENDPOINTS) <= alice.idp.stats.outage_answers <= again * len(ENDPOINTS)
    assert (await alice.control(outage="none")).status == 200
    assert await touch(alice) == before
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


async def test_an_outage_can_be_of_some(party: StartParty) -> None:
    """What is refused meanwhile is not carried out."""
    alice = await party()
    token = (await alice.tokens())["refresh_token"]
    await alice.control(outage="close", outage_of=["token", "jwks"])
    seen = await touch(alice)
    assert {name for name, one in seen.items() if one == "broken"} == {"token", "jwks"}
    with pytest.raises(aiohttp.ClientConnectionError):
        await alice.refresh(token)
    alice.idp.set(outage="none")
    assert (await alice.refresh(token)).status == 200


async def test_what_outages_look_like(party: StartParty) -> None:
    alice = await party(outage="unavailable", retry_after=7)
    got = await alice.refresh("x")
    assert (got.status, got.headers["Retry-After"]) == (503, "7")
    alice.idp.set(outage="html")
    got = await alice.refresh("x")
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert got.text.startswith("<!doctype html>")


# -- actions --------------------------------------------------------------------------------------


async def test_the_signing_key_rotates(party: StartParty, clock: Clock) -> None:
    """The old key stays published for a while, so that what it signed can be checked."""
    alice = await party()
    old = (await alice.tokens())["id_token"]

    async def published() -> list[dict[str, Any]]:
        return list((await alice.ask("GET", "/jwks")).json["keys"])

    (before,) = await published()
    assert (await alice.control(rotate_key=True)).status == 200
    new = (await alice.tokens())["id_token"]
    keys = await published()
    assert [key["kid"] for key in keys][1:] == [before["kid"]]
    assert keys[0]["kid"] != before["kid"]
    for token in (old, new):
        await alice.claims(token, "JWT")
    clock.advance(299)
    assert len(await published()) == 2
    clock.advance(1)
    assert await published() == keys[:1]


@pytest.mark.parametrize(("algorithm", "kty"), [("RS256", "RSA"), ("ES256", "EC")])
async def test_published_keys_are_public(party: StartParty, algorithm: str, kty: str) -> None:
    """RFC 7517 section 4, RFC 7518 section 6: no private part."""
    alice = await party(signing_algorithm=algorithm)
    alice.idp.rotate_key()
    document = (await alice.ask("GET", "/jwks")).json
    for key in document["keys"]:
        assert (key["kty"], key["alg"], key["use"]) == (kty, algorithm, "sig")
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys()
    assert len(KeySet.import_key_set(document).keys) == 2
    await alice.claims((await alice.tokens())["id_token"], "JWT")
    told = (await alice.ask("GET", "/.well-known/openid-configuration")).json
    assert told["id_token_signing_alg_values_supported"] == [algorithm]


async def test_grants_are_ended_by_an_operator(party: StartParty) -> None:
    """Of one user, offline access and all; the browser stays signed in."""
    alice = await party()
    bob = await party(browser_of=alice)
    hers, his = await alice.tokens("alice"), await bob.tokens("bob")
    assert (await alice.control(revoke_grants="alice")).status == 200
    assert alice.idp.verify(hers["access_token"]).verdict == "revoked"
    assert (await alice.refresh(hers["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.stats.refresh_reuses == 0
    assert alice.idp.verify(his["access_token"]).is_live
    assert alice.idp.revoke_grants() == 1
    assert alice.idp.verify(his["access_token"]).verdict == "revoked"
    assert "code" in (await alice.authorize(prompt="none")).location


async def test_a_user_can_be_signed_in_without_a_page(party: StartParty) -> None:
    """For scripts; it counts as consent, and prompt=none still asks for a session."""
    alice = await party(sign_in_as="bob")
    assert (await alice.authorize(prompt="none")).location["error"] == "login_required"
    tokens = (await alice.exchange((await alice.authorize()).location["code"])).json
    assert (await alice.claims(tokens["id_token"], "JWT"))["sub"] == "bob"
    assert "refresh_token" in tokens
    assert "code" in (await alice.authorize(prompt="none")).location


async def test_who_is_signed_in_stays_until_a_login_is_asked_for(party: StartParty) -> None:
    alice = await party()
    await alice.log_in("alice")
    alice.idp.set(sign_in_as="bob")

    async def subject(prompt: str | None) -> str:
        code = (await alice.authorize(prompt=prompt)).location["code"]
        tokens = (await alice.exchange(code)).json
        return str((await alice.claims(tokens["id_token"], "JWT"))["sub"])

    assert await subject(None) == "alice"
    assert await subject("login") == "bob"


async def test_tokens_can_be_had_without_a_login(party: StartParty) -> None:
    """`idp.tokens()`, for tests that need no more."""
    alice = await party()
    tokens = alice.idp.tokens("bob", scope="openid email offline_access")
    claims = await alice.claims(tokens["id_token"], "JWT")
    assert (claims["sub"], claims["email"], claims["aud"]) == ("bob", "bob@example.com", "app")
    assert alice.idp.verify(tokens["access_token"]).subject == "bob"
    assert (await alice.refresh(tokens["refresh_token"])).status == 200
    assert alice.idp.stats.code_exchanges == 0
    for subject, scope in (("eve", "openid"), ("bob", "nonsense"), ("bob", "")):
        with pytest.raises(ValueError, match="no such"):
            alice.idp.tokens(subject, scope=scope)


# -- memory ---------------------------------------------------------------------------------------


async def test_what_expired_long_ago_is_forgotten(party: StartParty, clock: Clock) -> None:
    """A provider that runs for days does not grow."""
    alice = await party(refresh_token_lifetime=60, session_lifetime=60)
    tokens = await alice.tokens()
    await alice.authorize()
    provider = alice.idp._provider
    clock.advance(3600)
    assert alice.idp.verify(tokens["access_token"]).verdict == "expired"
    clock.advance(3600)
    assert alice.idp.verify(tokens["access_token"]).verdict == "unknown"
    state: State = provider.state
    assert not state.sessions
    assert not state.interactions
    assert not state.codes
    assert not state.refresh_tokens
    assert not state.access_tokens


# -- the page -------------------------------------------------------------------------------------


def shown(name: str, default: object) -> str:
    """A default as the page writes it."""
    if name == "outage_of":
        return "all"
    if isinstance(default, tuple):
        return ", ".join(default) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default is None else str(default)


def test_the_page_lists_every_option_switch_and_action() -> None:
    """With its default and what it does, in the words of the command's help."""
    written = re.findall(r"^\| `\w+` \| `.*\|$", PAGE.read_text(), re.MULTILINE)
    switches = Switches.model_fields
    options = {name: field for name, field in Options.model_fields.items() if name not in switches}
    assert written == [
        f"| `{name}` | `{shown(name, field.default)}` | {field.description} |"
        for fields in (switches, Actions.model_fields, options)
        for name, field in fields.items()
    ]


def test_the_page_lists_every_counter() -> None:
    text = PAGE.read_text().split("## Counters")[1]
    assert re.findall(r"`(\w+)`", text) == [field.name for field in dataclasses.fields(Stats)]


def test_the_example_on_the_page_runs(tmp_path: Path) -> None:
    """As a reader would copy it."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "test_example.py").write_text(example)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
