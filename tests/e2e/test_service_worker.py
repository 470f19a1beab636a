"""A progressive web app: its navigations pass through Workbox's service worker."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.e2e.browser import User, on
from tests.e2e.servers import Variant

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    on(Variant("spa", workbox=True)),
]

REGISTER = """async () => {
  await navigator.serviceWorker.register("/sw.js");
  await navigator.serviceWorker.ready;
  while (!navigator.serviceWorker.controller) await new Promise((done) => setTimeout(done, 20));
}"""


async def test_documents_through_a_service_worker(user: User) -> None:
    """A worker's own fetch says that it is no document: a 401 leads to the login all the same, and
    so does the link to the logout.
    """
    await user.page.evaluate(REGISTER)
    await user.reload()
    await expect(user.page.locator("#me")).to_have_text(user.name)
    user.expire()
    await user.page.goto(f"{user.site.url}/api/items")
    await user.is_at_login()
    assert await user.cookie_names() == set()

    await user.fill_in()
    await expect(user.page.locator("#me")).to_have_text(user.name)
    await user.page.get_by_role("link", name="Log out").click()
    await user.is_at_login()
    await user.is_logged_out()
