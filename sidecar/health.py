"""Asks a running sidecar's admin listener whether it is alive, or ready."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Final

SECONDS: Final = 5.0
_LOOPBACK: Final = "127.0.0.1"  # reaches every address that is written as one of these
_ANY: Final = {"0.0.0.0": _LOOPBACK, "::": _LOOPBACK, "*": _LOOPBACK, "": _LOOPBACK}  # noqa: S104
_TCP: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>[0-9]{1,5})"
)
_UNIX: Final = "unix:"


class _Connection(HTTPConnection):
    """To a host and port, or to a Unix socket."""

    def __init__(self, host: str, port: int, path: str | None, seconds: float) -> None:
        super().__init__(_ANY.get(host, host), port, timeout=seconds)
        self._path = path

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection_to(admin: str, seconds: float = SECONDS) -> HTTPConnection:
    """A connection to the listener at an address. Raises `ValueError` for what is none."""
    if admin.startswith(_UNIX + "/"):
        return _Connection("admin", 0, admin.removeprefix(_UNIX).partition("|")[0], seconds)
    found = _TCP.fullmatch(admin)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("must be host:port, [v6]:port or unix:/path")
    return _Connection(found["v6"] or found["host"], int(found["port"]), None, seconds)


def cause_of(admin: str, error: Exception) -> str:
    """Why nobody answers there."""
    return f"{admin}: {getattr(error, 'strerror', None) or type(error).__name__}"


def ask(admin: str, *, ready: bool) -> tuple[bool, str]:
    """Returns whether the answer is a good one, and what it says.

    `admin` is written as the configuration's key `admin` is. Raises `ValueError` if it is not. No
    configuration is needed: one that is broken by now says nothing of the sidecar that runs.
    """
    with closing(connection_to(admin)) as asked:
        try:
            asked.request("GET", "/readyz" if ready else "/healthz")
            answer = asked.getresponse()
            return answer.status == 200, answer.read(65536).decode("utf-8", "replace")
        except (OSError, HTTPException) as error:
            return False, cause_of(admin, error)
