"""A client's request head, read once: what passes on, and what the sidecar needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from sidecar.core.errors import BadRequest
from sidecar.core.headers import REQUEST_FIELDS, Fate, list_members
from sidecar.core.target import is_host, normalise, split_target

PASS: Final = Fate.PASS
NOTE: Final = Fate.NOTE
TAKE: Final = Fate.TAKE

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
IDEMPOTENT_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
REFUSED_METHODS: Final = frozenset(("CONNECT", "TRACE", "PRI"))

# Connection options that name no field to be removed.
_PLAIN_OPTIONS: Final = frozenset((b"keep-alive", b"close", b"upgrade", b"te"))


class Client(StrEnum):
    """Who asks, as far as headers tell: the rows of the contract's answer tables."""

    DOCUMENT = "document"  # a navigation that draws the answer
    PREFETCH = "prefetch"  # speculative; must touch nothing
    ROUTER = "router"  # router data (React Server Components)
    WEBSOCKET = "websocket"
    FETCH = "fetch"  # scripts, and whatever else reads the answer as data


class Request:
    """The head of one request.

    `lines` are rendered field lines that pass on unchanged; `facts` are the values the sidecar
    reads, by lower-case name; several fields of one name are joined as RFC 9110 5.3 says
    (Cookie with `; `, RFC 6265 5.4).
    """

    __slots__ = ("cookie", "facts", "host", "lines", "method", "path", "query", "route_path")

    def __init__(
        self, method: str, target: str, fields: Iterable[tuple[bytes, bytes]], *, http11: bool
    ) -> None:
        if method in REFUSED_METHODS:
            raise BadRequest(f"method {method} is not served")
        self.method = method
        self.path, self.query = split_target(target)
        self.route_path = normalise(self.path)
        self.lines, self.facts = _read_fields(fields)
        self.cookie = self.facts.get(b"cookie", b"")
        self.host = self._host(http11)

    def _host(self, http11: bool) -> bytes:
        host = self.facts.get(b"host")
        if host is None:
            if http11:
                raise BadRequest("Host is missing")
            return b""
        if not is_host(host.decode("latin-1")):
            raise BadRequest("Host is not a host name")
        return host

    def fact(self, name: bytes) -> bytes:
        """The value of a noted field, or empty."""
        return self.facts.get(name, b"")

    @property
    def is_websocket(self) -> bool:
        """Whether this is a WebSocket opening handshake (RFC 6455 4.1)."""
        return self.method == "GET" and list_members(self.fact(b"upgrade")) == (b"websocket",)

    @property
    def client(self) -> Client:
        """Tells requests apart by the headers that browsers and Next.js really send."""
        facts = self.facts
        for kind, test in _CLIENT_TESTS:
            if test(self, facts):
                return kind
        return Client.FETCH


def _read_fields(
    fields: Iterable[tuple[bytes, bytes]],
) -> tuple[list[bytes], dict[bytes, bytes]]:
    lines: list[bytes] = []
    facts: dict[bytes, bytes] = {}
    fate_of = REQUEST_FIELDS.memo.get
    for name, value in fields:
        fate = fate_of(name)
        if fate is None:
            fate = REQUEST_FIELDS.fate(name)
        if fate is PASS:
            lines += (name, b": ", value, b"\r\n")
        elif fate is TAKE or fate is NOTE:
            lower = name.lower()
            if lower in facts:
                value = facts[lower] + (b"; " if lower == b"cookie" else b", ") + value  # noqa: PLW2901
            facts[lower] = value
            if fate is NOTE:
                lines += (name, b": ", value, b"\r\n")
    connection = facts.get(b"connection")
    if connection is not None:
        nominated = set(list_members(connection)) - _PLAIN_OPTIONS
        if nominated:
            lines = _without(lines, nominated)
    return lines, facts


def _without(lines: list[bytes], names: set[bytes]) -> list[bytes]:
    """Drops the fields that a Connection field names (RFC 9110 7.6.1)."""
    kept: list[bytes] = []
    for at in range(0, len(lines), 4):
        if lines[at].lower() not in names:
            kept += lines[at : at + 4]
    return kept


def _is_prefetch(_: Request, facts: dict[bytes, bytes]) -> bool:
    return (
        b"next-router-prefetch" in facts
        or b"prefetch" in facts.get(b"sec-purpose", b"").lower()
        or b"prefetch" in facts.get(b"purpose", b"").lower()
        or b"prefetch" in facts.get(b"x-moz", b"").lower()
    )


def _is_document(_: Request, facts: dict[bytes, bytes]) -> bool:
    destination = facts.get(b"sec-fetch-dest")
    if destination is not None:
        return destination in (b"document", b"iframe", b"frame")
    mode = facts.get(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate"
    if b"x-requested-with" in facts or b"next-action" in facts:
        return False
    return b"text/html" in facts.get(b"accept", b"").lower()


_CLIENT_TESTS: Final = (
    (Client.WEBSOCKET, lambda request, _: request.is_websocket),
    (Client.PREFETCH, _is_prefetch),
    (Client.ROUTER, lambda _, facts: facts.get(b"rsc") == b"1"),
    (Client.DOCUMENT, _is_document),
)

UNREAD: Final = Request("GET", "/", (), http11=False)
"""Stands in for a request whose head could not be read."""
