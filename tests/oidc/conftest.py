"""What the tests with oidc-provider share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parent


@pytest.fixture(scope="session")
def project(npm_project: Callable[..., Path]) -> Path:
    """The script with the packages of its lock file."""
    return npm_project(PROJECT)
