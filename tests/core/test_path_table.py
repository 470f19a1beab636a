"""Which prefix a path lies under: by segments, in the one spelling that requests are matched in."""

from __future__ import annotations

import pytest

from sidecar.core.path_table import FoundPath, PathTable
from sidecar.core.target import normalise


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/app", "/app"),
        ("/app/", "/app"),
        ("/app/x", "/app"),
        ("/application", ""),
        ("/app.x", ""),
        ("/", ""),
        ("/app/deep/er", "/app/deep"),
        ("/app/deeper", "/app"),
    ],
)
def test_a_prefix_ends_at_a_segment(path: str, prefix: str) -> None:
    """`/app` holds for `/app/x`, and never for `/application`."""
    table = PathTable({"/": False, "/app/": False, "/app/deep": False})
    assert table.find(path) == FoundPath(prefix)


def test_what_lies_under_no_prefix_is_not_found() -> None:
    table = PathTable({"/app": False})
    assert table.find("/application") is None
    assert table.find("/") is None


@pytest.mark.parametrize("path", ["/app;v=1", "/APP/x", "//app", "/app%2Fx"])
def test_a_closed_prefix_holds_for_each_spelling(path: str) -> None:
    """What some server reads as a path below it needs a session as well."""
    table = PathTable({"/": False, "/app": True})
    found = table.find(path)
    assert found is not None
    assert found.prefix == ""
    assert table.needs_session(found)


@pytest.mark.parametrize(
    "path",
    [
        "/account.data",  # React Router
        "/account.html",  # static servers
        "/account.HTML",
        "/account.json",  # Rails
        "/account.json/",
        "/account%2Ehtml",
        "//account.html",
        "/account.html;x",
        "/_next/data/b1/account.json",  # Next.js's Pages Router
        "/_next/data/b1/account/orders.json",
    ],
)
def test_a_closed_prefix_holds_for_the_formats_of_its_pages(path: str) -> None:
    """Servers give a page's content at its path with the name of a format as well."""
    table = PathTable({"/": False, "/_next/": False, "/account": True})
    found = table.find(normalise(path))
    assert found is not None
    assert found.pages == ("/account",)


@pytest.mark.parametrize(
    "path",
    ["/accounts.json", "/account.js", "/x/account.html", "/_next/data/b1/help.json", "/.html"],
)
def test_no_other_page_is_closed_for_its_format(path: str) -> None:
    table = PathTable({"/": False, "/_next/": False, "/account": True})
    found = table.find(path)
    assert found is not None
    assert found.pages == ()


def test_a_prefix_of_files_is_open_though_all_pages_are_closed() -> None:
    """But for the data of these pages, unless the prefix is one of data alone."""
    table = PathTable({"/": True, "/robots.txt": False, "/_next": False, "/files": False})
    for path in ("/robots.txt", "/files/a.html", "/_next/static/a.json"):
        found = table.find(path)
        assert found is not None
        assert (found.closed, found.pages) == ((), ())
    assert table.find("/_next/data/b1/account.json") == FoundPath("/_next", pages=("",))
    table = PathTable({"/": True, "/_next/data": False})
    assert table.find("/_next/data/b1/account.json") == FoundPath("/_next/data")


def test_another_spelling_of_an_endpoint_lies_under_no_prefix() -> None:
    table = PathTable({"/": False, "/Logout": False}, ["/logout"])
    assert table.find("/logout;x") is None
    assert table.find("/LOGOUT") is None
    assert table.find("/Logout") == FoundPath("/Logout")
