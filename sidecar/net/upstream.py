"""The way to an upstream: one connection, on aiohttp's C response parser.

Why not aiohttp's client session: it costs more than the rest of the proxy together, hides the
answer's raw bytes, repeats idempotent requests by itself, and hands bytes that arrive on an idle
connection to the next user. What is used of aiohttp, and why:

- `aiohttp.http_parser.HttpResponseParser`: the C parser (`net.parsers`). A fresh one per exchange,
  since trailers, HEAD and partial next heads would otherwise leak from one exchange into the next.
- `aiohttp.base_protocol.BaseProtocol`: what the parser's StreamReader pauses and resumes.
  `_reading_paused` tells a paused upstream from a silent one.
- `aiohttp.streams.StreamReader._buffer`: the pieces of a body that is whole, without the
  bookkeeping that `read_nowait` does for one that is not.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.core.errors import (
    ProxyError,
    UpstreamCause,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from sidecar.core.headers import head_size
from sidecar.core.keep_alive import usable
from sidecar.core.scan import scan_answer
from sidecar.net.causes import of_answer, of_connection
from sidecar.net.coming_answer import ComingAnswer
from sidecar.net.deadline import Deadline
from sidecar.net.parsers import BODY_WINDOW, response_parser
from sidecar.net.refused_answer import Messages, before_fault, is_here
from sidecar.net.stream_protocol import StreamProtocol

if TYPE_CHECKING:
    from aiohttp.http_parser import HttpResponseParser, RawResponseMessage

    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.net.members import Member
    from sidecar.policy import UpstreamAddress

MAX_INTERIM: Final = 32  # 1xx responses before a final one; more is abuse
_VERSIONS: Final = (HttpVersion11, HttpVersion10)
_LOST_WHILE_SENDING: Final = "the connection was lost while the request body was sent"


class Listener(Protocol):
    """Who waits for the response of one exchange.

    Of `on_answer`, `on_whole_answer` and `on_failure` exactly one is called, once.
    """

    def wants_whole(self, head: UpstreamHead, length: int) -> bool:
        """Whether a response whose body of `length` bytes is still coming is of use only once all
        of it is here. It may end as any of the others all the same.
        """

    def on_interim(self, message: RawResponseMessage) -> None:
        """The head of an interim response is here, before any of the others is called."""

    def on_answer(self, answer: UpstreamConnection) -> None:
        """The final head is in `answer.message`; the body follows in `answer.payload`."""

    def on_whole_answer(self, head: UpstreamHead, body: bytes) -> None:
        """The response is here to its end, and its connection in the pool again."""

    def on_failure(self, error: ProxyError, *, untouched: bool) -> None:
        """No head came. `untouched`: a reused connection died before its first response byte."""


class Home(Protocol):
    """Where connections belong (`sidecar.net.pool.Pool`)."""

    @property
    def address(self) -> UpstreamAddress:
        """The upstream, and how long it may take."""

    @property
    def has_others(self) -> bool:
        """Whether another server may take what one has failed."""

    def lend(self, connection: UpstreamConnection) -> None:
        """Lets a busy connection count no more, until `count`, `put` or its end."""

    def count(self, connection: UpstreamConnection) -> None:
        """Counts a lent connection again."""

    def put(self, connection: UpstreamConnection) -> None:
        """Takes a clean connection back."""

    def forget(self, connection: UpstreamConnection) -> None:
        """Removes a connection that is lost from the idle ones."""

    def lost(self, connection: UpstreamConnection) -> None:
        """Counts a connection out."""

    def failed(self, connection: UpstreamConnection, why: str) -> None:
        """Its server has given no response."""

    def judge(self, connection: UpstreamConnection, status: int) -> None:
        """Its server has responded, and it had failed before, or `status` is above 500."""


class UpstreamConnection(StreamProtocol):
    """One connection to an upstream; one exchange at a time.

    Between `Listener.on_answer` and `release`, `message` is the response's head, `payload` its body
    as far as it has come, and `upgraded_tail` what came behind the head of a 101 (else None).
    `keeps` is how many seconds it may be idle, `idle_until` and `retires_at` are the loop's times
    at which it is closed if it is idle, `member` is the server at the other end, and `address` in
    words where it was reached: host and port.
    """

    __slots__ = (
        "_answered",
        "_coming",
        "_deadline",
        "_dirty",
        "_expects_body",
        "_head_data",
        "_heard",
        "_interim",
        "_listener",
        "_sending",
        "_tunnel",
        "_unbounded",
        "address",
        "idle_until",
        "keeps",
        "member",
        "message",
        "payload",
        "pool",
        "retires_at",
        "reused",
        "upgraded_tail",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Home, member: Member) -> None:
        super().__init__(loop)
        self.pool = pool
        self.reused = False
        self.idle_until = 0.0
        self.keeps = pool.address.pool_idle
        self.retires_at = inf
        self.member: Final = member
        self.address = str(member.server)
        self._deadline = Deadline(loop, self._timed_out)
        self._expects_body = True
        self._head_data = bytearray()  # received before the final head came to its end
        self._listener: Listener | None = None
        self._coming: ComingAnswer | None = None
        self.message: RawResponseMessage = None  # type: ignore[assignment]
        self.payload: StreamReader = EMPTY_PAYLOAD
        self.upgraded_tail: bytes | None = None
        self._tunnel: Any = None
        self._answered = self._dirty = self._heard = self._unbounded = self._sending = False
        self._interim = 0

    @property
    def is_open(self) -> bool:
        """Whether bytes can still be written."""
        return self.transport is not None and not self.transport.is_closing()

    # -- one exchange -------------------------------------------------------------------------

    def send(
        self, data: bytes, listener: Listener, *, expects_body: bool, whole: bool = True
    ) -> None:
        """Begins an exchange: writes a request head (and what is there of the body).

        `expects_body` is False for HEAD, whose answer has none whatever its head says; `whole`
        is False if more of the request body follows by `write`, up to `sent`.
        """
        assert self.transport is not None
        self._parser = None
        self._expects_body = expects_body
        self._answered = self._dirty = self._heard = self._unbounded = False
        self._interim = 0
        self._head_data.clear()
        self._sending = not whole
        self._listener = listener
        if whole:
            self._deadline.set(self.pool.address.head)
        else:
            self._deadline.clear()  # that of the exchange before; it is the client's turn
        self.transport.write(data)

    async def write(self, data: bytes) -> None:
        """Writes a piece of the request body, waiting while the upstream does not take it."""
        transport = self.transport
        if transport is None:
            raise UpstreamUnreachable(_LOST_WHILE_SENDING)
        transport.write(data)
        if self._paused:
            self._deadline.set(self.pool.address.head)
            try:
                await self._drain_helper()
            except ConnectionError:
                raise UpstreamUnreachable(_LOST_WHILE_SENDING) from None
            if not self._answered:
                self._deadline.clear()  # it is the client's turn again

    def sent(self) -> None:
        """The request body has been written to its end: now the response is due."""
        self._sending = False
        if not self._answered:
            self._deadline.set(self.pool.address.head)

    def unbound(self) -> None:
        """Lifts the limit between two reads: an event stream may be silent for hours."""
        self._unbounded = True
        self._deadline.clear()

    def tunnel(self, receiver: Any) -> None:
        """Hands over every further byte (`receiver.upstream_data`), and how the connection ends."""
        self._tunnel = receiver
        self._answered = False
        self._upgraded = True
        self.unbound()

    def end_tunnel(self) -> None:
        """Closes behind a tunnel; what is not taken within `idle` is thrown away."""
        if self.transport is not None:
            self.transport.close()
            self._deadline.set(self.pool.address.idle)

    @property
    def is_whole(self) -> bool:
        """Whether the response's body is here to its end."""
        return self.payload.is_eof()

    def take_body(self) -> bytes:
        """The whole body of a response that `is_whole`, once; nothing of it stays behind."""
        if self.payload is EMPTY_PAYLOAD:
            return b""
        pieces = self.payload._buffer
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    def release(self) -> None:
        """Ends the exchange; the connection is kept only if nothing odd was seen on it."""
        payload = self.payload
        self._listener = None
        if self._is_reusable(payload):
            self._answered = False
            self.reused = True
            self._parser = None  # an idle connection holds nothing of its last response
            self.message = None  # type: ignore[assignment]
            self.payload = EMPTY_PAYLOAD
            self.pool.put(self)
        else:
            self.abort()

    def _is_reusable(self, payload: StreamReader) -> bool:
        if (
            not self._answered
            or self._dirty
            or self._sending
            or self._tunnel is not None
            or self._reading_paused
            or self.transport is None
            or self.transport.is_closing()
            or not payload.at_eof()
            or payload.exception() is not None
        ):
            return False
        try:
            return self._parser is not None and self._parser.feed_eof() is None
        except HttpProcessingError:
            return False  # the head of an unrequested message has begun

    def abort(self) -> None:
        """Closes at once and forgets the exchange, whose response nobody reads any more."""
        self._close()
        self.payload = EMPTY_PAYLOAD  # which refers to this connection

    def _close(self) -> None:
        """Closes at once. What is here of a response can still be read."""
        self._listener = self._coming = None
        self._answered = False
        self._dirty = True
        self._deadline.close()
        if self.transport is not None:
            self.transport.abort()

    # -- protocol -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._listener is None and not self._answered:
            self._unasked(data)
            return
        if self._parser is None:
            if self._coming is not None:
                self._more(self._coming, data)
                return
            if self._expects_body and not self._sending:
                scanned = scan_answer(data, self.pool.address.header_limit)
                if scanned is not None:
                    head, begins, missing = scanned
                    if not missing:
                        self._whole(head, data[begins:])
                        return
                    if self._waits_for(ComingAnswer(head, data, begins, missing)):
                        return
            self._parser = self._fresh_parser(self)
        self._parse(self._parser, data)

    def _fresh_parser(self, protocol: BaseProtocol) -> HttpResponseParser:
        limit = self.pool.address.header_limit
        return response_parser(protocol, self._loop, limit, has_body=self._expects_body)

    def _waits_for(self, answer: ComingAnswer) -> bool:
        """Keeps an answer until it is whole, if its listener has no use for it before."""
        listener = self._listener
        if listener is None or not listener.wants_whole(answer.head, answer.length):
            return False
        self._coming = answer
        self._deadline.set(self.pool.address.idle)
        return True

    def _more(self, answer: ComingAnswer, data: bytes) -> None:
        answer.add(data)
        if answer.missing > 0:
            self._deadline.set(self.pool.address.idle)
        elif answer.missing < 0:
            self._read_anew(answer)
        else:
            self._coming = None
            self._whole(answer.head, answer.body())

    def _read_anew(self, answer: ComingAnswer) -> None:
        """Leaves an answer to the parser that does not end as its head says."""
        self._coming = None
        parser = self._parser = self._fresh_parser(self)
        for data in answer.pieces:
            self._parse(parser, data)

    def _parse(self, parser: Any, data: bytes) -> None:
        limit = self.pool.address.header_limit
        if not self._answered:
            self._head_data += data
        try:
            messages, upgraded, tail = parser.feed_data(data)
        except HttpProcessingError as error:
            self._refused(UpstreamProtocolError(of_answer(error)))
            return
        if messages:
            if sum(message.code >= 200 for message, _ in messages) > 1:
                self._dirty = True  # a second response, seen before the first is passed on
            for message, payload in messages:
                self._head(message, payload, tail if upgraded else None)
        elif self._answered:
            if not self._unbounded:
                self._deadline.set(self.pool.address.idle)
        elif data:
            self._heard = True
        if len(self._head_data) > limit + BODY_WINDOW:  # interim heads and no final one
            self._broken(UpstreamProtocolError(_too_large(limit)))

    def _refused(self, error: UpstreamProtocolError) -> None:
        """The parser refuses what came: behind the response, within its body, or before it."""
        messages = () if self._answered else self._before_fault()
        is_whole = is_here(messages)
        if messages and not is_whole:
            messages[-1][1].set_exception(error)  # before its head is passed on
        for message, payload in messages:
            self._head(message, payload, None)
        if not is_whole:
            self._broken(error)

    def _before_fault(self) -> Messages:
        """The response as far as it is well formed, and what is new of interim ones before it."""
        found = before_fault(bytes(self._head_data), self._fresh_parser, self)
        self._dirty = self._dirty or bool(found)
        return found[self._interim :]

    def _whole(self, head: UpstreamHead, body: bytes) -> None:
        """The common case: nothing is left over, so the next exchange may begin at once."""
        listener, self._listener = self._listener, None
        assert listener is not None
        self.reused = True
        if self.member.failures or head.status > 500:
            self.pool.judge(self, head.status)
        hint = head.facts.get(b"keep-alive")
        if hint is not None:
            self._believe(hint)
        self.pool.put(self)
        listener.on_whole_answer(head, body)

    def _believe(self, keep_alive: bytes) -> None:
        """The upstream says how long it keeps the connection."""
        self.keeps = min(self.pool.address.pool_idle, usable(keep_alive))

    def _unasked(self, data: bytes) -> None:
        """Bytes of a tunnel, or unrequested bytes (T20)."""
        if self._tunnel is not None:
            self._tunnel.upstream_data(data)
        elif data:
            self.pool.forget(self)
            self.abort()

    def _head(self, message: Any, payload: StreamReader, tail: bytes | None) -> None:
        code = message.code
        listener = self._listener
        if listener is None:
            self._dirty = True  # a second response
        elif code >= 200 or code == 101:
            self._final(message, payload, tail, listener)
        else:
            self._heard = True
            self._interim += 1
            if code < 100:
                self._broken(UpstreamProtocolError(f"the answer's status is {code}"))
            elif self._interim > MAX_INTERIM:
                self._broken(UpstreamProtocolError("too many interim answers"))
            else:
                listener.on_interim(message)

    def _final(
        self, message: Any, payload: StreamReader, tail: bytes | None, listener: Listener
    ) -> None:
        limit = self.pool.address.header_limit
        fault = _unusable(message, tail, len(self._head_data), limit)
        if fault is not None:
            self._broken(UpstreamProtocolError(fault))
            return
        self._listener = None
        self._answered = True
        self._head_data.clear()
        if self.member.failures or message.code > 500:
            self.pool.judge(self, message.code)
        self.message = message
        self.payload = payload
        self.upgraded_tail = tail
        if message.should_close or message.upgrade:
            self._dirty = True
        for name, value in message.raw_headers:
            if name.lower() == b"keep-alive":
                self._believe(value)
        if not payload.is_eof():
            self._deadline.set(self.pool.address.idle)
        listener.on_answer(self)

    def _broken(self, error: ProxyError, *, untouched: bool = False) -> None:
        """Ends the exchange with `error`, before or after the head."""
        listener = self._listener
        if self._answered and not self.payload.is_eof():
            self.payload.set_exception(error)
        self._close()
        if listener is not None:
            if not self.reused or isinstance(error, UpstreamTimeout):
                self.pool.failed(self, error.detail)
            listener.on_failure(error, untouched=untouched)

    def _timed_out(self) -> None:
        if self._tunnel is not None:
            self.abort()  # it has ended
            return
        if self._listener is None and not self._answered:
            return  # idle: the pool sees to that
        if self._coming is not None:
            self._read_anew(self._coming)
        elif self._reading_paused:  # it is the client who does not read
            self._deadline.set(self.pool.address.idle)
            return
        address = self.pool.address
        if self._answered:
            late = f"nothing more of the answer within {address.idle:g} s"
            self._broken(UpstreamTimeout(late, UpstreamCause.IDLE_TIMEOUT))
        else:
            self._broken(UpstreamTimeout(f"no answer within {address.head:g} s"))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._tunnel is not None:
            self._tunnel.pause_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tunnel is not None:
            self._tunnel.resume_client()

    def eof_received(self) -> bool:
        return self._tunnel is not None and self._tunnel.upstream_ended()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._coming is not None:
            self._read_anew(self._coming)
        self._deadline.close()
        self.pool.lost(self)
        super().connection_lost(exc)
        if self._tunnel is not None:
            self._tunnel.upstream_lost(exc)
        elif self._listener is not None:
            untouched = (self.reused or self.pool.has_others) and not self._heard
            how = "was closed" if exc is None else f"was lost ({of_connection(exc)})"
            cause = f"the connection {how} before an answer"
            self._broken(UpstreamUnreachable(cause), untouched=untouched)
        elif self._answered and not self.payload.is_eof():
            _end_of_body(self._parser, self.payload, exc)
        # Both refer to this connection, and all would wait for the garbage collector together.
        self._parser = self._tunnel = None


def _end_of_body(parser: Any, payload: StreamReader, exc: BaseException | None) -> None:
    """The end of a body that the end of the connection delimits, or its loss.

    The exception goes in first: `feed_eof` would make a broken body look whole.
    """
    if exc is not None:
        cause = f"the connection was lost within the body ({of_connection(exc)})"
        payload.set_exception(UpstreamProtocolError(cause, UpstreamCause.CUT))
        return
    try:
        parser.feed_eof()
    except HttpProcessingError as error:
        payload.set_exception(UpstreamProtocolError(of_answer(error), UpstreamCause.CUT))


def _unusable(message: Any, tail: bytes | None, head_bytes: int, limit: int) -> str | None:
    """Why a final head cannot be used; None if it can."""
    if head_bytes > limit < head_size(message.raw_headers):
        return _too_large(limit)
    if message.version not in _VERSIONS:
        return "the answer is not HTTP/1"
    if message.code == 101 and tail is None:
        return "101 without an upgrade"
    return None


def _too_large(limit: int) -> str:
    return f"the answer's header fields are above {limit} bytes (limits.header)"
