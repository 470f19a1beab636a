"""Whether files can be where, and what, the configuration wants. Nothing is made there.

All raise `UnusableFile`, also for a directory that this user may not enter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.tls import UnusableFile, client_context

if TYPE_CHECKING:
    from sidecar.core.store_url import StoreUrl

_STORE: Final = "store.url"
_DATABASE: Final = b"SQLite format 3\0"
"""What a database of SQLite begins with (sqlite.org/fileformat.html)."""


def require_store_files(url: StoreUrl) -> None:
    """The files of a store can be used: the database, or certificates and keys."""
    if url.tls:
        client_context(url.ca, url.cert, url.key, _STORE)
    if url.kind == "sqlite":
        _require_database(Path(url.path))


def _require_database(path: Path) -> None:
    """It can be made, or seems to be one."""
    with _naming(_STORE, path):
        _require_place(_STORE, path)
        if path.exists() and not path.is_file():
            raise UnusableFile(_STORE, str(path), "must be a regular file")
        if path.is_file():
            with path.open("rb") as file:
                begins = file.read(len(_DATABASE))
            if begins not in (b"", _DATABASE):  # an empty file is an empty database
                raise UnusableFile(_STORE, str(path), "must be a SQLite database; remove the file")


def require_appendable(key: str, path: Path) -> None:
    """A regular file is there to be appended to, or can be made."""
    with _naming(key, path):
        if not path.exists():
            _require_place(key, path)
        elif not path.is_file():
            raise UnusableFile(key, str(path), "must be a regular file")
        elif not os.access(path, os.W_OK):
            raise UnusableFile(key, str(path), "must be writable for this user")


def require_socket_place(key: str, path: Path) -> None:
    """A Unix socket can be made there, or is there."""
    with _naming(key, path):
        _require_place(key, path)
        if path.exists() and not path.is_socket():
            raise UnusableFile(key, str(path), "must be a socket; remove the file")


def _require_place(key: str, path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise UnusableFile(key, str(path), f"the directory {folder} is missing")
    if path.is_dir():
        raise UnusableFile(key, str(path), "must not be a directory")
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        raise UnusableFile(key, str(path), "must be readable and writable for this user")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnusableFile(key, str(path), f"the directory {folder} must be writable for this user")


@contextmanager
def _naming(key: str, path: Path) -> Iterator[None]:
    """Raises what the system refuses as `UnusableFile`, which names the key.

    That a directory may not be entered is found out first: newer versions of Python take what is in
    it for missing.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
        yield
    except UnusableFile:
        raise
    except OSError as error:
        cause = (error.strerror or type(error).__name__).lower()
        raise UnusableFile(key, str(path), cause) from None
