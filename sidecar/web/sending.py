"""A request on its way to its upstream: at once if a connection is idle, else as a task."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.core.errors import BodyTooLarge, UpstreamUnreachable
from sidecar.web.body import RequestBody
from sidecar.web.budgets import STREAM
from sidecar.web.flow import MEMORY_BODY

if TYPE_CHECKING:
    from sidecar.net.members import Member
    from sidecar.web.flow import Flow, Plan


def send(flow: Flow, plan: Plan) -> None:
    """Sends the request as planned. Raises `Overloaded` and `BodyTooLarge`."""
    flow.request = plan.request
    flow.route = plan.route
    flow.presented = plan.presented
    flow.live = plan.live
    flow.counts = plan.counts
    if plan.watch is not None:  # rarely anything but the class's own values
        flow.hold = plan.hold
    if not plan.by_cookie:
        flow.by_cookie = False
    if plan.request_id:
        flow.request_id = plan.request_id
    if flow.payload is not EMPTY_PAYLOAD and not (flow.last or _is_worth_sending(flow)):
        flow.spawn(_collect, plan)
        return
    if not flow.kind:  # `admit`, without a call
        flow.handler.budgets.take(plan.kind)
        flow.kind = plan.kind
    if flow.callbacks:
        flow.run_callbacks()  # it is sent once more
    if plan.watch is not None:
        plan.watch(flow)
    facts = plan.request.facts
    if flow.payload is not EMPTY_PAYLOAD:
        flow.last = flow.last or _body(flow, facts.get(b"content-length"))
    else:
        flow.last = b"Content-Length: 0\r\n\r\n" if b"content-length" in facts else b"\r\n"
    last, tracer = flow.last, flow.runtime.tracer
    if tracer is not None:
        last = tracer.sending(flow) + last
    flow.head = b"".join((plan.head, flow.request_id, b"\r\n", last))
    if flow.streaming_body or flow.kind == STREAM:
        _send_lasting(flow, plan.kind)
        return
    upstream = flow.runtime.pools[plan.route.upstream].take()
    if upstream is None:
        flow.spawn(send_when_connected)
        return
    flow.upstream = upstream
    flow.upstream_address = upstream.address
    flow.sent_at = time()
    upstream.send(flow.head, flow, expects_body=plan.expects_body)


def _send_lasting(flow: Flow, kind: str) -> None:
    """Sends a stream, or what is none until its body's end: then it counts as `kind` again."""
    if flow.streaming_body:
        flow.leave_budget()
        flow.spawn(_upload, kind)
    else:
        flow.spawn(send_when_connected)


def _is_worth_sending(flow: Flow) -> bool:
    """Whether `MEMORY_BODY` bytes or the end of the request body are here.

    Until then the request takes no connection that others could use. Raises `BodyTooLarge`.
    """
    payload, limit = flow.payload, flow.runtime.policy.config.limits.body
    length = flow.request.facts.get(b"content-length")
    if length is not None and int(length) > limit:
        raise BodyTooLarge(f"Content-Length is above {limit}", close=True)
    if payload.total_bytes > limit:
        raise BodyTooLarge(f"request body is above {limit}", close=True)
    return payload.is_eof() or payload.total_bytes >= MEMORY_BODY


def _body(flow: Flow, length: bytes | None) -> bytes:
    """The framing of the request body, and the body itself if it is here and small."""
    payload = flow.payload
    if payload.is_eof() and payload.total_bytes <= MEMORY_BODY:
        body, flow.beginning = flow.beginning + payload.read_nowait(-1), b""
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    flow.streaming_body = True
    if length is None:
        return b"Transfer-Encoding: chunked\r\n\r\n"
    return b"Content-Length: %b\r\n\r\n" % length


async def send_when_connected(flow: Flow, last: Member | None = None) -> None:
    """Sends the request once a connection is there.

    `last` is the server that has just failed it: it takes a new connection, since idle ones may all
    have died with the first.
    """
    await _connect_and_send(flow, lasts=flow.kind == STREAM, last=last)


async def _connect_and_send(flow: Flow, *, lasts: bool, last: Member | None = None) -> None:
    pool, began = flow.runtime.pools[flow.route.upstream], time()
    try:
        connection = await pool.acquire(lasts=lasts, last=last)
    finally:
        flow.runtime.metrics.upstreams[flow.route.upstream].waits.observe(time() - began)
    flow.upstream = connection
    flow.upstream_address = connection.address
    flow.sent_at = time()
    connection.send(
        flow.head,
        flow,
        expects_body=flow.request.method != "HEAD",
        whole=not flow.streaming_body,
    )


async def _collect(flow: Flow, plan: Plan) -> None:
    """Waits until `MEMORY_BODY` bytes or the end of the request body are here, then goes on."""
    held: list[bytes] = []
    size = 0
    with RequestBody(flow) as body:
        body.invite()
        while size < MEMORY_BODY and (data := await body.read()):
            held.append(data)
            size += len(data)
    flow.beginning = b"".join(held)
    flow.handler.resume(flow, plan)


async def _upload(flow: Flow, kind: str) -> None:
    """Sends a request whose body is long, as it comes.

    Until its end it counts against no budget that others need, and its connection is lent: its
    client may take all the time in the world.
    """
    with RequestBody(flow) as body:
        await _connect_and_send(flow, lasts=True)
        try:
            await _send_body(flow, body)
        except UpstreamUnreachable:
            if not flow.upstream_status:  # else it has answered before the body's end
                raise
    flow.admit_late(kind)
    if flow.kind != STREAM and flow.upstream is not None:
        flow.upstream.pool.count(flow.upstream)


async def _send_body(flow: Flow, body: RequestBody) -> None:
    limit = flow.runtime.policy.config.limits.body
    chunked = b"content-length" not in flow.request.facts
    data, flow.beginning = flow.beginning, b""
    sent = 0
    while data or (data := await body.read()):
        sent += len(data)
        if sent > limit:
            raise BodyTooLarge(f"request body is above {limit}", close=True)
        await flow.connected().write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        data = b""
    if chunked:
        await flow.connected().write(b"0\r\n\r\n")
    flow.connected().sent()
    flow.sent_at = time()
