"""aiohttp without its C parsers: nothing serves, and one line says why (T67)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.ports import free_port


@pytest.fixture(scope="module")
def without_parser(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that finds aiohttp without its parsers in C."""
    place = tmp_path_factory.mktemp("pure")
    hidden = shutil.ignore_patterns("_http_parser*.so", "__pycache__")
    shutil.copytree(Path(aiohttp.__file__).parent, place / "aiohttp", ignore=hidden)
    return {
        **os.environ,
        "PYTHONPATH": str(place),
        "SIDECAR_UPSTREAM": "http://127.0.0.1:9",
        "SIDECAR_LISTEN": f"127.0.0.1:{free_port()}",
        "SIDECAR_ADMIN": "null",
    }


EXTENSION, VARIABLE = "the extension", "AIOHTTP_NO_EXTENSIONS"


@pytest.mark.parametrize(
    ("command", "workers", "hides"),
    [
        (("run",), "1", EXTENSION),
        (("run",), "2", EXTENSION),
        (("run",), "1", VARIABLE),
        (("check",), "1", EXTENSION),
        (("demo", "--port", "0"), "1", EXTENSION),
    ],
)
def test_without_its_c_parsers_nothing_serves(
    without_parser: dict[str, str],
    tmp_path: Path,
    command: tuple[str, ...],
    workers: str,
    hides: str,
) -> None:
    environment = without_parser | {"SIDECAR_WORKERS": workers, "XDG_RUNTIME_DIR": str(tmp_path)}
    if hides == VARIABLE:
        environment |= {"PYTHONPATH": "", hides: "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 2, told
    assert "aiohttp's C extensions are missing: install its binary wheel" in told
    assert "Traceback" not in told
