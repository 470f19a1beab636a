"""The 18 cases, in a real browser: Next.js and next-auth 5 behind the sidecar.

Each test runs on two apps. `route-handler` is the usual solution, unchanged but for the API's
address; `clean` has no code for logging out at all. Users log in through the app's own form; a case
begins when the API no longer accepts their token.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.e2e.api import Api
from tests.e2e.browser import (
    CHANGED,
    EXPIRED,
    LOGIN_OR_FAULT,
    NewUser,
    User,
    chain,
    is_logout_by_ticket,
    on,
    refusal,
)
from tests.e2e.servers import Variant

pytestmark = pytest.mark.asyncio(loop_scope="session")

APPS = ("route-handler", "clean")


on_both = on(*(Variant(app) for app in APPS))
on_both_holding = on(*(Variant(app, hold="2s") for app in APPS))
on_both_with_tls = on(*(Variant(app, tls=True) for app in APPS))
on_both_with_big_headers = on(*(Variant(app, big_headers=True) for app in APPS))
on_both_with_relay = on(*(Variant(app, relay=True) for app in APPS))

# -- 1 to 8: the API has begun to answer 401 ------------------------------------------------------


@on_both
async def test_case_01_reload_of_a_server_rendered_page(user: User) -> None:
    """The document itself becomes the redirect to the logout, though its code touches no cookie."""
    user.expire()
    steps = await user.reload()
    assert is_logout_by_ticket(steps[0])
    assert steps[1:] == [(303, "/login"), (200, "/login")]
    assert [call.status for call in user.calls] == [200, 401]
    await user.is_logged_out()
    assert len(user.calls) == 2


@on_both_holding
async def test_case_02_soft_navigation_with_hold(user: User) -> None:
    """A click on a <Link> lands on the login at once."""
    user.expire()
    await user.page.get_by_role("link", name="Items").click()
    await user.is_at_login()
    await user.is_logged_out()


@on_both
async def test_case_02_soft_navigation(user: User) -> None:
    """Without `bridge.hold`, the next navigation lands on the login at the latest."""
    user.expire()
    await user.page.get_by_role("link", name="Items").click()
    await expect(user.page.locator(LOGIN_OR_FAULT).first).to_be_visible()
    await user.open("/items")
    await user.is_at_login()
    await user.is_logged_out()


@pytest.mark.parametrize("path", ["/suspense", "/loading"])
@on_both
async def test_case_03_page_that_streams(user: User, path: str) -> None:
    """Where the head has left before the API's 401 came, the next document is the login."""
    user.expire()
    steps = await user.open(path)
    assert steps[-1][0] == 200
    await expect(user.page.locator(LOGIN_OR_FAULT).first).to_be_visible()
    await user.open(path)
    await user.is_at_login()
    await user.is_logged_out()


@pytest.mark.parametrize("path", ["/suspense", "/loading"])
@on_both
async def test_case_03_page_that_streams_without_scripts(new_user: NewUser, path: str) -> None:
    """The same in a browser that runs no scripts."""
    user = await new_user()
    await user.log_in()
    plain = await user.twin(java_script_enabled=False)
    user.expire()
    await plain.open(path)
    await expect(plain.page.locator(LOGIN_OR_FAULT).first).to_be_visible()
    await plain.open("/items")
    await plain.is_logged_out()


@on_both
async def test_case_04_client_fetch_get(user: User) -> None:
    """A page script gets JSON with the way to the login, and the cookies are gone."""
    await user.open("/client")
    user.expire()
    await user.press("Get")
    assert refusal(await user.result()) == EXPIRED
    assert user.path == "/client"
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_case_05_client_fetch_post(user: User) -> None:
    """The same for a POST, which the API is asked once."""
    await user.open("/client")
    user.expire()
    before = len(user.calls)
    await user.press("Post")
    assert refusal(await user.result()) == EXPIRED
    assert [call.method for call in user.calls[before:]] == ["POST"]
    assert user.path == "/client"
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_case_06_client_fetch_gets_the_token(user: User) -> None:
    """A page script's call has the token, and the API sees no session cookie."""
    await user.open("/client")
    await user.press("Get")
    assert await user.result() == {
        "isError": False,
        "message": None,
        "data": {"name": user.name},
        "status": 200,
        "errorData": None,
    }
    await user.press("Post")
    await user.until(lambda: user.calls[-1].method == "POST", "the call")
    assert user.calls[-1].status == 200
    assert all("session-token" not in call.cookie for call in user.calls)


@on(Variant("route-handler"))
async def test_case_06_client_fetch_through_a_rewrite(user: User) -> None:
    """A rewrite of Next.js to the sidecar's address carries the token, and a 401 as JSON."""
    await user.open("/client")
    before = len(user.calls)
    await user.press("Rewritten")
    assert (await user.result())["data"] == {"name": user.name}
    assert [call.path for call in user.calls[before:]] == ["/me"]
    user.expire()
    await user.press("Rewritten")
    assert refusal(await user.result()) == EXPIRED
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_case_07_server_action(user: User) -> None:
    """A server action that meets a 401 ends the session."""
    await user.open("/form")
    user.expire()
    await user.page.get_by_placeholder("Text").fill("a long text")
    await user.press("Add")
    await user.until(lambda: user.calls[-1].method == "POST", "the call")
    await expect(
        user.page.locator("h1:has-text('Login'), #result:not(:empty)").first
    ).to_be_visible()
    assert user.calls[-1].status == 401
    asked = len(user.calls)
    await user.is_logged_out()
    assert len(user.calls) == asked  # the dead session's token is never used again


@on_both
async def test_case_08_try_and_catch_round_the_call(user: User) -> None:
    """What the page's code does with the error does not matter: the document becomes the logout."""
    await user.open("/guarded")
    await expect(user.page.locator("#result")).to_have_text(f"Hello {user.name}")
    user.expire()
    steps = await user.open("/guarded")
    assert is_logout_by_ticket(steps[0])
    await user.is_at_login()
    await user.is_logged_out()


# -- 9 and 10: requests that nobody asked for -----------------------------------------------------


@on_both
async def test_case_09_visible_link_to_the_logout(user: User) -> None:
    """Its prefetch does nothing; a click on it logs out."""
    await user.open("/logout-link")
    await user.until(lambda: bool(user.prefetched("/api/logout")), "the prefetch")
    assert {answer.status for answer in user.answered("/api/logout")} == {405}
    assert await user.cookie_names() == {"authjs.session-token"}
    await user.is_logged_in()

    await user.open("/logout-link")
    await user.page.get_by_role("link", name="Log out").click()
    await user.is_at_login()
    await user.is_logged_out()


@on_both
async def test_case_10_prefetch_makes_no_call(user: User) -> None:
    """The router's ordinary prefetch of a page with a valid session never reaches the API."""
    await user.until(lambda: bool(user.prefetched("/items")), "the prefetch")
    await user.until(lambda: bool(user.prefetched("/loading")), "the prefetch")
    assert {call.path for call in user.calls} == {"/me"}


@on(*(Variant(app, hold=hold) for app in APPS for hold in ("0s", "2s")))
async def test_case_10_prefetch_of_a_page_with_an_expired_token(user: User) -> None:
    """Even a full prefetch, which looks just like a navigation, changes nothing in the browser."""
    user.expire()
    await user.open("/prefetch")
    await user.until(lambda: bool(user.routed("/items")), "the full prefetch")
    assert user.path == "/prefetch"
    assert await user.cookie_names() == {"authjs.session-token"}

    await user.page.get_by_role("link", name="Items").click()
    await expect(user.page.locator(LOGIN_OR_FAULT).first).to_be_visible()
    await user.open("/items")
    await user.is_logged_out()


# -- 11 to 14: the cookie -------------------------------------------------------------------------


@on_both
async def test_case_11_session_in_chunks(new_user: NewUser) -> None:
    """A session in two cookies: both go."""
    user = await new_user("big")
    await user.log_in()
    assert await user.cookie_names() == {"authjs.session-token.0", "authjs.session-token.1"}
    await user.open("/client")
    await user.press("Get")
    assert (await user.result())["data"] == {"name": user.name}
    user.expire()
    await user.press("Get")
    await user.until(lambda: user.calls[-1].status == 401, "the call")
    assert refusal(await user.result()) == EXPIRED
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_case_12_login_page_that_redirects_signed_in_users(new_user: NewUser) -> None:
    """Chunks go by a document as well, so a login that redirects signed-in users never loops."""
    user = await new_user("big")
    await user.log_in()
    await user.open("/login")
    assert user.path == "/dashboard"
    user.expire()
    steps = await user.reload()
    assert [status for status, _ in steps] == [303, 303, 200]
    await user.is_logged_out()


@on_both_with_tls
async def test_case_13_secure_cookie_name(user: User) -> None:
    """Behind https the cookie's name has a prefix: it is found, used and expired."""
    assert await user.cookie_names() == {"__Secure-authjs.session-token"}
    await user.open("/client")
    await user.press("Get")
    assert (await user.result())["data"] == {"name": user.name}
    user.expire()
    steps = await user.open("/dashboard")
    assert is_logout_by_ticket(steps[0])
    assert [status for status, _ in steps] == [303, 303, 200]
    await user.is_logged_out()


@on_both_with_big_headers
async def test_case_14_cookies_of_16_kib(new_user: NewUser) -> None:
    """Five chunks work, where Node.js was told to take them, and all of them go."""
    user = await new_user("huge")
    await user.log_in()
    assert await user.cookie_names() == {f"authjs.session-token.{n}" for n in range(5)}
    assert sum(len(cookie["value"]) for cookie in await user.cookies()) > 16 * 1024
    await user.open("/client")
    await user.press("Get")
    assert (await user.result())["data"] == {"name": user.name}
    user.expire()
    steps = await user.open("/dashboard")
    assert [status for status, _ in steps] == [303, 303, 200]
    await user.is_logged_out()


@on_both
async def test_case_14_cookies_that_the_frontend_does_not_take(new_user: NewUser) -> None:
    """Where Node.js has its own limit (16 KiB), page scripts still work, and there is a way out."""
    user = await new_user("huge")
    await user.open("/login")
    await user.fill_in()
    await user.has_cookies(5)
    user.page = await user.context.new_page()  # the other is on its way to what it will not get
    assert (await user.open("/dashboard"))[-1][0] == 431
    await user.press("Remove the cookies")
    await user.is_at_login()
    await user.is_logged_out()


@on_both
async def test_case_14_cookies_that_nobody_takes(user: User) -> None:
    """The same above the sidecar's own limit (64 KiB), whatever these cookies are."""
    for number in range(20):
        junk = f"junk-{number}={'x' * 4000}; Path=/"
        await user.page.evaluate("cookie => { document.cookie = cookie }", junk)
    assert (await user.open("/dashboard"))[-1][0] == 431
    await user.press("Remove the cookies")
    await user.is_at_login()
    await user.is_logged_out()
    await user.log_in()


# -- 15 to 18: sessions that must be over, or must not --------------------------------------------


@on_both
async def test_case_15_replay_of_the_old_cookie(user: User, new_user: NewUser) -> None:
    """After the app's own "Sign out", the cookie is worth nothing in another browser."""
    old = await user.cookies()
    await user.press("Sign out")
    await user.is_at_login()
    await user.is_logged_out()

    thief = await new_user()
    await thief.bring(old)
    calls = len(user.calls)
    await thief.open("/dashboard")
    await thief.is_at_login()
    await thief.bring(old)
    prefix = "/api/proxy" if user.site.app == "route-handler" else "/api"
    assert (
        refusal(await thief.page.evaluate(f"fetch('{prefix}/me').then(r => r.json())")) == EXPIRED
    )
    assert len(user.calls) == calls


@on_both
async def test_case_15_replay_after_a_401(user: User, new_user: NewUser) -> None:
    """The cookie that a 401 ended is refused without asking the API, which may change its mind."""
    old = await user.cookies()
    user.expire()
    await user.reload()
    await user.is_logged_out()
    user.api.restore(user.name)

    thief = await new_user()
    await thief.bring(old)
    calls = len(user.calls)
    await thief.open("/dashboard")
    await thief.is_at_login()
    assert len(user.calls) == calls


@on_both_with_relay
async def test_case_16_late_session_answer(user: User) -> None:
    """An /api/auth/session begun before the logout and answered after it does not revive it."""
    holder = user.site.holder
    assert holder is not None
    other = await user.context.new_page()
    with holder.holding("/api/auth/session") as let_go:
        asking = "fetch('/api/auth/session').then(() => { document.title = 'answered' })"
        await user.page.evaluate(f"void {asking}")
        await user.until(holder.held.is_set, "the answer that is held back")
        await user.open("/logout-link", other)
        await other.get_by_role("link", name="Log out").click()
        await user.is_at_login(other)
        assert await user.cookie_names() == set()
        let_go()
        await expect(user.page).to_have_title("answered")
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_case_17_link_from_another_site(user: User, the_api: Api) -> None:
    """A link to the logout on another site asks first; yes means yes."""
    elsewhere = f"http://localhost:{the_api.port}/elsewhere?to={user.site.url}/api/logout"
    await user.page.goto(elsewhere)
    await user.page.get_by_role("link", name="Win a prize").click()
    await expect(user.page.get_by_role("button", name="Log out")).to_be_visible()
    assert user.path == "/api/logout"
    assert await user.cookie_names() == {"authjs.session-token"}
    await user.is_logged_in()

    await user.page.goto(elsewhere)
    await user.page.get_by_role("link", name="Win a prize").click()
    await user.press("Log out")
    await user.is_at_login()
    await user.is_logged_out()


@on(Variant("clean"))
async def test_case_18_no_page_script_can_read_the_token(user: User) -> None:
    """Neither /api/auth/session, nor a page, nor an answer of the API holds the token."""
    (token,) = user.api.tokens_of(user.name)
    for path in ("/api/auth/session", "/dashboard", "/api/me"):
        text: str = await user.page.evaluate(f"fetch('{path}').then(r => r.text())")
        assert user.name in text
        assert token not in text
    assert all(cookie["httpOnly"] for cookie in await user.cookies())


@on(Variant("route-handler"))
async def test_case_18_what_the_app_exposes_dies_with_the_session(user: User) -> None:
    """An app that exposes the token by its own session callback does so no longer than it lives."""
    (token,) = user.api.tokens_of(user.name)
    ask = "fetch('/api/auth/session').then(r => r.json())"
    assert (await user.page.evaluate(ask))["accessToken"] == token
    old = await user.cookies()
    await user.press("Sign out")
    await user.is_at_login()
    await user.is_logged_out()
    await user.bring(old)
    assert await user.page.evaluate(ask) is None


# -- besides --------------------------------------------------------------------------------------


@on_both
async def test_wrong_password(new_user: NewUser) -> None:
    """A 401 of the login is no logout: the form says so, and the right one works after it."""
    user = await new_user()
    await user.open("/login")
    await user.fill_in(password="wrong")
    await expect(user.page.locator("p[role=alert]")).to_have_text("Wrong name or password")
    assert await user.cookie_names() == set()
    await user.fill_in()
    await expect(user.page.locator("#me")).to_have_text(user.name)
    await user.is_logged_in()


@on_both
async def test_two_tabs(user: User) -> None:
    """What ends in one tab has ended in the other; a login in one is one in the other."""
    other = await user.context.new_page()
    await user.open("/client", other)
    user.expire()
    await user.reload()
    await user.is_at_login()
    await user.press("Get", other)
    assert refusal(await user.result(other)) == EXPIRED

    await user.log_in()
    await user.press("Get", other)
    await expect(other.locator("#result")).to_contain_text(user.name)
    assert (await user.result(other))["data"] == {"name": user.name}


@on_both
async def test_back_button_after_logout(user: User) -> None:
    """It does not show what only the user may see."""
    await user.open("/client")
    await user.open("/dashboard")
    await expect(user.page.locator("#me")).to_have_text(user.name)
    await user.press("Sign out")
    await user.is_at_login()
    await user.page.go_back()
    await user.is_at_login()
    await expect(user.page.locator("#me")).to_have_count(0)


@on_both
async def test_login_right_after_a_stale_401(user: User) -> None:
    """A slow call of the old session that is answered 401 after a new login ends nothing."""
    prefix = "/api/proxy" if user.site.app == "route-handler" else "/api"
    other = await user.context.new_page()
    with user.api.gate(user.name, "/slow") as gate:
        shown = "document.body.append(Object.assign(document.createElement('pre'), "
        shown += "{id: 'result', textContent: JSON.stringify(json)}))"
        ask = f"void fetch('{prefix}/slow').then(r => r.json()).then(json => {shown})"
        await user.page.evaluate(ask)
        await user.until(gate.arrived.is_set, "the slow call")
        user.expire()
        await user.open("/dashboard", other)
        await user.is_at_login(other)
        await user.fill_in(other)
        await expect(other.locator("#me")).to_have_text(user.name)
        gate.open.set()
        assert refusal(await user.result()) == CHANGED
    assert await user.cookie_names() == {"authjs.session-token"}
    await user.is_logged_in()


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@on_both
async def test_expired_session_during_a_file_upload(
    user: User, reads: bool, tmp_path: Path
) -> None:
    """The script gets JSON, whether the API reads the file before its 401 or nothing of it."""
    await user.open("/upload")
    file = tmp_path / "film.bin"
    file.write_bytes(bytes(20 << 20))
    await user.page.locator("input[type=file]").set_input_files(file)
    await user.press("Send")
    assert (await user.result())["data"]["size"] > 20 << 20
    with user.api.gate(user.name, "/upload", reads=reads) as gate:
        await user.press("Send")
        await user.until(gate.arrived.is_set, "the upload")
        user.expire()
        gate.open.set()
        await user.until(lambda: user.calls[-1].status == 401, "the 401")
        assert refusal(await user.result()) == EXPIRED
    assert await user.cookie_names() == set()
    assert len(user.api.uploads_of(user.name)) == 1
    await user.is_logged_out()


@on_both
async def test_event_stream_at_expiry(user: User) -> None:
    """It runs while the session lives, ends with it, and its browser does not try for ever."""
    await user.open("/events")
    await expect(user.page.locator("#last")).to_have_text(re.compile(r"[3-9]|\d\d+"))
    user.expire()
    other = await user.context.new_page()
    await user.open("/dashboard", other)
    await user.is_at_login(other)
    await expect(user.page.locator("#state")).to_have_text("closed")
    assert await user.cookie_names() == set()
    await user.is_logged_out()


@on_both
async def test_websocket_at_expiry(user: User) -> None:
    """It is closed for policy (1008) when its session ends, and no other can be opened."""
    await user.open("/socket")
    await expect(user.page.locator("#last")).to_have_text(f"Hello {user.name}")
    user.expire()
    other = await user.context.new_page()
    await user.open("/dashboard", other)
    await user.is_at_login(other)
    await expect(user.page.locator("#state")).to_have_text("closed 1008")
    calls = len(user.calls)
    await user.page.reload()
    await expect(user.page.locator("#state")).to_have_text("closed 1006")
    assert len(user.calls) == calls
    await user.is_logged_out()


@on_both
async def test_event_stream_and_websocket_cannot_be_opened_after_expiry(user: User) -> None:
    """Their handshakes get the API's 401 as what they can read: a stream that is closed at once."""
    await user.open("/client")
    user.expire()
    prefix = "/api/proxy" if user.site.app == "route-handler" else "/api"
    closed = "new Promise(done => { const s = new WebSocket(location.origin.replace('http', 'ws')"
    closed += f" + '{prefix}/socket'); s.onclose = e => done(e.code) }})"
    assert await user.page.evaluate(closed) == 1006
    stream = f"new Promise(done => {{ const s = new EventSource('{prefix}/events');"
    stream += "s.onerror = () => done(s.readyState) })"
    assert await user.page.evaluate(stream) == 2
    await user.is_logged_out()


@on_both
async def test_chain_of_a_valid_page_is_one_answer(user: User) -> None:
    """While the session lives, a page is one request: no redirect, no second call."""
    calls = len(user.calls)
    response = await user.page.reload()
    assert await chain(response) == [(200, "/dashboard")]
    assert [call.path for call in user.calls[calls:]] == ["/me"]
