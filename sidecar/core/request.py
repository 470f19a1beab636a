"""A client's request head, read once: what passes on, and what the sidecar needs to know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from sidecar.core.client import Client, asks_for_websocket, tell_apart
from sidecar.core.errors import BadRequest
from sidecar.core.headers import REQUEST_FIELDS, Fate, list_members
from sidecar.core.target import LONGEST_REMEMBERED, is_host, origin_form, split_target

RawFields: TypeAlias = Sequence[tuple[bytes, bytes]]
"""A header section as the parser found it: names and values, in order."""

PASS: Final = Fate.PASS
NOTE: Final = Fate.NOTE
TAKE: Final = Fate.TAKE
BAD: Final = Fate.BAD
WITHHOLD: Final = Fate.WITHHOLD

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
IDEMPOTENT_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
KNOWN_METHODS: Final = frozenset(
    (
        *("ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK"),
        *("M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "OPTIONS"),
        *("PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT"),
        *("SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE"),
    )
)
"""Those that the C parser reads."""
REFUSED_METHODS: Final = frozenset(("CONNECT", "TRACE", "PRI"))

# Clients choose targets, so what is remembered of them is bounded in number and in size.
_split_often: Final = lru_cache(maxsize=4096)(split_target)

# Connection options that name no field to be removed.
_PLAIN_OPTIONS: Final = frozenset((b"keep-alive", b"close", b"upgrade", b"te"))
_NONE: Final[frozenset[bytes]] = frozenset()


class Fields:
    """The header section of a request, read once; connections repeat it, and then it is not again.

    `raw` is what it was read from; `lines` are rendered field lines that pass on unchanged (four
    pieces a line), `withheld` those that do only if their route says so; `facts` are the values
    the sidecar reads, by lower-case name. Several fields of one name are joined as RFC 9110 5.3
    says (Cookie with `; `, RFC 6265 5.4). `nominated` are the names in
    its Connection field. `logged` is what the access log says of them, once it has said something.
    """

    __slots__ = (
        "facts",
        "host",
        "is_stream",
        "is_websocket",
        "lines",
        "logged",
        "nominated",
        "plan_bytes",
        "plans",
        "raw",
        "withheld",
    )

    def __init__(self, raw: RawFields, *, http11: bool = True) -> None:
        self.raw = raw
        self.lines, self.withheld, self.facts, self.nominated = _read_fields(raw)
        facts = self.facts
        if not http11:
            facts.pop(b"upgrade", None)  # ignored in HTTP/1.0 (RFC 9110 7.8)
        self.host = facts.get(b"host")
        if self.host is not None and not is_host(self.host.decode("latin-1")):
            raise BadRequest("Host is not a host name")
        self.is_websocket = b"upgrade" in facts and asks_for_websocket(facts)
        self.is_stream = self.is_websocket or b"text/event-stream" in facts.get(b"accept", b"")
        self.plans: dict[tuple[str, str], Any] = {}  # by method and target: the pipeline's memo
        self.plan_bytes = 0
        self.logged = ""

    def forget_plans(self) -> None:
        """Forgets the memo. Its plans hold on to these fields, so neither goes by itself."""
        self.plans.clear()
        self.plan_bytes = 0


class Request:
    """The head of one request: what its line says, and its `fields`.

    `logged` is what the access log has said of it, and in which case, once it has said something.

    Raises `BadRequest` for methods and targets that are not served, and for a Host that is
    missing or none.
    """

    __slots__ = ("facts", "fields", "http11", "logged", "method", "path", "query", "route_path")

    def __init__(
        self,
        method: str,
        target: str,
        fields: Fields | RawFields,
        *,
        http11: bool,
    ) -> None:
        if method in REFUSED_METHODS:
            raise BadRequest(f"method {method} is not served")
        self.method = method
        self.http11 = http11
        self.fields = fields if isinstance(fields, Fields) else Fields(fields, http11=http11)
        self.facts = self.fields.facts
        self.logged: tuple[Any, bytes] | None = None
        if not target.startswith("/"):
            target = origin_form(target, self.host)
        split = _split_often if len(target) <= LONGEST_REMEMBERED else split_target
        self.path, self.query, self.route_path = split(target)
        if http11 and self.fields.host is None:
            raise BadRequest("Host is missing")
        coding = self.facts.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or not http11):
            raise BadRequest("Transfer-Encoding is not what HTTP/1.1 knows", close=True)

    @property
    def host(self) -> bytes:
        """The Host field value; empty where a client of HTTP/1.0 gave none."""
        return self.fields.host or b""

    @property
    def cookie(self) -> bytes:
        """The Cookie field value, or empty."""
        return self.facts.get(b"cookie", b"")

    def passing(self, name: bytes) -> bytes | None:
        """The value of a field that the sidecar reads, if the upstream may be sent it.

        Not if Connection names it (RFC 9110 7.6.1).
        """
        return None if name in self.fields.nominated else self.facts.get(name)

    def fact(self, name: bytes) -> bytes:
        """The value of a field that the sidecar reads, or empty."""
        return self.facts.get(name, b"")

    def own_authorization(self) -> bytes | None:
        """The client's own Authorization, to be passed on; None without one.

        Raises `BadRequest` if there are two: it is no list (RFC 9110 5.3 and 11.6.2), and servers
        would disagree about which of them counts.
        """
        value = self.passing(b"authorization")
        if value is not None and b"," in value:
            names = [name.lower() for name, _ in self.fields.raw]
            if names.count(b"authorization") > 1:
                raise BadRequest("Authorization stands there twice")
        return value

    @property
    def is_websocket(self) -> bool:
        """Whether this is a WebSocket opening handshake (RFC 6455 4.1)."""
        return self.fields.is_websocket and self.method == "GET"

    @property
    def client(self) -> Client:
        """Who asks (`core.client`)."""
        return tell_apart(self.method, self.facts, self.path)


def _read_fields(
    fields: Iterable[tuple[bytes, bytes]],
) -> tuple[list[bytes], list[bytes], dict[bytes, bytes], frozenset[bytes]]:
    lines: list[bytes] = []
    withheld: list[bytes] = []
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
                joint = b"; " if lower == b"cookie" else b", "
                facts[lower] = facts[lower] + joint + value
            else:
                facts[lower] = value
            if fate is NOTE:
                lines += (name, b": ", value, b"\r\n")
        elif fate is WITHHOLD:
            withheld += (name, b": ", value, b"\r\n")
        elif fate is BAD:
            raise BadRequest("a field name that is none")
    connection, nominated = facts.get(b"connection"), _NONE
    if connection is not None:
        nominated = frozenset(list_members(connection)) - _PLAIN_OPTIONS
        if nominated:
            lines = without_lines(lines, nominated)
            withheld = without_lines(withheld, nominated)
    return lines, withheld, facts, nominated


def without_lines(lines: list[bytes], names: Collection[bytes]) -> list[bytes]:
    """Drops fields by name: those that a Connection field names (RFC 9110 7.6.1), or a route."""
    kept: list[bytes] = []
    for at in range(0, len(lines), 4):
        if lines[at].lower() not in names:
            kept += lines[at : at + 4]
    return kept


class FieldRule(msgspec.Struct, frozen=True):
    """Which fields of its clients a route keeps back besides, and which it lets pass.

    Names are in lower case.
    """

    dropped: frozenset[bytes]
    passed: frozenset[bytes]

    def names(self, name: bytes) -> bool:
        """Whether the route says itself what becomes of a field."""
        return name in self.dropped or name in self.passed

    def lines(self, fields: Fields) -> list[bytes]:
        """The rendered lines that pass on, four pieces a line."""
        lines, withheld = fields.lines, fields.withheld
        kept = without_lines(lines, self.dropped) if self.dropped else [*lines]
        for at in range(0, len(withheld), 4):
            if withheld[at].lower() in self.passed:
                kept += withheld[at : at + 4]
        return kept


_OVERRIDES: Final = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))
_UNSAFE: Final = frozenset((b"PATCH", b"PUT", b"DELETE", b"MERGE"))


def override_lines(request: Request, rule: FieldRule | None) -> list[bytes]:
    """The lines by which a POST stands for another method, where networks let no other through.

    tus clients upload so, and OData's. Only for methods that are guarded and repeated as POST is:
    a GET that stands for DELETE would pass the CSRF rule, and a POST that stands for HEAD be
    answered without the body that its framing promises.
    """
    withheld = request.fields.withheld
    if request.method != "POST" or not withheld:
        return []
    kept: list[bytes] = []
    for at in range(0, len(withheld), 4):
        name = withheld[at].lower()
        is_told = rule is not None and rule.names(name)
        if name in _OVERRIDES and withheld[at + 2].upper() in _UNSAFE and not is_told:
            kept += withheld[at : at + 4]
    return kept


UNREAD: Final = Request("GET", "/", (), http11=False)
"""Stands in for a request whose head could not be read."""
