"""How two configurations differ, key by key, told without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sidecar.core.config.effective import Effective, effective, leaves
from sidecar.core.config.faults import dotted
from sidecar.core.config.model import Config
from sidecar.core.config.tree import Tree

RUNS: Final = "runs since before the file was changed"
"""The origin of a value that is not the file's."""


class Difference(NamedTuple):
    """A key with two values; None: it is not there."""

    key: str
    running: Any
    on_disk: Any


def compared(running: Config, disk: Config, tree: Tree) -> tuple[list[Effective], list[Difference]]:
    """Every key of the running configuration, and those that another one has otherwise.

    `tree` is that of `disk`. A secret that differs is told as its lengths.
    """
    mine, theirs = _values(running), _values(disk)
    shown = {one.key: one for one in effective(running, Tree(""))}
    written = {one.key: one for one in effective(disk, tree)}
    rows = [
        written[key] if key in theirs and theirs[key] == value else shown[key]._replace(origin=RUNS)
        for key, value in mine.items()
    ]
    differences = [
        Difference(key, _value(shown, key), _value(written, key))
        for key in dict.fromkeys((*mine, *theirs))
        if key not in mine or key not in theirs or mine[key] != theirs[key]
    ]
    return rows, differences


def _values(config: Config) -> dict[str, Any]:
    return {dotted(path): value for path, value, _ in leaves(config)}


def _value(rows: Mapping[str, Effective], key: str) -> Any:
    return rows[key].value if key in rows else None
