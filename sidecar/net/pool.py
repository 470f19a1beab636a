"""The connections to one upstream, kept for the next request.

    new ──► busy ──put──► idle ──take──► busy ──lend──► lent ──put──► idle ──too old──► closed

`pool.max` bounds the connections that are idle or busy. One that is lent belongs to an exchange
that lasts (an event stream, a tunnel, a slow client) and counts against `limits.in_flight.stream`
instead, so that however many of these there are, the next request finds a connection.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from typing import Final

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.net.causes import of_connection
from sidecar.net.dial import Dialer
from sidecar.net.upstream import UpstreamConnection
from sidecar.policy import UpstreamAddress

SWEEP_SECONDS: Final = 0.05  # between two sweeps of idle connections at least


class Pool:
    """The connections to one upstream: at most `pool_max` at once, idle ones for `pool_idle`."""

    __slots__ = (
        "_connecting",
        "_dialer",
        "_idle",
        "_in_turn",
        "_lent",
        "_loop",
        "_open",
        "_sweeper",
        "_sweeps_at",
        "_waiters",
        "address",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, address: UpstreamAddress) -> None:
        self.address = address
        self._loop = loop
        self._connecting = 0  # places of connections that are being made, or promised to a waiter
        self._open: set[UpstreamConnection] = set()
        self._lent: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._waiters: dict[asyncio.Future[UpstreamConnection | None], None] = {}  # in order
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps_at = inf
        self._dialer = Dialer(loop, address, partial(UpstreamConnection, loop, self))
        self._in_turn = len(address.servers) > 1

    @property
    def open(self) -> int:
        """How many connections there are, in whatever state."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self._idle)

    @property
    def lent(self) -> int:
        """How many connections do not count against `pool_max`."""
        return len(self._lent)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiters)

    @property
    def _is_full(self) -> bool:
        return len(self._open) - len(self._lent) + self._connecting >= self.address.pool_max

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is fit for use, the one used last; None if there is none.

        If there are several servers, it is one to the server whose turn it is.
        """
        if self._in_turn:
            return self._take_in_turn()
        idle = self._idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if (  # `_is_fit`, without a call
                transport is not None
                and not transport.is_closing()
                and self._loop.time() < connection.idle_until
            ):
                return connection
            connection.abort()
        return None

    def _is_fit(self, connection: UpstreamConnection) -> bool:
        transport = connection.transport
        return (
            transport is not None
            and not transport.is_closing()
            and self._loop.time() < connection.idle_until
        )

    def _take_in_turn(self) -> UpstreamConnection | None:
        server = self._dialer.next_server
        for connection in reversed(self._idle):
            if connection.server == server and self._is_fit(connection):
                self._idle.remove(connection)
                self._dialer.took(server)
                return connection
        return None

    async def acquire(self, *, lasts: bool = False, fresh: bool = False) -> UpstreamConnection:
        """An idle connection, else a new one, else the next that comes free.

        `lasts`: the exchange has a budget of its own; it waits for no other, and its connection is
        lent. `fresh`: idle ones may all be dead, so a new one is made. Raises
        `UpstreamUnreachable`, `UpstreamTimeout` (of `connect`) or `Overloaded` (all connections
        stayed busy for as long as a connect may take).
        """
        connection = None if fresh else self.take()
        if fresh and self._is_full and self._idle:
            self._idle.pop(0).abort()  # its place comes free
        if connection is None and not lasts and self._is_full:
            connection = await self._wait()
            if connection is None:
                return await self._connect_in_place()
            if not connection.is_open:  # lost on the way to this request
                return await self.acquire()
        if connection is None:
            return await (self._connect_lent() if lasts else self._connect_counted())
        if lasts:
            self.lend(connection)
        return connection

    async def _wait(self) -> UpstreamConnection | None:
        """The next connection that comes free; None if a place for a new one has been kept."""
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            async with asyncio.timeout(self.address.connect):
                return await waiter
        except BaseException as error:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            if isinstance(error, TimeoutError):
                raise Overloaded(f"all {self.address.pool_max} connections are busy") from None
            raise

    def _give_back(self, handed: UpstreamConnection | None) -> None:
        """Takes back what a waiter was handed that has gone meanwhile."""
        if handed is None:
            self._connecting -= 1
            self._make_room()
        else:
            self.put(handed)

    async def _connect_lent(self) -> UpstreamConnection:
        connection = await self._connect()
        if connection.is_open:
            self._open.add(connection)
            self._lent.add(connection)
        return connection

    async def _connect_counted(self) -> UpstreamConnection:
        self._connecting += 1
        return await self._connect_in_place()

    async def _connect_in_place(self) -> UpstreamConnection:
        """A new connection in a place that is counted already."""
        try:
            connection = await self._connect()
            if connection.is_open:
                self._open.add(connection)
        finally:
            self._connecting -= 1
            self._make_room()
        return connection

    async def _connect(self) -> UpstreamConnection:
        limit = self.address.connect
        try:
            async with asyncio.timeout(limit):
                connection = await self._dialer.connect()
        except TimeoutError:
            raise UpstreamTimeout(f"no connection within {limit:g} s") from None
        except OSError as error:
            raise UpstreamUnreachable(of_connection(error)) from None
        if self._in_turn:
            self._dialer.took(connection.server)
        return connection

    async def is_reachable(self, limit: float) -> bool:
        """Whether some server takes a connection within `limit` seconds."""
        try:
            async with asyncio.timeout(min(limit, self.address.connect)):
                connection = await self._dialer.connect()
        except (OSError, TimeoutError):
            return False
        connection.abort()
        return True

    def lend(self, connection: UpstreamConnection) -> None:
        """Lets a busy connection count no more, until `put` or its end."""
        if connection in self._open:
            self._lent.add(connection)
            self._make_room()

    def lost(self, connection: UpstreamConnection) -> None:
        """Counts a connection out, which makes room for another."""
        self._open.discard(connection)
        self._lent.discard(connection)
        self.forget(connection)
        self._make_room()

    def _make_room(self) -> None:
        """Keeps free places for those who wait: each may make a connection of its own."""
        while self._waiters and not self._is_full:
            waiter = self._next_waiter()
            if waiter is not None:
                self._connecting += 1
                waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[UpstreamConnection | None] | None:
        waiter = next(iter(self._waiters))
        del self._waiters[waiter]
        return None if waiter.done() else waiter

    def put(self, connection: UpstreamConnection) -> None:
        """Takes a clean connection back, for a waiting request or for later.

        One that is too old closes: the next one may lead elsewhere.
        """
        now = self._loop.time()
        until = now + connection.keeps
        if until > connection.retires_at:  # noqa: PLR1730 - a call costs more, on each request
            until = connection.retires_at
        if until <= now:
            connection.abort()
            return
        if self._lent and connection in self._lent:
            if self._is_full:
                connection.abort()  # others have taken its place meanwhile
                return
            self._lent.discard(connection)
        while self._waiters:
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.set_result(connection)
                return
        connection.idle_until = until
        self._idle.append(connection)
        if until < self._sweeps_at:
            self._sweep_at(until)

    def forget(self, connection: UpstreamConnection) -> None:
        """Removes a connection that is lost from the idle ones."""
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep_at(self, time: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeps_at = time
        self._sweeper = self._loop.call_at(time, self._sweep)

    def _sweep(self) -> None:
        """Closes the idle connections whose time is up."""
        self._sweeper, self._sweeps_at = None, inf
        now = self._loop.time()
        for connection in [one for one in self._idle if one.idle_until <= now]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            soonest = min(one.idle_until for one in self._idle)
            self._sweep_at(max(soonest, now + SWEEP_SECONDS))

    def close(self) -> None:
        """Closes every connection, busy ones too."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
