"""The public listeners: accepts connections, knows who they are, and drains them at the end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Sequence
from heapq import nsmallest
from math import inf
from typing import TYPE_CHECKING, Any

from sidecar.core.forwarding import Peer
from sidecar.tls import listener_contexts
from sidecar.tls_failure import HandshakeFailure
from sidecar.web.accepting import ALONE, REPORT_SECONDS, Acceptor, Reception, Refusal
from sidecar.web.client_counts import ClientCounts
from sidecar.web.connection import ClientConnection, Handler
from sidecar.web.turn import Turns
from sidecar.web.unread import BYTES, Unread

if TYPE_CHECKING:
    import socket

    from sidecar.runtime import Runtime
    from sidecar.web.accepting import Arrival, Shares

LOOK_AGAIN_SECONDS = 0.1  # until idle connections are looked for again if there were none
FRESH_SECONDS = 0.5  # that a client has for its first request before a drain closes its connection


class Server:
    """Serves the public listeners (`web.connection.Registry`, `web.accepting.Receptionist`)."""

    def __init__(self, runtime: Runtime, handler: Handler) -> None:
        self._runtime = runtime
        self._handler = handler
        self._connections: dict[ClientConnection, float] = {}  # and since when, in the loop's time
        self._acceptor: Acceptor | None = None
        self._shares: Shares = ALONE
        self._receptions: tuple[Reception, ...] = ()
        self._silent_until: dict[tuple[str, str], float] = {}  # by event and reason
        self._closing: set[ClientConnection] = set()  # to make room for others
        self._turns = Turns(runtime.loop)
        self._unread: Unread[ClientConnection] = Unread()
        self._unread_silent_until = -inf
        self._is_full = False
        self._no_room_until = 0.0
        self._empty = asyncio.Event()
        self._limit = runtime.policy.config.limits.connections
        self._clients = ClientCounts(runtime.policy.config.limits.per_client.connections)
        self.draining = False

    def start_on(self, sockets: Sequence[Sequence[socket.socket]], shares: Shares = ALONE) -> None:
        """Accepts from sockets that listen already, alone or together with other processes.

        `sockets` has those of each listener. Raises `UnusableFile` if a certificate cannot be used.
        """
        self._receive_with(listener_contexts(self._runtime.policy.config.listeners))
        self._shares = shares
        acceptor = Acceptor(self._runtime.loop, sockets, self, shares=shares, log=self._runtime.log)
        acceptor.start()
        self._acceptor = acceptor

    def _receive_with(self, contexts: Sequence[ssl.SSLContext | None]) -> None:
        policy = self._runtime.policy
        seconds, believes = policy.config.limits.client_head, policy.trusts.includes
        self._receptions = tuple(
            Reception(tls, seconds, believes if one.proxy_protocol else None)
            for one, tls in zip(policy.config.listeners, contexts, strict=True)
        )

    def reception(self, number: int) -> Reception:
        """How a connection of this listener begins, as of now."""
        return self._receptions[number]

    def protocol(self, arrival: Arrival) -> ClientConnection:
        """What serves a new connection."""
        limits = self._runtime.policy.config.limits
        return ClientConnection(self._runtime.loop, self._handler, limits, self, arrival)

    def most_waiting(self) -> int:
        """How many connections may wait for their client before they begin."""
        return self._limit

    def made_room(self) -> None:
        """One that waited was closed, since too many do."""
        self._runtime.metrics.connections_limited["idle_closed"] += 1

    def refused(
        self, number: int, refusal: Refusal | HandshakeFailure, address: str, detail: str
    ) -> None:
        """A connection of this listener was closed for its PROXY header or its TLS handshake."""
        runtime = self._runtime
        is_of_tls = isinstance(refusal, HandshakeFailure)
        event = "tls handshake failed" if is_of_tls else "proxy header refused"
        metrics = runtime.metrics
        (metrics.handshakes_failed if is_of_tls else metrics.proxy_headers_refused)[refusal] += 1
        now = runtime.loop.time()
        if now < self._silent_until.get((event, refusal), -inf):
            return
        self._silent_until[event, refusal] = now + REPORT_SECONDS
        getattr(runtime.log, refusal.level)(
            event,
            listen=str(runtime.policy.config.listeners[number].address),
            reason=str(refusal),
            peer=address,
            detail=detail,
        )

    def opened(self, connection: ClientConnection) -> Peer:
        """Counts an open connection and returns its peer."""
        self._connections[connection] = self._runtime.loop.time()
        self._runtime.metrics.connections += 1
        peer = self._peer(connection.arrival)
        if not self._clients.opened(peer):
            self._refuse(connection, peer)
        elif len(self._connections) - len(self._closing) > self._limit:
            self._make_room(connection)
        return peer

    def _refuse(self, connection: ClientConnection, peer: Peer) -> None:
        """Closes a connection whose client has too many."""
        runtime, clients = self._runtime, self._clients
        runtime.metrics.connections_limited["per_client"] += 1
        if clients.is_news(runtime.loop.time()):
            runtime.log.warning(
                "client limited",
                limit=f"limits.per_client.connections: above {clients.limit}",
                client=peer.address,
                detail="if this is a proxy, list it in trusted_proxies",
            )
        self._closing.add(connection)
        connection.close()

    def serve_with(
        self, runtime: Runtime, handler: Handler, contexts: Sequence[ssl.SSLContext | None]
    ) -> None:
        """Serves with another configuration from now on, on the same addresses.

        Requests under way come to their end as they began. `contexts` has the TLS of each listener,
        which holds for new connections.
        """
        config = runtime.policy.config
        self._runtime, self._handler = runtime, handler
        self._limit = config.limits.connections
        self._receive_with(contexts)
        for connection in self._connections:
            if connection.transport is not None:
                peer = self._peer(connection.arrival)
                connection.serve_with(handler, config.limits, peer)
        peers = [one.peer for one in self._connections]
        self._clients = ClientCounts(config.limits.per_client.connections, peers)

    def _peer(self, arrival: Arrival) -> Peer:
        policy, address = self._runtime.policy, arrival.address
        trusts = policy.trusts.includes
        is_trusted = arrival.may_be_proxy and trusts(address)
        return Peer(address, is_trusted, arrival.scheme, policy.public_authority, trusts)

    def _make_room(self, newest: ClientConnection) -> None:
        """Closes the idle connections that would end first; if there are none, the newest."""
        runtime = self._runtime
        if not self._is_full:
            self._is_full = True
            runtime.log.warning("connection limit reached", limit=self._limit)
        victims = self._victims()
        for connection in victims:
            self._closing.add(connection)
            connection.close()
        runtime.metrics.connections_limited["idle_closed"] += len(victims)
        if not victims:
            runtime.metrics.connections_limited["refused"] += 1
            newest.close()

    def _victims(self) -> list[ClientConnection]:
        """Some of the idle connections at once, since each look goes through all of them."""
        now = self._runtime.loop.time()
        if now < self._no_room_until:
            return []
        idle = [
            (at, number, one)
            for number, one in enumerate(self._connections)
            if (at := one.closes_at) < inf and one not in self._closing
        ]
        if not idle:
            self._no_room_until = now + LOOK_AGAIN_SECONDS
        return [one for _, _, one in nsmallest(max(1, self._limit // 100), idle)]

    def closed(self, connection: ClientConnection) -> None:
        """Counts a connection out."""
        self._connections.pop(connection, None)
        self._closing.discard(connection)
        self._turns.forget(connection)
        self.holds(connection, 0)
        self._clients.closed(connection.peer)
        if self._is_full and len(self._connections) < self._limit * 0.9:
            self._is_full, self._no_room_until = False, 0.0  # the next time is worth a line again
        self._runtime.metrics.connections -= 1
        self._shares.closed()
        if not self._connections:
            self._empty.set()

    def puts_off(self, connection: ClientConnection) -> None:
        """Has the connection go on with what was pipelined once others have had their turn."""
        self._turns.put_off(connection)

    def holds(self, connection: ClientConnection, size: int) -> None:
        """The connection holds so many bytes that are no request yet.

        If all hold too many together, those that hold most are cut.
        """
        metrics = self._runtime.metrics
        cut = self._unread.note(connection, size)
        metrics.unread_bytes = self._unread.bytes
        if not cut:
            return
        metrics.unread_cut += len(cut)
        now = self._runtime.loop.time()
        if now >= self._unread_silent_until:
            self._unread_silent_until = now + REPORT_SECONDS
            self._runtime.log.warning(
                "too many bytes unread",
                limit=BYTES,
                connections_cut=len(cut),
                client=cut[0].peer.address,
                detail="heads that are not whole, and pipelined requests; those that held most",
            )
        for one in cut:
            one.cut()

    def announce(self) -> None:
        """Still serves, but is not ready, and closes each connection after its response."""
        self.draining = True

    def stop_accepting(self) -> None:
        """Accepts no new connections."""
        if self._acceptor is not None:
            self._acceptor.close()

    def stop_listening(self) -> None:
        """Accepts no new connections, and closes idle ones: those that are new in a moment."""
        self.draining = True
        self.stop_accepting()
        self._close_idle()

    def _close_idle(self) -> None:
        """A client that has just connected is about to ask, and would take the end for a fault."""
        loop = self._runtime.loop
        fresh = loop.time() - FRESH_SECONDS
        is_over = not self._is_beginning
        for connection, since in [*self._connections.items()]:
            if not connection.rests:
                continue
            if since > fresh:
                is_over = False
            else:
                connection.close()
        if not is_over:
            loop.call_later(LOOK_AGAIN_SECONDS, self._close_idle)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> int:
        """Lets requests under way come to their end, then closes.

        Returns how many connections had to be cut after `seconds`, or once there was a `hurry`.
        """
        until = self._runtime.loop.time() + seconds
        while self._is_busy and not hurry.is_set():
            left = until - self._runtime.loop.time()
            if left <= 0:
                break
            self._empty.clear()
            # What begins to be a connection does not say so here when it fails.
            patience = min(left, LOOK_AGAIN_SECONDS) if self._is_beginning else left
            await _first_of(patience, self._empty, hurry)
        if self._acceptor is not None:
            await self._acceptor.give_up()
        cut = [one for one in self._connections if not one.rests]
        for connection in [*self._connections]:
            if connection.rests:
                connection.close()
            else:
                connection.reset("cut at the end of the drain")
        return len(cut)

    @property
    def _is_busy(self) -> bool:
        return self._is_beginning or bool(self._connections)

    @property
    def _is_beginning(self) -> bool:
        return self._acceptor is not None and self._acceptor.is_beginning


async def unless_hurried(work: Coroutine[Any, Any, None], hurry: asyncio.Event) -> None:
    """Waits for `work` to end, or cancels it once there is a `hurry`."""
    task, hurried = asyncio.create_task(work), asyncio.create_task(hurry.wait())
    await asyncio.wait((task, hurried), return_when=asyncio.FIRST_COMPLETED)
    for one in (task, hurried):
        one.cancel()
    await asyncio.wait((task, hurried))


async def pause(seconds: float, hurry: asyncio.Event) -> None:
    """Waits for `seconds`, or until there is a `hurry`."""
    if seconds > 0:
        await _first_of(seconds, hurry)


async def _first_of(seconds: float, *events: asyncio.Event) -> None:
    """Waits until one of `events` is set, for at most `seconds`."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
