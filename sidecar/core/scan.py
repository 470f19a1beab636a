"""The common answer, read in one step: a strict subset of HTTP/1.1 on which no parsers disagree.

A head in one piece, with the whole body or its beginning, framed by one Content-Length, every byte
of the head printable. Anything else, however harmless, is None here and left to aiohttp's C parser;
a test holds that whatever is accepted here comes out of that parser alike.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.headers import MEMO_LIMIT, one_content_type
from sidecar.core.known_heads import KnownHeads
from sidecar.core.memo import Memo
from sidecar.core.upstream_head import UpstreamHead, answer_field

# Possessive throughout: each byte is looked at once, whatever follows (RFC 9112 4, 5).
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*+)")
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([\t -~\x80-\xff]*+)")
_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_BODILESS: Final = frozenset((204, 304))
_FRAMING: Final = frozenset((b"transfer-encoding", b"upgrade", b"trailer"))
_LONGEST_LENGTH: Final = 12  # digits
_LONGEST_KNOWN_LINE: Final = 128  # bytes
_OF_ONE_ANSWER: Final = frozenset((b"set-cookie", b"etag"))
"""Fields whose lines are hardly ever the same in two heads."""


def scan_answer(data: bytes, limit: int = 65536) -> tuple[UpstreamHead, int, int] | None:
    """Reads `data` as one answer to a request other than HEAD; None where it is not that.

    Returns the head, the index at which the body begins, and how many bytes of it are still to
    come. A head above `limit` bytes is left to the parser, which refuses it.
    Raises nothing. The connection may be used again after an answer that was read here.
    """
    end = data.find(_END_OF_HEAD)
    if end < 0:
        return None
    section, begins, heads = data[:end], end + len(_END_OF_HEAD), _KNOWN_HEADS
    if heads.pauses:
        heads.pauses -= 1
    else:
        known = heads.get(section)
        if known is not None:
            heads.misses = 0
            head, length = known
            missing = length + begins - len(data)
            return None if missing < 0 or begins > limit else (head, begins, missing)
    first, *fields = section.split(_END_OF_LINE)
    status = _STATUSES[first]
    if status is None:
        return None
    head = UpstreamHead(status[0], (), status[1])
    facts, lines, read = head.facts, head.lines, _KNOWN_LINES.get
    for line in fields:
        entry = read(line) or _read_line(line)
        if entry is None:
            return None
        lower, value = entry
        if not lower:
            lines.append(line)
        elif lower == b"set-cookie":
            head.cookies.append(value)
        elif lower in facts:
            return None  # repeated fields of those that are read: the parser knows how
        else:
            facts[lower] = value
    told = facts.get(b"content-length", b"")
    if (
        begins > limit
        or not told.isdigit()
        or len(told) > _LONGEST_LENGTH
        or (missing := int(told) + begins - len(data)) < 0
        or head.status in _BODILESS
        or not _FRAMING.isdisjoint(facts)
        or facts.get(b"connection", b"keep-alive").lower() != b"keep-alive"
    ):
        return None
    if not heads.pauses:
        heads.note(section, head, int(told))
    return head, begins, missing


def _read_status_line(line: bytes) -> tuple[int, str] | None:
    """The status and the reason phrase; None if it is no status line."""
    match = _STATUS_LINE.fullmatch(line)
    return None if match is None else (int(match[1]), match[2].decode("ascii"))


_STATUSES: Final = Memo(_read_status_line, 64)
_KNOWN_HEADS: Final = KnownHeads()
_KNOWN_LINES: Final[dict[bytes, tuple[bytes, bytes]]] = {}
"""Field lines that were read before: servers say most of them in every answer."""


def _read_line(line: bytes) -> tuple[bytes, bytes] | None:
    """The lower-case name (empty for a field that passes) and value; None if it is no field line.

    Raises `UpstreamProtocolError` for a name that is none.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    name, value = match.groups()
    entry = answer_field(name), value.strip(b" \t")
    if entry[0] == b"content-type" and b"," in value:
        entry = entry[0], one_content_type(entry[1])
    if len(line) <= _LONGEST_KNOWN_LINE and entry[0] not in _OF_ONE_ANSWER:
        if len(_KNOWN_LINES) >= MEMO_LIMIT:
            _KNOWN_LINES.clear()  # such as the dates of the last minutes
        _KNOWN_LINES[line] = entry
    return entry
