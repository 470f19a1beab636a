"""Where providers are installed: a directory outside the repository, kept for the next run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

VARIABLE: Final = "SIDECAR_INTEROP_CACHE"
DEFAULT: Final = Path("~/.cache/session-sidecar-interop")


class LeftOut(Exception):
    """A provider cannot be run here. The text says why, and what would help."""


def directory() -> Path:
    """The cache, made if it is not there."""
    found = Path(os.environ.get(VARIABLE) or DEFAULT).expanduser().resolve()
    found.mkdir(parents=True, exist_ok=True)
    return found


def program(name: str, remedy: str) -> str:
    """A program's path. Raises `LeftOut`."""
    found = shutil.which(name)
    if found is None:
        raise LeftOut(f"{name} is not installed; {remedy}")
    return found


def install(
    command: Sequence[str],
    folder: Path,
    *,
    minutes: float = 5,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Runs a step of an installation, and returns what it printed. Raises `LeftOut`.

    It runs at low priority, since builds are heavy and nobody waits for them.
    """
    lowered = (*(("nice", "-n", "10") if shutil.which("nice") else ()), *command)
    try:
        done = subprocess.run(
            lowered,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=minutes * 60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LeftOut(f"{command[0]} failed: {error}") from None
    if done.returncode:
        raise LeftOut(f"{' '.join(command[:4])} … failed: {done.stdout.strip()[-400:]}")
    return done.stdout


class Installing:
    """A directory that counts as installed only once everything in it is.

    `with Installing(path) as folder:` runs its block if that has not succeeded before.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._done: Final = path / ".installed"

    @property
    def is_done(self) -> bool:
        return self._done.exists()

    def begin(self) -> Path:
        """Empties the directory, for an installation that begins anew."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self.path

    def finish(self) -> None:
        """Everything is there."""
        self._done.touch()
