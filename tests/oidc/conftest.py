"""What the tests with oidc-provider share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest

PROJECT: Final = Path(__file__).parent
INSTALL: Final = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


@pytest.fixture(scope="session")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    require_program: Callable[[str], str],
    do_without: Callable[[str], NoReturn],
) -> Path:
    """The script with the packages of its lock file."""
    npm, _ = require_program("npm"), require_program("node")
    copied = shutil.copytree(
        PROJECT,
        tmp_path_factory.mktemp("npm") / "project",
        ignore=shutil.ignore_patterns("node_modules", "__pycache__", "artifacts"),
    )
    installed = subprocess.run(
        [npm, *INSTALL], cwd=copied, capture_output=True, text=True, timeout=300, check=False
    )
    if installed.returncode:
        do_without(f"npm ci failed: {installed.stderr[-500:]}")
    return copied
