"""The bytes of a connection are cut into the same requests, however they arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from sidecar.web.request_parser import RequestParser, render_section

LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def close_loop() -> Iterator[None]:
    yield
    LOOP.close()


class Cut:
    """What a connection does with a parser: one request after the other, in whatever pieces."""

    def __init__(self) -> None:
        self.protocol = BaseProtocol(LOOP)
        self.parser = RequestParser(self.protocol, LOOP, 65536)
        self.protocol._parser = self.parser  # type: ignore[assignment]
        self.found: list[tuple[str, tuple[tuple[bytes, bytes], ...], bytes]] = []
        self.payload: Any = None

    def receive(self, data: bytes) -> None:
        if self.payload is not None:
            self.parser.feed_body(data)
            data = b""
        while True:
            if self.payload is None:
                read = self.parser.read_head(data)
                if read is None:
                    return
                self.message, self.payload = read
                data = b""
            if not self.payload.is_eof():
                return
            self.found.append(
                (self.message.path, self.message.raw_headers, self.payload.read_nowait(-1))
            )
            self.payload = None
            if not self.parser.is_framed:
                return
            self.parser.next_request()


def request(number: int, body: bytes | None, *, chunked: bool, blank: bool) -> bytes:
    lines = [b"POST /%d HTTP/1.1" % number, b"Host: a", b"X-Nonce: %d" % number]
    content = b""
    if body is not None and chunked:
        lines.append(b"Transfer-Encoding: chunked")
        content = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    elif body is not None:
        lines.append(b"Content-Length: %d" % len(body))
        content = body
    return (b"\r\n" if blank else b"") + b"\r\n".join(lines) + b"\r\n\r\n" + content


REQUESTS = st.lists(
    st.tuples(
        st.none()
        | st.sampled_from([b"", b"x", b"0\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(REQUESTS, st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_requests_are_the_same_in_every_segmentation(
    bodies: list[tuple[bytes | None, bool]], chunked_last: bool, cuts: list[int]
) -> None:
    wanted = []
    stream = b""
    for number, (body, blank) in enumerate(bodies):
        chunked = chunked_last and number == len(bodies) - 1
        stream += request(number, body, chunked=chunked, blank=blank)
        wanted.append((f"/{number}", body or b""))
    cut = Cut()
    before = 0
    for at in [*sorted({min(one, len(stream)) for one in cuts}), len(stream)]:
        cut.receive(stream[before:at])
        before = at
    assert [(path, body) for path, _, body in cut.found] == wanted
    assert [dict(fields)[b"X-Nonce"] for _, fields, _ in cut.found] == [
        b"%d" % number for number in range(len(bodies))
    ]
    assert (cut.parser.head_bytes, cut.parser.waiting) == (0, b"")


@pytest.mark.parametrize("size", [1 << 18, 1])
def test_empty_lines_before_a_request_are_no_work(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """However many there are in a segment, and however many segments they come in.

    Reading them one after the other took a segment of 256 KiB many seconds, for everybody.
    """
    fed: list[bytes] = []
    feed = RequestParser._feed_head

    def counted(self: RequestParser, data: bytes) -> Any:
        fed.append(data)
        return feed(self, data)

    monkeypatch.setattr(RequestParser, "_feed_head", counted)
    cut, lines = Cut(), b"\r\n" * (size if size > 1 else 1000)
    for at in range(0, len(lines), size):
        cut.receive(lines[at : at + size])
    assert fed == []
    assert cut.parser.head_bytes == len(lines)  # so that their number has a limit
    cut.receive(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [path for path, _, _ in cut.found] == ["/x"]
    assert len(fed) == 1


def test_a_request_waits_outside_the_c_parser() -> None:
    parser = Cut().parser
    second = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3"
    assert parser.read_head(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + second) is not None
    assert parser.waiting == second


def test_the_end_of_a_chunked_body_is_unknown_if_more_came_with_it() -> None:
    parser = Cut().parser
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parser.read_head(head + b"0\r\n\r\nGET / HTTP/1.1\r\n") is not None
    assert not parser.is_framed


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n\r\n"]
)
def test_a_bare_line_feed_ends_no_head(head: bytes) -> None:
    with pytest.raises(HttpProcessingError):
        Cut().parser.read_head(head)


VALUES = st.binary(max_size=12).filter(lambda value: value == value.strip(b" \t"))


@given(st.lists(st.tuples(st.sampled_from([b"Cookie", b"X-A", b"x-a"]), VALUES), max_size=5))
def test_a_rendered_section_reads_as_the_fields_that_it_was_made_of(
    fields: list[tuple[bytes, bytes]],
) -> None:
    fields.insert(0, (b"Host", b"a"))
    section = render_section(fields)
    if not section:
        assert any((byte < 32 and byte != 9) or byte == 127 for _, v in fields for byte in v)
        return
    cut = Cut()
    cut.receive(b"GET / HTTP/1.1" + section)
    assert [raw for _, raw, _ in cut.found] == [tuple(fields)]


@pytest.mark.parametrize("cut", [1, 7, 65536])
@pytest.mark.parametrize("size", [b"1", b"00000001", b"1;a=b"])
def test_small_chunks_are_no_framing_alone(size: bytes, cut: int) -> None:
    """However small they are, and whoever writes their sizes with zeros or a few extensions."""
    one = Cut()
    data = request(1, b"", chunked=True, blank=False).removesuffix(b"0\r\n\r\n")
    data += (size + b"\r\nx\r\n") * 20_000 + b"0\r\n\r\n"
    for at in range(0, len(data), cut):
        one.receive(data[at : at + cut])
        one.protocol.resume_reading(resume_parser=False)
    while not one.found:
        one.protocol.resume_reading(resume_parser=False)
        one.receive(b"")
    assert one.found[0][2] == b"x" * 20_000


@pytest.mark.parametrize("cut", [1, 1000, 65536])
def test_chunk_that_never_begins_is_refused(cut: int) -> None:
    """RFC 9112 7.1: the zeros before a chunk's size are bounded, as no limit on bodies is."""
    one = Cut()
    one.receive(request(1, b"", chunked=True, blank=False).removesuffix(b"0\r\n\r\n"))
    zeros = [b"0" * cut] * (200_000 // cut)
    with pytest.raises(HttpProcessingError, match="framing"):
        deque(map(one.receive, zeros), 0)


@pytest.mark.parametrize("last", [b"0", b"00", b"0;a", b"0\r\nX-T: 1"])
def test_what_is_pipelined_behind_a_chunked_body_is_not_its_framing(last: bytes) -> None:
    """However long it is, and the body ends: that is whole, and its request is served."""
    cut = Cut()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    behind = b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    cut.receive(head + b"5\r\nhello\r\n" + last + b"\r\n\r\n" + behind)
    assert len(cut.found) == 1
