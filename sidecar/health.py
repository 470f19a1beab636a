"""Asks a running sidecar's admin listener whether it is alive, or ready.

Containers ask every few seconds, and the time to start is most of what that costs: `http.client`
alone takes as long to import as Python takes to start.
"""

from __future__ import annotations

import re
import socket
from contextlib import closing
from typing import Final

from sidecar.admin_address import SECONDS, admin_address, cause_of

_LONGEST: Final = 65536  # bytes of a response
_REQUEST: Final = b"GET %b HTTP/1.0\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
# HTTP/1.0 has no chunks, and its body ends with the connection.
_RESPONSE: Final = re.compile(
    rb"HTTP/1\.[01] (?P<status>[0-9]{3})\b.*?\r\n\r\n(?P<body>.*)", re.DOTALL
)


def ask(admin: str, *, ready: bool) -> tuple[bool, str]:
    """Returns whether the answer is a good one, and what it says.

    `admin` is written as the configuration's key `admin` is. Raises `ValueError` if it is not. No
    configuration is needed: one that is broken by now says nothing of the sidecar that runs.
    """
    address = admin_address(admin)
    try:
        with closing(address.connect(SECONDS)) as asked:
            asked.sendall(_REQUEST % (b"/readyz" if ready else b"/healthz"))
            answer = _RESPONSE.fullmatch(_whole(asked))
    except OSError as error:
        return False, cause_of(admin, error)
    if answer is None:
        return False, f"{admin}: the answer is not HTTP"
    return answer["status"] == b"200", answer["body"].decode("utf-8", "replace")


def _whole(asked: socket.socket) -> bytes:
    """All that comes until the end, or `_LONGEST` bytes of it. Raises `OSError`."""
    got = bytearray()
    while len(got) < _LONGEST and (piece := asked.recv(_LONGEST - len(got))):
        got += piece
    return bytes(got)
