"""Pages of one's own, read from the directory that `pages` names."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from sidecar.core.config.faults import did_you_mean
from sidecar.core.own_pages import (
    LONGEST_PAGE,
    OwnPages,
    PageTemplate,
    UnusablePage,
    page_names,
    parse_page,
)
from sidecar.tls import UnusableFile

NO_PAGES: Final = OwnPages(MappingProxyType({}))
_SUFFIX: Final = ".html"
_KEY: Final = "pages"


def read_pages(directory: str | None) -> OwnPages:
    """Returns the pages of a directory: every `.html` file in it. Raises `UnusableFile`."""
    if directory is None:
        return NO_PAGES
    try:
        files = sorted(one for one in Path(directory).iterdir() if one.suffix == _SUFFIX)
    except OSError as error:
        raise UnusableFile(_KEY, directory, _cause(error)) from None
    if not files:
        names = f"error{_SUFFIX}, logout{_SUFFIX} or 404{_SUFFIX}"
        raise UnusableFile(_KEY, directory, f"must hold pages, such as {names}")
    return OwnPages(MappingProxyType({file.stem: _read(file) for file in files}))


def _read(file: Path) -> PageTemplate:
    """Raises `UnusableFile`."""
    known = page_names()
    if file.stem not in known:
        remedy = did_you_mean(file.stem, known)
        raise UnusableFile(_KEY, str(file), f"unknown page; {remedy}")
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST_PAGE + 1)
    except OSError as error:
        raise UnusableFile(_KEY, str(file), _cause(error)) from None
    if len(content) > LONGEST_PAGE:
        raise UnusableFile(_KEY, str(file), f"must have at most {LONGEST_PAGE // 1024} KiB")
    try:
        return parse_page(content.decode("utf-8-sig"), file.stem)
    except UnicodeDecodeError:
        raise UnusableFile(_KEY, str(file), "must be UTF-8") from None
    except UnusablePage as error:
        raise UnusableFile(_KEY, str(file), str(error)) from None


def _cause(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
