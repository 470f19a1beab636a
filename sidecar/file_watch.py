"""Watches files for other contents, wherever links lead, without waking up for anything else.

A file is changed in place, replaced by another of its name (editors), or reached by a link that is
replaced further up (Kubernetes: `x` leads to `..data/x`, and `..data` to the newest directory). So
each directory on the way is watched for the names that count there, and the file itself too: one
that is mounted alone has another directory outside.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from sidecar.inotify import IGNORED, OVERFLOW, Inotify

if TYPE_CHECKING:
    import signal

Digests: TypeAlias = Mapping[str, bytes | None]
"""What paths held: a hash of the contents, None if nothing could be read."""

SETTLE_SECONDS: Final = 0.5  # without another event, until a change counts as complete

_LINKS: Final = 40  # on the way to a file at most, as for the kernel (path_resolution(7))
_ENTRIES: Final = 1000  # of a directory that count at most
_LIMITS: Final = {
    errno.EMFILE: "fs.inotify.max_user_instances, or the limit of open files (ulimit -n)",
    errno.ENFILE: "fs.file-max",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}


def digest_of_file(path: str) -> bytes | None:
    """Of a file's contents, or of all files in a directory; None if it cannot be read.

    What is no file, such as a pipe, is not read: it might never end, or be read by nobody else.
    """
    try:
        if Path(path).is_dir():
            return _digest_of_directory(Path(path))
        return digest_of_bytes(Path(path).read_bytes()) if Path(path).is_file() else None
    except OSError:
        return None


def digest_of_bytes(data: bytes) -> bytes:
    """As of a file with these contents."""
    return hashlib.sha256(data).digest()


def _digest_of_directory(path: Path) -> bytes:
    hashed = hashlib.sha256()
    for entry in sorted(path.iterdir())[:_ENTRIES]:
        if entry.is_file():
            hashed.update(os.fsencode(entry.name) + b"\0" + (digest_of_file(str(entry)) or b""))
    return hashed.digest()


def hindrance(error: OSError) -> str:
    """Why nothing can be watched, and the remedy."""
    limit = _LIMITS.get(error.errno or 0)
    remedy = "" if limit is None else f"; raise {limit}"
    return f"changed files do not reload ({error.strerror}){remedy}; use SIGHUP or POST /reload"


class FileWatch:
    """Watches some files. Raises `OSError` if the system gives no more watches (`hindrance`)."""

    def __init__(self) -> None:
        self._inotify: Final = Inotify()
        self._digests: Digests = {}
        self._names: dict[int, frozenset[str]] = {}  # by watch; none: every event counts

    def fileno(self) -> int:
        """Readable once something may have changed."""
        return self._inotify.fileno()

    def send(self, number: signal.Signals) -> None:
        """Has this process get a signal whenever something may have changed."""
        self._inotify.send(number)

    def close(self) -> None:
        """Watches nothing any more."""
        self._inotify.close()

    def watch(self, digests: Digests) -> None:
        """Watches these from now on, for other contents than they had."""
        self._digests = dict(digests)
        self.follow()

    def take(self) -> bool:
        """Whether anything that counts has happened since the last call."""
        touched = False
        for event in self._inotify.read():
            if event.mask & IGNORED:
                self._names.pop(event.watch, None)
                continue
            names = self._names.get(event.watch)
            is_ours = names is not None and (not names or not event.name or event.name in names)
            touched |= is_ours or bool(event.mask & OVERFLOW)
        return touched

    def changed(self) -> list[str]:
        """The files that hold something else than they did. May run in a thread."""
        return [path for path, was in self._digests.items() if digest_of_file(path) != was]

    def follow(self) -> None:
        """Watches the way to each file as it is now, which may be another one after an event."""
        wanted: dict[int, frozenset[str]] = {}
        for place, names in _places(self._digests).items():
            watch = self._add(str(place))
            if watch is not None:  # the same one if several places are one directory
                wanted[watch] = _both(wanted.get(watch, names), names)
        for gone in self._names.keys() - wanted.keys():
            self._inotify.remove(gone)
        self._names = wanted

    def _add(self, place: str) -> int | None:
        try:
            return self._inotify.add(place)
        except OSError as error:
            if error.errno in _LIMITS:
                raise
            return None  # gone since, or closed to this user


def _places(paths: Iterable[str]) -> dict[Path, frozenset[str]]:
    """What to watch, for which names in it; none for a file or directory that counts as a whole."""
    places: dict[Path, frozenset[str]] = {}
    for path in paths:
        for place, name in _way(path):
            names = frozenset(() if name is None else (name,))
            places[place] = _both(places.get(place, names), names)
    return places


def _both(some: frozenset[str], others: frozenset[str]) -> frozenset[str]:
    return some | others if some and others else frozenset()


def _way(path: str) -> Iterator[tuple[Path, str | None]]:
    """Each directory and name in it whose change leads to another file, then the file itself.

    If something is missing on the way, that is the last.
    """
    at, links = Path("/"), 0
    todo = [*reversed((Path.cwd() / path).parts[1:])]
    while todo:
        name = todo.pop()
        if name == "..":
            at = at.parent
            continue
        inside = at / name
        is_link = inside.is_symlink()
        is_there = is_link or _exists(inside)
        if is_link or not todo or not is_there:
            yield at, name
        if not is_there:
            return
        if not is_link:
            at = inside
            continue
        links += 1
        if links > _LINKS:
            return
        target = inside.readlink()
        if target.is_absolute():
            at = Path("/")
        todo += [part for part in reversed(target.parts) if part != "/"]
    yield at, None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
