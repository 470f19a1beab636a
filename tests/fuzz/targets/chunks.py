"""A chunked request body is what a plain reading of RFC 9112 7.1 says, however it is cut.

What stands behind it is the next request's, and nothing of one becomes another's.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._requests import Read, cut

HEAD: Final = b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT: Final = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]++)((?:;[^\r\n]*+)?)\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\r\n\0]*+\r\n")


class Body(NamedTuple):
    """A body, and where it ends. `is_plain`: it has neither extensions nor trailers."""

    content: bytes
    end: int
    is_plain: bool


def check(data: bytes) -> None:
    draw = Draw(data)
    sizes = [draw.byte() % 24 + 1 for _ in range(6)]
    coded = draw.rest()
    text = HEAD + coded + NEXT
    ways = [cut(text, one) for one in ([len(text)], [1], sizes, [len(HEAD), *sizes])]
    wanted = _body(coded + NEXT)
    behind = _behind((coded + NEXT)[wanted.end :]) if wanted.end >= 0 else []
    for way in ways:
        _is_as_written(way.found, wanted, behind)
    first = [way.found[:1] for way in ways]
    assert all(one == first[0] for one in first), ("the cuts make a difference", first)
    if wanted.is_plain and wanted.end <= len(coded):
        assert first[0], "a plain body is refused"


def _behind(text: bytes) -> list[Read]:
    """The requests of a connection of their own."""
    return cut(text, [len(text)]).found if text else []


def _is_as_written(found: list[Read], wanted: Body, behind: list[Read]) -> None:
    if not found:
        return
    assert wanted.end >= 0, "a body is whole that is none"
    assert (found[0].target, found[0].body) == ("/first", wanted.content)
    common = min(len(found) - 1, len(behind))  # the connection may have closed before
    assert found[1 : common + 1] == behind[:common], "what is behind a body reads otherwise"


def _body(coded: bytes) -> Body:
    """By the grammar; an end below zero if it is not whole, or none."""
    content, at, is_plain = b"", 0, True
    while True:
        line = _SIZE.match(coded, at)
        if line is None:
            return Body(content, -1, False)
        size, at = int(line[1], 16), line.end()
        is_plain &= not line[2] and len(line[1]) <= 15
        if size == 0:
            break
        chunk, end = coded[at : at + size], coded[at + size : at + size + 2]
        if len(chunk) < size or end != b"\r\n":
            return Body(content, -1, False)
        content, at = content + chunk, at + size + 2
    while (trailer := _TRAILER.match(coded, at)) is not None:
        at, is_plain = trailer.end(), False
    if coded[at : at + 2] != b"\r\n":
        return Body(content, -1, False)
    return Body(content, at + 2, is_plain)


_CUTS: Final = bytes((3, 0, 7, 1, 23, 2))
TARGET: Final = Target(
    check,
    words=[
        *(
            b"0\r\n\r\n",
            b"1\r\na\r\n",
            b"5\r\nabcde\r\n",
            b"A\r\n0123456789\r\n",
            b"00\r\n",
            b"\r\n",
        ),
        *(
            b"\r\n0\r\n\r\n",
            b"0\r\n",
            b"\n",
            b"\r",
            b";a=b",
            b';a="b\r\n"',
            b";",
            b" ",
            b"\t",
            b"+",
        ),
        *(b"0x1", b"-1", b"ffffffffffffffff", b"10000000000000000", b"000000000000000000001"),
        *(b"A: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b" folded\r\n"),
        *(
            b"GET /third HTTP/1.1\r\nHost: b\r\n\r\n",
            HEAD,
            b"7\r\n\r\n0\r\n\r\n\r\n",
            b"\0",
            b"\xff",
        ),
    ],
    seeds=[
        _CUTS + b"0\r\n\r\n",
        _CUTS + b"5\r\nabcde\r\n0\r\n\r\n",
        _CUTS + b"7\r\n\r\n0\r\n\r\n\r\n1\r\na\r\n0\r\n\r\n",
        _CUTS + b"1;a=b\r\na\r\n0\r\nA: b\r\n\r\n",
        _CUTS + b"2\r\nab\r\n0\r\n\r\nGET /third HTTP/1.1\r\nHost: b\r\n\r\n",
        _CUTS + b"0000a\r\n0123456789\r\n000\r\n\r\n",
        _CUTS + b"5\r\nabcdeX0\r\n\r\n",
    ],
    longest=512,
)
