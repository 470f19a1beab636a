"""Operators find each event of the log, with its meaning, in docs/log-events.md."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEVELS = frozenset(("debug", "info", "warning", "error", "critical", "log"))
ROW = re.compile(r"^\| `([^`]+)` \| ([a-z, ]+) \| (.+) \|$", re.MULTILINE)
# What reports with an event and a detail, or details alone for the store and the provider.
REPORTS = frozenset(("report", "tell", "warn"))
PARTS = frozenset(("store", "provider"))


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """What the code is made of, with the file that it stands in."""
    paths = [path for path in (ROOT / "sidecar").rglob("*.py") if "demo" not in path.parts]
    return tuple(
        (str(path.relative_to(ROOT)), node)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call | ast.Assign | ast.Constant)
    )


def texts(node: ast.expr) -> list[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return texts(node.body) + texts(node.orelse) if isinstance(node, ast.IfExp) else []


def events_of(node: ast.AST) -> list[str]:
    """The events that a call logs, or that are named before one."""
    if isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "event" for target in node.targets
    ):
        return texts(node.value)
    if not isinstance(node, ast.Call) or not node.args:
        return []
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if isinstance(node.func, ast.Attribute) and name in LEVELS:
        logger = ast.unparse(node.func.value).rpartition(".")[2].strip("_")
        return texts(node.args[0]) if logger == "log" else []
    return texts(node.args[0]) if name.lstrip("_") in REPORTS and len(node.args) > 1 else []


def logged() -> dict[str, str]:
    """The events that the code logs, and where."""
    return {event: name for name, node in nodes() for event in events_of(node)}


def documented() -> list[tuple[str, str, str]]:
    return ROW.findall((ROOT / "docs" / "log-events.md").read_text())


def test_every_event_is_documented() -> None:
    """Once, with a meaning that is a sentence."""
    names = [name for name, _, _ in documented()]
    assert len(set(names)) == len(names)
    assert {event: where for event, where in logged().items() if event not in names} == {}
    assert all(meaning.endswith(".") for _, _, meaning in documented())


def test_no_event_is_documented_that_is_not_logged() -> None:
    """Also of those that are logged by way of a variable."""
    named = {
        node.value
        for _, node in nodes()
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    found = {name for name, _, _ in documented()}
    assert found - named - {"request"} == set()
    assert found >= PARTS | {"request", "request failed", "serving"}


def test_levels_are_those_of_the_log() -> None:
    for name, levels, _ in documented():
        assert set(levels.split(", ")) <= LEVELS, name


def test_the_events_are_found() -> None:
    """An empty scan would pass the tests above."""
    assert len(logged()) > 30
