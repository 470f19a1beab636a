"""The authorization endpoint: whom it answers, whom it asks, and where it sends the browser."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from sidecar.demo.idp import RegisteredClient
from tests.demo.idp.party import CALLBACK, Clock, StartParty, challenge_of


async def test_a_login_answers_with_code_state_and_issuer(party: StartParty) -> None:
    """RFC 6749 section 4.1.2 and RFC 9207; what the redirect URI had in its query stays."""
    alice = await party()
    page = await alice.authorize(prompt=None)
    answer = await alice.answer(page, user="alice")
    assert answer.status == 303
    assert answer.headers["Location"].startswith(f"{CALLBACK}&")
    got = answer.location
    assert set(got) == {"from", "code", "state", "iss"}
    assert got["state"] == "a state & more"
    assert got["iss"] == alice.idp.issuer
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_request_can_be_posted_too(party: StartParty) -> None:
    """OpenID Connect Core section 3.1.2.1."""
    alice = await party(sign_in_as="alice")
    data = {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "code_challenge": challenge_of("v" * 43),
        "code_challenge_method": "S256",
    }
    got = (await alice.ask("POST", "/authorize", data=data)).location
    assert "code" in got
    assert "state" not in got


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "http://127.0.0.1:9/callback",
        f"{CALLBACK}&more=1",
        f"{CALLBACK}#",
        CALLBACK.upper(),
        CALLBACK.replace("/callback", "/x/../callback"),
        "https://evil.example/",
    ],
)
async def test_an_unregistered_redirect_uri_is_never_redirected_to(
    party: StartParty, uri: str | None
) -> None:
    """RFC 6749 section 4.1.2.1, RFC 9700 section 4.1.3: compared as strings; the user is told."""
    alice = await party()
    got = await alice.authorize(redirect_uri=uri)
    assert got.status == 400
    assert "Location" not in got.headers
    assert "not registered" in got.text


async def test_an_unknown_client_is_never_redirected_to(party: StartParty) -> None:
    alice = await party()
    got = await alice.authorize(client_id="stranger")
    assert (got.status, "Location" in got.headers) == (400, False)


async def test_a_redirect_uri_of_another_client_is_not_registered(party: StartParty) -> None:
    other = RegisteredClient(client_id="other", redirect_uris=("http://127.0.0.1:9/other",))
    alice = await party(clients=[other])
    assert (await alice.authorize(redirect_uri="http://127.0.0.1:9/other")).status == 400
    assert (await alice.authorize(client_id="other")).status == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "whatever"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "nonsense"}, "invalid_scope"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "urn:x"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
    ],
)
async def test_faults_go_back_to_the_client(
    party: StartParty, changes: dict[str, str | None], error: str
) -> None:
    """RFC 6749 section 4.1.2.1; PKCE is a must (RFC 7636 section 4.4.1); `iss` here as well."""
    alice = await party()
    got = (await alice.authorize(**changes)).location
    assert got["error"] == error
    assert got["state"] == "a state & more"
    assert got["iss"] == alice.idp.issuer
    assert "code" not in got


async def test_a_repeated_parameter_is_refused_without_a_redirect(party: StartParty) -> None:
    """RFC 6749 section 3.1: which of the two would be meant?"""
    alice = await party()
    query = f"client_id=app&redirect_uri={CALLBACK.split('?')[0]}&state=1&state=2"
    got = await alice.ask("GET", f"/authorize?{query}")
    assert (got.status, "Location" in got.headers) == (400, False)


async def test_a_person_can_refuse(party: StartParty) -> None:
    alice = await party()
    got = await alice.answer(await alice.authorize(), deny="yes")
    assert got.location["error"] == "access_denied"


# -- single sign-on -------------------------------------------------------------------------------


async def test_one_login_serves_every_client(party: StartParty) -> None:
    """The second client's request is answered without a page, and by prompt=none as well."""
    uri = "http://127.0.0.1:9/other"
    alice = await party(clients=[RegisteredClient(client_id="other", redirect_uris=(uri,))])
    await alice.log_in(prompt=None)
    for prompt in (None, "none"):
        got = await alice.authorize(client_id="other", redirect_uri=uri, prompt=prompt)
        assert "code" in got.location
    assert alice.idp.stats.logins == 1


async def test_another_browser_is_not_signed_in(party: StartParty) -> None:
    alice = await party()
    await alice.log_in()
    bob = await party(browser_of=alice)
    assert (await bob.authorize(prompt="none")).location["error"] == "login_required"


async def test_prompt_login_asks_again(party: StartParty, clock: Clock) -> None:
    """And the new login's time is told, under the same `sid`."""
    alice = await party()
    first = await alice.claims((await alice.tokens())["id_token"], "JWT")
    clock.advance(50)
    page = await alice.authorize(prompt="login")
    assert "Sign in as Alice" in page.text
    code = (await alice.answer(page, user="alice")).location["code"]
    second = await alice.claims((await alice.exchange(code)).json["id_token"], "JWT")
    assert second["auth_time"] == first["auth_time"] + 50
    assert second["sid"] == first["sid"]


async def test_prompt_consent_asks_one_who_is_signed_in(party: StartParty) -> None:
    alice = await party()
    await alice.log_in()
    page = await alice.authorize(prompt="consent")
    assert "Allow" in page.text
    assert "Sign in as" not in page.text
    assert "code" in (await alice.answer(page, user="alice")).location
    assert alice.idp.stats.logins == 1


async def test_max_age_asks_again_when_the_login_is_older(party: StartParty, clock: Clock) -> None:
    """OpenID Connect Core section 3.1.2.1."""
    alice = await party()
    await alice.log_in()
    clock.advance(9)
    assert "code" in (await alice.authorize(prompt=None, max_age="10")).location
    clock.advance(1)
    assert (await alice.authorize(prompt=None, max_age="10")).status == 200
    assert (await alice.authorize(prompt="none", max_age="10")).location["error"] == (
        "login_required"
    )


async def test_the_session_ends_by_time(party: StartParty, clock: Clock) -> None:
    alice = await party(session_lifetime=100)
    await alice.log_in()
    clock.advance(99)
    assert "code" in (await alice.authorize(prompt="none")).location
    clock.advance(1)
    assert (await alice.authorize(prompt="none")).location["error"] == "login_required"


async def test_a_login_changes_the_session_cookie(party: StartParty) -> None:
    """So that a cookie that was planted before is worth nothing (session fixation)."""
    alice = await party()
    await alice.log_in()
    before = {one.key: one.value for one in alice.http.cookie_jar}
    await alice.answer(await alice.authorize(prompt="login"), user="alice")
    after = {one.key: one.value for one in alice.http.cookie_jar}
    assert before["rehearsal_idp_session"] != after["rehearsal_idp_session"]
    mallory = await party(browser_of=alice)
    stolen = {"Cookie": f"rehearsal_idp_session={before['rehearsal_idp_session']}"}
    got = await mallory.ask("GET", "/", headers=stolen)
    assert "Nobody is signed in" in got.text


async def test_cookies_are_kept_from_scripts_and_other_sites(party: StartParty) -> None:
    alice = await party()
    page = await alice.authorize()
    answer = await alice.answer(page, user="alice")
    for line in (*page.headers.getall("Set-Cookie"), *answer.headers.getall("Set-Cookie")):
        assert "HttpOnly" in line
        assert "SameSite=Lax" in line
        assert "Path=/" in line
        assert "Domain" not in line


# -- the login page -------------------------------------------------------------------------------


async def test_a_form_belongs_to_the_browser_it_was_shown_to(party: StartParty) -> None:
    """Else a page elsewhere could sign a victim in as somebody (login CSRF)."""
    mallory = await party()
    victim = await party(browser_of=mallory)
    got = await victim.answer(await mallory.authorize(), user="alice")
    assert got.status == 400
    assert "Set-Cookie" not in got.headers


async def test_a_form_can_be_sent_once(party: StartParty) -> None:
    alice = await party()
    page = await alice.authorize()
    assert (await alice.answer(page, user="alice")).status == 303
    assert (await alice.answer(page, user="alice")).status == 400


async def test_a_form_is_good_for_a_while(party: StartParty, clock: Clock) -> None:
    alice = await party()
    page = await alice.authorize()
    clock.advance(600)
    assert (await alice.answer(page, user="alice")).status == 400


async def test_several_tabs_sign_in(party: StartParty) -> None:
    """Both pages were shown before either was answered."""
    alice = await party()
    one, two = await alice.authorize(state="one"), await alice.authorize(state="two")
    assert (await alice.answer(two, user="alice")).location["state"] == "two"
    assert (await alice.answer(one, user="alice")).location["state"] == "one"


async def test_nobody_signs_in_as_one_who_is_no_user(party: StartParty) -> None:
    alice = await party()
    assert (await alice.answer(await alice.authorize(), user="eve")).status == 400
    assert alice.idp.stats.logins == 0


async def test_pages_say_what_this_is_and_cannot_be_framed(party: StartParty) -> None:
    alice = await party(client_id="<b>app")
    for got in (await alice.authorize(), await alice.ask("GET", "/")):
        assert "for demos and tests only" in got.text
        assert "frame-ancestors 'none'" in got.headers["Content-Security-Policy"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert "<b>app" not in got.text


async def test_discovery_tells_what_there_is(party: StartParty) -> None:
    """OpenID Connect Discovery section 3 and RFC 8414; every endpoint named is there."""
    alice = await party()
    told = (await alice.ask("GET", "/.well-known/openid-configuration")).json
    assert told == (await alice.ask("GET", "/.well-known/oauth-authorization-server")).json
    assert told["issuer"] == alice.idp.issuer
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert told["response_types_supported"] == ["code"]
    assert told["grant_types_supported"] == ["authorization_code", "refresh_token"]
    assert told["id_token_signing_alg_values_supported"] == ["ES256"]
    assert told["authorization_response_iss_parameter_supported"] is True
    assert told["backchannel_logout_supported"] is True
    assert told["backchannel_logout_session_supported"] is True
    endpoints = [url for name, url in told.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(endpoints) == 7
    for url in endpoints:
        assert url.startswith(f"{alice.idp.issuer}/")
        assert (await alice.ask("GET", urlsplit(url).path)).status != 404
