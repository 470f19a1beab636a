"""Who asks: documents, scripts and routers told apart by the headers that they really send.

One table, read from the top; the first row whose test holds names the client. The headers are those
that Chromium, Firefox and Safari send (Fetch Metadata) and that Next.js adds. A service worker that
passes a navigation on has the destination taken away, so the mode tells documents, and downloads
(`<a download>`, which navigate as well) are told by their lack of an Accept. Two requests look
exactly alike and cannot be told apart: a router's navigation and its full prefetch
(`prefetch={true}`). So nothing that a GET may be mistaken for ever ends a session by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from sidecar.core.headers import list_members
from sidecar.core.memo import Memo
from sidecar.core.target import PAGE_DATA

Facts: TypeAlias = Mapping[bytes, bytes]
"""Field values by lower-case name."""

Test: TypeAlias = Callable[[str, Facts], bool]


class Client(StrEnum):
    """Who asks, as far as headers tell: the rows of its tables (behaviour: 401)."""

    WEBSOCKET = "websocket"  # an opening handshake
    PREFETCH = "prefetch"  # speculative; must touch nothing
    ACTION = "action"  # a server action of a framework
    ROUTER = "router"  # router data (React Server Components, Next.js's Pages Router)
    EVENTS = "events"  # an EventSource
    DOCUMENT = "document"  # a navigation that draws the answer
    FETCH = "fetch"  # scripts, servers, and whatever else reads the answer as data


def asks_for_websocket(facts: Facts) -> bool:
    """Whether the fields are those of a WebSocket handshake (RFC 6455 4.2.1).

    An Upgrade field that Connection does not name is void (RFC 9110 7.8): whoever stands in front
    and obeys that would take the tunnel's bytes for further requests. Nor is it a handshake if it
    has content, which one server would read as such, and another as the tunnel's first bytes.
    """
    upgrade, connection = facts.get(b"upgrade", b""), facts.get(b"connection", b"")
    if b"transfer-encoding" in facts or facts.get(b"content-length", b"0").strip(b"0"):
        return False
    return list_members(upgrade) == (b"websocket",) and b"upgrade" in list_members(connection)


def is_server_side(facts: Facts) -> bool:
    """Whether a server or script asks and no browser does.

    Node's own fetch sends Sec-Fetch-Mode, so only what browsers alone send counts.
    """
    return b"sec-fetch-site" not in facts and b"origin" not in facts


def _is_handshake(method: str, facts: Facts) -> bool:
    return method == "GET" and b"upgrade" in facts and asks_for_websocket(facts)


def _is_posted_action(method: str, facts: Facts) -> bool:
    return method == "POST" and b"next-action" in facts


def _navigates(method: str, facts: Facts) -> bool:
    return facts.get(b"sec-fetch-mode") == b"navigate" and _accepts_html(method, facts)


def _has(*names: bytes) -> Test:
    """The request has one of these fields."""
    return lambda _, facts: any(name in facts for name in names)


def _is(name: bytes, *values: bytes) -> Test:
    """The field has one of these values."""
    return lambda _, facts: facts.get(name) in values


def _says(word: bytes, *names: bytes) -> Test:
    """The word stands in one of these fields, in whatever case."""
    return lambda _, facts: any(word in facts.get(name, b"").lower() for name in names)


_accepts_html: Final = _says(b"text/html", b"accept")

# The first row, a handshake, stands apart (`tell_apart`): what it reads is another in each upload.
_TABLE: Final[tuple[tuple[Client, Test], ...]] = (
    (Client.PREFETCH, _has(b"next-router-prefetch")),
    (Client.PREFETCH, _says(b"prefetch", b"sec-purpose", b"purpose", b"x-moz")),
    (Client.ACTION, _is_posted_action),
    (Client.ROUTER, _is(b"rsc", b"1")),
    (Client.ROUTER, _is(b"x-nextjs-data", b"1")),
    (Client.EVENTS, _says(b"text/event-stream", b"accept")),
    # Fetch Metadata says it outright.
    (Client.FETCH, _is(b"sec-fetch-dest", b"embed", b"object")),
    (Client.DOCUMENT, _navigates),
    (Client.DOCUMENT, _is(b"sec-fetch-dest", b"document", b"iframe", b"frame")),
    (Client.FETCH, _has(b"sec-fetch-dest", b"sec-fetch-mode")),
    # Browsers without Fetch Metadata, and their scripts; Android's WebView names its app instead.
    (Client.FETCH, _says(b"xmlhttprequest", b"x-requested-with")),
    (Client.FETCH, _has(b"next-action")),
    (Client.DOCUMENT, _accepts_html),
)


_READ: Final = (
    *(b"next-router-prefetch", b"sec-purpose", b"purpose", b"x-moz", b"next-action", b"rsc"),
    *(b"x-nextjs-data", b"accept", b"sec-fetch-dest", b"sec-fetch-mode", b"x-requested-with"),
)
"""All fields that the table reads: its tests are shown no others."""

_Read: TypeAlias = tuple[str, tuple[bytes | None, ...]]
"""The method, and the values of those fields."""


def _by_table(read: _Read) -> Client:
    method, values = read
    facts = {name: value for name, value in zip(_READ, values, strict=True) if value is not None}
    return next((client for client, holds in _TABLE if holds(method, facts)), Client.FETCH)


def _size(read: _Read) -> int:
    method, values = read
    return len(method) + sum(len(value) for value in values if value is not None)


_found: Final = Memo(_by_table, 256, _size).__getitem__
"""Browsers say the same in request after request, and the table takes a tenth of one."""


def tell_apart(method: str, facts: Facts, path: str = "/") -> Client:
    """Names the client by the first row of the table that holds.

    `path` is the one asked for: some data have a place of their own.
    """
    if _is_handshake(method, facts):
        return Client.WEBSOCKET
    found = _found((method, tuple(map(facts.get, _READ))))
    return Client.ROUTER if found is Client.FETCH and PAGE_DATA in path else found
