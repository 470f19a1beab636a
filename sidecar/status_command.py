"""Asks a running sidecar's admin listener what it sees: once, or request by request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from sidecar.admin_address import cause_of
from sidecar.admin_call import connection_to
from sidecar.observation.status_model import Story

_LONGEST: Final = 64 * 1024 * 1024
_DATA: Final = b"data: "


class NoAnswer(Exception):
    """The admin listener does not answer, or not with what was asked for."""


def document(admin: str) -> bytes:
    """`/status.json` as it comes. Raises `NoAnswer`, and `ValueError` for what is no address."""
    return _got(admin, "/status.json")


def _got(admin: str, path: str) -> bytes:
    """A document of the admin listener."""
    with closing(connection_to(admin)) as asked:
        try:
            asked.request("GET", path, headers={"Host": "localhost"})
            answer = asked.getresponse()
            body = answer.read(_LONGEST)
        except (OSError, HTTPException) as error:
            raise NoAnswer(cause_of(admin, error)) from None
    if answer.status != 200:
        raise NoAnswer(f"{admin}: HTTP {answer.status}")
    return body


def story(admin: str, session: str) -> Story:
    """What is remembered of a session. Raises what `document` raises."""
    return msgspec.json.decode(_got(admin, f"/session?{urlencode({'id': session})}"), type=Story)


def requests(admin: str, *, session: str | None, errors: bool) -> Iterator[dict[str, Any]]:
    """Requests as they end, until the sidecar does. Raises what `document` raises."""
    asked = {"session": session or "", "errors": str(int(errors))}
    with closing(connection_to(admin)) as stream:
        try:
            stream.request("GET", f"/tail?{urlencode(asked)}", headers={"Host": "localhost"})
            answer = stream.getresponse()
            if answer.status != 200:
                raise NoAnswer(f"{admin}: HTTP {answer.status}")
            if stream.sock is not None:
                stream.sock.settimeout(None)  # nobody knows when the next request comes
            yield from _events(answer)
        except (OSError, HTTPException) as error:
            raise NoAnswer(cause_of(admin, error)) from None


def _events(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := answer.readline():
        if line.startswith(_DATA):
            told = msgspec.json.decode(line.removeprefix(_DATA))
            if isinstance(told, dict):
                yield told
