"""WebSocket tunnels: bytes both ways with back-pressure, for as long as the session lives."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import list_members
from sidecar.core.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    FrameTracker,
    accept_value,
    close_frame,
)
from sidecar.web.lifetime import end_with_server, end_with_session
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from aiohttp.base_protocol import BaseProtocol

    from sidecar.core.answer import AnswerHead
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.web.connection import ClientConnection
    from sidecar.web.flow import Flow

LARGE: Final = 16384  # bytes of a segment that may take long to follow
LAST_FRAME_SECONDS: Final = 2.0  # for a frame under way when the session ends


def open_tunnel(flow: Flow, answer: UpstreamConnection, head: AnswerHead) -> None:
    """Answers 101 and joins the two connections.

    Raises `UpstreamProtocolError` where the upstream has not proved that it speaks WebSocket.
    """
    request, tail = flow.request, answer.upgraded_tail
    key = request.facts.get(b"sec-websocket-key")
    proof = head.fact(b"sec-websocket-accept")
    if (
        not request.is_websocket
        or key is None
        or tail is None
        or list_members(head.fact(b"upgrade")) != (b"websocket",)
        or not hmac.compare_digest(proof, accept_value(key))
    ):
        raise UpstreamProtocolError("101 that answers no WebSocket handshake")
    lines = flow.proxy.render_head(flow, head, wrapped=False)
    lines += b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % proof
    client = flow.connection
    flow.started = True
    flow.status, flow.decision = 101, "tunnel"
    client.write(lines + b"\r\n")
    tunnel = Tunnel(flow, client, answer)
    answer.tunnel(tunnel)
    if tail:
        tunnel.upstream_data(tail)
    client.tunnel(tunnel)
    end_with_session(flow, tunnel.session_ended)
    end_with_server(flow, tunnel.server_ends)


class Tunnel:
    """Two joined connections. A close frame ends it at a frame's end, so nobody sees 1006."""

    __slots__ = (
        "_client",
        "_ending",
        "_flow",
        "_over",
        "_status",
        "_timer",
        "_to_client",
        "_to_upstream",
        "_upstream",
    )

    def __init__(self, flow: Flow, client: ClientConnection, upstream: UpstreamConnection) -> None:
        self._flow = flow
        self._client = client
        self._upstream = upstream
        self._to_client = FrameTracker()
        self._to_upstream = FrameTracker()
        self._ending = False
        self._status = POLICY_VIOLATION
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    # -- bytes ------------------------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        """Bytes from the client."""
        transport = self._upstream.transport
        if transport is None or self._ending:
            return
        turn = Turn()
        self._to_upstream.feed(data)
        transport.write(data)
        if len(data) > LARGE and turn.is_over:
            self._let_others_in(self._client, self._upstream)

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the upstream."""
        turn = Turn()
        taken = self._to_client.feed(data, stop_at_boundary=self._ending)
        self._flow.bytes_out += taken
        self._client.write(data[:taken])
        if self._ending and self._to_client.at_boundary:
            self._close()
        elif len(data) > LARGE and turn.is_over:
            self._let_others_in(self._upstream, self._client)

    def _let_others_in(self, source: BaseProtocol, target: BaseProtocol) -> None:
        """Reads on in the next turn of the loop: a segment can hold a hundred thousand frames."""
        if source.transport is not None:
            source.transport.pause_reading()
            self._flow.runtime.loop.call_soon(self._read_on, source, target)

    def _read_on(self, source: BaseProtocol, target: BaseProtocol) -> None:
        if not (self._over or source.transport is None or target.writing_paused):
            source.transport.resume_reading()

    def pause_client(self) -> None:
        """The upstream does not take more: stop reading from the client."""
        if self._client.transport is not None:
            self._client.transport.pause_reading()

    def resume_client(self) -> None:
        """The upstream takes more again."""
        if self._client.transport is not None:
            self._client.transport.resume_reading()

    def pause_upstream(self) -> None:
        """The client does not take more: stop reading from the upstream."""
        if self._upstream.transport is not None:
            self._upstream.transport.pause_reading()

    def resume_upstream(self) -> None:
        """The client takes more again."""
        if self._upstream.transport is not None:
            self._upstream.transport.resume_reading()

    # -- the end ----------------------------------------------------------------------------------

    def session_ended(self) -> None:
        """Its session has ended."""
        self._end(POLICY_VIOLATION, "session ended")

    def server_ends(self) -> None:
        """The sidecar is about to end; the client connects anew."""
        self._end(GOING_AWAY, "going away")

    def _end(self, status: int, reason: str) -> None:
        """Ends the tunnel with close frames, now or at the end of the frame under way."""
        if self._over or self._ending:
            return
        self._ending, self._status = True, status
        self._flow.reason = reason
        if self._to_client.at_boundary:
            self._close()
        else:
            loop = self._flow.runtime.loop
            self._timer = loop.call_later(LAST_FRAME_SECONDS, self._cut)

    def _cut(self) -> None:
        """The frame under way does not come to its end: the session's connection ends without."""
        self._client.reset()
        self._finish()

    def _close(self) -> None:
        reason = self._flow.reason.encode()
        self._client.write(close_frame(self._status, reason, masked=False))
        upstream = self._upstream.transport
        if upstream is not None and self._to_upstream.at_boundary:
            upstream.write(close_frame(self._status, reason, masked=True))
        self._finish()

    def client_lost(self) -> None:
        """The client's connection is gone."""
        self._finish()

    def upstream_lost(self) -> None:
        """The upstream's connection is gone."""
        self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._flow.upstream = None
        for end in (self._client, self._upstream):
            if end.transport is not None:
                end.transport.close()
        self._flow.proxy.ended(self._flow)
