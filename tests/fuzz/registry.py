"""The targets by name. Each is a module of its own, since it is loaded under instrumentation."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.fuzz.target import Target

NAMES = tuple(
    sorted(
        one.stem for one in (Path(__file__).parent / "targets").glob("*.py") if one.stem[0] != "_"
    )
)


def load(name: str) -> Target:
    """The target of this name; its servers, if it has any, run until the process ends."""
    found = import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(found, Target)
    return found
