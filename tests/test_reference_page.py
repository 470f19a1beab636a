"""docs/reference.md has every key of the configuration, as the schema has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from sidecar.cli import cli
from sidecar.core.config import schema
from sidecar.reference_page import markdown

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference.md"
SCHEMA: Final = schema()
TEXT: Final = PAGE.read_text(encoding="utf-8")
EITHER: Final = "required, or `secret_file`"
ROW: Final = re.compile(r"^\| `(\w+)` \| (.+) \| (.+?) \| (.+) \|$", re.MULTILINE)


def tables() -> dict[str, dict[str, tuple[str, ...]]]:
    """The rows of each section of the page, by heading and key."""
    parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)[1:]
    return {
        heading: {row[0]: row[1:] for row in ROW.findall(body)}
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def sections() -> Iterator[dict[str, Any]]:
    """Every mapping of named keys in the schema."""
    for node in (SCHEMA, *SCHEMA["$defs"].values()):
        if "properties" in node:
            yield node


def test_the_command_prints_the_page() -> None:
    """That it is fresh is held beside the schema: tests/core/config/test_config_schema.py."""
    made = CliRunner().invoke(cli, ["schema", "--markdown"])
    assert made.exit_code == 0
    assert made.output == markdown(SCHEMA)


def test_every_key_of_every_section_has_a_row() -> None:
    found = sorted(sorted(rows) for rows in tables().values())
    assert found == sorted(sorted(node["properties"]) for node in sections())


def test_every_row_says_what_the_key_is_for() -> None:
    rows = [row for table in tables().values() for row in table.values()]
    assert len(rows) > 200
    assert [row for row in rows if not all(cell.strip() for cell in row)] == []


@pytest.mark.parametrize(
    ("section", "key", "takes", "default"),
    [
        ("The top level", "listen", "text or list of text or [listen](#listen)", "`0.0.0.0:8080`"),
        ("The top level", "routes", "list of [routes](#routes)", "none"),
        ("upstreams.NAME", "connect", "duration", "`2s`"),
        ("routes[]", "path", "text", "required"),
        ("routes[]", "kind", "`api` or `page`", "required"),
        ("session.sources[] of type auth0", "secret", "text or list of text", EITHER),
        ("logout.hooks[]", "headers", "mapping of names to text", "`{}`"),
        ("The top level", "limits", "[limits](#limits)", "its own"),
    ],
)
def test_rows_say_what_keys_take(section: str, key: str, takes: str, default: str) -> None:
    """By one of each sort: text, section, duration, what must be given, choices, either of two."""
    assert tables()[section][key][:2] == (takes, default)


def test_what_would_be_markup_is_shown_as_written() -> None:
    section = {"properties": {"a": {"type": "string", "description": "a|b * `c*|d` [e]"}}}
    (row,) = ROW.findall(markdown({**section, "$defs": {}}))
    assert row[3] == r"a\|b \* `c*\|d` \[e]"
