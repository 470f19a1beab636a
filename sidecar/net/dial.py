"""Makes connections to an upstream that has several servers, or a name with several addresses.

    server 1 ──► its name ──► address 1 ──┐
       │ gap        │            │ gap    │
    server 2 …      …         address 2 ──┴─► the first that is connected is used, the others close

Attempts begin a short gap apart, or as soon as the one before has failed (RFC 8305 5). So an
address that swallows packets costs a moment, and one that refuses costs nothing. What failed, or
was slower than the next one, comes last for a while. Names are looked up for every connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.policy import UpstreamAddress, UpstreamServer

GAP: Final = 0.25  # seconds until the next attempt begins
AVOIDED_SECONDS: Final = 30.0  # that a server or an address which failed comes last
MOST_AVOIDED: Final = 256

Attempt: TypeAlias = "Callable[[], Awaitable[UpstreamConnection]]"


class Dialer:
    """Connects to the servers of one upstream, in turn."""

    __slots__ = ("_address", "_avoided", "_loop", "_make", "_turn")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: UpstreamAddress,
        make: Callable[[], UpstreamConnection],
    ) -> None:
        self._loop: Final = loop
        self._address: Final = address
        self._make: Final = make
        self._turn = 0
        self._avoided: dict[object, float] = {}

    @property
    def next_server(self) -> UpstreamServer:
        """The server whose turn it is."""
        return self._in_order()[0]

    def took(self, server: UpstreamServer) -> None:
        """Passes the turn on: a connection to `server` is used."""
        self._turn = self._address.servers.index(server) + 1

    async def connect(self) -> UpstreamConnection:
        """A new connection to the first server that takes it. Raises `OSError`."""
        return await self._first([partial(self._to, server) for server in self._in_order()])

    def _in_order(self) -> list[UpstreamServer]:
        servers = self._address.servers
        at = self._turn % len(servers)
        return self._best_first((*servers[at:], *servers[:at]))

    def _best_first(self, found: Sequence[UpstreamServer]) -> list[UpstreamServer]:
        if not self._avoided:
            return list(found)
        now = self._loop.time()
        return sorted(found, key=lambda one: self._avoided.get(one, 0.0) > now)

    async def _to(self, server: UpstreamServer) -> UpstreamConnection:
        """A connection to one of a server's addresses."""
        found = await self._look_up(server)
        ways = [partial(self._to_address, server, address) for address in self._best_first(found)]
        connection = await self._marked(server, partial(self._first, ways))
        connection.server = server
        connection.retires_at = self._loop.time() + self._address.pool_max_age
        return connection

    async def _look_up(self, server: UpstreamServer) -> list[UpstreamServer]:
        """The addresses of a server, by turns of each family (RFC 8305 4)."""
        if server.path is not None or _is_literal(server.host):
            return [server]
        found = await self._loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        by_family: dict[int, list[UpstreamServer]] = {}
        for family, _, _, _, address in dict.fromkeys(found):
            one = server._replace(host=str(address[0]))
            by_family.setdefault(family, []).append(one)
        rows = zip_longest(*by_family.values())
        return [one for one in chain.from_iterable(rows) if one is not None]

    async def _to_address(
        self, server: UpstreamServer, address: UpstreamServer
    ) -> UpstreamConnection:
        return await self._marked(address, partial(self._open, server.host, address))

    async def _open(self, name: str, address: UpstreamServer) -> UpstreamConnection:
        connection, tls = self._make(), self._address.tls
        try:
            if address.path is not None:
                await self._loop.create_unix_connection(lambda: connection, address.path)
            else:
                await self._loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=tls,
                    server_hostname=None if tls is None else name,
                )
        except BaseException:
            # Cancelled just after it was made, it would stay open: uvloop reports nothing.
            connection.abort()
            raise
        connection.address = str(address)
        return connection

    async def _marked(self, target: UpstreamServer, attempt: Attempt) -> UpstreamConnection:
        """Remembers whether a target is worth being first the next time."""
        began = self._loop.time()
        try:
            connection = await attempt()
        except asyncio.CancelledError:
            if self._loop.time() - began > self._pause(2) / 2:
                self._avoid(target)  # another one was faster, or time is up
            raise
        except OSError:
            self._avoid(target)
            raise
        self._avoided.pop(target, None)
        return connection

    def _avoid(self, target: UpstreamServer) -> None:
        if len(self._avoided) >= MOST_AVOIDED:
            self._avoided.clear()
        self._avoided[target] = self._loop.time() + AVOIDED_SECONDS

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
            done, running = await asyncio.wait(
                running, timeout=gap if waiting else None, return_when=asyncio.FIRST_COMPLETED
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
