"""One client connection: HTTP/1.1 on aiohttp's C request parser, without its web server.

    IDLE ──head──► SERVING ──response──► IDLE … ──► CLOSED
                      │  └──101──► TUNNEL ────────────►┤
                      └──response, connection ends──► LINGERING ──►┘

IDLE: `_exchange` is None, the client may send a request. SERVING: `_exchange` is the request that
is under way; bytes behind it wait in the parser. TUNNEL: every byte goes to `_tunnel`. LINGERING:
the response is complete, and what the client still sends is read and thrown away for a moment.

Why not `aiohttp.web.RequestHandler`: it lingers for unbounded bodies, writes a second response into
a broken one, never sends 100-continue, drops its limits on a TypeError, and lets the last trailer
field of a chunked request become a header of the next message. This protocol reads with the same
C parser (`web.request_parser`) and nothing else of it. Private names of aiohttp used here:
`BaseProtocol._drain_helper`, `_parser`, `_upgraded`, `_buffer_paused`, `_pause_reading_for_buffer`,
`_resume_reading_for_buffer`: back-pressure, in the way the parser's StreamReader expects it.
"""

from __future__ import annotations

import asyncio
import sys
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.core.cookies import MAX_COOKIES, has_too_many
from sidecar.core.errors import (
    HeadersTooLarge,
    ProxyError,
    RequestTimeout,
    VersionNotSupported,
)
from sidecar.net.deadline import Deadline
from sidecar.net.liveness import has_left
from sidecar.net.parsers import MAX_FIELDS
from sidecar.net.reset import reset
from sidecar.net.stream_protocol import StreamProtocol
from sidecar.web.exchange import Exchange
from sidecar.web.known_section import KnownSection
from sidecar.web.lingering import Lingering
from sidecar.web.request_parser import RequestParser, refusal_of

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage

    from sidecar.core.forwarding import Peer
    from sidecar.web.accepting import Arrival

BACKLOG: Final = 65536  # bytes of pipelined requests held before reading pauses
FEW_COOKIES: Final = MAX_COOKIES - MAX_FIELDS
"""Semicolons of a head that cannot have too many cookies: only a field's first one has none."""
LOOK_SECONDS: Final = 1.0  # between two looks whether a client that is not read from has left
OVERSIZE: Final = 262_144  # bytes of a head above its limit that are read, for a helpful response


class Handler(Protocol):
    """What serves the requests of a connection."""

    def exchange(self, connection: ClientConnection, payload: StreamReader) -> Exchange:
        """The exchange for a new request."""

    def handle(self, exchange: Exchange) -> None:
        """A request head is here. Responds through `exchange`, now or later."""

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """No request could be read; the response to `error` closes the connection."""


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

    def opened(self, connection: ClientConnection) -> Peer:
        """Counts an open connection and returns its peer."""

    def closed(self, connection: ClientConnection) -> None:
        """Counts a connection out."""

    def puts_off(self, connection: ClientConnection) -> None:
        """Has the connection go on with what was pipelined once others have had their turn."""

    def holds(self, connection: ClientConnection, size: int) -> None:
        """The connection holds so many bytes that are no request yet. May cut connections."""


class ClientConnection(StreamProtocol):
    """The server side of one connection."""

    __slots__ = (
        "_close_after",
        "_deadline",
        "_exchange",
        "_handler",
        "_is_waiting",
        "_known",
        "_limits",
        "_lingering",
        "_registry",
        "_requests",
        "_tunnel",
        "_unread",
        "_unsent",
        "arrival",
        "cut_for",
        "peer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        limits: Limits,
        registry: Registry,
        arrival: Arrival,
    ) -> None:
        super().__init__(loop)
        self._handler = handler
        self._limits = limits
        self._registry = registry
        self.arrival: Final = arrival
        self._exchange: Exchange | None = None
        self.cut_for = ""
        self._known: Final = KnownSection()
        self._is_waiting = False
        self._unread = 0  # bytes that are no request yet, as the registry knows them
        self._unsent = sys.maxsize  # bytes that the client had not taken at the last look
        self._lingering: Lingering | None = None
        self._close_after = False
        self._tunnel: Any = None
        # What refers to this connection begins with it: it has no end if its TLS handshake fails.
        self.peer: Peer
        self._deadline: Deadline
        self._requests: RequestParser

    # -- for the exchange -----------------------------------------------------------------------

    @property
    def closes_at(self) -> float:
        """When the connection is closed unless its client asks for something, in the loop's time.

        Infinite while a request or its response is under way.
        """
        transport = self.transport
        if not self.is_idle or self._requests.waiting or transport is None or self._is_over:
            return inf
        return inf if transport.get_write_buffer_size() else self._deadline.due

    def close(self) -> None:
        """Closes a connection that is idle."""
        if self.transport is not None:
            self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None and self._tunnel is None

    @property
    def rests(self) -> bool:
        """Whether nothing is under way, not even the beginning of a request."""
        requests = self._requests
        return self.is_idle and not (requests.head_bytes or requests.waiting)

    def serve_with(self, handler: Handler, limits: Limits, peer: Peer) -> None:
        """Sets how the next requests are handled; the current request is not touched."""
        self._handler, self._limits, self.peer = handler, limits, peer
        self._known.forget()  # what it holds was planned by another configuration

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether another request may follow the response to `exchange` (RFC 9112 9.3).

        Once False it stays so, since the client may know it already.
        """
        if self._close_after:
            return False
        if self._must_close(exchange):
            self._close_after = True
            return False
        return True

    def _must_close(self, exchange: Exchange) -> bool:
        """Whether no other request can follow, or may."""
        if exchange.closes or self._registry.draining:
            return True
        payload = exchange.payload
        is_whole = payload is EMPTY_PAYLOAD or (payload.is_eof() and self._requests.is_framed)
        return not is_whole

    def close_after(self) -> None:
        """Closes the connection once the current response is complete."""
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
        """Hands every further byte to `receiver.client_data`, the end to `client_ended`/`_lost`."""
        self._tunnel = receiver
        self._upgraded = True
        self._deadline.clear()
        waiting, self._requests.waiting = self._requests.waiting, b""
        self._bound_unread()
        if waiting:
            receiver.client_data(waiting)

    def end_tunnel(self) -> None:
        """Closes behind a tunnel; a client that takes nothing for `client_idle` is cut."""
        self.close()
        self._deadline.set(self._limits.client_idle)

    def expect_client(self) -> None:
        """Starts timing the client, which is to send a body or to take a response."""
        self._is_waiting = True
        self._deadline.set(self._limits.client_idle)

    def expect_nothing(self) -> None:
        """Stops timing the client."""
        self._is_waiting = False

    @property
    def is_held_up(self) -> bool:
        """Whether the client is waited for: to send a body, or to take a response."""
        return self._is_waiting

    def give_up(self, why: str) -> None:
        """Stops waiting for the client: 408, or a reset once a response has begun."""
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.started or exchange.payload.is_eof():
            self.reset(why)
        else:
            exchange.payload.set_exception(RequestTimeout(why, close=True))

    def answered(self, exchange: Exchange) -> None:
        """Goes on behind a response: to the next request, or to the end of the connection."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._unsent = sys.maxsize
        # Without a body nothing has changed since the response's head (`keeps_alive`) but this.
        may_close = exchange.payload is not EMPTY_PAYLOAD or self._registry.draining
        if self._close_after or (may_close and self._must_close(exchange)):
            announced = exchange.is_read and exchange.closes
            self._end(clean=announced and exchange.payload.is_eof())
            return
        requests = self._requests
        if requests.head_bytes:  # 0 if the request was known without parsing it
            requests.next_request()
        self._deadline.set(self._limits.client_idle)
        if requests.waiting:
            self._put_off()

    def _put_off(self) -> None:
        """Has the next request that waits served in its turn.

        Not while the client has responses to take first: then it is put off once it has.
        """
        if self._may_go_on:
            self._registry.puts_off(self)

    def go_on(self) -> None:
        """Serves the next request that waits, as its turn has come."""
        if self._may_go_on:
            self._read_request(b"")

    @property
    def _may_go_on(self) -> bool:
        """Whether a request waits, and may be served now."""
        is_held = self._paused or self._lingering is not None or self._is_over
        return bool(self._requests.waiting) and self.is_idle and not is_held

    @property
    def _is_over(self) -> bool:
        """Whether the connection is closing, by either side."""
        return self.transport is None or self.transport.is_closing()

    def _end(self, *, clean: bool) -> None:
        """Closes. If the client may still be sending, reads on for a moment.

        Otherwise the response could be lost: closing with unread bytes resets the connection.
        """
        self._requests.forget_unread()  # nothing is served behind the last response
        self._tell_unread()
        transport = self.transport
        if transport is None:
            return
        if clean or not transport.can_write_eof():
            self._deadline.set(self._limits.client_idle)
            transport.close()
            return
        self._lingering = Lingering(self._loop, self._deadline, self._limits.body)
        transport.write_eof()
        transport.resume_reading()

    def reset(self, why: str = "") -> None:
        """Closes with RST, the only ending that no client takes for the end of a response.

        `why` is what the log says of the request that is under way; without it, its client left.
        """
        self.cut_for = self.cut_for or why
        if self.transport is not None:
            reset(self.transport)

    def cut(self) -> None:
        """Breaks off, and lets go of what is not read yet at once.

        Until the loop tells of the end, a turn full of others might have come and filled memory.
        """
        self._requests.forget_unread()
        self._unread = 0
        self.reset("too many bytes unread")

    # -- protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # `limits.header` bounds a whole head, so no single line or field needs a smaller limit.
        self._requests = RequestParser(self, self._loop, self._limits.header + OVERSIZE)
        self._parser = self._requests  # type: ignore[assignment] # all that BaseProtocol calls
        self._deadline = Deadline(self._loop, self._timed_out)
        self.peer = self._registry.opened(self)
        self._deadline.set(self._limits.client_head)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._tunnel is not None:
            self._tunnel.pause_upstream()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tunnel is not None:
            self._tunnel.resume_upstream()
        else:
            self._put_off()

    def eof_received(self) -> bool:
        return self._tunnel is not None and self._tunnel.client_ended()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._deadline.close()
        self._registry.closed(self)
        super().connection_lost(exc)
        exchange, self._exchange = self._exchange, None
        if self._tunnel is not None:
            self._tunnel.client_lost(exc)
        if exchange is not None:
            if not exchange.payload.is_eof():
                exchange.payload.set_exception(ConnectionResetError("client left"))
            exchange.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Lets go of what holds on to this connection, so that all of it is gone at once.

        Else it stays for the garbage collector, which looks at what has lived for a while once in
        millions of objects.
        """
        self._parser = self._tunnel = None
        self._requests.close()
        self._known.forget()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None and self._tunnel is None and not (self._lingering or self._paused):
            if self._requests.waiting:
                self._hold(data)  # its turn comes
            elif not self._serve_known(data):
                self._read_request(data)
        elif self._tunnel is not None:
            self._tunnel.client_data(data)
        elif self._lingering is not None:
            if self.transport is not None and not self._lingering.may_go_on(data):
                self.transport.abort()
        elif exchange is None or exchange.payload.is_eof():
            self._hold(data)
        else:
            self._feed_body(data)

    def _hold(self, data: bytes) -> None:
        """Keeps what is pipelined behind a request that is still being answered, or put off."""
        if data:
            self._requests.waiting += data
            self._bound_unread()

    def _bound_unread(self) -> None:
        """Reads from the client as long as what waits behind the current request is little."""
        is_much = len(self._requests.waiting) > BACKLOG
        if is_much and not self._buffer_paused:
            self._pause_reading_for_buffer()
            self._look_soon()
        elif self._buffer_paused and not is_much:
            self._resume_reading_for_buffer()
        self._tell_unread()

    def _tell_unread(self) -> None:
        unread = self._requests.unread
        if unread != self._unread:
            self._unread = unread
            self._registry.holds(self, unread)

    # -- heads ----------------------------------------------------------------------------------

    def _serve_known(self, data: bytes) -> bool:
        """Serves a request whose header section is known; returns False if `data` is not such a
        request.

        Nothing may be waiting, nor be incomplete before it.
        """
        requests = self._requests
        line = self._known.match(data)
        if line is None or len(data) > self._limits.header or requests.head_bytes:
            return False
        exchange = self._exchange = self._handler.exchange(self, EMPTY_PAYLOAD)
        method, target = line.groups()
        exchange.method = method.decode("ascii")
        exchange.target = target.decode("ascii")
        exchange.is_read = True
        exchange.fields = self._known.fields
        self._handler.handle(exchange)
        return True

    def _read_request(self, data: bytes) -> None:
        """Reads one request and serves it, if a whole one is here. Others wait for their turn."""
        requests = self._requests
        if self.transport is None:
            return
        is_first = not requests.head_bytes
        try:
            read = requests.read_head(data)
        except HttpProcessingError as error:
            self._unreadable(error)
            return
        if requests.waiting or requests.held or self._unread:
            self._bound_unread()
            if self._is_over:
                return
        if read is None:
            if is_first and requests.head_bytes:
                self._deadline.set(self._limits.client_head)
            if requests.head_bytes > self._limits.header + OVERSIZE:
                self._refuse(HeadersTooLarge(close=True))
            return
        self._serve(*read)
        if self._buffer_paused:
            self._look_soon()

    def _serve(self, message: RawRequestMessage, payload: StreamReader) -> None:
        exchange = self._exchange = self._handler.exchange(self, payload)
        exchange.read(message)
        size = self._requests.head_bytes  # which is the next one's behind `handle`
        if not exchange.http11 and message.version != HttpVersion10:
            self._handler.refuse(exchange, VersionNotSupported(close=True))
        elif self._is_too_large(exchange, size):
            self._close_after = True
            self._handler.refuse(exchange, HeadersTooLarge(close=True))
        else:
            if exchange.http11:  # what is known was read as HTTP/1.1, in which more fields count
                exchange.fields = self._known.reuse(exchange.raw_fields)
            self._handler.handle(exchange)
            self._known.remember(exchange, size)

    def _is_too_large(self, exchange: Exchange, size: int) -> bool:
        return size > self._limits.header or (
            self._requests.semicolons > FEW_COOKIES and has_too_many(exchange.raw_fields)
        )

    # -- bodies ---------------------------------------------------------------------------------

    def _feed_body(self, data: bytes) -> None:
        try:
            self._requests.feed_body(data)
        except HttpProcessingError as error:
            self._unreadable(error)
        self._bound_unread()

    # -- what cannot be read --------------------------------------------------------------------

    def _unreadable(self, error: HttpProcessingError) -> None:
        refusal = refusal_of(error)
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
        if self._tunnel is not None and self.transport is not None:
            self._close_unless_stalled(self.transport)  # it has ended
        elif exchange is not None and not self._is_waiting:
            self._look_at_client()  # it waits for us
        elif exchange is not None:
            is_sent = exchange.payload.is_eof()
            self.give_up("the response is not taken" if is_sent else "request body stalled")
        elif self._requests.head_bytes and not (self._lingering or self._is_over):
            self._refuse(RequestTimeout("request head stalled", close=True))
        elif self.transport is not None:
            self._close_unless_stalled(self.transport)

    def _look_soon(self) -> None:
        """Has `_look_at_client` called in a moment, if a request is under way."""
        if self._exchange is not None and not self._is_waiting:
            self._deadline.set(LOOK_SECONDS)

    def _look_at_client(self) -> None:
        """Closes if the client has left while it is not read from; else looks again later."""
        transport = self.transport
        if transport is None or transport.is_closing():
            self.reset()  # it has left, and takes nothing more
        elif self._buffer_paused and has_left(transport):
            transport.close()
            self._deadline.set(self._limits.client_idle)
        else:
            self._deadline.set(LOOK_SECONDS if self._buffer_paused else self._limits.client_idle)

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
