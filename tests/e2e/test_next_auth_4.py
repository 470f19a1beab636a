"""next-auth 4 with the usual solution, unchanged but for the API's address, behind the sidecar."""

from __future__ import annotations

import pytest

from tests.e2e.browser import EXPIRED, NewUser, User, is_logout_by_ticket, on, refusal
from tests.e2e.servers import Variant

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    on(Variant("next-auth-4")),
]


async def test_case_01_reload_of_a_server_rendered_page(user: User) -> None:
    """The document itself becomes the redirect to the logout."""
    assert await user.cookie_names() == {"next-auth.session-token"}
    user.expire()
    steps = await user.reload()
    assert is_logout_by_ticket(steps[0])
    assert steps[1:] == [(303, "/login"), (200, "/login")]
    assert [call.status for call in user.calls] == [200, 401]
    await user.is_logged_out()
    assert len(user.calls) == 2


async def test_case_04_client_fetch_get(user: User) -> None:
    """A page script gets the data, then the way to the login, and the cookies are gone."""
    await user.open("/client")
    await user.press("Get")
    assert (await user.result())["data"] == {"name": user.name}
    user.expire()
    await user.press("Get")
    await user.until(lambda: user.calls[-1].status == 401, "the 401")
    assert refusal(await user.result()) == EXPIRED
    assert await user.cookie_names() == set()
    await user.is_logged_out()


async def test_case_05_client_fetch_post(user: User) -> None:
    """The same for a POST, which the API is asked once."""
    await user.open("/client")
    user.expire()
    before = len(user.calls)
    await user.press("Post")
    assert refusal(await user.result()) == EXPIRED
    assert [call.method for call in user.calls[before:]] == ["POST"]
    assert await user.cookie_names() == set()
    await user.is_logged_out()


async def test_case_11_session_in_chunks(new_user: NewUser) -> None:
    """A session in two cookies: both go, and a login that redirects signed-in users is shown."""
    user = await new_user("big")
    await user.log_in()
    assert await user.cookie_names() == {f"next-auth.session-token.{n}" for n in range(2)}
    user.expire()
    steps = await user.reload()
    assert [status for status, _ in steps] == [303, 303, 200]
    await user.is_logged_out()
