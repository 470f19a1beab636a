"""What becomes of requests while no server of their upstream takes a connection.

          a connect has failed at every server              `retry` is over
    WELL ──────────────────────────────────────► RETRYING ──────────────────► DOWN
      ▲                                          requests wait                requests fail at once
      │                                             │                           │
      └─── one attempt at a time, for all: the first that succeeds ends it ─────┘

Nothing of these requests has been sent, so a restart of the upstream within `retry` costs time and
no error, whatever their method. Attempts go on only while requests come: some time after the last
one it is as if nothing had been, and whoever comes next tries for himself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from random import uniform
from time import time
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import UpstreamCause, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from sidecar.net.causes import cause_of, of_connection
from sidecar.net.deadline import Within
from sidecar.net.members import LOCAL

if TYPE_CHECKING:
    from sidecar.net.members import Member
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.policy import UpstreamAddress

PAUSES: Final = (0.1, 0.25)  # seconds between two attempts, at least and at most
PAUSES_DOWN: Final = (0.4, 0.6)  # the same while requests fail at once
DOWN_AFTER: Final = 1.0  # seconds until requests fail at once, if `retry` is shorter
FORGET: Final = 10.0  # seconds after the last request


class Outage:
    """Connects for the requests of one upstream, also while its servers take no connections."""

    __slots__ = (
        "_address",
        "_asked",
        "_dial",
        "_error",
        "_is_told",
        "_loop",
        "_probing",
        "_report",
        "_since",
        "_waiters",
        "since",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: UpstreamAddress,
        dial: Callable[[Member | None], Awaitable[UpstreamConnection]],
        report: Callable[[str | None], None],
    ) -> None:
        """`dial` raises `OSError`; `report` hears why the upstream is down, and None afterwards."""
        self._loop: Final = loop
        self._address: Final = address
        self._dial: Final = dial
        self._report: Final = report
        self._since: float | None = None  # of the loop
        self.since: float | None = None  # Unix seconds; None: some server takes connections
        self._asked = 0.0
        self._error: OSError = OSError()
        self._is_told = False
        self._probing: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[UpstreamConnection | None], None] = {}

    @property
    def error(self) -> UpstreamError | None:
        """Why no server takes a connection; None if one does, or nobody knows."""
        return None if self._since is None else self._as_answer(self._error)

    async def connect(self, last: Member | None) -> UpstreamConnection:
        """A new connection, as soon as a server takes one, within `retry`.

        After an attempt of its own that took all of `connect`, a request waits no longer. `last` as
        in `Dialer.connect`. Raises `UpstreamUnreachable` and `UpstreamTimeout`.
        """
        asked = self._loop.time()
        while True:
            if self._is_waited_for():
                given = await self._wait(asked)
                if given is not None:
                    return given
            began = self._loop.time()
            try:
                connection = await self._dial(last)
            except OSError as error:
                if not _may_pass(error):
                    raise self._as_answer(error) from None
                self._begin(began, error)
                if not self._address.retry or isinstance(error, TimeoutError):
                    raise self._as_answer(error) from None
            else:
                self._end()
                return connection

    def _is_waited_for(self) -> bool:
        """Whether requests leave the attempts to one for all."""
        if self._since is None:
            return False
        return self._address.retry > 0 or self._loop.time() - self._since >= DOWN_AFTER

    async def _wait(self, asked: float) -> UpstreamConnection | None:
        """A connection that was made for all; None if more can be made again.

        The request that waits has `asked` for one at that time of the loop.
        """
        assert self._since is not None
        self._asked = now = self._loop.time()
        self._keep_trying()
        left = min(self._since, asked) + self._address.retry - now
        if left <= 0:
            raise self._as_answer(self._error)
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            async with Within(left):
                return await waiter
        except BaseException as error:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                _give_up(waiter)
            if isinstance(error, TimeoutError):
                raise self._as_answer(self._error) from None
            raise

    def _begin(self, began: float, error: OSError) -> None:
        """No server has taken a connection since `began`."""
        self._error, self._asked = error, self._loop.time()
        if self._since is None:
            self._since, self.since = began, time() - (self._loop.time() - began)
        self._keep_trying()

    def _keep_trying(self) -> None:
        if self._probing is None:
            self._probing = self._loop.create_task(self._probe())

    def _end(self) -> None:
        """Some server takes connections."""
        self._since = self.since = None
        if self._is_told:
            self._is_told = False
            self._report(None)

    async def _probe(self) -> None:
        """Tries until it succeeds, or nobody has asked for a while."""
        try:
            while self._since is not None:
                if not self._waiters and self._loop.time() - self._asked > FORGET:
                    self._since = self.since = None
                    return
                await asyncio.sleep(uniform(*(PAUSES_DOWN if self._is_down() else PAUSES)))  # noqa: S311
                try:
                    connection = await self._dial(None)
                except OSError as error:
                    self._error = error
                else:
                    self._end()
                    self._hand_over(connection)
        finally:
            self._probing = None

    def _is_down(self) -> bool:
        """Whether requests fail at once; the first time it is told."""
        since, retry = self._since, self._address.retry
        if since is None or self._loop.time() - since < max(retry, DOWN_AFTER):
            return False
        if not self._is_told:
            self._is_told = True
            self._report(self._as_answer(self._error).detail)
        return True

    def _hand_over(self, connection: UpstreamConnection) -> None:
        """Gives the connection to the first who waits; the others make their own."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(connection)
                break
        else:
            connection.abort()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def close(self) -> None:
        """Ends the attempts."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    def _as_answer(self, error: OSError) -> UpstreamError:
        if isinstance(error, TimeoutError):
            late = f"no connection within {self._address.connect:g} s"
            return UpstreamTimeout(late, UpstreamCause.CONNECT_TIMEOUT)
        return UpstreamUnreachable(of_connection(error), cause_of(error))


def _may_pass(error: OSError) -> bool:
    """Whether another attempt may succeed: not if TLS fails, nor for want of something here."""
    return not isinstance(error, ssl.SSLError) and error.errno not in LOCAL


def _give_up(waiter: asyncio.Future[UpstreamConnection | None]) -> None:
    """Closes what a waiter was given that has gone meanwhile."""
    connection = waiter.result()
    if connection is not None:
        connection.abort()
