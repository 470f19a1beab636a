"""The token endpoint, revocation and introspection, as clients use and misuse them."""

from __future__ import annotations

import asyncio
import base64

import pytest

from sidecar.demo.idp import RegisteredClient
from sidecar.demo.idp.tokens import half_hash
from tests.demo.idp.party import CALLBACK, VERIFIER, Clock, Party, StartParty, challenge_of

OTHER_CALLBACK = "http://127.0.0.1:9/other"
OTHER = RegisteredClient(
    client_id="other", client_secret="another", redirect_uris=(OTHER_CALLBACK,)
)


# -- a code for tokens ----------------------------------------------------------------------------


async def test_a_code_gives_tokens(party: StartParty, clock: Clock) -> None:
    """RFC 6749 section 5.1; the id_token as OpenID Connect Core sections 2 and 3.1.3.6."""
    alice = await party()
    got = await alice.exchange((await alice.log_in())["code"])
    assert got.status == 200
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["Pragma"] == "no-cache"
    tokens = got.json
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 30
    assert tokens["scope"] == "openid profile offline_access"
    now = int(clock())
    claims = await alice.claims(tokens["id_token"], "JWT")
    assert claims.pop("sid")
    assert claims == {
        "iss": alice.idp.issuer,
        "sub": "alice",
        "aud": "app",
        "iat": now,
        "exp": now + 300,
        "auth_time": now,
        "nonce": "a nonce",
        "at_hash": half_hash(tokens["access_token"]),
        "name": "Alice",
        "preferred_username": "alice",
    }


def test_at_hash_is_that_of_the_specification() -> None:
    """A known pair, from the examples of OpenID Connect Core appendix A.4 (SHA-256)."""
    access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert half_hash(access_token) == "77QmUPtjPfzWtF2AnpK9RQ"


async def test_an_access_token_is_a_jwt(party: StartParty, clock: Clock) -> None:
    """RFC 9068 section 2.2."""
    alice = await party()
    tokens = await alice.tokens()
    claims = await alice.claims(tokens["access_token"], "at+jwt")
    assert claims.pop("jti")
    now = int(clock())
    assert claims == {
        "iss": alice.idp.issuer,
        "sub": "alice",
        "aud": "urn:rehearsal:api",
        "client_id": "app",
        "iat": now,
        "exp": now + 30,
        "auth_time": now,
        "scope": "openid profile offline_access",
    }


async def test_an_access_token_lives_as_long_as_the_answer_said(
    party: StartParty, clock: Clock
) -> None:
    """Wherever in a second it began: a client that counts from the answer on is not deceived."""
    alice = await party()
    clock.advance(0.75)
    token = (await alice.tokens())["access_token"]
    clock.advance(29.75)
    assert alice.idp.verify(token).is_live
    assert (await alice.claims(token, "at+jwt"))["exp"] > clock()
    clock.advance(0.25)
    assert alice.idp.verify(token).verdict == "expired"


async def test_an_access_token_says_nothing_where_told_so(party: StartParty) -> None:
    alice = await party(opaque_access_tokens=True)
    token = (await alice.tokens())["access_token"]
    assert "." not in token
    assert alice.idp.verify(token).is_live


async def test_a_request_without_nonce_or_openid(party: StartParty) -> None:
    """No nonce, no claim; no `openid`, no id_token (OAuth 2.0 alone)."""
    alice = await party()
    claims = await alice.claims((await alice.tokens(nonce=None))["id_token"], "JWT")
    assert "nonce" not in claims
    tokens = await alice.tokens(scope="profile offline_access")
    assert set(tokens) == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}


async def test_a_code_is_good_once_and_its_second_use_ends_what_it_gave(party: StartParty) -> None:
    """RFC 6749 sections 4.1.2 and 10.5."""
    alice = await party()
    code = (await alice.log_in())["code"]
    tokens = (await alice.exchange(code)).json
    refreshed = (await alice.refresh(tokens["refresh_token"])).json
    assert (await alice.exchange(code)).error == (400, "invalid_grant")
    assert alice.idp.verify(tokens["access_token"]).verdict == "revoked"
    assert alice.idp.verify(refreshed["access_token"]).verdict == "revoked"
    assert (await alice.refresh(refreshed["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.stats.code_reuses == 1


async def test_a_code_lives_a_minute(party: StartParty, clock: Clock) -> None:
    alice = await party()
    early, late = (await alice.log_in())["code"], (await alice.log_in())["code"]
    clock.advance(59)
    assert (await alice.exchange(early)).status == 200
    clock.advance(1)
    assert (await alice.exchange(late)).error == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": None}, "invalid_request"),
        ({"code": "made-up"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": CALLBACK.split("?")[0]}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "v" * 42}, "invalid_request"),
        ({"code_verifier": "v" * 129}, "invalid_request"),
        ({"code_verifier": "v" * 42 + "ü"}, "invalid_request"),
        ({"code_verifier": "v" * 44}, "invalid_grant"),
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    ],
)
async def test_what_does_not_fit_the_code_is_refused(
    party: StartParty, changes: dict[str, str | None], error: str
) -> None:
    """RFC 6749 section 4.1.3, RFC 7636 section 4.6; and the right request still works after it."""
    alice = await party()
    code = (await alice.log_in())["code"]
    got = await alice.exchange(**{"code": code, **changes})
    assert got.error == (400, error)
    assert got.headers["Cache-Control"] == "no-store"
    assert (await alice.exchange(code)).status == 200
    assert alice.idp.stats.refused_exchanges == 1


async def test_a_long_verifier_fits(party: StartParty) -> None:
    """RFC 7636 section 4.1: up to 128 characters, of all the unreserved ones."""
    verifier = "-._~" * 32
    alice = await party()
    code = (await alice.log_in(code_challenge=challenge_of(verifier)))["code"]
    assert (await alice.exchange(code, code_verifier=verifier)).status == 200


async def test_a_code_is_of_use_to_its_client_alone(party: StartParty) -> None:
    alice = await party(clients=[OTHER])
    code = (await alice.log_in())["code"]
    stolen = await alice.exchange(code, headers=alice.basic("other", "another"))
    assert stolen.error == (400, "invalid_grant")
    assert (await alice.exchange(code)).status == 200


# -- offline access -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offline_access", "prompt", "granted"),
    [(False, None, False), (False, "consent", True), (True, None, True), (False, "login", False)],
)
async def test_offline_access_needs_consent_or_a_registered_client(
    party: StartParty, offline_access: bool, prompt: str | None, granted: bool
) -> None:
    """OpenID Connect Core section 11; without it there is no refresh token."""
    alice = await party(offline_access=offline_access)
    tokens = await alice.tokens(prompt=prompt)
    assert ("offline_access" in tokens["scope"]) is granted
    assert ("refresh_token" in tokens) is granted


async def test_no_refresh_token_where_offline_access_was_not_asked_for(party: StartParty) -> None:
    alice = await party()
    assert "refresh_token" not in await alice.tokens(scope="openid")


# -- refresh --------------------------------------------------------------------------------------


async def test_a_refresh_gives_new_tokens(party: StartParty, clock: Clock) -> None:
    """OpenID Connect Core section 12.2: the same login, a new id_token, without a nonce."""
    alice = await party()
    first = await alice.tokens()
    clock.advance(20)
    got = await alice.refresh(first["refresh_token"])
    assert got.status == 200
    assert got.headers["Cache-Control"] == "no-store"
    second = got.json
    assert second["scope"] == first["scope"]
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    old = await alice.claims(first["id_token"], "JWT")
    new = await alice.claims(second["id_token"], "JWT")
    for name in ("iss", "sub", "aud", "sid", "auth_time"):
        assert new[name] == old[name]
    assert new["iat"] == old["iat"] + 20
    assert new["at_hash"] == half_hash(second["access_token"])
    assert "nonce" not in new
    clock.advance(29)
    assert alice.idp.verify(second["access_token"]).is_live
    assert alice.idp.verify(first["access_token"]).verdict == "expired"


async def test_a_spent_refresh_token_ends_the_family(party: StartParty) -> None:
    """RFC 9700 section 4.14.2: whoever used it first, the one with the newest loses it too."""
    alice = await party()
    first = await alice.tokens()
    second = (await alice.refresh(first["refresh_token"])).json
    third = (await alice.refresh(second["refresh_token"])).json
    assert (await alice.refresh(first["refresh_token"])).error == (400, "invalid_grant")
    assert (await alice.refresh(third["refresh_token"])).error == (400, "invalid_grant")
    for tokens in (first, second, third):
        assert alice.idp.verify(tokens["access_token"]).verdict == "revoked"
    assert alice.idp.stats.refresh_reuses == 1
    assert alice.idp.stats.refresh_exchanges == 2


async def test_the_families_of_two_logins_are_apart(party: StartParty) -> None:
    alice = await party()
    one, two = await alice.tokens(), await alice.tokens()
    await alice.refresh(one["refresh_token"])
    await alice.refresh(one["refresh_token"])
    assert alice.idp.verify(one["access_token"]).verdict == "revoked"
    assert alice.idp.verify(two["access_token"]).is_live
    assert (await alice.refresh(two["refresh_token"])).status == 200


async def test_of_refreshes_at_once_one_wins_and_the_family_ends(party: StartParty) -> None:
    """What a client without a lock does to itself."""
    alice = await party()
    token = (await alice.tokens())["refresh_token"]
    answers = await asyncio.gather(*(alice.refresh(token) for _ in range(10)))
    won = [one for one in answers if one.status == 200]
    assert len(won) == 1
    assert alice.idp.stats.refresh_reuses == 9
    assert alice.idp.verify(won[0].json["access_token"]).verdict == "revoked"


async def test_the_family_ends_by_time_however_often_refreshed(
    party: StartParty, clock: Clock
) -> None:
    """The lifetime is absolute, counted from the login."""
    alice = await party(refresh_token_lifetime=100)
    token = (await alice.tokens())["refresh_token"]
    clock.advance(60)
    token = (await alice.refresh(token)).json["refresh_token"]
    clock.advance(39)
    token = (await alice.refresh(token)).json["refresh_token"]
    clock.advance(1)
    assert (await alice.refresh(token)).error == (400, "invalid_grant")


async def test_a_refresh_may_ask_for_less(party: StartParty) -> None:
    """RFC 6749 section 6: for that access token only; never for more."""
    alice = await party()
    token = (await alice.tokens())["refresh_token"]
    narrow = (await alice.refresh(token, scope="profile")).json
    assert narrow["scope"] == "profile"
    assert "id_token" not in narrow
    assert alice.idp.verify(narrow["access_token"]).scope == ("profile",)
    wider = await alice.refresh(narrow["refresh_token"], scope="profile email")
    assert wider.error == (400, "invalid_scope")
    whole = (await alice.refresh(narrow["refresh_token"])).json
    assert whole["scope"] == "openid profile offline_access"


async def test_a_refresh_token_is_of_use_to_its_client_alone(party: StartParty) -> None:
    """And a thief without the client's secret does not end the family."""
    alice = await party(clients=[OTHER])
    token = (await alice.tokens())["refresh_token"]
    data = {"grant_type": "refresh_token", "refresh_token": token}
    stolen = await alice.post("/token", dict(data), headers=alice.basic("other", "another"))
    assert stolen.error == (400, "invalid_grant")
    assert (await alice.refresh(token)).status == 200


async def test_an_unknown_refresh_token_is_refused(party: StartParty) -> None:
    alice = await party()
    assert (await alice.refresh("rt_made-up")).error == (400, "invalid_grant")


# -- who asks -------------------------------------------------------------------------------------


async def refreshed(alice: Party, headers: dict[str, str], **more: str) -> tuple[int, str | None]:
    token = alice.idp.tokens()["refresh_token"]
    data = {"grant_type": "refresh_token", "refresh_token": token, **more}
    got = await alice.post("/token", dict(data), headers=headers)
    return got.status, got.json.get("error")


async def test_a_client_authenticates_by_header_or_form(party: StartParty) -> None:
    """RFC 6749 section 2.3.1: the header's parts are form-encoded; one way at a time."""
    odd = {"client_id": "an app: ü", "client_secret": "s:e+c r%et"}
    alice = await party(**odd)
    assert await refreshed(alice, alice.basic()) == (200, None)
    assert await refreshed(alice, alice.basic(), client_id="an app: ü") == (200, None)
    assert await refreshed(alice, {}, **odd) == (200, None)
    assert await refreshed(alice, alice.basic(), **odd) == (400, "invalid_request")
    assert await refreshed(alice, alice.basic(), client_id="x") == (400, "invalid_request")


@pytest.mark.parametrize(
    "credentials", ["app:wrong", "app:", "app", ":", "stranger:rehearsal-only", "\xff", "app:\xff"]
)
async def test_a_wrong_client_is_refused(party: StartParty, credentials: str) -> None:
    """RFC 6749 section 5.2: 401 with a challenge."""
    alice = await party()
    encoded = base64.b64encode(credentials.encode("latin-1")).decode()
    data: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": "x"}
    got = await alice.post("/token", data, headers={"Authorization": f"Basic {encoded}"})
    assert got.error == (401, "invalid_client")
    assert got.headers["WWW-Authenticate"].startswith("Basic ")


async def test_a_client_with_a_secret_cannot_do_without(party: StartParty) -> None:
    alice = await party()
    assert await refreshed(alice, {}, client_id="app") == (401, "invalid_client")
    assert await refreshed(alice, {}) == (401, "invalid_client")
    wrong = {"client_id": "app", "client_secret": "wrong"}
    assert await refreshed(alice, {}, **wrong) == (401, "invalid_client")
    assert alice.idp.stats.refused_clients == 3
    bearer = {"Authorization": "Bearer x"}
    assert await refreshed(alice, bearer) == (401, "invalid_client")


async def test_a_public_client_has_no_secret(party: StartParty) -> None:
    """`none` of Dynamic Registration; PKCE is what holds the code to it."""
    alice = await party(client_secret="")
    tokens = (await alice.exchange((await alice.log_in())["code"], {}, client_id="app")).json
    assert alice.idp.verify(tokens["access_token"]).is_live
    assert await refreshed(alice, {}, client_id="app") == (200, None)
    guess = {"client_id": "app", "client_secret": "guess"}
    assert await refreshed(alice, {}, **guess) == (401, "invalid_client")


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_requests_that_cannot_be_read_are_refused(party: StartParty, path: str) -> None:
    """Repeated parameters (RFC 6749 section 3.2), another type, not text."""
    alice = await party()
    form = {"Content-Type": "application/x-www-form-urlencoded", **alice.basic()}
    for body in (b"token=a&token=a", b"grant_type=x&grant_type=x", b"a=\xff", b"a=%FF", b""):
        got = await alice.ask("POST", path, data=body, headers=form)
        assert got.error == (400, "invalid_request")
    got = await alice.ask("POST", path, json={"token": "a"}, headers=alice.basic())
    assert got.error == (400, "invalid_request")
    assert (await alice.ask("GET", path)).status == 405


# -- revocation -----------------------------------------------------------------------------------


async def test_revoking_a_refresh_token_ends_the_family(party: StartParty) -> None:
    """RFC 7009 section 2.1."""
    alice = await party()
    first = await alice.tokens()
    second = (await alice.refresh(first["refresh_token"])).json
    assert (await alice.revoke(second["refresh_token"])).status == 200
    assert alice.idp.verify(first["access_token"]).verdict == "revoked"
    assert alice.idp.verify(second["access_token"]).verdict == "revoked"
    assert (await alice.refresh(second["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.stats.refresh_reuses == 0
    assert alice.idp.stats.revocations == 1


async def test_a_provider_may_leave_access_tokens_to_be_revoked_by_name(party: StartParty) -> None:
    alice = await party(revocation_cascade=False)
    tokens = await alice.tokens()
    await alice.revoke(tokens["refresh_token"])
    assert (await alice.refresh(tokens["refresh_token"])).error == (400, "invalid_grant")
    assert alice.idp.verify(tokens["access_token"]).is_live
    await alice.revoke(tokens["access_token"])
    assert alice.idp.verify(tokens["access_token"]).verdict == "revoked"


async def test_revoking_an_access_token_ends_that_one(party: StartParty) -> None:
    alice = await party()
    tokens = await alice.tokens()
    await alice.revoke(tokens["access_token"])
    assert alice.idp.verify(tokens["access_token"]).verdict == "revoked"
    assert (await alice.refresh(tokens["refresh_token"])).status == 200


async def test_revoking_what_is_unknown_is_no_error(party: StartParty) -> None:
    """RFC 7009 section 2.2."""
    alice = await party()
    assert (await alice.revoke("made-up")).status == 200
    assert alice.idp.stats.revocations == 0


async def test_nobody_revokes_a_token_of_another_client(party: StartParty) -> None:
    """RFC 7009 section 2.1."""
    alice = await party(clients=[OTHER])
    tokens = await alice.tokens()
    for name in ("access_token", "refresh_token"):
        data: dict[str, str | None] = {"token": tokens[name]}
        got = await alice.post("/revoke", data, headers=alice.basic("other", "another"))
        assert got.error == (400, "invalid_grant")
    got = await alice.post("/revoke", {"token": tokens["access_token"]}, headers={})
    assert got.error == (401, "invalid_client")
    assert alice.idp.verify(tokens["access_token"]).is_live


# -- introspection and userinfo -------------------------------------------------------------------


async def test_introspection_tells_of_live_tokens(party: StartParty, clock: Clock) -> None:
    """RFC 7662 section 2.2; of tokens that are not live it tells that alone."""
    alice = await party(clients=[OTHER])
    tokens = await alice.tokens()
    now = int(clock())
    about = await alice.introspect(tokens["access_token"])
    assert about == {
        "active": True,
        "token_type": "Bearer",
        "iss": alice.idp.issuer,
        "aud": "urn:rehearsal:api",
        "sub": "alice",
        "username": "alice",
        "client_id": "app",
        "scope": "openid profile offline_access",
        "iat": now,
        "exp": now + 30,
    }
    about = await alice.introspect(tokens["refresh_token"])
    assert (about["active"], about["exp"]) == (True, now + 3600)
    clock.advance(30)
    dead = {"active": False}
    assert await alice.introspect(tokens["access_token"]) == dead
    assert await alice.introspect("made-up") == dead
    await alice.refresh(tokens["refresh_token"])
    assert await alice.introspect(tokens["refresh_token"]) == dead
    assert alice.idp.stats.introspections == 5


async def test_introspection_is_not_for_everybody(party: StartParty) -> None:
    """RFC 7662 section 2.1; another client's refresh token is nobody's business."""
    public = RegisteredClient(client_id="public", client_secret="")
    alice = await party(clients=[OTHER, public])
    tokens = await alice.tokens()
    for form in ({}, {"client_id": "public"}, {"client_id": "app"}):
        got = await alice.post("/introspect", {"token": tokens["access_token"], **form}, headers={})
        assert got.error == (401, "invalid_client")
    as_other = alice.basic("other", "another")
    for name, active in (("access_token", True), ("refresh_token", False)):
        got = await alice.post("/introspect", {"token": tokens[name]}, headers=as_other)
        assert got.json["active"] is active


async def test_userinfo_tells_what_the_scope_allows(party: StartParty) -> None:
    """OpenID Connect Core section 5.3, RFC 6750 section 3."""
    alice = await party()
    tokens = await alice.tokens(scope="openid email offline_access")

    async def ask(token: str | None) -> tuple[int, object]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        got = await alice.ask("GET", "/userinfo", headers=headers)
        return got.status, got.json or got.headers["WWW-Authenticate"]

    assert await ask(tokens["access_token"]) == (
        200,
        {"sub": "alice", "email": "alice@example.com", "email_verified": True},
    )
    assert await ask(None) == (401, 'Bearer realm="rehearsal"')
    assert await ask("made-up") == (401, 'Bearer realm="rehearsal", error="invalid_token"')
    narrow = (await alice.refresh(tokens["refresh_token"], scope="email")).json
    assert await ask(narrow["access_token"]) == (
        403,
        'Bearer realm="rehearsal", error="insufficient_scope"',
    )
    await alice.revoke(tokens["access_token"])
    status, _ = await ask(tokens["access_token"])
    assert status == 401


async def test_verify_tells_a_resource_server(party: StartParty, clock: Clock) -> None:
    """Live with its facts; else expired, revoked or unknown, and nothing more."""
    alice = await party()
    token = (await alice.tokens())["access_token"]
    now = int(clock())
    checked = alice.idp.verify(token)
    assert checked.is_live
    assert (checked.subject, checked.client_id) == ("alice", "app")
    assert (checked.issued, checked.expires) == (now, now + 30)
    clock.advance(29)
    assert alice.idp.verify(token).is_live
    clock.advance(1)
    expired = alice.idp.verify(token)
    assert (expired.verdict, expired.is_live, expired.subject) == ("expired", False, None)
    assert alice.idp.verify("made-up").verdict == "unknown"
    stats = alice.idp.stats
    assert (stats.checks_live, stats.checks_expired, stats.checks_unknown) == (2, 1, 1)


async def test_nothing_secret_is_in_errors_or_reprs(
    party: StartParty, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await party()
    code = (await alice.log_in())["code"]
    tokens = (await alice.exchange(code)).json
    secrets = [code, VERIFIER, tokens["refresh_token"], tokens["access_token"], "rehearsal-only"]
    answers = [
        await alice.exchange(code),
        await alice.refresh(tokens["refresh_token"]),
        await alice.ask("GET", "/_rehearsal"),
        await alice.ask("GET", f"/end_session?id_token_hint={tokens['access_token']}"),
        await alice.control(outage=tokens["access_token"]),
    ]
    shown = [one.text for one in answers]
    shown += [repr(alice.idp.options), repr(alice.idp.verify(tokens["access_token"])), caplog.text]
    for text in shown:
        assert [one for one in secrets if one in text] == []
