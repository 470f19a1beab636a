"""The connections to one upstream, kept for the next request.

    new ──► busy ──put──► idle ──take──► busy ──lend──► lent ──put──► idle

`pool.max` bounds the connections that are idle or busy. One that is lent belongs to an exchange
that lasts (an event stream, a tunnel, a slow client) and counts against `limits.in_flight.stream`
instead, so that however many of these there are, the next request finds a connection.
"""

from __future__ import annotations

import asyncio

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.net.causes import of_connection
from sidecar.net.upstream import UpstreamConnection
from sidecar.policy import UpstreamAddress


class Pool:
    """The connections to one upstream: at most `pool_max` at once, idle ones for `pool_idle`."""

    __slots__ = (
        "_connecting",
        "_idle",
        "_lent",
        "_loop",
        "_open",
        "_sweeper",
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
        """An idle connection that is fit for use, the one used last; None if there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if (
                transport is not None
                and not transport.is_closing()
                and self._loop.time() - connection.idle_since < self.address.pool_idle
            ):
                return connection
            connection.abort()
        return None

    async def acquire(self, *, lasts: bool = False, fresh: bool = False) -> UpstreamConnection:
        """An idle connection, else a new one, else the next that comes free.

        `lasts`: the exchange has a budget of its own; it waits for nobody, and its connection is
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
        address = self.address
        connection = UpstreamConnection(self._loop, self)
        try:
            async with asyncio.timeout(address.connect):
                await self._loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=address.tls,
                    server_hostname=address.host if address.tls is not None else None,
                )
        except BaseException as error:
            # Cancelled just after it was made, it would stay open: uvloop tells nobody.
            connection.abort()
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(f"no connection within {address.connect:g} s") from None
            if isinstance(error, OSError):
                raise UpstreamUnreachable(of_connection(error)) from None
            raise
        return connection

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
        """Takes a clean connection back, for whoever waits or for later."""
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
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self.address.pool_idle, self._sweep)

    def forget(self, connection: UpstreamConnection) -> None:
        """Removes a connection that is lost from the idle ones."""
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - self.address.pool_idle
        for connection in [one for one in self._idle if one.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            self._sweeper = self._loop.call_later(self.address.pool_idle, self._sweep)

    def close(self) -> None:
        """Closes every connection, busy ones too."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
