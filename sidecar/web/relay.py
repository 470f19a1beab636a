"""An upstream's response whose body is still coming, or takes long: streamed, or gathered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.actions import Action
from sidecar.core.codings import content_coding, is_decodable
from sidecar.core.envelope import (
    TEXT_LIMIT,
    Document,
    InvalidJSON,
    StreamWrapper,
    Unstreamable,
)
from sidecar.core.errors import (
    Overloaded,
    UndecodableBody,
    UpstreamError,
    UpstreamProtocolError,
    forget_frames,
)
from sidecar.core.headers import media_type
from sidecar.core.inflate import CorruptCoding, Inflater
from sidecar.net.pieces import next_piece, pieces_of
from sidecar.web import handing_out
from sidecar.web.client_head import render_head
from sidecar.web.compression import Packer, coding_for, gzipped_in_turns, packer_for
from sidecar.web.inspection import (
    Arrived,
    arriving,
    decoded_text,
    first_piece,
    is_told,
    passed_over,
    walked,
)
from sidecar.web.lifetime import end_with_server, end_with_session
from sidecar.web.observing import watched
from sidecar.web.rescue import tell_broken_error
from sidecar.web.response import conclude, deliver, is_problem
from sidecar.web.transfer_watch import TransferWatch
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.web.flow import Flow

ERROR_BODY: Final = 65536  # bytes of a body that nobody needs, read to keep its connection
# Bytes that one step of wrapping takes. They nest in no more levels than are followed, since each
# takes two bytes, so nothing need be counted.
WRAPPED_PIECE: Final = 16384
# Bytes beyond the buffer for which the head of an error is held back, so that its status is said
# of what it turns out to be; and for which a body is held that a stream cannot render.
HELD_BACK: Final = 65536


async def receive(
    flow: Flow, answer: UpstreamConnection, head: UpstreamHead, action: Action
) -> None:
    """Takes a response whose body is still coming, or is encoded and to be wrapped."""
    if action is Action.UNAUTHORIZED:
        _let_go(flow, answer)
        conclude(flow, head, action, b"")
    elif action is Action.WRAP:
        await _wrap(flow, answer, head, pieces_of(answer.payload))
    elif action is Action.WRAP_ERROR:
        await _wrap_error(flow, answer, head, pieces_of(answer.payload))
    elif action is Action.INSPECT:
        await _inspect(flow, answer, head)
    else:
        await _relay(flow, answer, head)


def _let_go(flow: Flow, answer: UpstreamConnection | None) -> None:
    """Gives the connection back, or closes it if the body is not complete."""
    flow.upstream = None
    if answer is not None:
        answer.release()


async def _relay(flow: Flow, answer: UpstreamConnection, head: UpstreamHead) -> None:
    payload, route = answer.payload, flow.route
    if head.forbids_content:
        _let_go(flow, answer)
        conclude(flow, head, Action.RELAY, b"")
        return
    is_events = media_type(head.fact(b"content-type")) == b"text/event-stream"
    if is_events:
        if not flow.outlast():
            raise Overloaded("budget of stream requests is used up")
        answer.unbound()
        flow.watch_peers()
    elif route.envelope is not None and head.status < 300 and _may_be_empty(head):
        # Without a type the body may be empty; a stream's head never waits for its body.
        is_typed = b"content-type" in head.facts
        first = await (first_piece(payload) if is_typed else next_piece(payload))
        if first == b"":
            _let_go(flow, answer)
            conclude(flow, head, Action.WRAP_EMPTY, b"")
            return
        await _stream(flow, answer, head, _then(first or b"", pieces_of(payload)))
        return
    if is_events:
        end_with_session(flow, partial(_end_events, flow, "session ended"))
        end_with_server(flow, partial(_end_events, flow, "going away"), "event_stream")
    await _stream(flow, answer, head, pieces_of(payload))


async def _inspect(flow: Flow, answer: UpstreamConnection, head: UpstreamHead) -> None:
    """Looks into a JSON body before its head is sent, as far as that need not wait."""
    limit = flow.runtime.policy.config.envelope.buffer
    here = await arriving(answer.payload, _length(answer, head), limit)
    if await _ends_session(flow, head, here):
        _let_go(flow, answer)
        conclude(flow, head, Action.UNAUTHORIZED, b"")
    elif here.is_whole:
        _let_go(flow, answer)
        conclude(flow, head, Action.RELAY, here.data)
    else:
        await _stream(flow, answer, head, _then(here.data, pieces_of(answer.payload)))


async def _ends_session(flow: Flow, head: UpstreamHead, body: Arrived) -> bool:
    """Whether the part of a body that is here says that the session is over."""
    policy = flow.runtime.policy
    text = body
    if content_coding(head.fact(b"content-encoding")):
        text = await decoded_text(_decoded(head, _once(body.data)), policy.config.envelope.buffer)
    if not flow.counts:
        if text.is_whole:
            handing_out.note(flow, head, text.data)
        return False
    return await is_told(policy.unauthorized, text, head.status)


def _may_be_empty(head: UpstreamHead) -> bool:
    """Whether only the body's end shows that a success has none."""
    if b"content-length" in head.facts or head.status in (204, 205, 206):
        return False
    return media_type(head.fact(b"content-disposition")) != b"attachment"


async def _then(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for data in rest:
        yield data


def _end_events(flow: Flow, reason: str) -> None:
    """Ends an event stream as one that is complete, with its session or with the server.

    EventSource then asks again: it gets the 401, or is served elsewhere.
    """
    flow.reason = reason
    if not (flow.started and flow.is_open_ended):
        flow.abort()
        flow.left()
        return
    flow.cancel_work()
    flow.connection.close_after()
    if flow.http11:
        flow.connection.write(b"0\r\n\r\n")
    flow.finish()
    flow.connection.close()  # a client that waits for events sends nothing that could be lost


async def _stream(
    flow: Flow, answer: UpstreamConnection, head: UpstreamHead, pieces: AsyncIterator[bytes]
) -> None:
    """Passes a body on in pieces; memory holds one window of it, whatever its size."""
    if flow.hold is not None:
        pieces = await flow.hold(flow, pieces)
    fault = answer.payload.exception()
    if fault is not None:  # that its body breaks off is known before its head has left
        raise fault
    if flow.observation is not None:
        pieces = watched(flow, head, pieces)
    lines = render_head(flow, head, wrapped=False)
    flow.status, flow.decision = head.status, Action.RELAY.value
    chunked = flow.start(lines, _length(answer, head))
    with TransferWatch(flow):
        async for data in pieces:
            flow.bytes_out += len(data)
            await flow.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    await _finish(flow, answer, b"0\r\n\r\n" if chunked else b"")


async def _finish(flow: Flow, answer: UpstreamConnection | None, last: bytes) -> None:
    _let_go(flow, answer)
    if last:
        await flow.write(last)
    flow.finish()
    flow.left()


def _length(answer: UpstreamConnection, head: UpstreamHead) -> int | None:
    """The body's length if the upstream's framing says it (RFC 9112 6.3)."""
    length = head.facts.get(b"content-length")
    return None if length is None or answer.message.chunked else int(length)


async def _wrap(
    flow: Flow, answer: UpstreamConnection | None, head: UpstreamHead, body: AsyncIterator[bytes]
) -> None:
    """Wraps a JSON body. An error keeps its status if it turns out to be something else, or if the
    rest of its body does not come.
    """
    try:
        await _wrap_pieces(flow, answer, head, _decoded(head, body))
    except (UndecodableBody, InvalidJSON) as error:
        forget_frames(error)
        if head.status < 400 or flow.started:
            raise UpstreamProtocolError(f"JSON type, but not valid JSON: {error}") from None
    except UpstreamError as error:
        if head.status < 400 or flow.started:
            raise
        tell_broken_error(flow, error)
    else:
        return
    _let_go(flow, answer)
    conclude(flow, head, Action.WRAP_ERROR, b"")


async def _wrap_pieces(
    flow: Flow, answer: UpstreamConnection | None, head: UpstreamHead, pieces: AsyncIterator[bytes]
) -> None:
    """In memory up to the route's buffer, as a stream beyond it."""
    route = flow.route
    assert route.envelope is not None
    held: list[bytes] = []
    size = 0
    async for data in pieces:
        held.append(data)
        size += len(data)
        if size > route.envelope.buffer:
            here = Arrived(b"".join(held), is_whole=False)
            rule = flow.runtime.policy.unauthorized
            if flow.counts and await is_told(rule, here, head.status):
                _let_go(flow, answer)
                conclude(flow, head, Action.UNAUTHORIZED, b"")
            else:
                await _wrap_long(flow, answer, head, here.data, pieces)
            return
    _let_go(flow, answer)
    conclude(flow, head, Action.WRAP, b"".join(held))


async def _wrap_long(
    flow: Flow,
    answer: UpstreamConnection | None,
    head: UpstreamHead,
    held: bytes,
    pieces: AsyncIterator[bytes],
) -> None:
    """Wraps a body above the buffer by the rules of a stream, whatever pieces it comes in.

    Its head leaves at once if more is to come; that of an error is held back for a while. Raises
    `InvalidJSON`.
    """
    assert flow.route.envelope is not None
    wrapper = StreamWrapper(flow.route.envelope, head.status, head.reason, is_problem(head))
    limit = flow.route.envelope.buffer + (HELD_BACK if head.status >= 400 else 0)
    if (answer is None or answer.is_whole) and b"content-encoding" not in head.facts:
        limit = max(limit, len(held))  # all of it is here
    body, turn = bytearray(held), Turn()
    try:
        out = await _fed(wrapper, held, turn)
        while len(body) <= limit:
            data = await anext(pieces, b"")
            if not data:
                out += wrapper.finish()  # it may be no JSON, so before the connection is another's
                _let_go(flow, answer)
                await _answer_long(flow, head, bytes(body), out)
                return
            body += data
            out += await _fed(wrapper, data, turn)
    except Unstreamable:
        while len(body) <= max(limit, flow.route.envelope.buffer + HELD_BACK):
            data = await anext(pieces, b"")
            if not data:
                _let_go(flow, answer)
                conclude(flow, head, Action.WRAP, bytes(body))
                return
            body += data
        raise
    del body
    await _wrap_stream(flow, answer, head, _rendered(wrapper, out, pieces))


async def _answer_long(flow: Flow, head: UpstreamHead, body: bytes, envelope: bytes) -> None:
    """Responds with a long envelope that is here to its end."""
    unauthorized = flow.runtime.policy.unauthorized
    if head.status >= 400 and flow.counts:
        document = await walked(body)
        if isinstance(document, Document) and unauthorized.is_told_by(document, head.status):
            conclude(flow, head, Action.UNAUTHORIZED, b"")
            return
    coding = coding_for(flow, head)
    packed = await gzipped_in_turns((envelope,)) if coding else envelope
    deliver(flow, head, Action.WRAP, packed, coding)


async def _wrap_stream(
    flow: Flow,
    answer: UpstreamConnection | None,
    head: UpstreamHead,
    envelope: AsyncIterator[bytes],
) -> None:
    """Sends an envelope in pieces."""
    coding = coding_for(flow, head)
    packer = packer_for(coding)
    lines = render_head(flow, head, wrapped=True, coding=coding)
    flow.status, flow.decision = head.status, Action.WRAP.value
    chunked = flow.start(lines, None)
    with TransferWatch(flow):
        async for data in envelope:
            await _write_packed(flow, packer, data, chunked=chunked)
            await _write_piece(flow, packer.flush(), chunked=chunked)
        await _write_piece(flow, packer.finish(), chunked=chunked)
    await _finish(flow, answer, b"0\r\n\r\n" if chunked else b"")


async def _write_piece(flow: Flow, data: bytes, *, chunked: bool) -> None:
    if data:
        flow.bytes_out += len(data)
        await flow.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)


async def _write_packed(flow: Flow, packer: Packer, data: bytes, *, chunked: bool) -> None:
    """Writes what can be written of `data`; other connections are served in between if compressing
    takes long.
    """
    turn = Turn()
    for part in packer.steps(data):
        await _write_piece(flow, packer.feed(part), chunked=chunked)
        await turn.give_way()


async def _rendered(
    wrapper: StreamWrapper, beginning: bytes, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The envelope that begins so, as the rest of its body comes. Raises `InvalidJSON`."""
    turn = Turn()
    yield beginning
    async for data in pieces:
        yield await _fed(wrapper, data, turn)
    yield wrapper.finish()


async def _fed(wrapper: StreamWrapper, data: bytes, turn: Turn) -> bytes:
    """What the wrapper gives out for `data`. Raises `InvalidJSON`."""
    out = []
    for part in _cut(data):
        out.append(wrapper.feed(part))
        await turn.give_way()
    return b"".join(out)


def _cut(data: bytes) -> Iterator[bytes]:
    """The pieces that are wrapped in one step each."""
    for at in range(0, len(data), WRAPPED_PIECE):
        yield data[at : at + WRAPPED_PIECE]


async def _wrap_error(
    flow: Flow, answer: UpstreamConnection | None, head: UpstreamHead, body: AsyncIterator[bytes]
) -> None:
    """Wraps an error that is not JSON.

    Its status is known, and only a short text is carried besides; no client waits for more. An
    upstream's trouble with the rest is told, and changes nothing.
    """
    text = b""
    try:
        if media_type(head.fact(b"content-type")) == b"text/plain":
            text = await _short_text(_decoded(head, body))
        if answer is not None:
            await passed_over(answer.payload, ERROR_BODY)
    except UndecodableBody:
        text = b""
    except UpstreamError as error:
        tell_broken_error(flow, error)
        text = b""
    _let_go(flow, answer)
    conclude(flow, head, Action.WRAP_ERROR, text)


async def _short_text(pieces: AsyncIterator[bytes]) -> bytes:
    """A text that is short enough to be carried; empty for any other, of which no more is read."""
    held: list[bytes] = []
    size = 0
    async for data in pieces:
        held.append(data)
        size += len(data)
        if size > TEXT_LIMIT:
            return b""
    return b"".join(held)


async def receive_whole(flow: Flow, head: UpstreamHead, action: Action, body: bytes) -> None:
    """Takes a response that is here to its end, but encoded or long, and to be wrapped or read."""
    if action is Action.INSPECT:
        is_over = await _ends_session(flow, head, Arrived(body, is_whole=True))
        conclude(flow, head, Action.UNAUTHORIZED if is_over else Action.RELAY, body)
    elif action is Action.UNAUTHORIZED:
        conclude(flow, head, action, b"")
    elif action is Action.WRAP:
        await _wrap(flow, None, head, _once(body))
    else:
        await _wrap_error(flow, None, head, _once(body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _decoded(head: UpstreamHead, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Undoes gzip or deflate in bounded steps (`core.inflate`).

    What is done with each part counts too: the others are let in when all of it takes long.
    Raises `UndecodableBody` for unknown, corrupt and truncated codings (RFC 9110 8.4.1).
    """
    coding = content_coding(head.fact(b"content-encoding"))
    if not coding:
        async for data in pieces:
            yield data
        return
    if not is_decodable(coding):
        raise UndecodableBody("its Content-Encoding cannot be undone here")
    inflater, turn = Inflater(), Turn()
    try:
        async for data in pieces:
            for part in inflater.feed(data):
                if part:
                    yield part
                await turn.give_way()
        inflater.finish()
    except CorruptCoding as error:
        raise UndecodableBody(str(error)) from None
