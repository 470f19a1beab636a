"""Which prefix a path lies under: by segments, in the one spelling that requests are matched in."""

from __future__ import annotations

import pytest

from sidecar.core.path_table import FoundPath, PathTable


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


def test_another_spelling_of_an_endpoint_lies_under_no_prefix() -> None:
    table = PathTable({"/": False, "/Logout": False}, ["/logout"])
    assert table.find("/logout;x") is None
    assert table.find("/LOGOUT") is None
    assert table.find("/Logout") == FoundPath("/Logout")
