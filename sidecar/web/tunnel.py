"""WebSocket tunnels: bytes both ways with back-pressure, for as long as the session lives.

No pings of our own: the pong would go to the other end, which has asked for none, and an
application that measures its own pings would measure ours. Peers that are gone are noticed by TCP
(`net.liveness`).
"""

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
from sidecar.net.deadline import Deadline
from sidecar.net.reset import reset
from sidecar.web.client_head import render_head
from sidecar.web.lifetime import end_with_server, end_with_session
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.web.exchange import Connection
    from sidecar.web.flow import Flow

PART: Final = 16384  # bytes that are followed without a look at the time
LAST_FRAME_SECONDS: Final = 2.0  # for a frame under way when the session ends
HALF_CLOSED_SECONDS: Final = 10.0  # of silence of the side that has not ended yet
UNTOLD_SECONDS: Final = 2.0  # the same, if it cannot be announced, or nobody reads it
REPLY_SECONDS: Final = 1.0  # for the close frame in return
REPLY_BYTES: Final = 65536  # of what is still read before it


def open_tunnel(flow: Flow, answer: UpstreamConnection, head: UpstreamHead) -> None:
    """Responds with 101 and joins the two connections.

    Raises `UpstreamProtocolError` if the upstream has not proved that it speaks WebSocket.
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
    lines = render_head(flow, head, wrapped=False)
    lines += b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % proof
    client = flow.connection
    flow.started = True
    flow.status, flow.decision = 101, "tunnel"
    client.write(lines + b"\r\n")
    flow.watch_peers()
    tunnel = Tunnel(flow, client, answer)
    answer.tunnel(tunnel)
    if tail:
        tunnel.upstream_data(tail)
    client.tunnel(tunnel)
    end_with_session(flow, tunnel.session_ended)
    end_with_server(flow, tunnel.server_ends, "websocket")


class _Side:
    """One of the two connections, and how far the frames are that come from it.

    `has_ended`: it has sent its last byte; `is_shut`: it knows that no more bytes follow.
    `is_parted`: the closing handshake with it is over. `late`: bytes that came in it. `waiting`:
    bytes that have come, and are followed once others had their turn.
    """

    __slots__ = ("connection", "frames", "has_ended", "is_parted", "is_shut", "late", "waiting")

    def __init__(self, connection: Connection | UpstreamConnection) -> None:
        self.connection: Final = connection
        self.frames: Final = FrameTracker()
        self.has_ended = False
        self.is_parted = False
        self.is_shut = False
        self.late = 0
        self.waiting = b""

    @property
    def transport(self) -> asyncio.Transport | None:
        """What bytes are sent by, while that is possible."""
        transport = self.connection.transport
        return None if transport is None or transport.is_closing() or self.is_shut else transport

    @property
    def can_shut(self) -> bool:
        """Whether its other direction can stay open after this one has ended (not over TLS)."""
        transport = self.transport
        return transport is not None and transport.can_write_eof()

    def shut(self) -> None:
        """Says that no more bytes follow, behind those that are under way."""
        transport = self.transport
        if transport is not None and transport.can_write_eof():
            self.is_shut = True
            transport.write_eof()

    def pause(self) -> None:
        if self.connection.transport is not None:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        is_read = not (self.has_ended or self.waiting)
        if self.connection.transport is not None and is_read:
            self.connection.transport.resume_reading()

    def close(self, *, with_reset: bool) -> None:
        transport = self.connection.transport
        if transport is not None and with_reset:
            reset(transport)
        else:
            self.connection.end_tunnel()


class Tunnel:
    """Two joined connections; each ends as the other does.

        OPEN ──one side's last byte──► HALF CLOSED ──the other's, or silence──► OVER
          ├──session ends──► ENDING ──end of a frame──► CLOSING ──replies─────►┤
          └──reset of one side: the other is reset────────────────────────────►┘

    A peer that has sent its close frame may end its direction and read on (RFC 6455 7.1.1), so what
    the other side still sends passes. A session's close frame stands at a frame's end, and the
    connection stays open until its reply is here (RFC 6455 7.1.1), so nobody sees 1006.
    """

    __slots__ = (
        "_client",
        "_closing",
        "_deadline",
        "_ending",
        "_flow",
        "_over",
        "_status",
        "_timer",
        "_upstream",
    )

    def __init__(self, flow: Flow, client: Connection, upstream: UpstreamConnection) -> None:
        self._flow = flow
        self._client = _Side(client)
        self._upstream = _Side(upstream)
        self._deadline = Deadline(flow.runtime.loop, self._finish)
        self._ending = False
        self._closing = False
        self._status = POLICY_VIOLATION
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    # -- bytes ------------------------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        """Bytes from the client."""
        taken = self._from_client(data)
        if taken < len(data):
            self._put_off(self._client, data[taken:])

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the upstream."""
        taken = self._from_upstream(data)
        if taken < len(data):
            self._put_off(self._upstream, data[taken:])

    def _put_off(self, source: _Side, rest: bytes) -> None:
        """Lets others come first, as what has come takes long."""
        if not self._is_done_with(source):
            source.waiting = rest
            source.pause()
            self._flow.runtime.loop.call_soon(self._go_on, source)

    def _go_on(self, source: _Side) -> None:
        """Takes what waits, and then reads on unless the other side takes no more."""
        data, source.waiting = source.waiting, b""
        if self._is_done_with(source):
            return
        if source is self._client:
            self.client_data(data)
            target = self._upstream
        else:
            self.upstream_data(data)
            target = self._client
        is_read = self._closing or not target.connection.writing_paused
        if is_read and not self._is_done_with(source):
            source.resume()

    def _is_done_with(self, source: _Side) -> bool:
        """Whether nothing that comes from this side counts any more."""
        return self._over or source.is_parted

    def _from_client(self, data: bytes) -> int:
        """Returns how much was taken."""
        transport = self._upstream.transport
        if self._closing:
            return self._replied(self._client, data)
        if transport is None or self._ending:
            return len(data)
        taken = _followed(self._client.frames, data)
        self._flow.tunnelled += taken
        transport.write(data[:taken])
        if self._upstream.has_ended:
            self._deadline.set(HALF_CLOSED_SECONDS)
        return taken

    def _from_upstream(self, data: bytes) -> int:
        """Returns how much was taken."""
        transport = self._client.transport
        if self._closing:
            return self._replied(self._upstream, data)
        if transport is None:
            return len(data)
        frames = self._upstream.frames
        taken = _followed(frames, data, stop_at_boundary=self._ending)
        self._flow.bytes_out += taken
        transport.write(data[:taken])
        if self._client.has_ended:
            self._deadline.set(HALF_CLOSED_SECONDS)
        if self._ending and frames.at_boundary:
            self._close()
        return taken

    def pause_client(self) -> None:
        """The upstream does not take more: stop reading from the client."""
        self._client.pause()

    def resume_client(self) -> None:
        """The upstream takes more again."""
        self._client.resume()

    def pause_upstream(self) -> None:
        """The client does not take more: stop reading from the upstream."""
        self._upstream.pause()

    def resume_upstream(self) -> None:
        """The client takes more again."""
        self._upstream.resume()

    # -- the end of the session -------------------------------------------------------------------

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
        if self._upstream.frames.at_boundary:
            self._close()
        else:
            loop = self._flow.runtime.loop
            self._timer = loop.call_later(LAST_FRAME_SECONDS, self._cut)

    def _cut(self) -> None:
        """The frame under way does not come to its end: the session's connection ends without."""
        self._client.close(with_reset=True)
        self._finish()

    def _close(self) -> None:
        self._closing = True
        self._deadline.set(REPLY_SECONDS)
        fits = self._client.frames.at_boundary
        self._say_goodbye(self._client, masked=False)
        if fits:
            self._say_goodbye(self._upstream, masked=True)
        else:
            self._part(self._upstream)

    def _say_goodbye(self, side: _Side, *, masked: bool) -> None:
        """Sends a close frame, and reads on if one can come in return."""
        transport = side.transport
        if transport is not None:
            transport.write(close_frame(self._status, self._flow.reason.encode(), masked=masked))
        if transport is None or side.has_ended:
            self._part(side)
        else:
            side.resume()

    def _replied(self, side: _Side, data: bytes) -> int:
        """Drops what comes behind our close frame, and parts once the one in return is here.

        Returns how much was dropped.
        """
        part = data[:PART]
        side.late += len(part)
        if not self._is_done_with(side) and (
            side.late > REPLY_BYTES or side.frames.finds_close(part)
        ):
            self._part(side)
        return len(part)

    def _part(self, side: _Side) -> None:
        side.is_parted = True
        if self._client.is_parted and self._upstream.is_parted:
            self._finish()
        else:
            side.close(with_reset=False)

    # -- the end of a side ------------------------------------------------------------------------

    def client_ended(self) -> bool:
        """The client has sent its last byte. Returns whether its connection stays open."""
        return self._ended(self._client, self._upstream)

    def upstream_ended(self) -> bool:
        """The upstream has sent its last byte. Returns whether its connection stays open."""
        return self._ended(self._upstream, self._client)

    def client_lost(self, error: BaseException | None) -> None:
        """The client's connection is gone."""
        self._lost(self._client, self._upstream, error)

    def upstream_lost(self, error: BaseException | None) -> None:
        """The upstream's connection is gone."""
        self._lost(self._upstream, self._client, error)

    def _ended(self, source: _Side, target: _Side) -> bool:
        source.has_ended = True
        if self._closing and not self._over:
            self._part(source)
            return False
        if self._over or target.has_ended or self._ending:
            self._finish()
            return False
        self._deadline.set(HALF_CLOSED_SECONDS if target.can_shut else UNTOLD_SECONDS)
        target.shut()
        return source.can_shut

    def _lost(self, source: _Side, target: _Side, error: BaseException | None) -> None:
        if self._closing and not self._over:
            self._part(source)
        elif source.has_ended and not (self._over or target.has_ended or self._ending):
            # The other side reads to the end by itself: closing now could reset it before.
            self._deadline.set(UNTOLD_SECONDS)
        else:
            self._finish(with_reset=error is not None and not source.has_ended)

    def _finish(self, *, with_reset: bool = False) -> None:
        if self._over:
            return
        self._over = True
        self._deadline.close()
        if self._timer is not None:
            self._timer.cancel()
        self._flow.upstream = None
        for side in (self._client, self._upstream):
            side.close(with_reset=with_reset)
        self._flow.left()


def _followed(frames: FrameTracker, data: bytes, *, stop_at_boundary: bool = False) -> int:
    """Follows frames, for one turn or a part at least. Returns how many bytes were followed.

    Up to the next frame's end with `stop_at_boundary`. A segment can hold a hundred thousand.
    """
    if len(data) <= PART:
        return frames.feed(data, stop_at_boundary=stop_at_boundary)
    turn, rest, at = Turn(), memoryview(data), 0
    while True:
        at += frames.feed(rest[at : at + PART], stop_at_boundary=stop_at_boundary)
        has_stopped = stop_at_boundary and frames.at_boundary
        if has_stopped or at == len(data) or turn.is_over:
            return at
