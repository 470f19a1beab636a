"""What commands have a running sidecar do, by its admin listener."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPException
from typing import Final

from sidecar.core.admin_guard import HEADER
from sidecar.core.end_request import EndRequest, EndResult, read_end_result
from sidecar.health import cause_of, connection_to

END_SECONDS: Final = 60.0  # every process and the store take their time


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
