"""The documents keep step with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidecar.core.errors import ProxyError

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
SECTIONS: Final = (
    *("Configuration", "Routes", "Envelope", "Credential", "401", "Logout", "Refresh", "Own login"),
    *("Browser protection", "Forwarding", "Command line", "Admin listener"),
)
REFERENCE: Final = re.compile(r"[(,;] ?behaviour:\s+(?!str\b)([a-z0-9 -]+)")


def subclasses(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from subclasses(one)


def test_every_code_has_its_causes_and_remedies() -> None:
    """With the statuses that it comes with, and none that no error has."""
    page = (DOCS / "troubleshooting.md").read_text().partition("## Codes of a login")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \| .+ \| .+ \|$", page, re.MULTILINE)
    told = {code: {int(status) for status in statuses.split(",")} for code, statuses in rows}
    raised: dict[str, set[int]] = {}
    for kind in subclasses(ProxyError):
        if "code" in vars(kind):
            raised.setdefault(kind.code, set()).add(kind.status)
    assert told == raised


def test_every_reference_to_a_behaviour_names_a_section() -> None:
    """Comments say `(behaviour: logout)` for the section `## Logout` of docs/behaviour.md."""
    page = (DOCS / "behaviour.md").read_text()
    sections = {name.lower() for name in re.findall(r"^##+ (.+)$", page, re.MULTILINE)}
    wrong: dict[str, str] = {}
    found = 0
    for path in (*(ROOT / "sidecar").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        if path == Path(__file__) or "node_modules" in path.parts:
            continue
        for name in REFERENCE.findall(path.read_text()):
            found += 1
            if name not in sections:
                wrong[name] = str(path)
    assert found > 40
    assert wrong == {}


def test_behaviour_has_a_section_for_each_part_of_the_product() -> None:
    """Other pages and comments link there, so the names stay."""
    page = (DOCS / "behaviour.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == list(SECTIONS)


ENTRY: Final = re.compile(r"`([\w./-]+(?:\.py|/))`")


def where_to_find() -> list[str]:
    """The first column of the tables of docs/architecture.md: files, and folders with a slash."""
    page = (DOCS / "architecture.md").read_text().partition("## Where to find what")[2]
    rows = re.findall(r"^\| (`.+?`) \| .+ \|$", page, re.MULTILINE)
    return [entry for cell in rows for entry in ENTRY.findall(cell)]


def test_architecture_names_every_file_once() -> None:
    """A file stands in one row, or in a folder that stands in one."""
    entries = where_to_find()
    assert len(set(entries)) == len(entries)
    package = ROOT / "sidecar"
    assert [one for one in entries if not (package / one).exists()] == []
    files = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    folders = tuple(one for one in entries if one.endswith("/"))
    missing = {
        one
        for one in files - set(entries)
        if not (one.startswith(folders) or one.endswith(("__init__.py", "__main__.py")))
    }
    assert missing == set()


def test_the_ways_through_the_code_name_files_that_exist() -> None:
    """The drawings of docs/architecture.md, by paths below sidecar/."""
    drawings = re.findall(r"```\n(.+?)```", (DOCS / "architecture.md").read_text(), re.DOTALL)
    named = set(re.findall(r"\b[a-z_]+(?:/[a-z_]+)+\.py\b", "".join(drawings)))
    assert len(named) > 30
    assert [one for one in sorted(named) if not (ROOT / "sidecar" / one).exists()] == []


def test_every_page_has_its_place_on_the_site() -> None:
    """In `nav` of config/mkdocs.yml, once. Pages that say so there come from the top."""
    nav = (ROOT / "config" / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    entries = re.findall(r"^ +- .+: ([\w-]+\.md)( # [A-Z]+\.md)?$", nav, re.MULTILINE)
    own = [page for page, origin in entries if not origin]
    assert sorted(own) == sorted(path.name for path in DOCS.glob("*.md"))
