"""The page on security and the tests keep step: every threat has its answer and its proof."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NUMBER_OF_THREATS = 99
NO_TEST: Final = "\N{EN DASH}"

UNPROVEN: Final[frozenset[str]] = frozenset()
"""Threats without a test. May only shrink: a new threat comes with its test."""

ROWS: Final = re.findall(r"^\| T(\d+) \| (.+?) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
LINK: Final = re.compile(r"\[`(tests/[\w./]+\.py)::(\w+)`\]\(\.\./([\w./]+)\)")


def sources() -> list[Path]:
    found = [*(ROOT / "sidecar").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    return [path for path in found if "node_modules" not in path.parts]


@cache
def functions(path: str) -> frozenset[str]:
    """The names of a module's functions."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def prose(path: Path) -> Iterator[str]:
    """The comments and texts of a module."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                yield token.string.partition("noqa")[0]


def test_every_threat_is_there_once_and_in_order() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, NUMBER_OF_THREATS + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"T{row[0]}")
def test_every_threat_has_tests_that_exist(row: tuple[str, str, str, str]) -> None:
    """Or is listed as unproven, and says so on the page."""
    number, _, _, cell = row
    links = LINK.findall(cell)
    written = ", ".join(f"[`{path}::{name}`](../{link})" for path, name, link in links)
    assert cell == (written or NO_TEST)
    assert (cell == NO_TEST) == (f"T{number}" in UNPROVEN)
    for path, name, link in links:
        assert path == link
        assert name.startswith("test_")
        assert name in functions(path), f"{path}::{name}"


def test_every_threat_that_a_source_names_is_on_the_page() -> None:
    named: dict[int, str] = {}
    for path in sources():
        for text in prose(path):
            for number in re.findall(r"\bT(\d+)\b", text):
                named.setdefault(int(number), str(path.relative_to(ROOT)))
    known = {int(number) for number, *_ in ROWS}
    assert {number: path for number, path in named.items() if number not in known} == {}
