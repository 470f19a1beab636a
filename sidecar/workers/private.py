"""A directory of this run alone: the store that workers share by default, and their sockets."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - only private directories are made here
TEMPORARY: Final = "/tmp"  # noqa: S108 - as above
_PREFIX: Final = "sidecar-workers-"
_MADE_BY_CHANCE: Final = 8  # characters that mkdtemp adds
_LONGEST_SOCKET: Final = len("/worker-9999-999999.sock")
_LONGEST: Final = 107 - len(f"/{_PREFIX}") - _MADE_BY_CHANCE - _LONGEST_SOCKET
"""Bytes of a directory's path that leave room for sockets in one below it (unix(7): 107)."""
_FRESH_SECONDS: Final = 60.0  # a directory may be made, but not locked yet


@contextmanager
def private_directory(environ: Mapping[str, str]) -> Iterator[Path]:
    """Makes a directory that only this user can enter (0700), and removes it at the end.

    Also removes those of earlier runs that were killed. Raises `OSError` where nothing can be
    written.
    """
    path = _made(environ)
    # Held by this process and all that it forks, for as long as one of them lives.
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made(environ: Mapping[str, str]) -> Path:
    tried = []
    for base in _bases(environ):
        _remove_abandoned(base)
        tried.append(base)
        if len(os.fsencode(base)) > _LONGEST:
            continue
        with suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    raise OSError(
        errno.EROFS,
        "several workers need a directory to write to, and none of these is one: "
        f"{', '.join(tried)}. Mount a tmpfs on /dev/shm or /tmp, set XDG_RUNTIME_DIR to a writable "
        "directory, or set workers: 1",
    )


def _bases(environ: Mapping[str, str]) -> Iterator[str]:
    """Where to make it, best first. systemd may name several directories."""
    bases = (
        environ.get("RUNTIME_DIRECTORY", "").split(":")[0],
        environ.get("XDG_RUNTIME_DIR"),
        SHARED_MEMORY,
        environ.get("TMPDIR"),
        TEMPORARY,
    )
    yield from dict.fromkeys(base for base in bases if base)


def _remove_abandoned(base: str) -> None:
    """Removes directories of this user that no living process holds the lock of."""
    with suppress(OSError):
        for path in Path(base).glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if _may_be_removed(path.lstat()):
                    _remove_unless_locked(path)


def _may_be_removed(status: os.stat_result) -> bool:
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and time.time() - status.st_mtime > _FRESH_SECONDS
    )


def _remove_unless_locked(path: Path) -> None:
    """Raises `OSError` where a process holds the lock."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
