"""Sockets that listen before there are any workers, so that a busy address is told once."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.web.server import BACKLOG

if TYPE_CHECKING:
    from sidecar.core.config import Listen


@contextmanager
def listening(listen: Listen | None) -> Iterator[tuple[socket.socket, ...]]:
    """Listens on every address that `listen` stands for; none where it is None.

    Closes them at the end, and removes the file of a Unix socket. Raises `OSError` where an address
    cannot be had.
    """
    with ExitStack() as stack:
        sockets: tuple[socket.socket, ...] = ()
        if listen is not None and listen.unix_path is not None:
            sockets = (_listen_unix(listen.unix_path),)
            stack.callback(Path(listen.unix_path).unlink, missing_ok=True)
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
            # A name may stand for an address of IPv6 where the machine has none.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
            continue
        stack.callback(one.close)
        count += 1
        yield one
    if missing is not None and not count:
        raise missing


def _listen_unix(path: str) -> socket.socket:
    """Takes the place of a socket file that nobody listens on any more."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            if _is_served(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
            os.unlink(path)
    one = socket.socket(socket.AF_UNIX)
    try:
        one.bind(path)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise OSError(error.errno, error.strerror, path) from None
    return one


def _is_served(path: str) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        return probe.connect_ex(path) == 0
