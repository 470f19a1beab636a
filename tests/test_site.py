"""The site of docs/ has every page, and nothing from elsewhere. `.ci/run` builds it, strictly."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    text = (ROOT / "config" / "mkdocs.yml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded


def adopted() -> dict[str, str]:
    """The files at the top of the repository that are pages, read off the hooks' source."""
    tree = ast.parse((ROOT / "config" / "site_hooks.py").read_text(encoding="utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ADOPTED"
    ]
    made: dict[str, str] = ast.literal_eval(value)
    return made


def test_pages_from_the_top_hide_none_of_docs() -> None:
    """Both are one folder on the site."""
    assert all((ROOT / name).exists() for name in adopted())
    assert [uri for uri in adopted().values() if (ROOT / "docs" / uri).exists()] == []


def test_readers_ask_no_other_host(site: dict[str, Any]) -> None:
    """Fonts would come from Google, and `extra_javascript` from anywhere."""
    assert site["theme"]["font"] is False
    assert site["plugins"] == ["search"]
    assert not {"extra_javascript", "extra_css", "repo_url"} & set(site)
    assert set(site["extra"]) == {"generator"}


def test_the_build_is_strict_about_links(site: dict[str, Any]) -> None:
    """`--strict` makes errors of warnings; what is only information passes."""
    assert set(site["validation"].values()) == {"warn"}
    assert "mkdocs build --strict -f config/mkdocs.yml" in (ROOT / ".ci" / "run").read_text()
