"""Cuts the bytes of a client connection into requests, with aiohttp's C parser.

The C parser is fed one message at a time and never a byte of the next one. So it is known at every
moment which bytes belong to which request: no request waits inside the parser, and nothing that is
remembered of one request can come from the bytes of another.

    BETWEEN ──bytes──► HEAD ──empty line──► COMPLETE ──next_request()──► BETWEEN
                        │                      ▲
                        └──────► BODY ─────────┘  last byte of the body

A chunked body has no length that could be counted. Its last octet is fed alone: if the body ends
with exactly that octet, its end is known (`is_framed`). Otherwise a trailer or the next request may
be inside the C parser, and the connection must close behind the response.

Private names of aiohttp used here: `aiohttp.http_parser.HttpRequestParser`, the C parser;
`max_msg_queue_size=1` makes it stop behind each message; and `BaseProtocol._reading_paused`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp.hdrs import CONTENT_LENGTH
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.core.errors import BadRequest, HeadersTooLarge, ProxyError
from sidecar.core.headers import is_clean_block
from sidecar.net.parsers import BODY_WINDOW, MAX_FIELDS

if TYPE_CHECKING:
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_parser import RawRequestMessage

    from sidecar.core.request import RawFields

FRAMING: Final = 16384  # bytes of a chunked body that may bring no data
FRAMING_OF_EACH: Final = 16  # and for each byte of data: chunks of one byte have about half of it
LINE_BYTES: Final = 300  # that the objects of a line of a head take besides its bytes
_END_OF_HEAD: Final = b"\r\n\r\n"
_LINE_ENDS: Final = b"\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
# The last chunk with an extension and a few trailer fields, up to the end of the body.
_END_OF_BODY: Final = re.compile(rb"\r\n0++(?>[ \t]*+;[^\r\n]*+)?+\r\n(?>[^\r\n]++\r\n){0,8}+\r\n")
_LATER_VERSION: Final = re.compile(rb"\A([\r\n]*[^ \r\n]+ [^ \r\n]+ HTTP/1\.)[2-9](?=\r|\Z)")

Message: TypeAlias = "tuple[RawRequestMessage, StreamReader]"
"""A request head and its body; `EMPTY_PAYLOAD` if it has none."""


def refusal_of(error: HttpProcessingError) -> ProxyError:
    """The error for bytes that the C parser does not take."""
    is_too_large = isinstance(error, LineTooLong) or (
        isinstance(error, BadHttpMessage) and "Too many headers" in error.message
    )
    kind = HeadersTooLarge if is_too_large else BadRequest
    return kind(type(error).__name__, close=True)


class RequestParser:
    """The requests of one connection, one after the other.

    `head_bytes` counts the bytes of the head that is under way, and of the last one that was read,
    and `semicolons` those among them;
    `waiting` holds the bytes behind the current request; `held` is what the C parser holds of a
    head or a trailer section that is not whole, in bytes, with the objects of its lines;
    `is_framed` is False once the end of a request is unknown.
    """

    __slots__ = (
        "_body_left",
        "_chunk_window",
        "_chunked_bytes",
        "_head_limit",
        "_head_window",
        "_is_chunked",
        "_is_complete",
        "_line",
        "_loop",
        "_parser",
        "_payload",
        "_protocol",
        "head_bytes",
        "held",
        "is_framed",
        "semicolons",
        "waiting",
    )

    def __init__(
        self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, head_limit: int
    ) -> None:
        """`head_limit` bounds a single line or field, in bytes."""
        self._protocol: Final = protocol
        self._loop: Final = loop
        self._head_limit: Final = head_limit
        self.waiting = b""
        self.is_framed = True
        self._parser: HttpRequestParser | None = None
        self._begin_next()

    def _new_parser(self) -> HttpRequestParser:
        return HttpRequestParser(
            self._protocol,
            self._loop,
            BODY_WINDOW,
            max_line_size=self._head_limit,
            max_field_size=self._head_limit,
            max_headers=MAX_FIELDS,
            auto_decompress=False,
            max_msg_queue_size=1,
        )

    def _begin_next(self) -> None:
        self.head_bytes = self.semicolons = self.held = 0
        self._head_window = b""  # the last bytes of an incomplete head, to recognise its end
        self._line: bytes | None = b""  # what is here of the request line; None behind its end
        self._chunk_window = b"\r\n"  # the last bytes before a chunk, to recognise the last one
        self._body_left = 0
        self._chunked_bytes = 0  # of the body as it came, with its framing
        self._is_chunked = False
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._is_complete = False

    def close(self) -> None:
        """Lets go of the connection, which has ended: nothing is read any more."""
        del self._protocol
        self._parser = None
        self._payload = EMPTY_PAYLOAD
        self.waiting = b""

    @property
    def unread(self) -> int:
        """How many bytes are kept that are no request yet."""
        return len(self.waiting) + self.held + len(self._line or b"")

    def forget_unread(self) -> None:
        """Lets go of them: nothing is read any more."""
        self.waiting = self._line = b""
        if self.held:
            self.held = 0
            self._parser = None

    def pause_reading(self) -> None:
        """Makes the C parser hold a body back (called by `BaseProtocol.pause_reading`)."""
        if self._parser is not None:
            self._parser.pause_reading()

    def read_head(self, data: bytes) -> Message | None:
        """Reads one request head from what is waiting and `data`; None if it is incomplete.

        The body follows as far as it is here. Raises `HttpProcessingError` (aiohttp) for what
        is not HTTP.
        """
        if self.waiting:
            data, self.waiting = self.waiting + data, b""
        while data := self._without_empty_lines(data):
            head, rest = self._cut_head(data)
            self.head_bytes += len(head)
            self.semicolons += head.count(b";")
            messages = self._feed_head(head)
            if messages:
                self.held = 0
                self._begin_body(*messages[0])
                self.feed_body(rest)
                return messages[0]
            self.held += len(head) + LINE_BYTES * head.count(b"\n")
            data = rest
        return None

    def _without_empty_lines(self, data: bytes) -> bytes:
        """Takes off the empty lines that may stand before a request (RFC 9112 2.2).

        All at once: one after the other, a segment full of them would take seconds.
        """
        if self._line != b"":
            return data
        begins = data.lstrip(_LINE_ENDS)
        self.head_bytes += len(data) - len(begins)
        return begins

    def _cut_head(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes up to the next empty line, and those behind it; all if there is none yet."""
        window = self._head_window
        at = (window + data).find(_END_OF_HEAD) if window else data.find(_END_OF_HEAD)
        if at < 0:
            self._head_window = (window + data[-3:])[-3:]
            return data, b""
        self._head_window = b""
        end = at + len(_END_OF_HEAD) - len(window)
        return data[:end], data[end:]

    def _feed_head(self, data: bytes) -> Sequence[Message]:
        """Feeds bytes of a head. A minor version that is not known is read as HTTP/1.1.

        RFC 9110 2.5 wants that, and the C parser refuses them.
        """
        line = None if self._line is None else self._line + data
        if self._parser is None:
            self._parser = self._new_parser()
        try:
            messages, _, _ = self._parser.feed_data(data)
        except HttpProcessingError:
            known = None if line is None else _LATER_VERSION.sub(rb"\g<1>1", line)
            if known is None or known == line:
                raise
            line = None
            self._parser = self._new_parser()
            messages, _, _ = self._parser.feed_data(known)
        self._line = None if line is None or b"\n" in line else line
        return messages

    def _begin_body(self, message: RawRequestMessage, payload: StreamReader) -> None:
        self._payload = payload
        self._is_chunked = message.chunked
        self._is_complete = payload is EMPTY_PAYLOAD
        if not (self._is_complete or self._is_chunked):
            self._body_left = int(message.headers.get(CONTENT_LENGTH, 0))

    def feed_body(self, data: bytes) -> None:
        """Feeds the body of the current request; what is behind the body waits.

        Empty `data` goes on with what the C parser held back. Raises `HttpProcessingError`
        (aiohttp) for a malformed chunked body.
        """
        if self._is_complete:
            self.waiting += data
        elif self._is_chunked:
            self._feed_chunked(data)
        else:
            body, rest = data[: self._body_left], data[self._body_left :]
            self._body_left -= len(body)
            self.waiting += rest
            self._feed(body)

    def _feed(self, body: bytes) -> None:
        if self._parser is not None:  # else nothing is read any more
            self._parser.feed_data(body)

    def _feed_chunked(self, data: bytes) -> None:
        held = self._chunk_window
        window = held + data[-len(_LAST_CHUNK) :]
        self._chunk_window = window[-len(_LAST_CHUNK) + 1 :]
        is_last = bool(data) and window.endswith(_LAST_CHUNK)
        self._chunked_bytes += len(data)
        before = self._payload.total_bytes
        self._feed(data[:-1] if is_last else data)
        if self._payload.is_eof():
            self.is_framed = False
            self._is_complete = True
        elif is_last:
            self._feed(data[-1:])
            self._is_complete = self._payload.is_eof()
        self._bound_framing(held + data if self._is_complete else b"")
        self._bound_trailers(data, self._payload.total_bytes - before)

    def _bound_framing(self, end: bytes) -> None:
        """Refuses a chunked body that is nearly all framing: zeros before a size, extensions.

        No limit on bodies counts them, and the C parser takes any number (RFC 9112 7.1 and 7.1.1).
        `end` is what ended the body, maybe with requests behind it. Raises `BadHttpMessage`.
        """
        most = FRAMING + (1 + FRAMING_OF_EACH) * self._payload.total_bytes
        if self._chunked_bytes <= most or self._chunked_bytes - _behind_last_chunk(end) <= most:
            return
        if not self._protocol._reading_paused:  # else some of it is data that is held back
            raise BadHttpMessage("chunks are nearly all framing")

    def _bound_trailers(self, data: bytes, grown: int) -> None:
        """Counts what came behind the last data of a chunked body, which has `grown`.

        Without a bound of its own, a trailer section could be as long as the body and a head's
        fields together allow. Raises `LineTooLong`.
        """
        if self._is_complete or self._protocol._reading_paused:
            self.held = 0  # what is held back is data, and bounded as such
            return
        size = len(data) + LINE_BYTES * data.count(b"\n") if data else 0
        self.held = max(0, len(data) - grown) if grown else self.held + size
        if self.held > self._head_limit + LINE_BYTES * MAX_FIELDS:
            raise LineTooLong(b"trailers", self._head_limit)

    def next_request(self) -> None:
        """Goes on behind the current request, which must be complete.

        Another parser reads the next one. This one would hold the last head until then, in two
        forms, and make a trailer field a header field of the next request.
        """
        self._parser = None
        self._begin_next()


def _behind_last_chunk(data: bytes) -> int:
    """How many bytes may be the next request's, behind a body that ends in `data`."""
    found = _END_OF_BODY.search(data)
    return 0 if found is None else len(data) - found.end()


def render_section(fields: RawFields) -> bytes:
    """The header section as nearly all clients write it, from the end of the request line on.

    Bytes that equal it can be read in one way only, namely as `fields`. Returns b"" for fields that
    cannot be written like that.
    """
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    if not is_clean_block(lines, len(fields)):
        return b""
    return b"\r\n" + lines + b"\r\n"
