"""Accepts connections; if several processes listen on the sockets, each gets its share.

The kernel wakes every process for a new connection, and on an idle machine the same one is always
first: it would end up with all connections that last. So a process ahead of the others leaves a
connection to them for a moment, and takes it itself only if none of them came.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sidecar.core.proxy_protocol import BadProxyHeader, Origin
from sidecar.net.deadline import Within
from sidecar.net.open_files import open_files
from sidecar.tls_failure import HandshakeFailure, failure_of
from sidecar.web.proxy_header import receive_header

if TYPE_CHECKING:
    import socket

    from structlog.typing import FilteringBoundLogger

BACKLOG: Final = 1024  # connections that the kernel holds until they are accepted
LEAVE_SECONDS: Final = 0.001  # for the others to take a connection
CATCH_UP: Final = 2  # connections taken at once if none of them did
REPORT_SECONDS: Final = 60.0  # between two lines of the log about that
OUT_OF_FILES_SECONDS: Final = 1.0  # until the next attempt if the system gives no more


class Shares(Protocol):
    """How many connections each of the processes has."""

    def join(self) -> None:
        """Has this process take part from now on."""

    def leave(self) -> None:
        """Takes no more connections."""

    def opened(self) -> None:
        """It has one connection more."""

    def closed(self) -> None:
        """It has one connection less."""

    def is_ahead(self) -> bool:
        """Whether this process has more connections than the others."""


class _Alone:
    """One process, which has them all."""

    __slots__ = ()

    def join(self) -> None:
        """Does nothing."""

    leave = opened = closed = join

    def is_ahead(self) -> bool:
        return False


ALONE: Final[Shares] = _Alone()


class Arrival(msgspec.Struct, frozen=True):
    """A connection that a listener has accepted."""

    address: str
    """The IP address of the other end; empty on a Unix socket."""
    scheme: bytes
    """What is spoken on it."""
    may_be_proxy: bool = True
    """Whether the other end is a trusted proxy if its address is one's."""


class Reception(msgspec.Struct, frozen=True):
    """How the connections of one listener begin."""

    tls: ssl.SSLContext | None
    seconds: float
    """Time limit of a PROXY header, and of a TLS handshake."""
    believes: Callable[[str], bool] | None = None
    """Whose PROXY header is believed; None: there is none."""

    @property
    def waits(self) -> bool:
        """Whether the client must send something before there is a connection."""
        return self.tls is not None or self.believes is not None

    @property
    def scheme(self) -> bytes:
        """What is spoken behind it."""
        return b"http" if self.tls is None else b"https"


class Receptionist(Protocol):
    """Takes the connections of all listeners, each of which has a number."""

    def reception(self, number: int) -> Reception:
        """How a connection of this listener begins, as of now."""

    def protocol(self, arrival: Arrival) -> asyncio.Protocol:
        """What serves a new connection."""

    def most_waiting(self) -> int:
        """How many connections may wait for their client before they begin."""

    def made_room(self) -> None:
        """One that waited was closed, since too many do."""

    def refused(
        self, number: int, refusal: Refusal | HandshakeFailure, address: str, detail: str
    ) -> None:
        """A connection of this listener was closed for its PROXY header or its TLS handshake."""


class Refusal(StrEnum):
    """Why a connection is closed where a PROXY header must come first."""

    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"

    @property
    def level(self) -> str:
        """How loudly it is told."""
        return "warning"


class _RefusedConnection(Exception):
    """It is to be closed, and told."""

    def __init__(self, refusal: Refusal | HandshakeFailure, address: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal: Final = refusal
        self.address: Final = address


class Acceptor:
    """Takes connections, and hands each to a new protocol of the `receptionist`.

    `shares.opened` is called here, and `shares.closed` for a connection that never came to be; for
    all others by the process that sees their end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Iterable[Iterable[socket.socket]],
        receptionist: Receptionist,
        *,
        shares: Shares,
        log: FilteringBoundLogger,
    ) -> None:
        self._loop: Final = loop
        self._sockets: Final = {one: at for at, group in enumerate(sockets) for one in group}
        self._receptionist: Final = receptionist
        self._shares: Final = shares
        self._log: Final = log
        self._beginning: Final[set[asyncio.Task[bool]]] = set()
        self._waiting: Final[OrderedDict[asyncio.Task[bool], None]] = OrderedDict()  # for clients
        self._is_closed = False
        self._silent_until = 0.0

    def start(self) -> None:
        """Accepts from now on."""
        self._shares.join()
        for listener in self._sockets:
            listener.setblocking(False)
            self._watch(listener)

    def close(self) -> None:
        """Accepts who has connected until now, and nobody else."""
        if self._is_closed:
            return
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            for _ in range(BACKLOG):
                if not self._take(listener):
                    break
        self._is_closed = True
        self._shares.leave()
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()

    @property
    def is_beginning(self) -> bool:
        """Whether a connection is not complete yet, such as its TLS handshake."""
        return bool(self._beginning)

    async def give_up(self) -> None:
        """Gives up connections whose PROXY header or TLS handshake is still under way.

        After that a connection is there at once, and uvloop does not report the end of one whose
        beginning is cancelled.
        """
        for task in [*self._waiting]:
            task.cancel()
        if self._beginning:
            await asyncio.wait([*self._beginning])

    def _watch(self, listener: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listener, self._ready, listener)

    def _ready(self, listener: socket.socket) -> None:
        """There is a connection: takes one, so that the other processes can take the next."""
        if self._shares.is_ahead():
            self._loop.remove_reader(listener)
            self._loop.call_later(LEAVE_SECONDS, self._catch_up, listener)
        else:
            self._take(listener)

    def _catch_up(self, listener: socket.socket) -> None:
        """Takes what the others left behind, above all if they are stuck."""
        if self._is_closed:
            return
        self._watch(listener)
        for _ in range(CATCH_UP):
            if not self._take(listener):
                return

    def _take(self, listener: socket.socket) -> bool:
        """Accepts one connection; False if no more are waiting."""
        try:
            connection, name = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._report(error)
            self._loop.remove_reader(listener)
            self._loop.call_later(OUT_OF_FILES_SECONDS, self._watch, listener)
            return False
        connection.setblocking(False)
        self._shares.opened()
        number = self._sockets[listener]
        reception = self._receptionist.reception(number)
        task = self._loop.create_task(self._begin(connection, _address(name), number, reception))
        self._beginning.add(task)
        task.add_done_callback(partial(self._begun, connection))
        if reception.waits:
            self._wait_for_client(task)
        return True

    def _wait_for_client(self, task: asyncio.Task[bool]) -> None:
        """Remembers that a connection may be given up; the oldest is, if they are too many."""
        self._waiting[task] = None
        if len(self._waiting) > self._receptionist.most_waiting():
            oldest = next(iter(self._waiting))
            self._go_on(oldest)
            oldest.cancel()
            self._receptionist.made_room()

    def _go_on(self, task: asyncio.Task[bool]) -> None:
        self._waiting.pop(task, None)

    def _report(self, error: OSError) -> None:
        """Reports once a minute why no client can connect, and the remedy."""
        now = self._loop.time()
        if now < self._silent_until:
            return
        self._silent_until = now + REPORT_SECONDS
        remedy = None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            remedy = (
                f"this process may open {open_files()} files: raise that (ulimit -n, LimitNOFILE=,"
                " --ulimit nofile=), or lower limits.connections"
            )
        self._log.error("connections cannot be accepted", detail=error.strerror, remedy=remedy)

    async def _begin(
        self, connection: socket.socket, address: str, number: int, reception: Reception
    ) -> bool:
        """Returns whether there is a connection now."""
        # Clients that leave at once are no trouble of ours.
        with suppress(OSError, asyncio.CancelledError):
            try:
                return await self._open(connection, address, reception)
            except _RefusedConnection as error:
                self._receptionist.refused(number, error.refusal, error.address, str(error))
        return False

    def _begun(self, connection: socket.socket, task: asyncio.Task[bool]) -> None:
        """Lets go of what never came to be; also if its task was given up before its first step."""
        self._beginning.discard(task)
        self._go_on(task)
        is_open = False
        try:
            is_open = not task.cancelled() and task.result()
        finally:
            if not is_open:
                self._shares.closed()
                connection.close()

    async def _open(self, connection: socket.socket, address: str, reception: Reception) -> bool:
        """Returns whether there is a connection now."""
        arrival: Arrival | None = Arrival(address, reception.scheme)
        if reception.believes is not None:
            arrival = await self._introduced(connection, address, reception)
        if arrival is None:
            return False
        if reception.tls is None and (task := asyncio.current_task()) is not None:
            self._go_on(task)
        try:
            await self._loop.connect_accepted_socket(
                partial(self._receptionist.protocol, arrival),
                connection,
                ssl=reception.tls,
                ssl_handshake_timeout=None if reception.tls is None else reception.seconds,
            )
        except OSError as error:
            if reception.tls is None:
                raise
            failure, detail = failure_of(error)
            raise _RefusedConnection(failure, arrival.address, detail) from None
        return True

    async def _introduced(
        self, connection: socket.socket, address: str, reception: Reception
    ) -> Arrival | None:
        """For whom the peer has connected, by its PROXY header; None if it leaves before."""
        assert reception.believes is not None
        if not reception.believes(address):
            told = "its address is not in trusted_proxies"
            raise _RefusedConnection(Refusal.UNTRUSTED, address, told)
        try:
            async with Within(reception.seconds):
                header = await receive_header(self._loop, connection)
        except BadProxyHeader as error:
            raise _RefusedConnection(Refusal.MALFORMED, address, str(error)) from None
        except TimeoutError:
            raise _RefusedConnection(Refusal.TIMEOUT, address, "no whole header in time") from None
        if header is None:
            return None
        if header.origin is Origin.CLIENT:
            address = header.address
        return Arrival(address, reception.scheme, header.origin is not Origin.UNKNOWN)


def _address(name: object) -> str:
    """The address of a peer's name; IPv4 as such, also if it came to a socket of IPv6."""
    address = str(name[0]) if isinstance(name, tuple) else ""
    return address.removeprefix("::ffff:") if "." in address else address
