"""Listens before workers are forked, so that a busy address is reported once.

A Unix socket takes the place of the one that was there, in one step: a new process can start beside
the one that it replaces, and no client meets a moment without either. The process that ends removes
the file only if it is still its own.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.web.accepting import BACKLOG

if TYPE_CHECKING:
    from sidecar.core.config import Listen


@contextmanager
def listening(
    listen: Listen | None, given: Sequence[socket.socket] = ()
) -> Iterator[tuple[socket.socket, ...]]:
    """Listens on every address that `listen` stands for; none if it is None.

    `given` are sockets that listen already; then no other is opened. Closes them at the end, and
    removes the file of a Unix socket unless it was given. Raises `OSError` if an address cannot be
    had.
    """
    with ExitStack() as stack:
        sockets = tuple(given)
        if given:
            pass
        elif listen is not None and listen.unix_path is not None:
            sockets = (_listen_unix(stack, Path(listen.unix_path)),)
        elif listen is not None:
            sockets = tuple(_listen_tcp(stack, listen))
        for one in sockets:
            stack.callback(one.close)
        yield sockets


def _listen_tcp(stack: ExitStack, listen: Listen) -> Iterator[socket.socket]:
    """One socket for each address of the host."""
    missing: OSError | None = None
    count = 0
    found = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            one = socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            # A name may stand for an address of IPv6 though the machine has none.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
            continue
        stack.callback(one.close)
        count += 1
        yield one
    if missing is not None and not count:
        raise missing


def _listen_unix(stack: ExitStack, path: Path) -> socket.socket:
    """Listens under a name of its own first, which then becomes `path`."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EADDRINUSE, "a file that is no socket is in the way", str(path))
    own = path.with_name(f".{os.getpid():x}")
    one = socket.socket(socket.AF_UNIX)
    try:
        own.unlink(missing_ok=True)
        one.bind(str(own))
        one.listen(BACKLOG)
        identity = _identity(own)
        own.replace(path)
    except OSError as error:
        one.close()
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    stack.callback(_remove, path, identity)
    return one


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _remove(path: Path, identity: tuple[int, int]) -> None:
    """Removes a socket's file, unless another process has taken its place."""
    with suppress(FileNotFoundError):
        if _identity(path) == identity:
            path.unlink()
