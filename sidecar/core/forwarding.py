"""Heads in both directions: what the upstream is sent, and what the client is given.

Everything here is pure: bytes and values in, bytes out. Framing fields (Content-Length,
Transfer-Encoding, Connection) are written by whoever owns the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import (
    MEMO_LIMIT,
    RESPONSE_FIELDS,
    TARGETED_CACHING,
    Fate,
    at_least_private,
    decodable_codings,
    is_clean_block,
    list_members,
    vary_by_cookie,
)
from sidecar.core.request import Request, without_lines
from sidecar.core.routes import Route

PASS: Final = Fate.PASS
BAD: Final = Fate.BAD

VIA: Final = b"Via: 1.1 sidecar\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_ENTITY_TAG: Final = re.compile(rb'(?:W/)?("[^"]*")')
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
) -> bytes:
    """Renders the upstream's request head but for framing and the final empty line.

    `cookie` is the Cookie value to send (empty for none), `authorization` a whole line or empty;
    the sidecar's own fields come after the client's and cannot be taken off.
    """
    target = route.upstream_target(request.path, request.query)
    block, is_traced = _upstream_block(request, route, peer, cookie, authorization)
    head = b"%b %b HTTP/1.1\r\n%bX-Request-Id: %b\r\n" % (
        request.method.encode(),
        target.encode("utf-8", "surrogateescape"),
        block,
        request_id,
    )
    return head if is_traced else b"%btraceparent: %b\r\n" % (head, traceparent)


def _upstream_block(
    request: Request, route: Route, peer: Peer, cookie: bytes, authorization: bytes
) -> tuple[bytes, bool]:
    """The field lines that the next request of the same connection is likely to share.

    Remembered beside the fields they were made of: a client repeats its header section, and then
    route, cookie and credential are the very same objects. Also says whether the client's own
    traceparent is among them.
    """
    fields = request.fields
    memo = fields.rendered
    if memo is not None:
        memo_route, memo_peer, memo_cookie, memo_authorization, block, is_traced = memo
        if (
            memo_route is route
            and memo_peer is peer
            and memo_cookie is cookie
            and memo_authorization is authorization
        ):
            return block, is_traced
    facts = fields.facts
    lines = [b"Host: ", route.host or request.host, b"\r\n", *fields.lines, authorization]
    lines += (peer.forwarded_lines(request), VIA)
    if cookie:
        lines += (b"Cookie: ", cookie, b"\r\n")
    accepted = facts.get(b"accept-encoding")
    if accepted is not None:
        codings = accepted if route.envelope is None else decodable_codings(accepted)
        lines += (b"Accept-Encoding: ", codings, b"\r\n")
    for name in (b"if-match", b"if-none-match"):
        if name in facts:
            lines += _validators(name, facts[name], wrapped=route.envelope is not None)
    given = facts.get(b"traceparent")
    is_traced = given is not None and _TRACEPARENT.fullmatch(given) is not None
    if given is not None and is_traced:
        lines += (b"traceparent: ", given, b"\r\n")
    block = b"".join(lines)
    fields.rendered = (route, peer, cookie, authorization, block, is_traced)
    return block, is_traced


def _validators(name: bytes, value: bytes, *, wrapped: bool) -> tuple[bytes, ...]:
    """Takes the `W/` off again that wrapping put on a strong ETag (RFC 9110 13.1.1)."""
    if wrapped and name == b"if-match":
        value = _ENTITY_TAG.sub(rb"\1", value)
    return (name.title(), b": ", value, b"\r\n")


class AnswerHead:
    """An upstream's answer head, read once.

    `lines` pass on unchanged (four pieces a line), `facts` are read by lower-case name, `cookies`
    are the Set-Cookie values one by one, since they must never be joined (RFC 9110 5.3).
    Raises `UpstreamProtocolError` for statuses and field names that are none.
    """

    __slots__ = ("cookies", "facts", "lines", "status")

    def __init__(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        if not 200 <= status <= 599 and status != 101:
            raise UpstreamProtocolError(f"status {status}")
        self.status = status
        self.cookies: list[bytes] = []
        self.lines: list[bytes] = []
        self.facts: dict[bytes, bytes] = {}
        lines, facts = self.lines, self.facts
        lookup = _ANSWER_FIELDS.get
        for name, value in fields:
            lower = lookup(name)
            if lower is None:
                lower = _classify(name)
            if lower == b"":
                lines += (name, b": ", value, b"\r\n")
            elif lower not in facts:
                facts[lower] = value
            else:
                facts[lower] += b", " + value
            if lower == b"set-cookie":
                self.cookies.append(value)
        if b"connection" in facts:
            nominated = list_members(facts[b"connection"])
            if nominated != (b"keep-alive",):
                self.lines = without_lines(lines, nominated)

    def fact(self, name: bytes) -> bytes:
        """The value of a field that the sidecar reads, or empty."""
        return self.facts.get(name, b"")

    @property
    def is_empty(self) -> bool:
        """Whether the head says that there is no body."""
        return self.facts.get(b"content-length") == b"0"


_ANSWER_FIELDS: Final[dict[bytes, bytes]] = {}
"""Spelling → lower-case name of what is read or dropped, empty of what passes. Filled on demand."""


def _classify(name: bytes) -> bytes:
    fate = RESPONSE_FIELDS.fate(name)
    if fate is BAD:
        raise UpstreamProtocolError("answer head holds a name that is none")
    lower = b"" if fate is PASS else name.lower()
    if len(_ANSWER_FIELDS) < MEMO_LIMIT and len(name) <= 64:
        _ANSWER_FIELDS[name] = lower
    return lower


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
_CANONICAL: Final = {name: name.title() for name in _PASSED_AS_THEY_ARE} | {
    b"etag": b"ETag",
    b"www-authenticate": b"WWW-Authenticate",
    b"content-md5": b"Content-MD5",
}
WRAPPED_TYPE: Final = b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"


def reason_phrase(status: int, given: str = "") -> str:
    """The upstream's reason phrase where it is printable, else the standard one, else empty."""
    if given and given.isascii() and given.isprintable():
        return given
    return _PHRASES.get(status, "")


@lru_cache(maxsize=1024)
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
    lines = head.lines.copy()
    for name in _PASSED_WHEN_WRAPPED if wrapped else _PASSED_AS_THEY_ARE:
        if name in facts:
            lines += (_CANONICAL[name], b": ", facts[name], b"\r\n")
    if wrapped and b"etag" in facts:
        etag = facts[b"etag"]
        lines += (b"ETag", b": ", etag if etag.startswith(b"W/") else b"W/" + etag, b"\r\n")
    lines += (b"Date", b": ", facts.get(b"date", date), b"\r\n")
    _add_caching(lines, facts, private=private, no_store=no_store)
    if b"location" in facts or b"content-location" in facts:
        _add_locations(lines, facts, route)
    for cookie in cookies:
        lines += (b"Set-Cookie", b": ", cookie, b"\r\n")
    lines += (b"X-Request-Id", b": ", request_id, b"\r\n")
    block = b"".join(lines)
    if not is_clean_block(block, len(lines) // 4):
        raise UpstreamProtocolError("answer head holds a control character")
    return status_line(head.status, reason) + block + (WRAPPED_TYPE if wrapped else b"")


def _add_locations(lines: list[bytes], facts: dict[bytes, bytes], route: Route) -> None:
    for name, canonical in ((b"location", b"Location"), (b"content-location", b"Content-Location")):
        if name in facts:
            public = route.public_location(facts[name].decode("latin-1"))
            lines += (canonical, b": ", public.encode("latin-1"), b"\r\n")


def _add_caching(
    lines: list[bytes], facts: dict[bytes, bytes], *, private: bool, no_store: bool
) -> None:
    control = facts.get(b"cache-control")
    vary = facts.get(b"vary")
    if private:
        control = b"private" if control is None else at_least_private(control)
        vary = b"Cookie" if vary is None else vary_by_cookie(vary)
    if no_store:
        control = b"no-store"
    elif not private:
        for name in TARGETED_CACHING:
            if name in facts:
                lines += (name.title(), b": ", facts[name], b"\r\n")
    if control is not None:
        lines += (b"Cache-Control", b": ", control, b"\r\n")
    if vary is not None:
        lines += (b"Vary", b": ", vary, b"\r\n")
