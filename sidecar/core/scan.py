"""The common answer, read in one step: a strict subset of HTTP/1.1 on which no parsers disagree.

A head and its whole body in one piece, framed by one Content-Length, every byte of the head
printable. Anything else, however harmless, is None here and left to aiohttp's C parser; a test
holds that whatever is accepted here comes out of that parser alike.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.answer import KNOWN_ANSWER_FIELDS, AnswerHead, answer_field

# Possessive throughout: each byte is looked at once, whatever follows (RFC 9112 4 and 5).
_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*+)\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)++)\r\n"
)
_BODILESS: Final = frozenset((204, 304))
_FRAMING: Final = frozenset((b"transfer-encoding", b"upgrade", b"trailer"))
_LONGEST_LENGTH: Final = 12  # digits


def scan_answer(data: bytes, limit: int = 65536) -> tuple[AnswerHead, bytes] | None:
    """Reads `data` as one whole answer to a request other than HEAD; None where it is not that.

    A head above `limit` bytes is left to the parser, which refuses it.

    Raises nothing. The connection may be used again after an answer that was read here.
    """
    match = _HEAD.match(data)
    if match is None or match.end() > limit:
        return None
    status, reason, block = match.groups()
    head = AnswerHead(int(status), (), reason.decode("ascii"))
    facts, lines, known = head.facts, head.lines, KNOWN_ANSWER_FIELDS.get
    for line in block[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        lower = known(name)
        if lower is None:
            lower = answer_field(name)
        if not lower:
            lines.append(line)
        elif lower in facts:
            return None  # repeated fields of those that are read: the parser knows how
        else:
            facts[lower] = value.strip(b" \t")
            if lower == b"set-cookie":
                head.cookies.append(facts.pop(lower))
    body = data[match.end() :]
    return (head, body) if _is_whole(head, body) else None


def _is_whole(head: AnswerHead, body: bytes) -> bool:
    facts = head.facts
    length = facts.get(b"content-length")
    if length is None or len(length) > _LONGEST_LENGTH or not length.isdigit():
        return False
    if int(length) != len(body) or head.status in _BODILESS or not _FRAMING.isdisjoint(facts):
        return False
    return b"connection" not in facts or facts[b"connection"].lower() == b"keep-alive"
