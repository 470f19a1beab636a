"""What commands have a running sidecar do, by its admin listener."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Final

from sidecar.admin_address import SECONDS, AdminAddress, admin_address, cause_of
from sidecar.core.admin_guard import HEADER
from sidecar.core.end_request import EndRequest, EndResult, read_end_result

END_SECONDS: Final = 60.0  # every process and the store take their time


class _Connection(HTTPConnection):
    """To the admin listener, by whatever leads to it."""

    def __init__(self, address: AdminAddress, seconds: float) -> None:
        super().__init__(address.host, address.port, timeout=seconds)
        self._address: Final = address
        self._seconds: Final = seconds

    def connect(self) -> None:
        self.sock = self._address.connect(self._seconds)


def connection_to(admin: str, seconds: float = SECONDS) -> HTTPConnection:
    """A connection to the listener at an address. Raises `ValueError` for what is none."""
    return _Connection(admin_address(admin), seconds)


def end_sessions(admin: str, asked: EndRequest) -> EndResult:
    """Has the sidecar end sessions. Returns what came of it.

    Raises `ValueError` if `admin` is no address. If nobody answers, the result is `failed`.
    """
    body = json.dumps(asked.as_json())
    with closing(connection_to(admin, END_SECONDS)) as connection:
        try:
            connection.request("POST", "/sessions/end", body, {HEADER: "1"})
            answer = connection.getresponse()
            content = answer.read(65536)
        except (OSError, HTTPException) as error:
            return EndResult(result="failed", reason=cause_of(admin, error))
    try:
        return read_end_result(content)
    except ValueError:
        return EndResult(result="failed", reason=f"{admin}: answered {answer.status}")
