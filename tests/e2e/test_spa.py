"""A plain SPA behind the sidecar: static files, a script, and the API's own cookie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.e2e.api import Api
from tests.e2e.browser import CHANGED, EXPIRED, NewUser, User, on, refusal
from tests.e2e.servers import Variant

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    on(Variant("spa")),
]


async def test_wrong_password(new_user: NewUser) -> None:
    """A 401 of the login is no logout: the page says so, and the right one works after it."""
    user = await new_user()
    await user.open("/login")
    await user.fill_in(password="wrong")
    await expect(user.page.get_by_role("alert")).to_have_text("Wrong name or password")
    assert await user.cookie_names() == set()
    await user.fill_in()
    await expect(user.page.locator("#me")).to_have_text(user.name)
    assert await user.cookie_names() == {"access_token"}


async def test_case_01_reload(user: User) -> None:
    """The page's own first call tells it; the cookie is gone when it shows the login."""
    user.expire()
    await user.reload()
    await user.is_at_login()
    await user.is_logged_out()


async def test_case_04_client_fetch_get(user: User) -> None:
    """A page script gets JSON with the way to the login, and the cookie is gone."""
    user.expire()
    await user.press("Get")
    assert refusal(await user.result()) == EXPIRED
    assert user.path == "/"
    await user.is_logged_out()


async def test_case_05_client_fetch_post(user: User) -> None:
    """The same for a POST, which the API is asked once."""
    user.expire()
    before = len(user.calls)
    await user.press("Post")
    assert refusal(await user.result()) == EXPIRED
    assert [call.method for call in user.calls[before:]] == ["POST"]
    await user.is_logged_out()


async def test_case_06_client_fetch_gets_the_token(user: User) -> None:
    """The cookie becomes the bearer token, and does not reach the API itself."""
    await user.press("Get")
    assert (await user.result())["data"] == {"name": user.name}
    assert all(call.bearer and "access_token" not in call.cookie for call in user.calls)


async def test_case_15_replay_of_the_old_cookie(user: User, new_user: NewUser) -> None:
    """After the logout, the cookie is worth nothing in another browser."""
    old = await user.cookies()
    await user.page.get_by_role("link", name="Log out").click()
    await user.is_at_login()
    await user.is_logged_out()

    thief = await new_user()
    await thief.bring(old)
    calls = len(user.calls)
    await thief.open("/dashboard")
    await thief.is_at_login()
    assert len(user.calls) == calls


async def test_case_17_link_from_another_site(user: User, the_api: Api) -> None:
    """A link to the logout on another site asks first; yes means yes."""
    elsewhere = f"http://localhost:{the_api.port}/elsewhere?to={user.site.url}/api/logout"
    await user.page.goto(elsewhere)
    await user.page.get_by_role("link", name="Win a prize").click()
    button = user.page.get_by_role("button", name="Log out")
    await expect(button).to_be_visible()
    assert await user.cookie_names() == {"access_token"}
    await button.click()
    await user.is_at_login()
    await user.is_logged_out()


async def test_two_tabs(user: User) -> None:
    """What ends in one tab has ended in the other; a login in one is one in the other."""
    other = await user.context.new_page()
    await user.open("/", other)
    await expect(other.locator("#me")).to_have_text(user.name)
    user.expire()
    await user.reload()
    await user.is_at_login()
    await user.press("Get", other)
    assert refusal(await user.result(other)) == EXPIRED

    await user.log_in()
    await user.press("Get", other)
    await expect(other.locator("#result")).to_contain_text(user.name)


async def test_back_button_after_logout(user: User) -> None:
    """It does not show what only the user may see."""
    await user.page.get_by_role("link", name="Log out").click()
    await user.is_at_login()
    await user.page.go_back()
    await user.is_at_login()
    await expect(user.page.locator("#me")).to_have_text("")


async def test_login_right_after_a_stale_401(user: User) -> None:
    """A slow call of the old session that is answered 401 after a new login ends nothing."""
    other = await user.context.new_page()
    with user.api.gate(user.name, "/slow") as gate:
        await user.page.evaluate("void show('/slow')")
        await user.until(gate.arrived.is_set, "the slow call")
        user.expire()
        await user.open("/", other)
        await user.is_at_login(other)
        await user.fill_in(other)
        await expect(other.locator("#me")).to_have_text(user.name)
        gate.open.set()
        assert refusal(await user.result()) == CHANGED
    assert await user.cookie_names() == {"access_token"}
    await user.is_logged_in()


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
async def test_expired_session_during_a_file_upload(
    user: User, reads: bool, tmp_path: Path
) -> None:
    """The script gets JSON, whether the API reads the file before its 401 or nothing of it."""
    file = tmp_path / "film.bin"
    file.write_bytes(bytes(20 << 20))
    await user.page.locator("#file").set_input_files(file)
    with user.api.gate(user.name, "/upload", reads=reads) as gate:
        await user.press("Send")
        await user.until(gate.arrived.is_set, "the upload")
        user.expire()
        gate.open.set()
        await user.until(lambda: user.calls[-1].status == 401, "the 401")
        assert refusal(await user.result()) == EXPIRED
    assert user.api.uploads_of(user.name) == []
    await user.is_logged_out()


async def test_event_stream_at_expiry(user: User) -> None:
    """It runs while the session lives, ends with it, and its browser does not try for ever."""
    await user.press("Listen")
    await expect(user.page.locator("#last")).to_have_text(re.compile(r"[3-9]|\d\d+"))
    user.expire()
    await user.press("Get")
    assert refusal(await user.result()) == EXPIRED
    await expect(user.page.locator("#state")).to_have_text("closed")
    await user.is_logged_out()


async def test_websocket_at_expiry(user: User) -> None:
    """It is closed for policy (1008) when its session ends, and no other can be opened."""
    await user.press("Connect")
    await expect(user.page.locator("#last")).to_have_text(f"Hello {user.name}")
    user.expire()
    await user.press("Get")
    assert refusal(await user.result()) == EXPIRED
    await expect(user.page.locator("#state")).to_have_text("closed 1008")
    await user.press("Connect")
    await expect(user.page.locator("#state")).to_have_text("closed 1006")
    await user.is_logged_out()
