"""One client connection: HTTP/1.1 on aiohttp's C request parser, without its web server.

Why not `aiohttp.web.RequestHandler`: it lingers for unbounded bodies, writes a second answer into
a broken one, never sends 100-continue, drops its limits on a TypeError, and lets the last trailer
field of a chunked request become a header of the next message. This protocol reads with the same
C parser and nothing else of it. Private names of aiohttp used here, and why:

- `aiohttp.http_parser.HttpRequestParser`: the C parser; `max_msg_queue_size=1` makes it stop after
  each message, so that a pipelined one is not read before its predecessor is answered.
- `BaseProtocol._drain_helper`, `_upgraded`, `_buffer_paused`, `_pause_reading_for_buffer`,
  `_resume_reading_for_buffer`: back-pressure, in the way the parser's StreamReader expects it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.core.errors import (
    BadRequest,
    HeadersTooLarge,
    ProxyError,
    RequestTimeout,
    VersionNotSupported,
)
from sidecar.core.headers import head_size
from sidecar.net.deadline import Deadline
from sidecar.web.exchange import Exchange

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage

    from sidecar.core.forwarding import Peer
    from sidecar.core.request import Fields

BODY_WINDOW: Final = 65536  # bytes of a request body held before reading pauses
BACKLOG: Final = 65536  # bytes of pipelined requests held before reading pauses
# How long a client that is still sending is read from, and what it sends thrown away, so that it
# takes the answer (as nginx's lingering_time and lingering_timeout); up to `limits.body` bytes.
LINGER_SECONDS: Final = 30.0
LINGER_SILENCE: Final = 2.0
MAX_FIELDS: Final = 512
OVERSIZE: Final = 262_144  # bytes of a head above its limit that are read, for a helpful answer
KNOWN_BYTES: Final = 8192  # of the longest header section that is remembered
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
# Method and origin-form target of requests without surprises (RFC 9112 3).
_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE) (/[!-~]*+) HTTP/1\.1")
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


class Handler(Protocol):
    """What serves the requests of a connection."""

    def exchange(self, connection: ClientConnection, payload: StreamReader) -> Exchange:
        """The exchange for a new request."""

    def handle(self, exchange: Exchange) -> None:
        """A request head is here. Answers through `exchange`, now or later."""

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """No request could be read; the answer to `error` closes the connection."""


class Limits(Protocol):
    """Sizes in bytes and times in seconds."""

    @property
    def header(self) -> int: ...
    @property
    def body(self) -> int: ...
    @property
    def client_head(self) -> float: ...
    @property
    def client_idle(self) -> float: ...


class Registry(Protocol):
    """Knows the open connections."""

    draining: bool

    def opened(self, connection: ClientConnection, transport: asyncio.BaseTransport) -> Peer:
        """Counts a connection in and says who it is."""

    def closed(self, connection: ClientConnection) -> None:
        """Counts a connection out."""


class ClientConnection(BaseProtocol):
    """The server side of one connection.

    `fields` is the last header section that was read, for the pipeline to recognise it again.
    """

    __slots__ = (
        "_backlog",
        "_close_after",
        "_deadline",
        "_exchange",
        "_feeding",
        "_handler",
        "_head_bytes",
        "_is_waiting",
        "_known_fields",
        "_known_section",
        "_limits",
        "_linger_until",
        "_lingered",
        "_lingering",
        "_may_hold_more",
        "_registry",
        "_segment",
        "_tunnel",
        "_unsent",
        "_window",
        "fields",
        "peer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        limits: Limits,
        registry: Registry,
    ) -> None:
        super().__init__(loop)
        self._handler = handler
        self._limits = limits
        self._registry = registry
        self._deadline = Deadline(loop, self._timed_out)
        self._exchange: Exchange | None = None
        self._backlog = b""
        self._window = b""  # the last bytes of a chunked body, to recognise its last chunk
        self._head_bytes = 0  # of a head that has not ended yet
        self._segment = 0  # bytes of the last segment, which may hold whole heads
        self._may_hold_more = False  # whether the parser may hold a pipelined request
        self._known_section = b""  # the header section that `_known_fields` were read from
        self._known_fields: Fields | None = None
        self._is_waiting = False
        self._unsent = sys.maxsize  # bytes that the client had not taken at the last look
        self._lingered = 0
        self._linger_until = 0.0
        self._lingering = False
        self._feeding = False
        self._close_after = False
        self._tunnel: Any = None
        self.fields: Fields | None = None
        self.peer: Peer
        self._new_parser()

    def _new_parser(self) -> None:
        # `limits.header` bounds a whole head, so no single line or field needs a smaller limit.
        limit = self._limits.header + OVERSIZE
        self._parser = HttpRequestParser(
            self,
            self._loop,
            BODY_WINDOW,
            max_line_size=limit,
            max_field_size=limit,
            max_headers=MAX_FIELDS,
            auto_decompress=False,
            max_msg_queue_size=1,
        )

    # -- for the exchange -----------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None and self._tunnel is None

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether another request may follow the answer to `exchange` (RFC 9112 9.3).

        Once False it stays so, since the client may have been told already.
        """
        if self._close_after:
            return False
        if exchange.closes or self._registry.draining or not exchange.payload.is_eof():
            self._close_after = True
            return False
        return True

    def close_after(self) -> None:
        """Closes the connection once the current answer is complete."""
        self._close_after = True

    def write(self, data: bytes) -> None:
        """Writes without waiting."""
        if self.transport is not None:
            self.transport.write(data)

    async def drained(self) -> None:
        """Waits until the client takes bytes again; one that stalls for `client_idle` is cut."""
        self.expect_client()
        try:
            await self._drain_helper()
        finally:
            self.expect_nothing()

    def tunnel(self, receiver: Any) -> None:
        """Hands every further byte to `receiver.client_data`, and the end to `client_lost`."""
        self._tunnel = receiver
        self._upgraded = True
        self._deadline.clear()
        held, self._backlog = self._held_by_parser() + self._backlog, b""
        if held:
            receiver.client_data(held)

    def _held_by_parser(self) -> bytes:
        """What came in one segment with a handshake: the parser stopped behind the head."""
        if self._parser is None:
            return b""
        self._parser.message_consumed()
        _, _, tail = self._parser.feed_data(b"")
        return tail

    def expect_client(self) -> None:
        """It is the client's turn, to send a body or to take an answer, within `client_idle`."""
        self._is_waiting = True
        self._deadline.set(self._limits.client_idle)

    def expect_nothing(self) -> None:
        """It is not the client's turn any more."""
        self._is_waiting = False

    def answered(self, exchange: Exchange) -> None:
        """Goes on behind an answer: to the next request, or to the end of the connection."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._unsent = sys.maxsize
        if self._close_after or self._registry.draining or not exchange.payload.is_eof():
            announced = exchange.is_read and exchange.closes
            self._end(clean=announced and exchange.payload.is_eof())
            return
        if exchange.chunked:
            self._new_parser()  # a trailer field would become a header of the next request
        elif exchange.raw_fields is not None and self._parser is not None:
            self._parser.message_consumed()
        self._deadline.set(self._limits.client_idle)
        if not self._feeding:
            self._go_on_if_held()

    def _go_on_if_held(self) -> None:
        """Serves the next request that is held, unless the client has answers to take first."""
        if (self._may_hold_more or self._backlog) and not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        """Parses what was pipelined behind the last request."""
        backlog, self._backlog = self._backlog, b""
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        self._feed(backlog)

    def _end(self, *, clean: bool) -> None:
        """Closes; where the client may still be sending, reads on for a moment.

        Else the answer could be lost: closing with unread bytes resets the connection.
        """
        transport = self.transport
        if transport is None:
            return
        if clean or not transport.can_write_eof():
            self._deadline.set(self._limits.client_idle)
            transport.close()
            return
        self._lingering = True
        self._linger_until = self._loop.time() + LINGER_SECONDS
        self._deadline.set(LINGER_SILENCE)
        transport.write_eof()
        transport.resume_reading()

    def reset(self) -> None:
        """Closes with RST, the only ending that no client takes for the end of an answer."""
        transport = self.transport
        if transport is None:
            return
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    # -- protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = self._registry.opened(self, transport)
        self._deadline.set(self._limits.client_head)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # StreamReader calls this after every read; there is something to resume only now and then.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._tunnel is not None:
            self._tunnel.pause_upstream()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tunnel is not None:
            self._tunnel.resume_upstream()
        elif self._exchange is None and not self._lingering:
            self._go_on_if_held()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._deadline.close()
        self._registry.closed(self)
        super().connection_lost(exc)
        exchange, self._exchange = self._exchange, None
        if self._tunnel is not None:
            self._tunnel.client_lost()
        if exchange is not None:
            if not exchange.payload.is_eof():
                exchange.payload.set_exception(ConnectionResetError("client left"))
            exchange.cancel()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None and self._tunnel is None and not (self._lingering or self._paused):
            if not (self._is_known(data) and self._begin_known(data)):
                self._feed(data)
        elif self._tunnel is not None:
            self._tunnel.client_data(data)
        elif self._lingering:
            self._linger(data)
        elif exchange is None or exchange.payload.is_eof():
            self._hold(data)
        else:
            self._feed_body(exchange, data)

    def _linger(self, data: bytes) -> None:
        """Throws away what a client sends behind its answer, within limits."""
        self._lingered += len(data)
        remaining = self._linger_until - self._loop.time()
        if self._lingered <= self._limits.body and remaining > 0:
            self._deadline.set(min(LINGER_SILENCE, remaining))
        elif self.transport is not None:
            self.transport.abort()

    def _hold(self, data: bytes) -> None:
        """Keeps what is pipelined behind a request that is still being answered."""
        if data:
            self._backlog += data
            if len(self._backlog) > BACKLOG and not self._buffer_paused:
                self._pause_reading_for_buffer()

    # -- heads ----------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Reads heads; several requests of one segment are served in turn, never nested."""
        if self._feeding:
            self._backlog += data
            return
        self._feeding = True
        try:
            while self._read_head(data) and self.is_idle and not (self._lingering or self._paused):
                data, self._backlog = self._backlog, b""
                if not data and not self._may_hold_more:
                    return
        finally:
            self._feeding = False

    def _is_known(self, data: bytes) -> bool:
        """Whether `data` is one head whose header section the parser has read before."""
        return (
            data[data.find(b"\r\n") :] == self._known_section
            and len(data) <= self._limits.header
            and not (self._head_bytes or self._may_hold_more or self._backlog or self._feeding)
        )

    def _begin_known(self, data: bytes) -> bool:
        """Serves a request of which only the request line is new; False where that is unusual."""
        line = _REQUEST_LINE.match(data)
        if line is None or line.end() != len(data) - len(self._known_section):
            return False
        exchange = self._exchange = self._handler.exchange(self, EMPTY_PAYLOAD)
        method, target = line.groups()
        exchange.method = method.decode("ascii")
        exchange.target = target.decode("ascii")
        exchange.raw_fields = None
        exchange.is_read = True
        self.fields = self._known_fields
        self._handler.handle(exchange)
        return True

    def _read_head(self, data: bytes) -> bool:
        """Reads one request; returns whether there was one, and it was handled."""
        parser = self._parser
        if parser is None or self.transport is None:
            return False
        if data:
            self._segment = len(data)
        ends_exactly = False
        try:
            if data.endswith(_LAST_CHUNK):
                messages, upgraded, tail = parser.feed_data(data[:-1])
                if not messages or not messages[0][1].is_eof():
                    more, upgraded, tail = parser.feed_data(data[-1:])
                    messages = [*messages, *more]
                    ends_exactly = True
                else:
                    self._backlog = data[-1:] + self._backlog
            else:
                messages, upgraded, tail = parser.feed_data(data)
        except HttpProcessingError as error:
            self._unreadable(error)
            return False
        if not messages:
            self._may_hold_more = False
            if data:
                self._count_head(len(data))
            return False
        if upgraded and tail:
            self._backlog = tail + self._backlog
        message, payload = messages[0]
        is_one_head = payload is EMPTY_PAYLOAD and data.find(_END_OF_HEAD) == len(data) - len(
            _END_OF_HEAD
        )
        was_split = self._head_bytes > 0 or self._may_hold_more
        self._may_hold_more = not is_one_head
        if message.chunked:
            self._window = data[-len(_LAST_CHUNK) :]
            if payload.is_eof() and not ends_exactly:
                self._close_after = True
        exchange = self._begin(message, payload)
        if is_one_head and not was_split and not exchange.closes:
            self._know(data[data.find(b"\r\n") :], message)
        return True

    def _know(self, section: bytes, message: RawRequestMessage) -> None:
        """Remembers a header section that the parser has read, and the pipeline accepted."""
        if len(section) > KNOWN_BYTES:
            self.fields = None
        elif self.fields is not None and self.fields.raw == message.raw_headers:
            self._known_section = section
            self._known_fields = self.fields

    def _begin(self, message: RawRequestMessage, payload: StreamReader) -> Exchange:
        exchange = self._exchange = self._handler.exchange(self, payload)
        exchange.read(message)
        if not exchange.http11 and message.version != HttpVersion10:
            self._handler.refuse(exchange, VersionNotSupported(close=True))
        # Only bytes that came can be too many, so the exact sum is rarely needed.
        elif (
            self._head_bytes + self._segment
            > self._limits.header
            < head_size(message.raw_headers) + len(message.path)
        ):
            self._close_after = True
            self._handler.refuse(exchange, HeadersTooLarge(close=True))
        else:
            self._head_bytes = 0
            self._handler.handle(exchange)
        return exchange

    def _count_head(self, more: int) -> None:
        """Bounds a head that has not ended yet, in bytes and in time."""
        if self._head_bytes == 0:
            self._deadline.set(self._limits.client_head)
        self._head_bytes += more
        if self._head_bytes > self._limits.header + OVERSIZE:
            self._refuse(HeadersTooLarge(close=True))

    # -- bodies ---------------------------------------------------------------------------------

    def _feed_body(self, exchange: Exchange, data: bytes) -> None:
        """Feeds a request body; the last octet of a last chunk by itself.

        So it is known whether a chunked message ends where the bytes end. If not, trailers or a
        pipelined request follow inside the parser, out of reach, and the connection must close.
        """
        parser = self._parser
        if parser is None:
            return
        try:
            if not exchange.chunked:
                parser.feed_data(data)
                return
            window = self._window + data[-len(_LAST_CHUNK) :]
            self._window = window[-len(_LAST_CHUNK) + 1 :]
            if data and window.endswith(_LAST_CHUNK):
                parser.feed_data(data[:-1])
                if exchange.payload.is_eof():
                    self._close_after = True
                parser.feed_data(data[-1:])
                return
            parser.feed_data(data)
            if exchange.payload.is_eof():
                self._close_after = True
        except HttpProcessingError as error:
            self._unreadable(error)

    # -- what cannot be read --------------------------------------------------------------------

    def _unreadable(self, error: HttpProcessingError) -> None:
        too_large = isinstance(error, LineTooLong) or (
            isinstance(error, BadHttpMessage) and "Too many headers" in error.message
        )
        kind = HeadersTooLarge if too_large else BadRequest
        refusal = kind(type(error).__name__, close=True)
        self._close_after = True
        exchange = self._exchange
        if exchange is None:
            self._refuse(refusal)
        elif not exchange.payload.is_eof():
            exchange.payload.set_exception(refusal)

    def _refuse(self, error: ProxyError) -> None:
        exchange = self._exchange = self._handler.exchange(self, EMPTY_PAYLOAD)
        exchange.closes = True
        self._handler.refuse(exchange, error)

    def _timed_out(self) -> None:
        exchange = self._exchange
        if exchange is not None and not self._is_waiting:
            self._deadline.set(self._limits.client_idle)  # the client waits for us
        elif exchange is not None and not exchange.payload.is_eof() and not exchange.started:
            exchange.payload.set_exception(RequestTimeout("request body stalled", close=True))
        elif exchange is not None:
            self.reset()  # an answer that the client does not take
        elif self._head_bytes:
            self._refuse(RequestTimeout("request head stalled", close=True))
        elif self.transport is not None:
            self._close_unless_stalled(self.transport)

    def _close_unless_stalled(self, transport: asyncio.Transport) -> None:
        """Closes; a client that still takes bytes gets time, one that does not is cut."""
        unsent = transport.get_write_buffer_size()
        if not unsent and not transport.is_closing():
            transport.close()
        elif unsent < self._unsent:
            self._unsent = unsent
            self._deadline.set(self._limits.client_idle)
        else:
            self.reset()
