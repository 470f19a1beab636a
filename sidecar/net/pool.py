"""The connections to one upstream, kept for the next request.

    new ──► busy ──put──► idle ──take──► busy ──lend──► lent ──put──► idle ──too old──► closed

`pool.max` bounds the connections that are idle or busy. One that is lent belongs to an exchange
that lasts (an event stream, a tunnel, a slow client) and counts against `limits.in_flight.stream`
instead, so that however many of these there are, the next request finds a connection. So does one
whose request body is still coming; from its end on it is busy (`count`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from functools import partial
from math import inf
from typing import Final

from sidecar.core.errors import UpstreamBusy
from sidecar.net.checks import Checks
from sidecar.net.deadline import Within
from sidecar.net.dial import Dialer
from sidecar.net.members import Member, Members, Report, ServerSnapshot
from sidecar.net.outage import Outage
from sidecar.net.upstream import UpstreamConnection
from sidecar.policy import UpstreamAddress

SWEEP_SECONDS: Final = 0.05  # between two sweeps of idle connections at least


def unreported(address: str | None, why: str | None) -> None:
    """Hears of servers where nobody wants to."""


class Pool:
    """The connections to one upstream: at most `pool_max` at once, idle ones for `pool_idle`."""

    __slots__ = (
        "_checks",
        "_connecting",
        "_dialer",
        "_idle",
        "_is_balanced",
        "_lent",
        "_loop",
        "_members",
        "_open",
        "_outage",
        "_sweeper",
        "_sweeps_at",
        "_waiters",
        "address",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: UpstreamAddress, report: Report = unreported
    ) -> None:
        """`report` hears which servers are left out, and of their return."""
        self.address = address
        self._loop = loop
        self._connecting = 0  # places of connections that are being made, or promised to a waiter
        self._open: set[UpstreamConnection] = set()
        self._lent: set[UpstreamConnection] = set()
        self._waiters: OrderedDict[asyncio.Future[UpstreamConnection | None], None] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps_at = inf
        self._members = Members(address, report)
        self._dialer = Dialer(loop, address, self._members, partial(UpstreamConnection, loop, self))
        self._outage = Outage(loop, address, self._dial, partial(report, None))
        check = address.check
        self._checks = None if check is None else Checks(address, check, self._members)
        self._is_balanced = len(address.servers) > 1
        self._idle = self._members.all[0].idle  # of the only server, if there is one alone

    @property
    def open(self) -> int:
        """How many connections there are, in whatever state."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return sum(len(one.idle) for one in self._members.all)

    @property
    def lent(self) -> int:
        """How many connections do not count against `pool_max`."""
        return len(self._lent)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiters)

    @property
    def has_others(self) -> bool:
        """Whether there are several servers."""
        return self._is_balanced

    def servers(self) -> tuple[ServerSnapshot, ...]:
        """How each server does now."""
        now = self._loop.time()
        return tuple(one.snapshot(now) for one in self._members.all)

    @property
    def unreachable_since(self) -> float | None:
        """Since when no server takes a connection, as Unix seconds; None if one does."""
        return self._outage.since

    @property
    def _counted(self) -> int:
        """How many connections count against `pool_max`."""
        return len(self._open) - len(self._lent)

    @property
    def _is_full(self) -> bool:
        return self._counted + self._connecting >= self.address.pool_max

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is fit for use, the one used last; None if there is none.

        If there are several servers, it is one to the server with the least load.
        """
        if self._is_balanced:
            found: UpstreamConnection | None = self._members.take(
                self._loop.time(), from_any=self._is_full
            )
            return found
        idle = self._idle
        while idle:
            connection: UpstreamConnection = idle.pop()
            transport = connection.transport
            if (
                transport is not None
                and not transport.is_closing()
                and self._loop.time() < connection.idle_until
            ):
                return connection
            connection.abort()
        return None

    async def acquire(
        self, *, lasts: bool = False, last: Member | None = None
    ) -> UpstreamConnection:
        """An idle connection, else a new one, else the next that comes free.

        `lasts`: the exchange has a budget of its own; it waits for no other, and its connection is
        lent. `last` is the server that has just failed the request: idle ones may all be dead, so
        a new one is made, to another server if there is one. Raises
        `UpstreamUnreachable`, `UpstreamTimeout` (of `connect`) or `UpstreamBusy` (all connections
        stayed busy for as long as a connect may take).
        """
        connection = self.take() if last is None else None
        if last is not None and self._is_full:
            self._members.drop_an_idle_one()
        if connection is None and not lasts and self._is_full:
            if not self._counted and self._outage.error is not None:
                raise self._outage.error  # enough wait already, and no connection will come free
            connection = await self._wait()
            if connection is None:
                return await self._connect_in_place(last)
            if not connection.is_open:  # lost on the way to this request
                return await self.acquire()
        if connection is None:
            return await (self._connect_lent(last) if lasts else self._connect_counted(last))
        if lasts:
            self.lend(connection)
        return connection

    async def _wait(self) -> UpstreamConnection | None:
        """The next connection that comes free; None if a place for a new one has been kept."""
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            async with Within(self.address.connect):
                return await waiter
        except BaseException as error:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            if isinstance(error, TimeoutError):
                raise UpstreamBusy(f"all {self.address.pool_max} connections are busy") from None
            raise

    def _give_back(self, handed: UpstreamConnection | None) -> None:
        """Takes back what a waiter was handed that has gone meanwhile."""
        if handed is None:
            self._connecting -= 1
            self._make_room()
        else:
            self.put(handed)

    async def _connect_lent(self, last: Member | None) -> UpstreamConnection:
        connection = await self._connect(last)
        if self._opened(connection):
            self._lent.add(connection)
        return connection

    async def _connect_counted(self, last: Member | None) -> UpstreamConnection:
        self._connecting += 1
        return await self._connect_in_place(last)

    async def _connect_in_place(self, last: Member | None) -> UpstreamConnection:
        """A new connection in a place that is counted already."""
        try:
            connection = await self._connect(last)
            self._opened(connection)
        finally:
            self._connecting -= 1
            self._make_room()
        return connection

    def _opened(self, connection: UpstreamConnection) -> bool:
        """Counts a connection in, unless it has ended already."""
        if connection.is_open:
            self._open.add(connection)
            connection.member.open += 1
        return connection.is_open

    async def _connect(self, last: Member | None) -> UpstreamConnection:
        connection = await self._outage.connect(last)
        self._members.took(connection.member, self._loop.time())
        return connection

    async def _dial(self, last: Member | None = None) -> UpstreamConnection:
        """One attempt at the servers. Raises `OSError`."""
        async with Within(self.address.connect):
            return await self._dialer.connect(last)

    def start(self) -> None:
        """Begins to check the servers, if that is configured."""
        if self._checks is not None:
            self._checks.start()

    async def is_reachable(self, limit: float) -> bool:
        """Whether some server's last check has passed.

        Without checks, whether one takes a connection within `limit` seconds.
        """
        if any(one.check is not None for one in self._members.all):
            return any(one.passes for one in self._members.all)
        try:
            async with Within(limit):
                connection = await self._dial()
        except OSError:
            return False
        connection.abort()
        return True

    def lend(self, connection: UpstreamConnection) -> None:
        """Lets a busy connection count no more, until `count`, `put` or its end."""
        if connection in self._open:
            self._lent.add(connection)
            self._make_room()

    def count(self, connection: UpstreamConnection) -> None:
        """Counts a lent connection again, be there as many as may be: the exchange goes on."""
        self._lent.discard(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """Counts a connection out, which makes room for another."""
        if connection in self._open:
            self._open.remove(connection)
            connection.member.open -= 1
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
        waiter, _ = self._waiters.popitem(last=False)
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
        connection.member.idle.append(connection)
        if until < self._sweeps_at:
            self._sweep_at(until)

    def certificate_ends_at(self) -> float | None:
        """When the certificate of a server ends (Unix seconds), of which a connection is open."""
        for one in self._open:
            transport = one.transport
            told = None if transport is None else transport.get_extra_info("peercert")
            if told:
                return float(ssl.cert_time_to_seconds(told["notAfter"]))
        return None

    def forget(self, connection: UpstreamConnection) -> None:
        """Removes a connection that is lost from the idle ones."""
        idle = connection.member.idle
        if connection in idle:
            idle.remove(connection)

    def failed(self, connection: UpstreamConnection, why: str) -> None:
        """A server has given no response to an exchange."""
        self._members.failed(connection.member, self._loop.time(), why)

    def judge(self, connection: UpstreamConnection, status: int) -> None:
        """A server has responded that had failed, or with a status that may speak against it."""
        self._members.judge(connection.member, self._loop.time(), status)

    def _sweep_at(self, time: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeps_at = time
        self._sweeper = self._loop.call_at(time, self._sweep)

    def _sweep(self) -> None:
        """Closes the idle connections whose time is up."""
        self._sweeper, self._sweeps_at = None, inf
        now = self._loop.time()
        for member in self._members.all:
            for connection in [one for one in member.idle if one.idle_until <= now]:
                member.idle.remove(connection)
                connection.abort()
        ends = [one.idle_until for member in self._members.all for one in member.idle]
        if ends:
            self._sweep_at(max(min(ends), now + SWEEP_SECONDS))

    async def close(self) -> None:
        """Closes every connection, busy ones too."""
        await self._outage.close()
        if self._checks is not None:
            await self._checks.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.abort()
        for member in self._members.all:
            member.idle.clear()
