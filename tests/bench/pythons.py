"""The Python that the image has, beside the one that runs the benchmark.

It is Debian's, of the release that the image is made of: built as the image's is, with what a
profile says of hot code and optimized as a whole. Who builds a Python without these options has a
slower one.
"""

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
_RELEASE: Final = "trixie"
_BOOTSTRAP: Final = "debootstrap"
# By the release's own loader and libraries, so that it needs no root directory of its own.
_COMMAND: Final = """#!/bin/sh
PYTHONHOME={root}/usr PYTHONPATH={libraries} \\
  exec {root}/usr/lib64/ld-linux-x86-64.so.2 --argv0 "$0" \\
  --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/bin/python{version} "$@"
"""


def image_version() -> str:
    """Such as 3.13, as the Dockerfile says."""
    found = re.search(r"^FROM python:(\d+\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def interpreter() -> Path:
    """A command in the user's cache, which `build` makes anew for another lock."""
    return _home() / "python"


def missing() -> str | None:
    if interpreter().exists():
        return None
    return lacks_bootstrap() or "python tests/bench --build"


def lacks_bootstrap() -> str | None:
    return None if shutil.which(_BOOTSTRAP) else f"apt-get install {_BOOTSTRAP}"


def build() -> Path:
    """Raises `BenchError` where the release or the libraries cannot be installed."""
    lacking, home, made = lacks_bootstrap(), _home(), interpreter()
    if lacking is not None:
        raise BenchError(f"{_BOOTSTRAP} is missing: {lacking}")
    if made.exists():
        return made
    root, libraries, python = home / "root", home / "libraries", home / "python.new"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _run(_BOOTSTRAP, "--variant=minbase", "--include=python3", _RELEASE, str(root))
    python.write_text(_COMMAND.format(root=root, libraries=libraries, version=image_version()))
    python.chmod(0o755)
    own = shutil.which("python3") or sys.executable
    where = ("--require-hashes", "-r", str(_LOCK), "--target", str(libraries))
    _run(own, "-m", "pip", "--python", str(python), "install", "-q", *where)
    python.rename(made)
    return made


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
    return cache / "session-sidecar" / f"{_RELEASE}-python-{image_version()}-{digest}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr or done.stdout)[-500:]
        raise BenchError(f"{command[0]} failed: {told}")
