"""The connections to one upstream, kept for the next request."""

from __future__ import annotations

import asyncio
from collections import deque

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.net.causes import of_connection
from sidecar.net.upstream import UpstreamConnection
from sidecar.policy import UpstreamAddress


class Pool:
    """The connections to one upstream: at most `pool_max` at once, idle ones for `pool_idle`."""

    __slots__ = ("_connecting", "_idle", "_loop", "_open", "_sweeper", "_waiters", "address")

    def __init__(self, loop: asyncio.AbstractEventLoop, address: UpstreamAddress) -> None:
        self.address = address
        self._loop = loop
        self._connecting = 0
        self._open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """How many connections there are, idle or busy."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self._idle)

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

    async def acquire(self) -> UpstreamConnection:
        """An idle connection, else a new one, else the next that comes free.

        Raises `UpstreamUnreachable`, `UpstreamTimeout` (of `connect`) or `Overloaded` (all
        connections stayed busy for as long as a connect may take).
        """
        connection = self.take()
        if connection is not None:
            return connection
        if len(self._open) + self._connecting >= self.address.pool_max:
            waited = await self._wait()
            if waited is not None:
                return waited
        return await self.connect()

    async def _wait(self) -> UpstreamConnection | None:
        """The next connection that comes free; None when there is room for a new one."""
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.address.connect):
                return await waiter
        except BaseException as error:
            handed = waiter.result() if waiter.done() and not waiter.cancelled() else None
            if handed is not None:
                self.put(handed)
            if isinstance(error, TimeoutError):
                raise Overloaded(f"all {self.address.pool_max} connections are busy") from None
            raise

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises `UpstreamUnreachable` or `UpstreamTimeout`."""
        address = self.address
        connection = UpstreamConnection(self._loop, self)
        self._connecting += 1
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
        else:
            if connection.is_open:
                self._open.add(connection)
        finally:
            self._connecting -= 1
            if len(self._open) + self._connecting < address.pool_max:
                self._make_room()
        return connection

    def lost(self, connection: UpstreamConnection) -> None:
        """Counts a connection out, which makes room for another."""
        self._open.discard(connection)
        self.forget(connection)
        self._make_room()

    def _make_room(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def put(self, connection: UpstreamConnection) -> None:
        """Takes a clean connection back, for whoever waits or for later."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
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
