"""What a run was made on, and with."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sidecar import __version__
from tests.bench.contenders import lacks, program
from tests.bench.site import ROOT
from tests.compare.program import VERSION, built

_PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "nginx": ("nginx", "-v"),
    "HAProxy": ("haproxy", "-v"),
    "Caddy": ("caddy", "version"),
    "Redis": ("redis-server", "--version"),
    "Node.js": ("node", "--version"),
    "wrk": ("wrk", "-v"),
}
_PACKAGES: Final = ROOT / "tests" / "e2e" / "package.json"
_MODEL: Final = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)


def conditions(rounds: int, seconds: int) -> Mapping[str, str | int]:
    """By name: date, machine, versions of all programs that are there, and how it was measured."""
    found = _MODEL.search(Path("/proc/cpuinfo").read_text())
    versions = {name: _version(*command) for name, command in _PROGRAMS.items()}
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processors": f"{os.cpu_count()} ({found[1] if found else platform.machine()})",
        "kernel": platform.release().partition("-")[0],
        "sidecar": __version__,
        "Python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        **{name: found for name, found in versions.items() if found},
        **({"oauth2-proxy": VERSION.removeprefix("v")} if built().exists() else {}),
        "Next.js": json.loads(_PACKAGES.read_text())["dependencies"]["next"],
        "rounds": rounds,
        "seconds each": seconds,
    }


def _version(name: str, option: str) -> str:
    """Nothing where the program is not there."""
    if lacks(name):
        return ""
    done = subprocess.run([program(name), option], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"
