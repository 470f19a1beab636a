"""An upstream's head has one meaning: by the strict scan, by aiohttp's parser and by h11."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import is_clean_block
from sidecar.core.representation import representation_lines, strong_tags
from sidecar.core.scan import scan_answer
from sidecar.core.upstream_head import UpstreamHead
from sidecar.net.parsers import response_parser
from tests.fuzz.target import Draw, Target

_LOOP: Final = asyncio.new_event_loop()


class Read(NamedTuple):
    """An answer as it was read. `is_clean`: the connection may be used again."""

    head: UpstreamHead
    body: bytes
    is_clean: bool


def check(data: bytes) -> None:
    draw = Draw(data)
    size = draw.byte() % 16 + 1
    text = draw.rest()
    scanned = scan_answer(text)
    whole, cut = _by_aiohttp(text, len(text) or 1), _by_aiohttp(text, size)
    assert (whole is None) == (cut is None), "the cuts make a difference"
    if whole is not None and cut is not None:
        assert _said(whole.head) == _said(cut.head)
        assert whole.body == cut.body
        _can_be_told(whole.head)
    if scanned is not None:
        head, start, left = scanned
        assert (whole is None) == (left > 0), "the scan takes what the parser refuses"
        if whole is not None:
            assert whole.is_clean
            assert (_said(head), text[start:]) == (_said(whole.head), whole.body)
    other = _by_h11(text)
    if whole is not None and other is not None:
        assert (whole.head.status, whole.body) == other, (whole, other)


def _said(head: UpstreamHead) -> tuple[object, ...]:
    lines = sorted(
        tuple(part.strip(b" \t") for part in line.partition(b":")) for line in head.lines
    )
    return head.status, head.reason, lines, head.facts, head.cookies


def _can_be_told(head: UpstreamHead) -> None:
    lines = [*head.lines, *representation_lines(head, wrapped=True), *head.cookies]
    assert is_clean_block(b"".join(lines), 0), "a control character passes"
    strong_tags(head.fact(b"etag"))


def _by_aiohttp(text: bytes, size: int) -> Read | None:
    """The first whole answer; None if it is refused, interim or incomplete."""
    parser = response_parser(BaseProtocol(_LOOP), _LOOP, 65536, has_body=True)
    found = None
    is_clean = True
    try:
        for at in range(0, len(text), size):
            messages, upgraded, tail = parser.feed_data(text[at : at + size])
            if messages and found is None:
                found = messages[0]
            is_clean &= not (messages[1:] or upgraded or tail)
        if found is None:
            return None
        message, payload = found
        is_whole = payload.is_eof()
        is_tunnel_to_none = message.code == 101 and not message.upgrade
        if not is_whole or is_tunnel_to_none:  # `net.upstream` refuses the latter
            return None
        is_clean &= not (message.should_close or message.upgrade)
        head = UpstreamHead(message.code, message.raw_headers, message.reason)
        return Read(head, payload.read_nowait(-1), is_clean)
    except (HttpProcessingError, UpstreamProtocolError):
        return None


def _by_h11(text: bytes) -> tuple[int, bytes] | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    body, status = b"", None
    try:
        connection.receive_data(text)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and status is not None:
                return status, body
            else:
                return None
    except h11.RemoteProtocolError:
        return None


TARGET: Final = Target(
    check,
    words=[
        *(
            b"HTTP/1.1 ",
            b"HTTP/1.0 ",
            b"200 OK",
            b"204 No Content",
            b"304",
            b"101",
            b"103 Early Hints",
        ),
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked",
            b"Set-Cookie: a=b",
        ),
        *(
            b"0\r\n\r\n",
            b"2\r\n{}\r\n",
            b"Connection: close",
            b"keep-alive",
            b"Upgrade: h2c",
            b"\n",
        ),
        *(
            b"\r",
            b"\0",
            b"\t",
            b" ",
            b"+2",
            b"2, 2",
            b"gzip",
            b"Trailer: a",
            b'ETag: W/"a"',
            b"\xff",
        ),
        *(b"Content-Encoding: gzip", b"Content-Range: bytes 0-1/2", b"WWW-Authenticate: Bearer"),
    ],
    seeds=[
        b"\x0fHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"\x01HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"\x02HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n",
        b'\x03HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
    ],
    longest=1024,
)
