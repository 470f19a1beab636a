"""oauth2-proxy as a program: built by `go install` into the user's cache, never into the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

MODULE: Final = "github.com/oauth2-proxy/oauth2-proxy/v7"
VERSION: Final = "v7.15.6"
_GO_VERSION: Final = re.compile(r": (go\S+)$", re.MULTILINE)


class MissingProgram(Exception):
    """Something that the comparison needs is not installed; the text says what and what helps."""


def built() -> Path:
    """Where the program is once it is built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "session-sidecar" / f"oauth2-proxy-{VERSION}" / "oauth2-proxy"


def build() -> Path:
    """Builds the program unless it is there. Raises `MissingProgram`."""
    file = built()
    if file.exists():
        return file
    go = shutil.which("go")
    if go is None:
        raise MissingProgram("go is not installed: it builds oauth2-proxy from the module proxy")
    file.parent.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "GOBIN": str(file.parent)}
    command = ["nice", "-n", "10", go, "install", f"{MODULE}@{VERSION}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingProgram(f"go install {MODULE}@{VERSION} failed: {done.stderr[-500:]}")
    return file


def go_version(file: Path) -> str:
    """Which Go a program was built with, as its build information says."""
    with file.open("rb") as program:
        found = re.search(rb"\xff Go buildinf:.{14,34}?(go1\.[0-9.]+)", program.read(), re.DOTALL)
    return found[1].decode() if found else "an unknown Go"
