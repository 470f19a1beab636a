"""Whatever the strict scanner accepts comes out of aiohttp's C parser alike; all else is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from sidecar.core.known_heads import LONGEST, MOST, PAUSE, KnownHeads
from sidecar.core.scan import scan_answer
from sidecar.core.upstream_head import UpstreamHead

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop for the parser, never run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def parsed(data: bytes, loop: asyncio.AbstractEventLoop) -> tuple[UpstreamHead, bytes, bool]:
    """What the C parser makes of one whole answer, and whether it left the connection clean."""
    parser = HttpResponseParser(
        BaseProtocol(loop), loop, 65536, read_until_eof=True, auto_decompress=False
    )
    messages, upgraded, tail = parser.feed_data(data)
    ((message, payload),) = messages
    assert payload.is_eof()
    clean = not upgraded and not tail and not message.should_close and not message.upgrade
    body = payload.read_nowait(-1)
    return (
        UpstreamHead(message.code, message.raw_headers, message.reason),
        body,
        clean and parser.feed_eof() is None,
    )


def as_values(head: UpstreamHead) -> tuple[object, ...]:
    """A head's facts and lines, with the optional whitespace of passed lines left out."""
    lines = sorted(tuple(part.strip() for part in line.partition(b":")) for line in head.lines)
    return head.status, head.reason, lines, head.facts, head.cookies


TOKENS = st.sampled_from(
    b"Server|X-A|x-b|Date|ETag|Vary|Location|Set-Cookie|Upgrade|Connection|Content-Length|"
    b"Content-Type|Transfer-Encoding|Trailer|Content-Encoding|X Bad||X-\xe9|Keep-Alive".split(b"|")
)
VALUES = st.one_of(
    st.sampled_from(
        b"| |2| 2|02|+2|2 |close|keep-alive|Keep-Alive, X-A|chunked|a=1|gzip|a\x00b|a\rb|"
        b"caf\xc3\xa9|a\tb|h2c|"
        b"a/b, c/d|a/b;charset=x,a/b".split(b"|")
    ),
    st.binary(max_size=8),
)


def mostly(usual: bytes, *odd: bytes) -> st.SearchStrategy[bytes]:
    """The usual value nine times in ten, so that most heads are nearly right."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(odd) if n == 9 else st.just(usual))


HEADS = st.builds(
    lambda version, status, reason, fields, end, body: (
        b"%b %b%b\r\n" % (version, status, reason)
        + b"".join(b"%b:%b\r\n" % field for field in fields)
        + end
        + body
    ),
    mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.12", b"HTTP/2.0", b"http/1.1"),
    st.sampled_from(
        [b"200", b"404", b"500", b"204", b"304", b"101", b"100", b"099", b"20", b"999"]
    ),
    mostly(b" OK", b" ", b"", b"  OK", b" O\rK", b" caf\xe9"),
    st.lists(st.tuples(TOKENS, VALUES), max_size=3).map(
        lambda fields: [*fields, (b"Content-Length", b" 2")]
    ),
    mostly(b"\r\n", b"\n", b"\r\n\r\n", b""),
    mostly(b"{}", b"", b"{", b"{}x", b"{}HTTP/1.1 200 OK\r\n\r\n"),
)


@settings(max_examples=600, deadline=None)
@given(data=HEADS)
@example(data=PLAIN)
def test_what_is_accepted_is_what_the_parser_reads(
    data: bytes, loop: asyncio.AbstractEventLoop
) -> None:
    """Same status, reason, fields and body, and a connection that is fit for the next exchange."""
    scanned = scan_answer(data)
    event("left" if scanned is None else "accepted")
    for _ in range(3):  # the second time it is remembered, and the third it is known
        again = scan_answer(data)
        assert (again is None) == (scanned is None)
        if scanned is not None and again is not None:
            assert as_values(again[0]) == as_values(scanned[0])
            assert again[1:] == scanned[1:]
    if scanned is None:
        return
    scanned_head, begins, missing = scanned
    whole = data + b"x" * missing
    head, body, clean = parsed(whole, loop)
    assert clean
    assert as_values(scanned_head) == as_values(head)
    assert whole[begins:] == body


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> KnownHeads:
    """Nothing is remembered of other tests."""
    heads = KnownHeads()
    monkeypatch.setattr("sidecar.core.scan._KNOWN_HEADS", heads)
    return heads


def test_a_head_that_came_twice_is_read_once(known: KnownHeads) -> None:
    """And one that comes again with more bytes, or with less, is judged by those."""
    first, second, third = (scan_answer(PLAIN) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert first[0] is not second[0]
    assert second[0] is third[0]
    assert len(known) == 1
    assert scan_answer(PLAIN + b"x") is None
    assert scan_answer(PLAIN, 10) is None
    short = scan_answer(PLAIN[:-1])
    assert short is not None
    assert short[2] == 1


def test_a_head_that_sets_cookies_is_read_each_time(known: KnownHeads) -> None:
    data = PLAIN.replace(b"Content-Length", b"Set-Cookie: a=1\r\nContent-Length")
    for _ in range(3):
        scan_answer(data)
    assert not known


def numbered(number: int) -> bytes:
    return PLAIN.replace(b"Content-Length", b"ETag: %d\r\nContent-Length" % number)


def test_what_is_remembered_of_heads_is_bounded(known: KnownHeads) -> None:
    for number in range(3 * MOST):
        for _ in range(3):
            scan_answer(numbered(number))
    assert len(known) <= MOST
    assert all(len(section) <= LONGEST for section in known)
    long = PLAIN.replace(b"Content-Length", b"X: %b\r\nContent-Length" % (b"x" * LONGEST))
    known.clear()
    for _ in range(3):
        assert scan_answer(long) is not None
    assert not known


def test_where_no_head_comes_again_few_are_looked_for(known: KnownHeads) -> None:
    """And once they come again, all are."""
    looks = 0
    for number in range(10_000):
        looks += not known.pauses
        scan_answer(numbered(number))
    assert looks < 1000
    for _ in range(2 * PAUSE):
        scan_answer(PLAIN)
    assert not known.pauses
    assert known.misses == 0


def test_the_common_answer_is_accepted() -> None:
    """The fast way is really taken."""
    scanned = scan_answer(PLAIN)
    assert scanned is not None
    head, begins, missing = scanned
    assert head.status == 200
    assert head.reason == "OK"
    assert head.facts[b"content-type"] == b"application/json"
    assert PLAIN[begins:] == b"{}"
    assert not missing


@pytest.mark.parametrize("missing", [1, 2])
def test_what_is_missing_of_the_body_is_told(missing: int) -> None:
    scanned = scan_answer(PLAIN[:-missing])
    assert scanned is not None
    _, begins, told = scanned
    assert begins == len(PLAIN) - 2
    assert told == missing


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-3],
        PLAIN + b"x",
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"200", b"204"),
        PLAIN.replace(b"200", b"304"),
        PLAIN.replace(b"200", b"103"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: +2"),
        PLAIN.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: x"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nConnection: close"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nUpgrade: h2c"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nX-A: b\rc"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nX-A: b\x00c"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\n folded"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nX-A : b"),
        PLAIN.replace(b"\r\n", b"\n"),
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_anything_unusual_is_left_to_the_parser(data: bytes) -> None:
    """Incomplete, followed by more, framed otherwise, or spelled oddly: not the scanner's."""
    assert scan_answer(data) is None


def test_many_fields_and_long_blanks_cost_linear_time() -> None:
    """A head that fails at its end is given up without trying other readings of it."""
    hostile = b"HTTP/1.1 200 OK\r\n" + b"X-A:" + b" " * 30_000 + b"\r\n" * 1
    hostile += b"".join(b"X-%d: %b\r\n" % (n, b" " * 50) for n in range(500)) + b"\x00"
    assert scan_answer(hostile) is None
