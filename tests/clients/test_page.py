"""docs/frontends.md names what the tests run: their versions, and files that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("clients", "e2e", "npm")
TABLE: Final = (
    (ROOT / "docs" / "frontends.md")
    .read_text(encoding="utf-8")
    .partition("## What was tried")[2]
    .partition("\n## ")[0]
)


def pinned() -> dict[str, set[str]]:
    """The versions of each package that the tests use."""
    found: dict[str, set[str]] = {}
    for folder in PACKAGES:
        file = ROOT / "tests" / folder / "package.json"
        for name, version in json.loads(file.read_text())["dependencies"].items():
            found.setdefault(name, set()).add(version.rpartition("@")[2])
    lock = (ROOT / "requirements-dev.lock").read_text()
    for name, version in re.findall(r"^([\w-]+)==([\w.]+)", lock, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_versions_are_those_of_the_tests() -> None:
    pins = pinned()
    told = re.findall(r"`([@\w/.-]+)` (\d[\w.-]*)", TABLE)
    assert len(told) > 15
    assert [one for one in told if one[1] not in pins.get(one[0], ())] == []


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", TABLE))
    assert len(named) > 5
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []
