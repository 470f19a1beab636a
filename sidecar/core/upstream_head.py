"""An upstream's answer head, read once: what passes on, and what the sidecar needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import (
    MEMO_LIMIT,
    RESPONSE_FIELDS,
    Fate,
    is_clean_block,
    list_members,
    one_content_type,
)

BAD: Final = Fate.BAD
PASS: Final = Fate.PASS


class UpstreamHead:
    """An upstream's answer head, read once.

    `lines` pass on unchanged (without line ends), `facts` are read by lower-case name, `cookies`
    are the Set-Cookie values one by one, since they must never be joined (RFC 9110 5.3). `version`
    is the HTTP version that the answer came in. `made` is what was made of it, by all that it
    depends on besides the head; None of a head that is not remembered (`core.known_heads`).
    Raises `UpstreamProtocolError` for statuses and field names that are none, where a field holds a
    control character, and where two fields contradict each other.
    """

    __slots__ = ("cookies", "facts", "lines", "made", "reason", "status", "version")

    def __init__(
        self,
        status: int,
        fields: Sequence[tuple[bytes, bytes]],
        reason: str = "",
        version: bytes = b"1.1",
    ) -> None:
        if not 200 <= status <= 599 and status != 101:
            raise UpstreamProtocolError(f"the answer's status is {status}")
        self.status = status
        self.reason = reason if reason.isascii() else readable(reason)
        self.version = version
        self.made: dict[tuple[object, ...], Any] | None = None
        self.cookies: list[bytes] = []
        self.lines: list[bytes] = []
        self.facts: dict[bytes, bytes] = {}
        if fields:
            self._read(fields)

    def _read(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        lines, facts = self.lines, self.facts
        for name, value in fields:
            lower = answer_field(name)
            if not lower:
                lines.append(b"%b: %b" % (name, value))
            elif lower == b"set-cookie":
                self.cookies.append(value)
            elif lower not in facts:
                facts[lower] = value
            elif lower not in _SINGLE:
                if lower not in _ALIKE or facts[lower] != value:
                    facts[lower] += b", " + value
            elif facts[lower] != value and lower != b"date":  # of which the first one counts
                raise UpstreamProtocolError(f"the answer has two different {lower.decode()} fields")
        if b"," in facts.get(b"content-type", b""):
            facts[b"content-type"] = one_content_type(facts[b"content-type"])
        # The C parser lets control characters pass in answers; they go no further.
        if not is_clean_block(b"".join([*lines, *facts.values(), *self.cookies]), 0):
            raise UpstreamProtocolError("a header field of the answer holds a control character")
        coding = facts.get(b"transfer-encoding", b"chunked")
        if coding.lower() != b"chunked" or {b"transfer-encoding", b"content-length"} <= set(facts):
            raise UpstreamProtocolError(
                "the answer's framing is ambiguous: Transfer-Encoding beside Content-Length, or not"
                " chunked"
            )
        if b"connection" in facts:
            nominated = frozenset(list_members(facts[b"connection"]))
            self.lines = [
                line for line in lines if line.partition(b":")[0].lower() not in nominated
            ]

    def fact(self, name: bytes) -> bytes:
        """The value of a field that the sidecar reads, or empty."""
        return self.facts.get(name, b"")

    @property
    def size(self) -> int:
        """About the bytes of its fields."""
        fields = (*self.lines, *self.facts.values(), *self.cookies)
        return sum(map(len, fields)) + 20 * len(fields)

    @property
    def is_empty(self) -> bool:
        """Whether the head says that there is no body."""
        return self.facts.get(b"content-length") == b"0"

    @property
    def forbids_content(self) -> bool:
        """Whether a body that comes all the same must not pass: 205 (RFC 9110 15.3.6).

        Some clients do not read it, and would take it for their next answer.
        """
        return self.status == _RESET_CONTENT


def readable(phrase: str) -> str:
    """A reason phrase whose octets beyond ASCII the parser took for UTF-8, or else for Latin-1.

    Octets that are no UTF-8 come as surrogates (PEP 383), which no text may hold.
    """
    octets = phrase.encode("utf-8", "surrogateescape")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


_RESET_CONTENT: Final = 205
# Fields that are no lists (RFC 9110 5.3): clients differ about which of two counts, and the two in
# one line would name a place that neither means.
_SINGLE: Final = frozenset(
    (b"location", b"content-location", b"content-disposition", b"content-range", b"etag", b"date")
)
# Fields that are no lists either. Different ones do no harm: of types one counts all the same
# (`headers.one_content_type`), and the others are then not believed.
_ALIKE: Final = frozenset((b"content-type", b"content-md5", b"sec-websocket-accept"))
_KNOWN_FIELDS: Final[dict[bytes, bytes]] = {}
"""Spelling → lower-case name of what is read or dropped, empty of what passes. Filled on demand."""


def answer_field(name: bytes) -> bytes:
    """The lower-case name of a field that is read or dropped, empty for one that passes.

    Raises `UpstreamProtocolError` for a name that is none.
    """
    lower = _KNOWN_FIELDS.get(name)
    if lower is None:
        fate = RESPONSE_FIELDS.fate(name)
        if fate is BAD:
            raise UpstreamProtocolError("a header field of the answer has a name that is none")
        lower = b"" if fate is PASS else name.lower()
        if len(_KNOWN_FIELDS) < MEMO_LIMIT and len(name) <= 64:
            _KNOWN_FIELDS[name] = lower
    return lower
