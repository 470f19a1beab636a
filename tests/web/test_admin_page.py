"""The admin page as it is in the package: whole, and asking nobody else for anything."""

from __future__ import annotations

import asyncio
import re

import pytest

from sidecar.web.admin_page import FILES, SECURITY, content
from tests.conftest import Client, Clients, Start, Upstream

TEXTS = {path: content(path).decode() for path in FILES}
SCRIPTS = {path: text for path, text in TEXTS.items() if path.endswith(".js")}


def test_script_knows_every_element_that_it_asks_for() -> None:
    """And every panel that the page names is there."""
    page = TEXTS["/"]
    there = set(re.findall(r'id="([\w-]+)"', page))
    asked = {
        one
        for text in SCRIPTS.values()
        for pattern in (r'place\("([\w-]+)"\)', r'(?:on|fill|draw)\("([\w-]+)",')
        for one in re.findall(pattern, text)
    }
    assert len(asked) > 30
    assert asked <= there
    assert set(re.findall(r'href="#([\w-]+)"', page)) <= there


def test_everything_that_a_file_names_is_served() -> None:
    """Modules, style and icon, by paths that also hold behind a prefix."""
    named = set(re.findall(r'<(?:link|script)[^>]+(?:href|src)="([^"]+)"', TEXTS["/"]))
    named |= {one for text in SCRIPTS.values() for one in re.findall(r' from "\./([^"]+)"', text)}
    assert {f"/{one}" for one in named} == set(FILES) - {"/"}


@pytest.mark.parametrize("path", list(FILES))
def test_nothing_comes_from_elsewhere(path: str) -> None:
    """Nothing is written into HTML either: what is shown is put in as text."""
    text = TEXTS[path].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.search(r"<script(?! type=\"module\" src)|<style|\son\w+=|\sstyle=", text)


async def test_page_is_served_by_the_admin_listener_alone(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """With a policy under which nothing else runs, and no copy is kept."""
    at = await sidecar({"upstream": upstream.url})
    for path, (_, media_type) in FILES.items():
        got = await at.ask_admin(path)
        assert (got.status, got.body) == (200, content(path))
        assert got.get("Content-Type") == f"{media_type}; charset=utf-8"
        assert {name: got.get(name) for name in SECURITY} == dict(SECURITY)
    assert (await (await client(at)).get("/main.js")).body != content("/main.js")
    assert "script-src 'self'" in SECURITY["Content-Security-Policy"]
    assert "unsafe" not in SECURITY["Content-Security-Policy"]


async def test_page_is_not_shown_under_the_name_of_another_site(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A name that another site has pointed here would make the page one of that site's own."""
    at = await sidecar({"upstream": upstream.url})
    wire = Client(*await asyncio.open_connection("127.0.0.1", at.admin))
    assert (await wire.get("/", "Host: evil.example")).status == 403
    await wire.gone()
