"""Heads in both directions: what the upstream is sent, and what the client is given.

Everything here is pure: bytes and values in, bytes out. Framing fields (Content-Length,
Transfer-Encoding, Connection) are written by whoever owns the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import (
    RESPONSE_FIELDS,
    Fate,
    at_least_private,
    decodable_codings,
    is_clean_block,
    list_members,
    vary_by_cookie,
)
from sidecar.core.request import Request
from sidecar.core.routes import Route

PASS: Final = Fate.PASS
TAKE: Final = Fate.TAKE
BAD: Final = Fate.BAD

VIA: Final = b"Via: 1.1 sidecar\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a client connection; rendered once for all its requests.

    `address` is the peer's IP address (empty for a Unix socket), `trusted` whether its
    X-Forwarded-* are believed, `scheme` what it speaks to us.
    """

    address: str
    trusted: bool
    scheme: bytes

    def client_address(self, request: Request) -> str:
        """The client's address: the peer's, or what a trusted proxy says it is."""
        if self.trusted:
            chain = list_members(request.fact(b"x-forwarded-for"))
            if chain:
                return chain[0].decode("latin-1")
        return self.address

    def public_scheme(self, request: Request) -> bytes:
        """The scheme that the browser used (X-Forwarded-Proto is believed from trusted peers)."""
        if self.trusted:
            told = request.fact(b"x-forwarded-proto").split(b",", 1)[0].strip().lower()
            if told in (b"http", b"https"):
                return told
        return self.scheme

    def public_host(self, request: Request) -> bytes:
        """The host that the browser asked for (X-Forwarded-Host is believed from trusted peers)."""
        if self.trusted:
            told = request.fact(b"x-forwarded-host").split(b",", 1)[0].strip()
            if told:
                return told
        return request.host

    def forwarded_lines(self, request: Request) -> bytes:
        """The X-Forwarded-* lines for the upstream: rewritten, or extended for a trusted peer."""
        address = self.address.encode()
        if self.trusted:
            before = request.fact(b"x-forwarded-for")
            address = b", ".join(part for part in (before, address) if part)
        lines = b"X-Forwarded-Proto: %b\r\n" % self.public_scheme(request)
        if address:
            lines += b"X-Forwarded-For: %b\r\n" % address
        host = self.public_host(request)
        if host:
            lines += b"X-Forwarded-Host: %b\r\n" % host
        if self.trusted:
            for name in (b"X-Forwarded-Port", b"X-Forwarded-Prefix"):
                value = request.fact(name.lower())
                if value:
                    lines += b"%b: %b\r\n" % (name, value)
        return lines


def request_id(request: Request, fresh: bytes) -> bytes:
    """The request's id: the client's own where it is well formed, else `fresh`."""
    given = request.facts.get(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else fresh


def prepare_request(
    request: Request,
    route: Route,
    peer: Peer,
    *,
    cookie: bytes,
    authorization: bytes,
    request_id: bytes,
    traceparent: bytes,
) -> list[bytes]:
    """Renders the upstream's request head but for framing and the final empty line.

    `cookie` is the Cookie value to send (empty for none), `authorization` a whole line or empty;
    the upstream's and the sidecar's own fields come after the client's and cannot be taken off.
    """
    facts = request.facts
    target = route.upstream_target(request.path, request.query)
    head = [
        request.method.encode(),
        b" ",
        target.encode("utf-8", "surrogateescape"),
        b" HTTP/1.1\r\nHost: ",
        route.host or request.host,
        b"\r\n",
        *request.lines,
        authorization,
        peer.forwarded_lines(request),
        b"X-Request-Id: ",
        request_id,
        b"\r\n",
        VIA,
    ]
    if cookie:
        head += (b"Cookie: ", cookie, b"\r\n")
    accepted = facts.get(b"accept-encoding")
    if accepted is not None:
        codings = accepted if route.envelope is None else decodable_codings(accepted)
        head += (b"Accept-Encoding: ", codings, b"\r\n")
    given = facts.get(b"traceparent")
    if given is None or not _TRACEPARENT.fullmatch(given):
        given = traceparent
    head += (b"traceparent: ", given, b"\r\n")
    for name in (b"if-match", b"if-none-match"):
        if name in facts:
            head += _validators(name, facts[name], wrapped=route.envelope is not None)
    return head


def _validators(name: bytes, value: bytes, *, wrapped: bool) -> tuple[bytes, ...]:
    """Takes the `W/` off again that wrapping put on a strong ETag (RFC 9110 13.1.1)."""
    if wrapped and name == b"if-match":
        value = value.replace(b"W/", b"")
    return (name.title(), b": ", value, b"\r\n")


class AnswerHead:
    """An upstream's answer head, read once.

    `lines` pass on unchanged, `facts` are read by lower-case name, `cookies` are the Set-Cookie
    values one by one, since they must never be joined (RFC 9110 5.3).
    """

    __slots__ = ("cookies", "facts", "lines", "status")

    def __init__(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        if not 200 <= status <= 599 and status != 101:
            raise UpstreamProtocolError(f"status {status}")
        self.status = status
        self.cookies: list[bytes] = []
        self.lines: list[bytes] = []
        self.facts: dict[bytes, bytes] = {}
        self._read(fields)

    def _read(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        lines, facts = self.lines, self.facts
        fate_of = RESPONSE_FIELDS.memo.get
        for name, value in fields:
            fate = fate_of(name)
            if fate is None:
                fate = RESPONSE_FIELDS.fate(name)
            if fate is PASS:
                lines += (name, b": ", value, b"\r\n")
            elif fate is TAKE:
                lower = name.lower()
                if lower == b"set-cookie":
                    self.cookies.append(value)
                elif lower in facts:
                    facts[lower] += b", " + value
                else:
                    facts[lower] = value
            elif fate is BAD:
                raise UpstreamProtocolError("answer head holds a name that is none")
        connection = facts.get(b"connection")
        if connection is not None:
            nominated = set(list_members(connection))
            self.lines = [
                piece
                for at in range(0, len(lines), 4)
                if lines[at].lower() not in nominated
                for piece in lines[at : at + 4]
            ]

    def fact(self, name: bytes) -> bytes:
        """The value of a field that the sidecar reads, or empty."""
        return self.facts.get(name, b"")

    @property
    def is_empty(self) -> bool:
        """Whether the head says that there is no body."""
        return self.facts.get(b"content-length") == b"0"


_PASSED_AS_THEY_ARE: Final = (
    b"content-type",
    b"content-encoding",
    b"content-disposition",
    b"content-range",
    b"etag",
    b"accept-ranges",
    b"content-md5",
    b"digest",
    b"content-digest",
    b"repr-digest",
    b"x-content-type-options",
    b"www-authenticate",
)
# Of these only what stays true of a rewritten body is kept (contract 3).
_PASSED_WHEN_WRAPPED: Final = (b"www-authenticate",)
_CANONICAL: Final = {name: name.title() + b": " for name in _PASSED_AS_THEY_ARE} | {
    b"etag": b"ETag: ",
    b"www-authenticate": b"WWW-Authenticate: ",
    b"content-md5": b"Content-MD5: ",
}
WRAPPED_TYPE: Final = b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"


def reason_phrase(status: int, given: str = "") -> str:
    """The upstream's reason phrase where it is printable, else the standard one, else empty."""
    if given and given.isascii() and given.isprintable():
        return given
    return _PHRASES.get(status, "")


def status_line(status: int, reason: str = "") -> bytes:
    """An HTTP/1.1 status line; an unprintable reason gives way to the standard one."""
    return b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status, reason).encode())


def clean_response(
    head: AnswerHead,
    route: Route,
    *,
    reason: str,
    wrapped: bool,
    private: bool,
    cookies: Iterable[bytes],
    no_store: bool,
    request_id: bytes,
    date: bytes,
) -> bytes:
    """Renders the client's answer head but for framing and the final empty line.

    `wrapped`: the body is an envelope, so fields that described the upstream's bytes are made
    true or go; `private`: a credential was injected; `no_store`: a session cookie is set or
    expired; `cookies`: the Set-Cookie values that may pass.
    Raises `UpstreamProtocolError` where a field holds a control character.
    """
    facts = head.facts
    lines = list(head.lines)
    for name in _PASSED_WHEN_WRAPPED if wrapped else _PASSED_AS_THEY_ARE:
        if name in facts:
            lines += (_CANONICAL[name], facts[name], b"\r\n")
    if wrapped and b"etag" in facts:
        etag = facts[b"etag"]
        lines += (b"ETag: ", etag if etag.startswith(b"W/") else b"W/" + etag, b"\r\n")
    lines += (b"Date: ", facts.get(b"date", date), b"\r\n")
    lines += _caching(facts, private=private, no_store=no_store)
    for name, canonical in (
        (b"location", b"Location: "),
        (b"content-location", b"Content-Location: "),
    ):
        if name in facts:
            public = route.public_location(facts[name].decode("latin-1"))
            lines += (canonical, public.encode("latin-1"), b"\r\n")
    for cookie in cookies:
        lines += (b"Set-Cookie: ", cookie, b"\r\n")
    lines += (b"X-Request-Id: ", request_id, b"\r\n")
    block = b"".join(lines)
    if not is_clean_block(block, lines.count(b"\r\n")):
        raise UpstreamProtocolError("answer head holds a control character")
    return status_line(head.status, reason) + block + (WRAPPED_TYPE if wrapped else b"")


def _caching(facts: dict[bytes, bytes], *, private: bool, no_store: bool) -> list[bytes]:
    control = facts.get(b"cache-control")
    vary = facts.get(b"vary")
    if private:
        control = b"private" if control is None else at_least_private(control)
        vary = b"Cookie" if vary is None else vary_by_cookie(vary)
    if no_store:
        control = b"no-store"
    lines: list[bytes] = []
    if control is not None:
        lines += (b"Cache-Control: ", control, b"\r\n")
    if vary is not None:
        lines += (b"Vary: ", vary, b"\r\n")
    return lines
