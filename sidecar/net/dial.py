"""Makes connections to an upstream that has several servers, or a name with several addresses.

    server 1 ──► its name ──► address 1 ──┐
       │ gap        │            │ gap    │
    server 2 …      …         address 2 ──┴─► the first that is connected is used, the others close

Attempts begin a short gap apart, or as soon as the one before has failed (RFC 8305 5). So an
address that swallows packets costs a moment, and one that refuses costs nothing. An address that
failed, or was slower than the next one, comes last for a while; `net.members` says the same of
servers. Names are looked up for every connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

from sidecar.net.causes import of_connection
from sidecar.net.deadline import wait_within
from sidecar.net.members import LOCAL

if TYPE_CHECKING:
    from sidecar.net.members import Member, Members
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.policy import UpstreamAddress, UpstreamServer

GAP: Final = 0.25  # seconds until the next attempt begins
AVOIDED_SECONDS: Final = 30.0  # that an address which failed comes last
MOST_AVOIDED: Final = 256
MOST_SHOWN: Final = 16  # addresses of one name that are told to people

Attempt: TypeAlias = "Callable[[], Awaitable[UpstreamConnection]]"


class Dialer:
    """Connects to the servers of one upstream, best first."""

    __slots__ = ("_address", "_avoided", "_loop", "_make", "_members")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: UpstreamAddress,
        members: Members,
        make: Callable[[Member], UpstreamConnection],
    ) -> None:
        self._loop: Final = loop
        self._address: Final = address
        self._members: Final = members
        self._make: Final = make
        self._avoided: dict[UpstreamServer, float] = {}

    async def connect(self, last: Member | None = None) -> UpstreamConnection:
        """A new connection to the best server that takes it. Raises `OSError`.

        `last` has just failed the request that this is for. Servers that are left out are tried
        once all others have failed, or half of the time is over.
        """
        used, left_out = self._members.order(self._loop.time(), last)
        best = used[0]
        best.dialing += 1  # now, so that whoever asks next sees it
        try:
            if not left_out:
                return await self._to_one_of(used, best)
            groups = [partial(self._to_one_of, some, best) for some in (used, left_out)]
            return await first_of(groups, self._address.connect / 2)
        finally:
            best.dialing -= 1

    async def _to_one_of(self, members: Sequence[Member], best: Member) -> UpstreamConnection:
        return await self._first(
            [partial(self._to if one is best else self._counted, one) for one in members]
        )

    async def _counted(self, member: Member) -> UpstreamConnection:
        member.dialing += 1
        try:
            return await self._to(member)
        finally:
            member.dialing -= 1

    async def _to(self, member: Member) -> UpstreamConnection:
        """A new connection to one of a server's addresses. Raises `OSError`."""
        began = self._loop.time()
        try:
            found = await self._look_up(member)
            ways = [
                partial(self._to_address, member, address) for address in self._best_first(found)
            ]
            connection = await self._first(ways)
        except asyncio.CancelledError:
            now = self._loop.time()
            if self._is_slow(began):  # another one was faster, or time is up
                self._members.unreachable(member, now, f"no connection within {now - began:.2g} s")
            raise
        except OSError as error:
            if error.errno not in LOCAL:
                self._members.unreachable(member, self._loop.time(), of_connection(error))
            raise
        self._members.connected(member)
        connection.retires_at = self._loop.time() + self._address.pool_max_age
        return connection

    async def _look_up(self, member: Member) -> list[UpstreamServer]:
        """The addresses of a server, by turns of each family (RFC 8305 4)."""
        server = member.server
        if server.path is not None or _is_literal(server.host):
            return [server]
        found = await self._loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        by_family: dict[int, list[UpstreamServer]] = {}
        for family, _, _, _, address in dict.fromkeys(found):
            one = server._replace(host=str(address[0]))
            by_family.setdefault(family, []).append(one)
        rows = zip_longest(*by_family.values())
        addresses = [one for one in chain.from_iterable(rows) if one is not None]
        member.resolved(one.host for one in addresses[:MOST_SHOWN])
        return addresses

    def _best_first(self, found: list[UpstreamServer]) -> list[UpstreamServer]:
        if not self._avoided:
            return found
        now = self._loop.time()
        return sorted(found, key=lambda one: self._avoided.get(one, 0.0) > now)

    async def _open(self, member: Member, address: UpstreamServer) -> UpstreamConnection:
        connection, tls = self._make(member), self._address.tls
        try:
            if address.path is not None:
                await self._loop.create_unix_connection(lambda: connection, address.path)
            else:
                await self._loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=tls,
                    server_hostname=None if tls is None else member.server.host,
                )
        except BaseException:
            # Cancelled just after it was made, it would stay open: uvloop reports nothing. Nor does
            # it part the two.
            connection.abort()
            connection.transport = None
            raise
        connection.address = str(address)
        return connection

    async def _to_address(self, member: Member, address: UpstreamServer) -> UpstreamConnection:
        """A connection to one address; whether it is worth being first next time is remembered."""
        began = self._loop.time()
        try:
            connection = await self._open(member, address)
        except asyncio.CancelledError:
            if self._is_slow(began):
                self._avoid(address)
            raise
        except OSError:
            self._avoid(address)
            raise
        self._avoided.pop(address, None)
        return connection

    def _is_slow(self, began: float) -> bool:
        """Whether an attempt that was given up had long enough."""
        return self._loop.time() - began > self._pause(2) / 2

    def _avoid(self, address: UpstreamServer) -> None:
        if len(self._avoided) >= MOST_AVOIDED:
            self._avoided.clear()
        self._avoided[address] = self._loop.time() + AVOIDED_SECONDS

    def _pause(self, attempts: int) -> float:
        """The gap between attempts: all of them begin within half of what a connect may take."""
        return min(GAP, self._address.connect / 2 / attempts)

    async def _first(self, attempts: Sequence[Attempt]) -> UpstreamConnection:
        """What the first attempt that succeeds returns. Raises what the first one raised."""
        if len(attempts) == 1:
            return await attempts[0]()
        return await first_of(attempts, self._pause(len(attempts)))


async def first_of(attempts: Sequence[Attempt], gap: float) -> UpstreamConnection:
    """Runs attempts that begin `gap` seconds apart, or once one has failed; the others end."""
    waiting, errors = list(reversed(attempts)), list[BaseException]()
    running: set[asyncio.Task[UpstreamConnection]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop()()))
            # Not begun because this process is late: who loses against it counts as too slow.
            done, running = await wait_within(
                running, gap if waiting else None, until=asyncio.FIRST_COMPLETED
            )
            made = [task.result() for task in done if task.exception() is None]
            errors += (error for task in done if (error := task.exception()) is not None)
            if made:
                for connection in made[1:]:
                    connection.abort()
                return made[0]
    finally:
        for task in running:
            task.add_done_callback(_close_late)
            task.cancel()
    raise errors[0]


def _close_late(task: asyncio.Task[UpstreamConnection]) -> None:
    """Closes a connection that was made just before its attempt was given up."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
