"""The directory of pages of one's own: what is read, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.core.own_pages import LONGEST_PAGE
from sidecar.page_files import NO_PAGES, read_pages
from sidecar.tls import UnusableFile

if TYPE_CHECKING:
    from pathlib import Path


def fault(folder: Path) -> str:
    with pytest.raises(UnusableFile) as caught:
        read_pages(str(folder))
    text = str(caught.value)
    assert text.startswith(f"pages: {folder}")
    return text


def test_pages_of_a_directory(tmp_path: Path) -> None:
    """Every .html file; nothing else in it is looked at. A byte order mark is none of the page."""
    (tmp_path / "error.html").write_bytes("\ufeff<p>é{{actions}}".encode())
    (tmp_path / "404.html").write_text("gone")
    (tmp_path / "notes.txt").write_bytes(b"\xff")
    pages = read_pages(str(tmp_path))
    assert sorted(pages.by_name) == ["404", "error"]
    assert pages.page("no_route", 404, "")[1] == b"gone"
    assert pages.page("csrf_rejected", 403, "")[1] == "<p>é".encode()
    assert read_pages(None) is NO_PAGES


def test_what_is_wrong_is_named_with_its_file(tmp_path: Path) -> None:
    assert fault(tmp_path / "none").endswith("none: no such file or directory")
    assert "must hold pages, such as error.html" in fault(tmp_path)
    page = tmp_path / "not_alowed.html"
    page.write_text("x")
    assert 'not_alowed.html: unknown page; did you mean "not_allowed"?' in fault(tmp_path)
    page.rename(tmp_path / "404.html")
    page = tmp_path / "404.html"
    page.write_bytes(b"\xff")
    assert fault(tmp_path).endswith("404.html: must be UTF-8")
    page.write_bytes(b"x" * (LONGEST_PAGE + 1))
    assert fault(tmp_path).endswith("404.html: must have at most 256 KiB")
    page.write_text("{{nothing}}")
    assert "404.html: unknown placeholder {{nothing}}; use title" in fault(tmp_path)
    page.unlink()
    page.mkdir()
    assert fault(tmp_path).endswith("404.html: is a directory")
