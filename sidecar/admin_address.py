"""Where a running sidecar's admin listener is, and a connection to it."""

from __future__ import annotations

import re
import socket
from typing import Final, NamedTuple

SECONDS: Final = 5.0
_LOOPBACK: Final = "127.0.0.1"  # reaches every address that is written as one of these
_ANY: Final = {"0.0.0.0": _LOOPBACK, "::": _LOOPBACK, "*": _LOOPBACK, "": _LOOPBACK}  # noqa: S104
_TCP: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>[0-9]{1,5})"
)
_UNIX: Final = "unix:"


class AdminAddress(NamedTuple):
    """A host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str | None = None

    def connect(self, seconds: float) -> socket.socket:
        """Raises `OSError`."""
        if self.path is None:
            return socket.create_connection((self.host, self.port), seconds)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(seconds)
        try:
            made.connect(self.path)
        except OSError:
            made.close()
            raise
        return made


def admin_address(admin: str) -> AdminAddress:
    """Of what is written as the key `admin` is. Raises `ValueError` if it is not."""
    if admin.startswith(_UNIX + "/"):
        return AdminAddress("admin", 0, admin.removeprefix(_UNIX).partition("|")[0])
    found = _TCP.fullmatch(admin)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("must be host:port, [v6]:port or unix:/path")
    host = found["v6"] or found["host"]
    return AdminAddress(_ANY.get(host, host), int(found["port"]))


def cause_of(admin: str, error: Exception) -> str:
    """Why nobody answers there."""
    return f"{admin}: {getattr(error, 'strerror', None) or type(error).__name__}"
