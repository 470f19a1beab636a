"""Bodies that are under way for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.web.budgets import STREAM

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

LOOK_SECONDS: Final = 1.0  # below `connect`: who waits for a connection meanwhile still gets one
LONG_LOOKS: Final = 10  # after which a body that comes and goes is a stream all the same


class TransferWatch:
    """Counts a request as a stream once its client holds it up, or it has lasted long.

    A context manager around the transfer of a body. If the budget of streams is used up, it looks
    again later.
    """

    __slots__ = ("_flow", "_looks", "_timer")

    def __init__(self, flow: Flow) -> None:
        self._flow: Final = flow
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._flow.kind != STREAM:
            self._wait()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = self._flow.runtime.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looks += 1
        is_long = self._looks >= LONG_LOOKS or self._flow.connection.is_held_up
        if not (is_long and self._flow.outlast()):
            self._wait()
