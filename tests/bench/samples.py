"""Single answers: what a contender says, and whether it is what it should say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from gzip import decompress
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import msgspec

from tests.bench.contenders import Body, Cookies
from tests.bench.faults import BenchError
from tests.bench.payloads import data_of
from tests.bench.servers import Server
from tests.bench.site import Site

_MEMBERS = ("isError", "message", "data", "status", "errorData")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as a load repeats it; `fields` besides the session's Cookie."""

    path: str
    method: str = "GET"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 200


def send(
    connection: HTTPConnection, server: Server, ask: Ask, upload: Iterable[bytes] | None = None
) -> HTTPResponse:
    """Asks with the server's session; the answer's body is still to be read.

    Raises `BenchError` unless the status is the one that is due.
    """
    fields = {"Cookie": server.session.header, **ask.fields}
    connection.request(ask.method, server.path(ask.path), upload or ask.body, fields)
    response = connection.getresponse()
    if response.status != ask.status:
        raise BenchError(f"{server.name} answers {ask.path} with {response.status}")
    return response


def size_of(server: Server, site: Site, ask: Ask) -> int:
    """How many bytes the answer has on the wire, all of it.

    Raises `BenchError` where its coding is not what was asked for, or a document is not right.
    """
    with closing(server.connect()) as connection:
        response = send(connection, server, ask)
        body = response.read()
    coding, asked = response.getheader("Content-Encoding"), ask.fields.get("Accept-Encoding")
    if coding != asked:
        raise BenchError(f"{server.name} answers in the coding {coding}, not {asked}")
    document = site.home / "www/api" / ask.path[1:]
    if document.is_file():
        check_body(server, decompress(body) if coding else body, document.read_bytes())
    line = f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n"
    fields = sum(len(f"{name}: {value}\r\n") for name, value in response.getheaders())
    return len(line) + fields + len(body)


# -- bodies -------------------------------------------------------------------------------------


def check_body(server: Server, body: bytes, document: bytes) -> None:
    """Raises `BenchError` where that is not what the contender should make of the document."""
    if not _CHECKS[server.contender.body](body, document):
        raise BenchError(f"{server.name} does not answer with {server.contender.body.value}")


def is_spliced(body: bytes, document: bytes) -> bool:
    """Whether it is the envelope of a success, with the bytes of the document's data."""
    expected = dict(
        zip(_MEMBERS, (b"false", b"null", data_of(document), b"200", b"null"), strict=True)
    )
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return {member: bytes(raw) for member, raw in members.items()} == expected


def _is_rewritten(body: bytes, document: bytes) -> bool:
    data = msgspec.json.decode(data_of(document))
    expected = dict(zip(_MEMBERS, (False, None, data, 200, None), strict=True))
    return bool(msgspec.json.decode(body) == expected)


_CHECKS: Mapping[Body, Callable[[bytes, bytes], bool]] = {
    Body.AS_IT_IS: bytes.__eq__,
    Body.SPLICED: is_spliced,
    Body.REWRITTEN: _is_rewritten,
}


# -- what the upstream has seen -----------------------------------------------------------------


def check_upstream_side(server: Server) -> None:
    """Raises `BenchError` unless the upstream is sent what it should be: the token, in its field,
    and the cookies that are due.
    """
    with closing(server.connect()) as connection:
        told = data_told(send(connection, server, Ask("/echo")).read())
    contender, session = server.contender, server.session
    cookie = {
        Cookies.KEPT: session.header,
        Cookies.STRIPPED: session.others,
        Cookies.DROPPED: None,
    }[contender.cookies]
    token = told.pop(contender.token, None) if contender.token else None
    right = token is not None and session.is_token(token.removeprefix("Bearer "))
    if told.pop("cookie") != cookie or right != bool(contender.token) or any(told.values()):
        raise BenchError(f"{server.name} does not send the upstream what it should")


def data_told(body: bytes) -> dict[str, Any]:
    """What the telling upstream has answered, through any contender."""
    data: dict[str, Any] = msgspec.json.decode(body)["data"]
    return data
