"""The body of a request as its client sends it, at a pace of its own, within limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.core.pace import MARKS, Pace

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

WINDOW: Final = 30.0  # seconds over which the rate counts
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """Reads the body of one request, and gives up on a client below `limits.client_rate`.

    Use it as a context manager: the pace is watched until its end.
    """

    __slots__ = ("_flow", "_loop", "_pace", "_timer", "_waited", "_waits_since")

    def __init__(self, flow: Flow) -> None:
        self._flow: Final = flow
        self._loop: Final = flow.runtime.loop
        self._pace: Final = Pace(flow.runtime.policy.config.limits.client_rate, WINDOW)
        self._waited = 0.0  # seconds that the client was waited for, without the wait under way
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def __enter__(self) -> RequestBody:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def invite(self) -> None:
        """Has a client send that waits for permission (RFC 9110 10.1.1)."""
        flow = self._flow
        if b"expect" in flow.request.facts and flow.http11 and not flow.payload.total_bytes:
            flow.connection.write(CONTINUE)

    async def read(self) -> bytes:
        """The next piece, empty at the end. Raises `RequestTimeout` if the client is too slow.

        And `ConnectionError` if the client has left.
        """
        connection = self._flow.connection
        connection.expect_client()
        since = self._waits_since = self._loop.time()
        try:
            return await self._flow.payload.readany()
        finally:
            self._waits_since = None
            self._waited += self._loop.time() - since
            connection.expect_nothing()

    def _watch(self) -> None:
        self._timer = self._loop.call_later(WINDOW / MARKS, self._check)

    def _check(self) -> None:
        waited, since = self._waited, self._waits_since
        if since is not None:
            waited += self._loop.time() - since
        if self._pace.is_too_slow(waited, self._flow.payload.total_bytes) and since is not None:
            self._flow.connection.give_up("request body comes too slowly")
        else:
            self._watch()
