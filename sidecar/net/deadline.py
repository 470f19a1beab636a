"""One lazy timer per connection: moving a deadline later costs an assignment, not a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls `expired` once the time set last has passed; `clear` takes it off.

    The timer underneath is re-armed only when it fires early, so a busy connection that moves its
    deadline with every message pays for one timer per interval, not one per message.
    """

    __slots__ = ("_due", "_expired", "_fires_at", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due = inf
        self._fires_at = inf
        self._handle: asyncio.TimerHandle | None = None

    @property
    def due(self) -> float:
        """When it expires, in the loop's time; infinite if it is not set."""
        return self._due

    def set(self, seconds: float) -> None:
        """Expires `seconds` from now unless set again or cleared before."""
        due = self._due = self._loop.time() + seconds
        if due < self._fires_at:
            self._arm(due)

    def clear(self) -> None:
        """Takes the deadline off."""
        self._due = inf

    def close(self) -> None:
        """Takes the deadline off for good: `set` does nothing from now on."""
        self._due = inf
        self._fires_at = -inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = due
        self._handle = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._fires_at = inf
        if self._due == inf:
            return
        if self._loop.time() < self._due:
            self._arm(self._due)
            return
        self._due = inf
        self._expired()
