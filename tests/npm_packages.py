"""Packages of npm, at the versions of a folder's lock file."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

INSTALL: Final = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
WITHOUT_OPTIONAL: Final = "--omit=optional"
_LOCK_FILE: Final = "package-lock.json"
_SECONDS: Final = 300.0  # that an installation may take
_LEFT: Final = shutil.ignore_patterns("node_modules", "artifacts", "__pycache__", "*.py")


class NotInstalled(Exception):
    """npm has failed, or is not there. The text says why."""


def install(folder: Path, *options: str) -> None:
    """Installs what the lock file of a folder names. Raises `NotInstalled`."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("npm is not installed")
    done = subprocess.run(
        [npm, *INSTALL, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise NotInstalled(f"npm ci failed: {done.stderr[-500:]}")


def copied(source: Path, to: Path, *options: str) -> Path:
    """A copy of a folder but for its Python files, with its packages. Raises `NotInstalled`."""
    shutil.copytree(source, to, ignore=_LEFT)
    install(to, *options)
    return to


def shared(source: Path, kept: Path, *options: str) -> Path:
    """A copy that is kept for other runs; one process at a time makes it. Raises `NotInstalled`."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _alone(kept.with_name(f"{kept.name}.lock")):
        if not _is_copy(source, kept):
            shutil.rmtree(kept, ignore_errors=True)
            made = kept.with_name(f"{kept.name}.part")
            shutil.rmtree(made, ignore_errors=True)
            copied(source, made, *options).rename(kept)
    return kept


def _is_copy(source: Path, kept: Path) -> bool:
    """Whether all files are the same: the lock file, and the scripts."""
    files = [path.name for path in source.iterdir() if path.is_file()]
    assert _LOCK_FILE in files
    return all(
        (kept / name).is_file() and (kept / name).read_bytes() == (source / name).read_bytes()
        for name in files
    )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
