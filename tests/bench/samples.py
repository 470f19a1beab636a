"""Single answers: what a contender says, and whether it is what it should say."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse

import msgspec
from configs import VARIANTS, WRAPPING, Site
from faults import BenchError
from payloads import data_of
from servers import Server

_MEMBERS = ("isError", "message", "data", "status", "errorData")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's body, and the size on the wire of all of it."""

    body: bytes
    size: int


def ask(
    connection: HTTPConnection,
    server: Server,
    site: Site,
    path: str,
    *,
    upload: Iterable[bytes] | None = None,
    length: int = 0,
) -> HTTPResponse:
    """Asks as the load does, or uploads `length` bytes; the body is still to be read.

    Raises `BenchError` unless the answer is a 200.
    """
    headers = {"Cookie": site.login.header}
    if upload is not None:
        headers["Content-Length"] = str(length)
    connection.request("GET" if upload is None else "POST", path, upload, headers)
    response = connection.getresponse()
    if response.status != 200:
        raise BenchError(f"{server.name} answers {path} with {response.status}")
    return response


def fetch_document(server: Server, site: Site, file: str) -> Answer:
    """A document through a contender. Raises `BenchError` where it is not the upstream's, or
    not the envelope round it.
    """
    answer = _fetch(server, site, f"{server.base}/{file}")
    document = (site.home / "www" / file).read_bytes()
    if server.name in WRAPPING:
        check_envelope(server.name, answer.body, data_of(document))
    elif answer.body != document:
        raise BenchError(f"{server.name} does not pass {file} on as it is")
    return answer


def check_envelope(name: str, body: bytes, data: bytes) -> None:
    """Raises `BenchError` unless the body is the envelope of a success with that `data`."""
    expected = dict(zip(_MEMBERS, (b"false", b"null", data, b"200", b"null"), strict=True))
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        members = {}
    if {member: bytes(raw) for member, raw in members.items()} != expected:
        raise BenchError(f"{name} does not answer with the envelope")


def check_upstream_side(server: Server, site: Site) -> None:
    """Raises `BenchError` unless the upstream is sent what it should be: through the sidecar
    the token and no session cookie, through the others the cookies as they came.
    """
    login = site.login
    expected: dict[str, str | None]
    if server.name in VARIANTS:
        expected = {"authorization": f"Bearer {login.token}", "cookie": login.others}
    else:
        expected = {"authorization": None, "cookie": login.header}
    if told_by_echo(server, _fetch(server, site, "/echo/").body) != expected:
        raise BenchError(f"{server.name} does not send the upstream what it should")


def told_by_echo(server: Server, body: bytes) -> object:
    """What the echoing upstream has answered through this contender."""
    told = msgspec.json.decode(body)
    return told["data"] if server.name in VARIANTS else told


def _fetch(server: Server, site: Site, path: str) -> Answer:
    with closing(server.connect()) as connection:
        response = ask(connection, server, site, path)
        body = response.read()
    line = f"HTTP/1.1 200 {response.reason}\r\n\r\n"
    fields = sum(len(f"{name}: {value}\r\n") for name, value in response.getheaders())
    return Answer(body, len(line) + fields + len(body))
