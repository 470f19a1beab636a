"""docs/comparison.md says what is seen. Left out unless oauth2-proxy has been built before."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.compare.__main__ import PAGE
from tests.compare.play import contenders, seen_of_all
from tests.compare.program import VERSION, built
from tests.compare.report import between_marks, markdown
from tests.compare.scenes import SCENES


def test_the_page_has_every_situation_and_version() -> None:
    page = between_marks(PAGE)
    assert f"oauth2-proxy {VERSION} " in page
    assert [scene.title for scene in SCENES if f"| {scene.title} |" not in page] == []


def test_the_page_on_migration_names_real_flags() -> None:
    if not built().exists():
        pytest.skip(f"oauth2-proxy {VERSION} is not built; python -m tests.compare builds it")
    page = PAGE.with_name("migration.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", page))
    asked = subprocess.run([str(built()), "--help"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"--[a-z][\w-]+", asked.stdout + asked.stderr))
    assert len(flags) > 30
    assert flags - known == set()


def test_the_page_says_what_is_seen(tmp_path: Path) -> None:
    """Of both programs, in every situation."""
    if not built().exists():
        pytest.skip(f"oauth2-proxy {VERSION} is not built; python -m tests.compare builds it")
    those = contenders(built())
    if len(those) < 3:
        pytest.skip("redis-server is not installed, and the page has a column with it")
    _, _, table = between_marks(PAGE).partition("\n\n")
    assert markdown(seen_of_all(those, tmp_path)).splitlines() == table.splitlines()
