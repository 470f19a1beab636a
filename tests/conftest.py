"""What every test may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NoReturn

import pytest


def _do_without(reason: str) -> NoReturn:
    """Skip the test; in CI, where everything must be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def do_without() -> Callable[[str], NoReturn]:
    """Say why a test cannot run here: it is skipped, and in CI it fails."""
    return _do_without


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Find a program by name, or do without the test."""

    def find(name: str) -> str:
        return shutil.which(name) or _do_without(f"{name} is not installed")

    return find
