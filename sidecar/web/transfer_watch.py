"""Responses that are under way for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.core.pace import Pace
from sidecar.web.body import WINDOW
from sidecar.web.budgets import STREAM

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

LOOK_SECONDS: Final = 1.0  # below `connect`: who waits for a connection meanwhile still gets one
LONG_LOOKS: Final = 10  # after which a body that comes and goes is a stream all the same


class TransferWatch:
    """Counts a request as a stream once its client holds up its response, or it has lasted long.

    A context manager around the transfer of a body. From then on the response is given up if
    too many others last, and its client takes it more slowly than theirs. If the budget of streams
    is used up by what is none of these, it looks again later.
    """

    __slots__ = ("_flow", "_looks", "_pace", "_timer", "_waited")

    def __init__(self, flow: Flow) -> None:
        self._flow: Final = flow
        self._looks = 0
        self._waited = 0.0  # seconds for which its client was seen to hold it up
        self._pace: Final = Pace(0, WINDOW)
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._flow.kind != STREAM:
            self._wait()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._flow.handler.budgets.goes_no_more(self)

    @property
    def rate(self) -> float:
        """How fast the client takes the response while it holds it up (`core.pace`)."""
        return self._pace.rate(self._waited, self._flow.bytes_out)

    def give_up(self, why: str) -> None:
        """Breaks the response off, and makes room at once.

        Nothing if its client has just left: then the connection may be with its next request.
        """
        flow = self._flow
        if flow.over:
            return
        flow.leave_budget()
        flow.detail = why
        flow.connection.give_up(why)

    def _wait(self) -> None:
        self._timer = self._flow.runtime.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        flow = self._flow
        self._looks += 1
        if flow.connection.is_held_up:
            self._waited += LOOK_SECONDS
        self._pace.note(self._waited, flow.bytes_out)
        if flow.kind != STREAM and (self._looks >= LONG_LOOKS or flow.connection.is_held_up):
            flow.outlast(self)
        self._wait()
