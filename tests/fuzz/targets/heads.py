"""A request head has one meaning: cut anywhere, and by another parser (h11), or it is refused."""

from __future__ import annotations

from typing import Final

import h11

from sidecar.core.client import tell_apart
from sidecar.core.errors import ProxyError
from sidecar.core.request import Request
from sidecar.web.request_parser import render_section
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._requests import Read, cut


def check(data: bytes) -> None:
    draw = Draw(data)
    size = draw.byte() % 16 + 1
    text = draw.rest()
    read, again = cut(text, [len(text) or 1]), cut(text, [size])
    common = min(len(read.found), len(again.found))
    assert read.found[:common] == again.found[:common], "the cuts make a difference"
    ended = [one for one in (read, again) if len(one.found) == common]
    assert len(ended) == 2 or not ended[0].parser.is_framed, "the cuts make a difference"
    for one in read.found:
        _can_be_served(one)
    other = _by_h11(text)
    if read.found and other is not None:
        _is_same(read.found[0], other)


def _can_be_served(read: Read) -> None:
    """Or it is refused by an error of the one tree; what passes is clean."""
    try:
        request = Request(read.method, read.target, read.fields, http11=read.version == "1.1")
    except ProxyError:
        return
    tell_apart(request.method, request.facts, request.path)
    lines = b"".join(request.fields.lines)
    assert not {10, 13} & set(lines.replace(b"\r\n", b"")), "a line end in a field"
    assert b"\0" not in lines
    section = render_section(read.fields)
    assert not section or section.count(b"\r\n") == len(read.fields) + 2


def _by_h11(text: bytes) -> Read | None:
    """The first request by h11; None if it refuses, or waits for more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    body, head = b"", None
    try:
        connection.receive_data(text)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                fields = tuple((bytes(name), bytes(value)) for name, value in head.headers)
                method, target = (
                    head.method.decode(),
                    head.target.decode("utf-8", "surrogateescape"),
                )
                return Read(method, target, fields, head.http_version.decode(), body)
            else:
                return None
    except h11.RemoteProtocolError:
        return None


def _is_same(read: Read, other: Read) -> None:
    fields, wanted = _plain(read), _plain(other)
    if read.version == other.version:
        assert (read.method, read.target) == (other.method, other.target)
        assert fields == wanted, (fields, wanted)
        assert read.body == other.body, (read.body, other.body)


def _plain(read: Read) -> list[tuple[bytes, bytes]]:
    """The fields, but for what h11 makes of them: it writes a coding in lower case."""
    plain = ((name.lower(), value.strip(b" \t")) for name, value in read.fields)
    return [
        (name, value.lower() if name == b"transfer-encoding" else value) for name, value in plain
    ]


TARGET: Final = Target(
    check,
    words=[
        *(
            b"GET ",
            b"POST ",
            b" HTTP/1.1\r\n",
            b" HTTP/1.0\r\n",
            b" HTTP/1.7\r\n",
            b"\r\n",
            b"\r\n\r\n",
        ),
        *(b"Host: a", b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: close"),
        *(b"Connection: Upgrade", b"Upgrade: websocket", b"Expect: 100-continue", b"Cookie: a=b"),
        *(
            b"0\r\n\r\n",
            b"1;a=b\r\n",
            b"http://a/",
            b"*",
            b"%2e%2e",
            b"//",
            b"\t",
            b"\n",
            b"\r",
            b"\0",
        ),
        *(
            b"gzip, chunked",
            b"+1",
            b"0x1",
            b"18446744073709551617",
            b" :",
            b": ",
            b"\xc2\xa0",
            b"X_a",
        ),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT a:1", b"Sec-WebSocket-Key: ", b"Range: "),
    ],
    seeds=[
        b"\x0fGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x03POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        b"\x01PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"\x02\r\nGET http://a/x?y HTTP/1.5\r\nHost: A\r\nX-A:\tb \r\n\r\n",
        b"\x04GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    longest=1024,
)
