"""Heads in both directions: what the upstream is sent, and what the client is given.

Everything here is pure: bytes and values in, bytes out. Framing fields (Content-Length,
Transfer-Encoding, Connection) are written by whoever owns the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from sidecar.core import max_forwards
from sidecar.core.client_address import client_address
from sidecar.core.headers import (
    ANONYMOUS_CORS,
    CORS_POLICY,
    Fate,
    at_least_private,
    decodable_codings,
    is_targeted,
    vary_by,
)
from sidecar.core.https_site import HttpsSite
from sidecar.core.memo import Memo
from sidecar.core.representation import DESCRIBED, representation_lines, strong_tags
from sidecar.core.request import Request, override_lines
from sidecar.core.route_table import NOSNIFF, Route
from sidecar.core.target import is_host, is_local_path, is_port
from sidecar.core.trace_context import trace_id_of
from sidecar.core.upstream_head import UpstreamHead

PASS: Final = Fate.PASS
BAD: Final = Fate.BAD

HANDSHAKE: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
"""The connection-level fields of a handshake, written anew for the upstream (RFC 6455 4.1)."""
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


# What X-Forwarded-Proto says; some proxies name the protocol of a WebSocket (RFC 6455 3).
_SCHEMES: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end of a client connection; rendered once for all its requests.

    `address` is the peer's IP address (empty for a Unix socket), `trusted` whether its
    X-Forwarded-* are believed, `scheme` what it speaks to us. `public` is the origin that browsers
    see, where that is configured: scheme and host. `is_proxy` says which addresses are trusted.
    """

    address: str
    trusted: bool
    scheme: bytes
    public: tuple[bytes, bytes] | None = None
    is_proxy: Callable[[str], bool] | None = None

    def client(self, request: Request) -> str:
        """The address of the client: of the peer, or as trusted proxies tell it."""
        if not self.trusted or self.is_proxy is None:
            return self.address
        told = request.fact(b"x-forwarded-for")
        fields = () if told else request.fields.raw
        forwarded = [value for name, value in fields if name.lower() == b"forwarded"]
        return client_address(self.address, self.is_proxy, told, forwarded)

    def public_scheme(self, request: Request) -> bytes:
        """The scheme that the browser used, by the public origin or else as `told_scheme`."""
        return self.told_scheme(request) if self.public is None else self.public[0]

    def told_scheme(self, request: Request) -> bytes:
        """The scheme that came along (X-Forwarded-Proto is believed from trusted peers)."""
        return self.asked_scheme(request) or self.scheme

    def asked_scheme(self, request: Request) -> bytes | None:
        """The scheme that a trusted peer says that the browser used; None if none says so."""
        if not self.trusted:
            return None
        told = request.fact(b"x-forwarded-proto").split(b",", 1)[0].strip().lower()
        return _SCHEMES.get(told)

    def public_host(self, request: Request) -> bytes:
        """The host that the browser asked for (X-Forwarded-Host is believed from trusted peers)."""
        return self.asked_host(request) if self.public is None else self.public[1]

    def asked_host(self, request: Request) -> bytes:
        """The same, also where another host is the public one.

        What is no host is not believed: clients may have written it, and servers make URLs of it.
        """
        if self.trusted:
            told = request.fact(b"x-forwarded-host").split(b",", 1)[0].strip()
            if told and is_host(told.decode("latin-1")):
                return told
        return request.host

    def forwarded_lines(self, request: Request, stripped: bytes = b"") -> bytes:
        """The X-Forwarded-* lines for the upstream: rewritten, or extended for a trusted peer.

        `stripped` is the prefix that the route takes off the path.
        """
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
            port = request.fact(b"x-forwarded-port")
            if self.public is None and is_port(port):
                lines += b"X-Forwarded-Port: %b\r\n" % port
            stripped = _told_prefix(request) + stripped
        if stripped:
            lines += b"X-Forwarded-Prefix: %b\r\n" % stripped
        return lines


def _told_prefix(request: Request) -> bytes:
    """The prefix that the proxy in front has taken off; empty for what is no path of this host."""
    told = request.fact(b"x-forwarded-prefix").split(b",", 1)[0].strip()
    return told.rstrip(b"/") if is_local_path(told.decode("latin-1")) else b""


def prepare_request(
    request: Request,
    route: Route,
    peer: Peer,
    *,
    cookie: bytes,
    authorization: bytes,
    is_traced: bool = False,
) -> bytes:
    """Renders the upstream's request head but for request id, framing and the last line.

    `cookie` is the Cookie value to send (empty for none), `authorization` a whole line or empty;
    the sidecar's own fields come after the client's and cannot be taken off. `is_traced`: a
    traceparent of the sidecar's own follows.
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
        *(request.fields.lines if route.fields is None else route.fields.lines(request.fields)),
        *override_lines(request, route.fields),
        authorization,
        peer.forwarded_lines(request, route.strip.encode()),
        via_line(facts.get(b"via"), b"1.1" if request.http11 else b"1.0"),
    ]
    if cookie:
        head += (b"Cookie: ", cookie, b"\r\n")
    accepted = request.passing(b"accept-encoding")
    if accepted is not None:
        codings = decodable_codings(accepted) if route.reads_answers else accepted
        head += (b"Accept-Encoding: ", codings, b"\r\n")
    if request.passing(max_forwards.NAME) is not None:
        head.append(max_forwards.forwarded_line(request.method, facts))
    if request.is_websocket:
        head.append(HANDSHAKE)
    for name in (b"if-match", b"if-none-match"):
        validators = request.passing(name)
        if validators is not None:
            head += _validators(name, validators, wrapped=route.envelope is not None)
    traceparent = request.passing(b"traceparent")
    if traceparent is not None and not is_traced and trace_id_of(traceparent):
        head += (b"traceparent: ", traceparent, b"\r\n")
    return b"".join(head)


def given_request_id(request: Request) -> bytes:
    """The client's own request id where it is well formed, else empty."""
    given = request.facts.get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else b""


def _validators(name: bytes, value: bytes, *, wrapped: bool) -> tuple[bytes, ...]:
    if wrapped and name == b"if-match":
        value = strong_tags(value)
    return (name.title(), b": ", value, b"\r\n")


WRAPPED_TYPE: Final = b"Content-Type: application/json\r\n" + NOSNIFF


def reason_phrase(status: int, given: str = "") -> str:
    """The upstream's reason phrase where it is printable, else the standard one, else empty."""
    if given and given.isascii() and given.isprintable():
        return given
    return _PHRASES.get(status, "")


def status_line(status: int, reason: str = "") -> bytes:
    """An HTTP/1.1 status line; an unprintable reason gives way to the standard one."""
    return _STATUS_LINES[status, reason]


def _line(key: tuple[int, str]) -> bytes:
    status, reason = key
    return b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status, reason).encode())


_STATUS_LINES: Final = Memo(_line, 256, lambda key: len(key[1]))
_FIRST_LINES: Final = Memo[tuple[int, str], bytes](
    lambda key: _line(key) + via_line(None, b"1.1"), 256, lambda key: len(key[1])
)


def via_line(given: bytes | None, version: bytes) -> bytes:
    """The Via line of a message that came with the value `given`, in HTTP/`version`.

    The hops before stay, and the sidecar comes last (RFC 9110 7.6.3).
    """
    return b"Via: %b%b sidecar\r\n" % (b"" if given is None else given + b", ", version)


def clean_response(
    head: UpstreamHead,
    route: Route,
    *,
    wrapped: bool,
    private: bool,
    cookies: Iterable[bytes],
    no_store: bool,
    date: bytes,
    cors: bytes | None = b"",
    by_origin: bool = False,
    coding: bytes | None = None,
    site: HttpsSite | None = None,
    sent_host: bytes = b"",
) -> tuple[bytes, bytes]:
    """Renders the client's answer head but for framing and the final empty line.

    Returns what stands before the value of X-Request-Id, and what stands behind it.

    `wrapped`: the body is an envelope, so fields that described the upstream's bytes are made
    true or go; `private`: a credential was injected, so no shared cache may keep the answer, nor
    any of a route that requires a session; `no_store`: a session cookie is set or
    expired; `cookies`: the Set-Cookie values that may pass; `cors`: whole lines in place of the
    upstream's own policy, which stands where it is None, but never for credentials unless the route
    is only observed; `by_origin`: whether other origins would be given other lines; `coding`: that
    of an envelope which depends on what the client accepts, empty for none; `site`: the public one
    if that is https; `sent_host`: the Host of the request, where a location may name it.
    """
    facts = head.facts
    if b"via" in facts or head.version != b"1.1":
        first = _STATUS_LINES[head.status, head.reason] + via_line(facts.get(b"via"), head.version)
    else:
        first = _FIRST_LINES[head.status, head.reason]
    lines = [first + b"Date: " + facts.get(b"date", date)]
    lines += head.lines
    if not (wrapped and DESCRIBED.isdisjoint(facts)):
        lines += representation_lines(head, wrapped=wrapped)
    if coding:
        lines.append(b"Content-Encoding: " + coding)
    if not wrapped and b"x-content-type-options" in facts and not route.nosniff:
        lines.append(b"X-Content-Type-Options: " + facts[b"x-content-type-options"])
    _add_caching(
        lines,
        facts,
        route,
        private=private,
        no_store=no_store,
        by_origin=by_origin,
        by_coding=coding is not None,
    )
    if b"location" in facts or b"content-location" in facts:
        _add_locations(lines, facts, route, site, sent_host)
    lines += map(b"Set-Cookie: ".__add__, cookies)
    if cors is None:
        policy = ANONYMOUS_CORS if route.observes is None else CORS_POLICY
        lines += [name + b": " + facts[name] for name in policy if name in facts]
    lines.append(b"X-Request-Id: ")
    typed = wrapped and head.status != 304
    last = WRAPPED_TYPE if typed else route.nosniff
    return b"\r\n".join(lines), b"\r\n%b%b" % (cors or b"", last)


def _add_caching(
    lines: list[bytes],
    facts: dict[bytes, bytes],
    route: Route,
    *,
    private: bool,
    no_store: bool,
    by_origin: bool,
    by_coding: bool,
) -> None:
    control, vary = facts.get(b"cache-control"), facts.get(b"vary")
    private = private or route.is_private
    if private and control is None and vary is None and not (no_store or by_origin or by_coding):
        lines.append(b"Cache-Control: private\r\nVary: Cookie")  # the common answer
        return
    if private:
        control = b"private" if control is None else at_least_private(control)
    if private or route.by_cookie or by_origin or by_coding:
        vary = vary_by(
            vary or b"",
            cookie=private or route.by_cookie,
            origin=by_origin,
            coding=by_coding,
            is_injected=route.inject and route.authorization is None,
        )
    if no_store:
        control = b"no-store"
    elif not private:
        lines += [name + b": " + value for name, value in facts.items() if is_targeted(name)]
    if control is not None:
        lines.append(b"Cache-Control: " + control)
    if vary is not None:
        lines.append(b"Vary: " + vary)


def _add_locations(
    lines: list[bytes],
    facts: dict[bytes, bytes],
    route: Route,
    site: HttpsSite | None,
    sent_host: bytes,
) -> None:
    for name, canonical in (
        (b"location", b"Location: "),
        (b"content-location", b"Content-Location: "),
    ):
        if name in facts:
            public = route.public_location(facts[name].decode("latin-1"), sent_host)
            if site is not None:
                public = site.location(public)
            lines.append(canonical + public.encode("latin-1"))
