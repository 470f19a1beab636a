"""Next.js's Pages Router: `getServerSideProps` makes the calls, and no code in the app logs out."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.e2e.browser import User, on
from tests.e2e.servers import Variant

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    on(Variant("pages-router")),
]


async def test_soft_navigation_of_the_pages_router(user: User) -> None:
    """A `<Link>` works; once the API says 401, the data of the next one lead to the login."""
    await user.page.get_by_role("link", name="Items").click()
    await expect(user.page.locator("#count")).to_have_text(re.compile(r"\d+"))
    user.expire()
    await user.page.get_by_role("link", name="Dashboard").click()
    await user.is_at_login()
    assert [call.status for call in user.calls] == [200, 200, 401]
    assert await user.cookie_names() == set()
