"""How the running configuration and the file differ, told without secrets."""

from __future__ import annotations

from typing import NoReturn

from sidecar.core.config.difference import RUNS, compared
from sidecar.core.config.load import load_tree

TEXT = """\
upstream: http://localhost:4000
secret: a secret of the tests, 32 bytes or more
limits: {header: 32KiB}
session:
  sources:
    - {type: cookie, cookie: access_token}
"""


def no_file(path: str) -> NoReturn:
    raise FileNotFoundError(path)


def test_file_that_was_not_changed_has_no_difference() -> None:
    running, _ = load_tree(TEXT, source="sidecar.yaml", environ={}, read_file=no_file)
    disk, tree = load_tree(TEXT, source="sidecar.yaml", environ={}, read_file=no_file)
    rows, differences = compared(running, disk, tree)
    assert differences == []
    by_key = {row.key: row for row in rows}
    assert by_key["limits.header"] == ("limits.header", "32KiB", "sidecar.yaml:3")
    assert by_key["limits.body"].origin == "default"


def test_changed_added_and_removed_keys_are_told() -> None:
    running, _ = load_tree(TEXT, source="sidecar.yaml", environ={}, read_file=no_file)
    changed = TEXT.replace("32KiB", "16KiB").replace(
        "cookie: access_token}", "cookie: access_token}\n    - {type: cookie, cookie: other}"
    )
    disk, tree = load_tree(changed, source="sidecar.yaml", environ={}, read_file=no_file)
    rows, differences = compared(running, disk, tree)
    told = {one.key: (one.running, one.on_disk) for one in differences}
    assert told["limits.header"] == (32768, "16KiB")
    assert told["session.sources[1].cookie"] == (None, "other")
    assert next(row for row in rows if row.key == "limits.header").origin == RUNS


def test_secrets_of_the_same_length_differ_and_are_not_told() -> None:
    running, _ = load_tree(TEXT, source="sidecar.yaml", environ={}, read_file=no_file)
    changed = TEXT.replace("a secret of", "A SECRET OF")
    disk, tree = load_tree(changed, source="sidecar.yaml", environ={}, read_file=no_file)
    rows, differences = compared(running, disk, tree)
    assert [one.key for one in differences] == ["secret"]
    assert differences[0].running == differences[0].on_disk == ["(39 characters)"]
    assert "tests" not in str(rows) + str(differences)
