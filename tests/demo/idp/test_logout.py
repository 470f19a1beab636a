"""Signing out: by the client's request, by the person's word, and over the back channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlencode

import pytest
from aiohttp import web

from sidecar.demo.idp import RegisteredClient
from sidecar.demo.idp.tokens import LOGOUT_EVENT
from tests.demo.idp.party import BYE, CALLBACK, Clock, Got, Party, StartParty


async def end_session(alice: Party, **parameters: str) -> Got:
    return await alice.ask("GET", f"/end_session?{urlencode(parameters)}")


async def is_signed_in(alice: Party) -> bool:
    return "code" in (await alice.authorize(prompt="none")).location


class Receiver:
    """A client's back-channel endpoint that keeps what it is sent."""

    def __init__(self) -> None:
        self.status = 200
        self.forms: list[dict[str, str]] = []
        self.uri = ""

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        self.forms.append({str(k): str(v) for k, v in (await request.post()).items()})
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})

    async def wander(self, _: web.Request) -> web.Response:
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/logout", receiver.take)
    application.router.add_get("/elsewhere", receiver.wander)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.uri = f"http://127.0.0.1:{runner.addresses[0][1]}/logout"
    yield receiver
    await runner.cleanup()


# -- RP-initiated ---------------------------------------------------------------------------------


async def test_a_client_ends_the_session_and_gets_its_browser_back(party: StartParty) -> None:
    """RP-Initiated Logout section 3: to the registered URI, with the state."""
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    assert await is_signed_in(alice)
    got = await end_session(
        alice, id_token_hint=hint, post_logout_redirect_uri=BYE, state="a state"
    )
    assert (got.status, got.headers["Location"]) == (303, f"{BYE}?state=a+state")
    assert 'rehearsal_idp_session=""' in got.headers["Set-Cookie"]
    assert not await is_signed_in(alice)
    assert alice.idp.stats.sessions_ended == 1


async def test_the_old_cookie_is_worth_nothing(party: StartParty) -> None:
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    cookie = next(one for one in alice.http.cookie_jar if one.key == "rehearsal_idp_session")
    stolen = {"Cookie": f"{cookie.key}={cookie.value}"}
    mallory = await party(browser_of=alice)
    assert "Alice is signed in" in (await mallory.ask("GET", "/", headers=stolen)).text
    await end_session(alice, id_token_hint=hint)
    assert "Nobody is signed in" in (await mallory.ask("GET", "/", headers=stolen)).text


async def test_an_expired_id_token_will_do(party: StartParty, clock: Clock) -> None:
    """RP-Initiated Logout section 4; and so will one that an older key has signed."""
    alice = await party(key_overlap=0)
    hint = (await alice.tokens())["id_token"]
    clock.advance(1000)
    alice.idp.rotate_key()
    got = await end_session(alice, id_token_hint=hint, post_logout_redirect_uri=BYE)
    assert (got.status, got.headers["Location"]) == (303, BYE)


async def test_a_logout_can_be_posted(party: StartParty) -> None:
    alice = await party()
    data = {"id_token_hint": (await alice.tokens())["id_token"], "client_id": "app"}
    got = await alice.ask("POST", "/end_session", data=data)
    assert "You are signed out" in got.text
    assert not await is_signed_in(alice)


async def test_a_head_request_ends_nothing(party: StartParty) -> None:
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    assert (await alice.ask("HEAD", f"/end_session?id_token_hint={hint}")).status == 405
    assert await is_signed_in(alice)


@pytest.mark.parametrize("uri", [f"{BYE}/", "https://evil.example/", CALLBACK, f"{BYE}?x=1"])
async def test_an_unregistered_uri_is_never_redirected_to(party: StartParty, uri: str) -> None:
    """RP-Initiated Logout section 3; nothing is ended either."""
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    got = await end_session(alice, id_token_hint=hint, post_logout_redirect_uri=uri)
    assert (got.status, "Location" in got.headers) == (400, False)
    assert await is_signed_in(alice)


async def test_a_registered_uri_needs_a_known_client(party: StartParty) -> None:
    other = RegisteredClient(
        client_id="other", post_logout_redirect_uris=("http://127.0.0.1:9/other",)
    )
    alice = await party(clients=[other])
    hint = (await alice.tokens())["id_token"]
    assert (await end_session(alice, post_logout_redirect_uri=BYE)).status == 400
    mixed = {"post_logout_redirect_uri": "http://127.0.0.1:9/other"}
    assert (await end_session(alice, id_token_hint=hint, **mixed)).status == 400
    assert (await end_session(alice, id_token_hint=hint, client_id="other")).status == 400
    assert (await end_session(alice, client_id="stranger")).status == 400
    assert await is_signed_in(alice)


async def test_a_hint_must_be_an_id_token_of_ours(party: StartParty) -> None:
    alice, elsewhere = await party(), await party()
    tokens = await alice.tokens()
    foreign = (await elsewhere.tokens())["id_token"]
    head, payload, signature = tokens["id_token"].split(".")
    forged = f"{head}.{payload}.{'A' * len(signature)}"
    for hint in (foreign, forged, tokens["access_token"], "made-up", "a.b.c"):
        assert (await end_session(alice, id_token_hint=hint)).status == 400
    assert await is_signed_in(alice)


async def test_without_a_hint_the_person_is_asked(party: StartParty) -> None:
    """RP-Initiated Logout section 2: a link elsewhere must not sign anybody out."""
    alice = await party()
    await alice.log_in()
    page = await end_session(alice, client_id="app", post_logout_redirect_uri=BYE)
    assert "Sign out?" in page.text
    assert await is_signed_in(alice)
    got = await alice.answer(page, "/end_session/confirm", confirm="yes")
    assert (got.status, got.headers["Location"]) == (303, BYE)
    assert not await is_signed_in(alice)


async def test_a_confirmation_belongs_to_its_browser(party: StartParty) -> None:
    mallory = await party()
    victim = await party(browser_of=mallory)
    await mallory.log_in("bob")
    await victim.log_in("alice")
    page = await end_session(mallory)
    assert (await victim.answer(page, "/end_session/confirm", confirm="yes")).status == 400
    assert await is_signed_in(victim)


async def test_a_form_of_one_kind_is_none_of_the_other(party: StartParty) -> None:
    alice = await party()
    asked = await alice.authorize()
    assert (await alice.answer(asked, "/end_session/confirm", confirm="yes")).status == 400
    await alice.log_in()
    asked = await end_session(alice)
    assert (await alice.answer(asked, "/sign-in", user="bob")).status == 400
    assert await is_signed_in(alice)


async def test_a_hint_of_another_session_asks_first(party: StartParty) -> None:
    """An old id_token does not end a newer session unasked."""
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    await end_session(alice, id_token_hint=hint)
    await alice.log_in("bob")
    page = await end_session(alice, id_token_hint=hint, post_logout_redirect_uri=BYE)
    assert "Bob" in page.text
    assert await is_signed_in(alice)


async def test_a_hint_ends_its_session_where_the_browser_presents_none(party: StartParty) -> None:
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    script = await party(browser_of=alice)
    assert (await end_session(script, id_token_hint=hint)).status == 200
    assert not await is_signed_in(alice)


async def test_signing_out_twice_works(party: StartParty) -> None:
    alice = await party()
    hint = (await alice.tokens())["id_token"]
    asked = {"id_token_hint": hint, "post_logout_redirect_uri": BYE}
    assert [(await end_session(alice, **asked)).status for _ in range(2)] == [303, 303]
    assert "You are signed out" in (await end_session(alice)).text
    assert alice.idp.stats.sessions_ended == 1


async def test_grants_end_with_the_session_but_for_offline_access(party: StartParty) -> None:
    """Back-Channel Logout section 2.7."""
    alice = await party()
    online = await alice.tokens(scope="openid", prompt=None)
    offline = await alice.tokens()
    code = (await alice.log_in(scope="openid", prompt=None))["code"]
    await end_session(alice, id_token_hint=offline["id_token"])
    assert alice.idp.verify(online["access_token"]).verdict == "revoked"
    assert (await alice.exchange(code)).error == (400, "invalid_grant")
    assert alice.idp.verify(offline["access_token"]).is_live
    assert (await alice.refresh(offline["refresh_token"])).status == 200


async def test_a_logout_leaves_other_browsers_alone(party: StartParty) -> None:
    alice = await party()
    phone = await party(browser_of=alice)
    here = await alice.tokens(scope="openid", prompt=None)
    there = await phone.tokens(scope="openid", prompt=None)
    await end_session(alice, id_token_hint=here["id_token"])
    assert alice.idp.verify(here["access_token"]).verdict == "revoked"
    assert alice.idp.verify(there["access_token"]).is_live
    assert await is_signed_in(phone)


# -- back channel ---------------------------------------------------------------------------------


async def test_a_logout_token_is_sent(party: StartParty, receiver: Receiver, clock: Clock) -> None:
    """Back-Channel Logout sections 2.4 and 2.5, to the clients of that session."""
    idle = RegisteredClient(client_id="idle", backchannel_logout_uri=receiver.uri)
    alice = await party(backchannel_logout_uri=receiver.uri, clients=[idle])
    id_token = (await alice.tokens())["id_token"]
    await end_session(alice, id_token_hint=id_token)
    assert [list(form) for form in receiver.forms] == [["logout_token"]]
    token = receiver.forms[0]["logout_token"]
    claims = await alice.claims(token, "logout+jwt")
    assert claims.pop("jti")
    now = int(clock())
    assert claims == {
        "iss": alice.idp.issuer,
        "sub": "alice",
        "aud": "app",
        "iat": now,
        "exp": now + 120,
        "sid": (await alice.claims(id_token, "JWT"))["sid"],
        "events": {LOGOUT_EVENT: {}},
    }
    assert "nonce" not in claims
    assert LOGOUT_EVENT == "http://schemas.openid.net/event/backchannel-logout"
    assert alice.idp.stats.back_channel_delivered == 1
    # It proves nothing else: a logout token is no hint.
    assert (await end_session(alice, id_token_hint=token)).status == 400


@pytest.mark.parametrize(
    ("status", "delivered"), [(200, 1), (204, 1), (303, 0), (400, 0), (500, 0)]
)
async def test_what_became_of_a_logout_token_is_counted(
    party: StartParty, receiver: Receiver, status: int, delivered: int
) -> None:
    """Back-Channel Logout section 2.8; redirects are not followed."""
    receiver.status = status
    alice = await party(backchannel_logout_uri=receiver.uri)
    hint = (await alice.tokens())["id_token"]
    assert (await end_session(alice, id_token_hint=hint)).status == 200
    stats = alice.idp.stats
    assert len(receiver.forms) == 1
    assert (stats.back_channel_delivered, stats.back_channel_failed) == (delivered, 1 - delivered)


async def test_a_client_that_cannot_be_reached_does_not_hold_the_logout_up(
    party: StartParty,
) -> None:
    alice = await party(backchannel_logout_uri="http://127.0.0.1:9/nobody")
    hint = (await alice.tokens())["id_token"]
    assert (await end_session(alice, id_token_hint=hint)).status == 200
    assert not await is_signed_in(alice)
    assert alice.idp.stats.back_channel_failed == 1


EndSessions = Callable[[Party, str], Awaitable[object]]


async def by_method(alice: Party, subject: str) -> None:
    await alice.idp.end_sessions(subject)


async def by_control(alice: Party, subject: str) -> None:
    assert (await alice.control(end_sessions=subject)).status == 200


@pytest.mark.parametrize("end", [by_method, by_control])
async def test_an_operator_ends_the_sessions_of_a_user(
    party: StartParty, receiver: Receiver, end: EndSessions
) -> None:
    """In every browser, and of that user alone; `*` is everybody."""
    alice = await party(backchannel_logout_uri=receiver.uri)
    phone, bob = await party(browser_of=alice), await party(browser_of=alice)
    for one, user in ((alice, "alice"), (phone, "alice"), (bob, "bob")):
        await one.tokens(user)
    await end(alice, "alice")
    assert [await is_signed_in(one) for one in (alice, phone, bob)] == [False, False, True]
    sent = [await alice.claims(form["logout_token"], "logout+jwt") for form in receiver.forms]
    assert [one["sub"] for one in sent] == ["alice", "alice"]
    assert len({one["sid"] for one in sent}) == 2
    assert len({one["jti"] for one in sent}) == 2
    await end(alice, "*")
    assert not await is_signed_in(bob)
    assert len(receiver.forms) == 3


async def test_a_session_that_time_has_ended_is_not_ended_again(
    party: StartParty, receiver: Receiver, clock: Clock
) -> None:
    """Neither by an operator nor by a hint: nobody is told twice."""
    alice = await party(backchannel_logout_uri=receiver.uri, session_lifetime=100)
    hint = (await alice.tokens())["id_token"]
    clock.advance(100)
    await alice.idp.end_sessions("alice")
    assert (await end_session(alice, id_token_hint=hint)).status == 200
    assert receiver.forms == []
    assert alice.idp.stats.sessions_ended == 0


async def test_another_user_ends_the_session_of_the_one_before(
    party: StartParty, receiver: Receiver
) -> None:
    alice = await party(backchannel_logout_uri=receiver.uri)
    await alice.log_in()
    await alice.log_in("bob", prompt="login")
    assert len(receiver.forms) == 1
    assert (await alice.claims(receiver.forms[0]["logout_token"], "logout+jwt"))["sub"] == "alice"


# -- front channel --------------------------------------------------------------------------------


async def test_the_clients_logout_page_is_framed(party: StartParty) -> None:
    """Front-Channel Logout section 3: with issuer and `sid`; then the browser goes on."""
    uri = "http://127.0.0.1:9/front?x=1"
    alice = await party(frontchannel_logout_uri=uri)
    id_token = (await alice.tokens())["id_token"]
    sid = (await alice.claims(id_token, "JWT"))["sid"]
    got = await end_session(alice, id_token_hint=id_token, post_logout_redirect_uri=BYE)
    assert got.status == 200
    query = urlencode({"iss": alice.idp.issuer, "sid": sid}).replace("&", "&amp;")
    assert f'<iframe src="{uri}&amp;{query}">' in got.text
    assert f'<meta http-equiv="refresh" content="2; url={BYE}">' in got.text
    assert "frame-src http://127.0.0.1:9;" in got.headers["Content-Security-Policy"]
