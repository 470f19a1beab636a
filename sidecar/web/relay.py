"""The parts of a request that wait: connecting, bodies in both directions, envelopes as streams."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.actions import Action
from sidecar.core.envelope import Document, InvalidJSON, StreamWrapper, Walk
from sidecar.core.errors import (
    BodyTooLarge,
    Overloaded,
    UpstreamProtocolError,
    UpstreamUnreachable,
)
from sidecar.core.headers import media_type
from sidecar.web.body import RequestBody
from sidecar.web.flow import MEMORY_BODY, STREAM
from sidecar.web.lifetime import end_with_server, end_with_session
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from sidecar.core.answer import AnswerHead
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.web.flow import Flow, Plan

LOOK_SECONDS: Final = 1.0  # below `connect`: who waits for a connection meanwhile still gets one
LONG_LOOKS: Final = 10  # after which a body that comes and goes is a stream all the same
ERROR_BODY: Final = 65536  # bytes of an error's body that are read to keep its connection
INFLATED_PIECE: Final = 65536  # bytes that one step of decoding may yield
_CORRUPT: Final = "the body is not what its Content-Encoding says"
WRAPPED_PIECE: Final = 32768  # bytes that one step of wrapping takes
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


# -- towards the upstream -----------------------------------------------------------------------


async def send(flow: Flow, fresh: bool = False) -> None:
    """Sends the request once a connection is there, and its body as it comes.

    `fresh` asks for a new connection: idle ones may all have died with the first.
    """
    pool, lasts = flow.runtime.pools[flow.route.upstream], flow.kind == STREAM
    connection = await pool.acquire(lasts=lasts, fresh=fresh)
    flow.upstream = connection
    connection.send(
        flow.head,
        flow,
        expects_body=flow.request.method != "HEAD",
        whole=not flow.streaming_body,
    )
    if flow.streaming_body:
        try:
            await _send_body(flow)
        except UpstreamUnreachable:
            if not flow.upstream_status:  # else it has answered before the body's end
                raise


async def collect(flow: Flow, plan: Plan) -> None:
    """Waits until `MEMORY_BODY` bytes or the end of the request body are here, then goes on."""
    held: list[bytes] = []
    size = 0
    with _Watch(flow), RequestBody(flow) as body:
        body.invite()
        while size < MEMORY_BODY and (data := await body.read()):
            held.append(data)
            size += len(data)
    flow.beginning = b"".join(held)
    flow.proxy.resume(flow, plan)


async def _send_body(flow: Flow) -> None:
    limit = flow.runtime.policy.config.limits.body
    chunked = b"content-length" not in flow.request.facts
    data, flow.beginning = flow.beginning, b""
    sent = 0
    with _Watch(flow), RequestBody(flow) as body:
        while data or (data := await body.read()):
            sent += len(data)
            if sent > limit:
                raise BodyTooLarge(f"request body is above {limit}", close=True)
            await flow.connected().write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            data = b""
    if chunked:
        await flow.connected().write(b"0\r\n\r\n")
    flow.connected().sent()


class _Watch:
    """Counts a request as a stream once its client holds it up, or it has lasted long.

    A context manager around the transfer of a body. If the budget of streams is used up, it looks
    again later.
    """

    __slots__ = ("_flow", "_looks", "_timer")

    def __init__(self, flow: Flow) -> None:
        self._flow: Final = flow
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._flow.kind != STREAM:
            self._wait()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = self._flow.runtime.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looks += 1
        is_long = self._looks >= LONG_LOOKS or self._flow.connection.is_held_up
        if not (is_long and self._flow.proxy.outlast(self._flow)):
            self._wait()


# -- towards the client -------------------------------------------------------------------------


async def receive(flow: Flow, answer: UpstreamConnection, head: AnswerHead, action: Action) -> None:
    """Takes an answer whose body is still coming, or is encoded and to be wrapped."""
    if action is Action.UNAUTHORIZED:
        _let_go(flow, answer)
        flow.proxy.conclude(flow, head, action, b"")
    elif action is Action.WRAP:
        await _wrap(flow, answer, head, answer.payload.iter_any())
    elif action is Action.WRAP_ERROR:
        await _wrap_error(flow, answer, head, answer.payload.iter_any())
    elif action is Action.INSPECT:
        await _inspect(flow, answer, head)
    else:
        await _relay(flow, answer, head)


def _let_go(flow: Flow, answer: UpstreamConnection | None) -> None:
    """Gives the connection back, or closes it where the body has not come to its end."""
    flow.upstream = None
    if answer is not None:
        answer.release()


async def _relay(flow: Flow, answer: UpstreamConnection, head: AnswerHead) -> None:
    payload, route = answer.payload, flow.route
    is_events = media_type(head.fact(b"content-type")) == b"text/event-stream"
    if is_events:
        if not flow.proxy.outlast(flow):
            raise Overloaded("budget of stream requests is used up")
        answer.unbound()
    elif route.envelope is not None and head.status < 300 and _may_be_empty(head):
        first = await payload.readany()
        if not first:
            _let_go(flow, answer)
            flow.proxy.conclude(flow, head, Action.WRAP_EMPTY, b"")
            return
        await _stream(flow, answer, head, _then(first, payload.iter_any()))
        return
    if is_events:
        end_with_session(flow, partial(_session_ended, flow))
        end_with_server(flow, partial(_server_ends, flow))
    await _stream(flow, answer, head, payload.iter_any())


async def _inspect(flow: Flow, answer: UpstreamConnection, head: AnswerHead) -> None:
    """Holds a JSON body that is small enough to be looked into before its head is sent."""
    limit = flow.runtime.policy.config.envelope.buffer
    pieces = answer.payload.iter_any()
    held: list[bytes] = []
    size = 0
    async for data in pieces:
        held.append(data)
        size += len(data)
        if size > limit:
            await _stream(flow, answer, head, _then(b"".join(held), pieces))
            return
    _let_go(flow, answer)
    flow.proxy.conclude(flow, head, Action.INSPECT, b"".join(held))


def _may_be_empty(head: AnswerHead) -> bool:
    """Whether only the body's end can tell that a success has none."""
    if b"content-length" in head.facts or head.status in (204, 205, 206):
        return False
    return media_type(head.fact(b"content-disposition")) != b"attachment"


async def _then(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for data in rest:
        yield data


def _session_ended(flow: Flow) -> None:
    """Ends an event stream with its session; EventSource then asks again, and is told."""
    flow.reason = "session ended"
    flow.abort()


def _server_ends(flow: Flow) -> None:
    """Ends an event stream as one that is complete; EventSource then asks again, elsewhere."""
    flow.reason = "going away"
    if not (flow.started and flow.is_open_ended):
        flow.abort()
        flow.proxy.ended(flow)
        return
    flow.stop()
    flow.connection.close_after()
    if flow.http11:
        flow.connection.write(b"0\r\n\r\n")
    flow.finish()
    flow.connection.close()  # a client that waits for events sends nothing that could be lost


async def _stream(
    flow: Flow, answer: UpstreamConnection, head: AnswerHead, pieces: AsyncIterator[bytes]
) -> None:
    """Passes a body on as it comes; memory holds one window of it, whatever its size."""
    if flow.is_held:
        pieces = await flow.proxy.bridge.hold(flow, pieces)
    lines = flow.proxy.render_head(flow, head, wrapped=False)
    flow.status, flow.decision = head.status, Action.RELAY.value
    chunked = flow.start(lines, _length(answer, head))
    with _Watch(flow):
        async for data in pieces:
            flow.bytes_out += len(data)
            await flow.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    await _finish(flow, answer, b"0\r\n\r\n" if chunked else b"")


async def _finish(flow: Flow, answer: UpstreamConnection | None, last: bytes) -> None:
    _let_go(flow, answer)
    if last:
        await flow.write(last)
    flow.finish()
    flow.proxy.ended(flow)


def _length(answer: UpstreamConnection, head: AnswerHead) -> int | None:
    """The body's length where the upstream's framing says it (RFC 9112 6.3)."""
    length = head.facts.get(b"content-length")
    return None if length is None or answer.message.chunked else int(length)


async def _wrap(
    flow: Flow, answer: UpstreamConnection | None, head: AnswerHead, body: AsyncIterator[bytes]
) -> None:
    """Wraps a JSON body: in memory up to the route's buffer, as a stream beyond it."""
    route = flow.route
    assert route.envelope is not None
    pieces = _decoded(head, body)
    held: list[bytes] = []
    size = 0
    async for data in pieces:
        held.append(data)
        size += len(data)
        if size > route.envelope.buffer:
            await _wrap_stream(flow, answer, head, held, pieces)
            return
    _let_go(flow, answer)
    flow.proxy.conclude(flow, head, Action.WRAP, b"".join(held))


async def _wrap_stream(
    flow: Flow,
    answer: UpstreamConnection | None,
    head: AnswerHead,
    held: list[bytes],
    pieces: AsyncIterator[bytes],
) -> None:
    route = flow.route
    assert route.envelope is not None
    problem = media_type(head.fact(b"content-type")) == b"application/problem+json"
    wrapper = StreamWrapper(route.envelope, head.status, head.reason, problem)
    try:
        turn, out = Turn(), b""
        for part in _cut(b"".join(held)):
            out += wrapper.feed(part)
            await turn.give_way()
        held.clear()
        lines = flow.proxy.render_head(flow, head, wrapped=True)
        flow.status, flow.decision = head.status, Action.WRAP.value
        chunked = flow.start(lines, None)
        with _Watch(flow):
            await _write_piece(flow, out, chunked=chunked)
            async for data in pieces:
                for part in _cut(data):
                    await _write_piece(flow, wrapper.feed(part), chunked=chunked)
                    await turn.give_way()
            await _write_piece(flow, wrapper.finish(), chunked=chunked)
    except InvalidJSON as error:
        raise UpstreamProtocolError(f"JSON type, but not valid JSON: {error}") from None
    await _finish(flow, answer, b"0\r\n\r\n" if chunked else b"")


def _cut(data: bytes) -> Iterator[bytes]:
    """The pieces that are wrapped in one step each."""
    for at in range(0, len(data), WRAPPED_PIECE):
        yield data[at : at + WRAPPED_PIECE]


async def _write_piece(flow: Flow, data: bytes, *, chunked: bool) -> None:
    if data:
        flow.bytes_out += len(data)
        await flow.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)


async def _wrap_error(
    flow: Flow, answer: UpstreamConnection | None, head: AnswerHead, body: AsyncIterator[bytes]
) -> None:
    """Wraps an error that is not JSON; a long body is not worth reading to its end."""
    held: list[bytes] = []
    size = 0
    async for data in _decoded(head, body):
        held.append(data)
        size += len(data)
        if size > ERROR_BODY:
            break
    _let_go(flow, answer)
    flow.proxy.conclude(flow, head, Action.WRAP_ERROR, b"".join(held))


async def walk(flow: Flow, head: AnswerHead, action: Action, body: bytes) -> None:
    """Looks into a JSON body that is quickly told by nothing: deep, or with lone surrogates."""
    steps, turn = Walk(body), Turn()
    document: Document | InvalidJSON | None = None
    while document is None:
        try:
            document = steps.step()
        except InvalidJSON as error:
            document = InvalidJSON(*error.args)
        await turn.give_way()
    flow.proxy.conclude(flow, head, action, body, document)


async def receive_encoded(flow: Flow, head: AnswerHead, action: Action, body: bytes) -> None:
    """Takes an answer that is here to its end, but encoded, and is to be wrapped."""
    if action is Action.UNAUTHORIZED:
        flow.proxy.conclude(flow, head, action, b"")
    elif action is Action.WRAP:
        await _wrap(flow, None, head, _once(body))
    else:
        await _wrap_error(flow, None, head, _once(body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _decoded(head: AnswerHead, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Undoes gzip or deflate in bounded steps, so that a bomb costs time but no memory.

    What is done with each part counts too: the others are let in when all of it takes long.
    Raises `UpstreamProtocolError` for corrupt or truncated codings (RFC 9110 8.4.1).
    """
    coding = head.fact(b"content-encoding").strip().lower()
    if coding in (b"", b"identity"):
        async for data in pieces:
            yield data
        return
    decoder, turn = _Inflater(), Turn()
    async for data in pieces:
        for part in decoder.feed(data):
            if part:
                yield part
            await turn.give_way()
    decoder.finish()


class _Inflater:
    """gzip (of several members), zlib, and the raw deflate that some servers send as deflate."""

    __slots__ = ("_any", "_stream")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._any = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields what `data` decodes to, in pieces of at most `INFLATED_PIECE` bytes, or none."""
        while data:
            if self._stream.eof:
                self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            part = self._step(data)
            self._any = True
            yield part
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def _step(self, data: bytes) -> bytes:
        try:
            return self._stream.decompress(data, INFLATED_PIECE)
        except zlib.error:
            if self._any:
                raise UpstreamProtocolError(_CORRUPT) from None
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._stream.decompress(data, INFLATED_PIECE)
        except zlib.error:
            raise UpstreamProtocolError(_CORRUPT) from None

    def finish(self) -> None:
        """Raises `UpstreamProtocolError` where the coding has not come to its end."""
        if self._any and not self._stream.eof:
            raise UpstreamProtocolError("the encoded body ends too early")
