"""The body of a request as its client sends it, at a pace of its own, within limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.core.pace import MARKS, Pace
from sidecar.net.pieces import next_piece

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

WINDOW: Final = 30.0  # seconds over which the rate counts
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """Reads the body of one request, and gives up on a client below `limits.client_rate`.

    Use it as a context manager: within it the pace is watched, and the request counts as one whose
    body is coming, and against no other budget.
    """

    __slots__ = (
        "_budgets",
        "_flow",
        "_looks_at",
        "_loop",
        "_pace",
        "_timer",
        "_waited",
        "_waits_since",
    )

    def __init__(self, flow: Flow) -> None:
        self._flow: Final = flow
        self._budgets: Final = flow.handler.budgets
        self._loop: Final = flow.runtime.loop
        self._pace: Final = Pace(flow.runtime.policy.config.limits.client_rate, WINDOW)
        self._waited = 0.0  # seconds that the client was waited for, without the wait under way
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0

    def __enter__(self) -> RequestBody:
        self._flow.leave_budget()
        self._budgets.comes(self)
        self._watch()
        return self

    def __exit__(self, *_: object) -> None:
        self._budgets.comes_no_more(self)
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
        self._waits_since = self._loop.time()
        try:
            return await next_piece(self._flow.payload)
        finally:
            self._waited = self._waited_for
            self._waits_since = None
            connection.expect_nothing()

    @property
    def rate(self) -> float:
        """How fast the client sends while it is waited for (`core.pace`)."""
        return self._pace.rate(self._waited_for, self._flow.payload.total_bytes)

    def give_up(self, why: str) -> None:
        """Stops waiting for the client, unless the request is over."""
        if not self._flow.over:
            self._flow.connection.give_up(why)

    @property
    def _waited_for(self) -> float:
        """For how many seconds the client has been waited for."""
        since = self._waits_since
        return self._waited + (0.0 if since is None else self._loop.time() - since)

    def _watch(self) -> None:
        self._looks_at = self._loop.time() + WINDOW / MARKS
        self._timer = self._loop.call_at(self._looks_at, self._check)

    def _check(self) -> None:
        if self._waits_since is not None:
            # Time in which this process did not read is none of the client's (`net.deadline`).
            late = self._loop.time() - max(self._looks_at, self._waits_since)
            self._waits_since += max(0.0, late)
        is_slow = self._pace.is_too_slow(self._waited_for, self._flow.payload.total_bytes)
        if is_slow and self._waits_since is not None:
            self.give_up("request body comes too slowly")
        else:
            self._watch()
