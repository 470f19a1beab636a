"""The common answer, read in one step: a strict subset of HTTP/1.1 on which no parsers disagree.

A head in one piece, with the whole body or its beginning, framed by one Content-Length, every byte
of the head printable. Anything else, however harmless, is None here and left to aiohttp's C parser;
a test holds that whatever is accepted here comes out of that parser alike.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.headers import MEMO_LIMIT
from sidecar.core.upstream_head import UpstreamHead, answer_field

# Possessive and atomic throughout: each byte is looked at once, whatever follows (RFC 9112 4, 5).
# Groups are atomic, not possessive, because of CPython's gh-106052 (before 3.11.5).
_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*+)\r\n"
    rb"((?>(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)+))\r\n"
)
_BODILESS: Final = frozenset((204, 304))
_FRAMING: Final = frozenset((b"transfer-encoding", b"upgrade", b"trailer"))
_LONGEST_LENGTH: Final = 12  # digits
_LONGEST_KNOWN_LINE: Final = 128  # bytes


def scan_answer(data: bytes, limit: int = 65536) -> tuple[UpstreamHead, int, int] | None:
    """Reads `data` as one answer to a request other than HEAD; None where it is not that.

    Returns the head, the index at which the body begins, and how many bytes of it are still to
    come. A head above `limit` bytes is left to the parser, which refuses it.
    Raises nothing. The connection may be used again after an answer that was read here.
    """
    match = _HEAD.match(data)
    if match is None:
        return None
    end = match.end()
    status, reason, block = match.groups()
    head = UpstreamHead(int(status), (), reason.decode("ascii"))
    facts, lines, known = head.facts, head.lines, _KNOWN_LINES.get
    for line in block[:-2].split(b"\r\n"):
        entry = known(line)
        lower, value = entry if entry is not None else _read_line(line)
        if not lower:
            lines.append(line)
        elif lower == b"set-cookie":
            head.cookies.append(value)
        elif lower in facts:
            return None  # repeated fields of those that are read: the parser knows how
        else:
            facts[lower] = value
    length = facts.get(b"content-length", b"")
    if (
        end > limit
        or not length.isdigit()
        or len(length) > _LONGEST_LENGTH
        or (missing := int(length) + end - len(data)) < 0
        or head.status in _BODILESS
        or not _FRAMING.isdisjoint(facts)
        or facts.get(b"connection", b"keep-alive").lower() != b"keep-alive"
    ):
        return None
    return head, end, missing


_KNOWN_LINES: Final[dict[bytes, tuple[bytes, bytes]]] = {}
"""Field lines that were read before: servers say most of them in every answer."""


def _read_line(line: bytes) -> tuple[bytes, bytes]:
    """The lower-case name (empty for a field that passes) and value of a field line."""
    name, _, value = line.partition(b":")
    entry = answer_field(name), value.strip(b" \t")
    is_common = len(line) <= _LONGEST_KNOWN_LINE and entry[0] != b"set-cookie"
    if is_common and len(_KNOWN_LINES) < MEMO_LIMIT:
        _KNOWN_LINES[line] = entry
    return entry
