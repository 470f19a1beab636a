"""Asks a running sidecar's admin listener whether it is alive, or ready."""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.core.config import Listen

SECONDS: Final = 5.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach it, not to bind


class _Connection(HTTPConnection):
    """To an address of `listen` or `admin`, a Unix socket's too."""

    def __init__(self, listen: Listen) -> None:
        super().__init__(
            _ANY.get(listen.host, listen.host) or "admin", listen.port, timeout=SECONDS
        )
        self._path = listen.unix_path

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def ask(admin: Listen, *, ready: bool) -> tuple[bool, str]:
    """Whether the answer is a good one, and what it says."""
    with closing(_Connection(admin)) as connection:
        try:
            connection.request("GET", "/readyz" if ready else "/healthz")
            answer = connection.getresponse()
            return answer.status == 200, answer.read(65536).decode("utf-8", "replace")
        except (OSError, HTTPException) as error:
            return False, f"{admin}: {getattr(error, 'strerror', None) or type(error).__name__}"
