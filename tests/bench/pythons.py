"""The Python that the image has, beside the one that runs the benchmark."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.faults import BenchError
from tests.bench.site import ROOT

_LOCK: Final = ROOT / "requirements.lock"


def image_version() -> str:
    """Such as 3.13, as the Dockerfile says."""
    found = re.search(r"^FROM python:(\d+\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def interpreter() -> Path:
    """Of a virtual environment in the user's cache, which `build` makes anew for another lock."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
    return cache / "session-sidecar" / f"python-{image_version()}-{digest}" / "bin" / "python"


def missing() -> str | None:
    if (interpreter().parent / "done").exists():
        return None
    return "python tests/bench --build" if _found() else f"install python{image_version()}"


def build() -> Path:
    """Raises `BenchError` where the libraries cannot be installed, or there is no such Python."""
    found, made = _found(), interpreter()
    if found is None:
        raise BenchError(f"python{image_version()} is not installed")
    install = ["--python", str(made), "install", "-q", "--require-hashes", "-r", str(_LOCK)]
    for command in (
        [found, "-m", "venv", "--clear", "--without-pip", str(made.parents[1])],
        [shutil.which("python3") or sys.executable, "-m", "pip", *install],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{command[0]} failed: {done.stderr[-500:]}")
    (made.parent / "done").touch()
    return made


def _found() -> str | None:
    """On the PATH, or among pyenv's."""
    name = f"python{image_version()}"
    own = sorted(Path.home().glob(f".pyenv/versions/{image_version()}*/bin/{name}"))
    return str(own[-1]) if own else shutil.which(name)
