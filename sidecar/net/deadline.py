"""Time limits on others, which leave out the time in which this process did not listen.

A turn of a busy event loop may last for a second. What came meanwhile is in a socket's buffer, and
whoever sent it was in time. So a limit looks at the clock several times on its way, and moves back
by as much as a look comes late; behind the last one it waits for one more turn, which reads what
is there. On a loop that is in time it ends when it is due. On one that is not, it ends after
`LOOKS` late turns, however long they are: that is all by which anybody can delay it.

    set ──► look ──► look ── late by 1 s ──► look ──► … ──► due ──► one more turn ──► expired
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Any, Final, TypeVar

LOOKS: Final = 8  # at the clock, on the way to the end of a limit
TURN: Final = 0.001  # seconds: the loop's next turn, behind what it reads in this one


Waited = TypeVar("Waited", bound="asyncio.Future[Any]")


class Deadline:
    """Calls `expired` once the time set last has passed; `clear` takes it off.

    One lazy timer: moving a deadline later costs an assignment. A busy connection that moves its
    deadline with every message pays for a timer per look, not one per message.
    """

    __slots__ = ("_due", "_expired", "_gap", "_handle", "_is_last", "_looks_at", "_loop", "_since")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due = inf
        self._since = -inf
        self._gap = 0.0
        self._looks_at = inf
        self._is_last = False  # what was there when it was due is being read
        self._handle: asyncio.TimerHandle | None = None

    @property
    def due(self) -> float:
        """When it expires, in the loop's time; infinite if it is not set."""
        return self._due

    def set(self, seconds: float) -> None:
        """Expires `seconds` from now unless set again or cleared before."""
        now = self._since = self._loop.time()
        self._due = now + seconds
        gap = self._gap = seconds / LOOKS
        self._is_last = False
        if now + gap < self._looks_at:
            self._arm(now + gap)

    def clear(self) -> None:
        """Takes the deadline off."""
        self._due = inf

    def close(self) -> None:
        """Takes the deadline off for good: `set` does nothing from now on.

        Nor does it hold on to whom it told: both would wait for the garbage collector together.
        """
        self._due = inf
        self._expired = _nothing
        self._looks_at = -inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._looks_at = at
        self._handle = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        planned, self._looks_at, self._handle = self._looks_at, inf, None
        if self._due == inf:
            return
        now = self._loop.time()
        late = now - max(planned, self._since)
        if late > 0:
            self._due += late
        if now < self._due:
            self._arm(min(now + self._gap, self._due))
        elif not self._is_last:
            self._is_last = True
            self._arm(now + TURN)
        else:
            self._due = inf
            self._expired()


def _nothing() -> None:
    """There is nobody to tell."""


class Within:
    """`async with Within(seconds)`: as `asyncio.timeout`, by a `Deadline`.

    What is here by the same turn of the loop comes first. None: no limit.
    """

    __slots__ = ("_deadline", "_loop", "_seconds", "_timeout", "is_lifted")

    def __init__(self, seconds: float | None) -> None:
        self._seconds: Final = seconds
        self._loop: Final = asyncio.get_running_loop()
        # It refers to its task. None behind the end: an error that ends the task refers to this.
        self._timeout: asyncio.Timeout | None = asyncio.timeout(None)
        self._deadline: Final = Deadline(self._loop, self._end)
        self.is_lifted = False

    @property
    def left(self) -> float:
        """Seconds until it ends; infinite without a limit."""
        return max(0.0, self._deadline.due - self._loop.time())

    def lift(self) -> None:
        """Takes the limit off: what it was for is done."""
        self.is_lifted = True
        self._deadline.close()
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(None)

    def _end(self) -> None:
        if self._timeout is not None:  # behind what is ready to go on in this turn
            self._timeout.reschedule(self._loop.time())

    async def __aenter__(self) -> Within:
        assert self._timeout is not None, "a limit is used once"
        await self._timeout.__aenter__()
        if self._seconds is not None:
            self._deadline.set(self._seconds)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises `TimeoutError` if time was up."""
        self._deadline.close()
        timeout, self._timeout = self._timeout, None
        assert timeout is not None
        await timeout.__aexit__(kind, error, trace)


async def wait_within(
    these: set[Waited], seconds: float | None, *, until: str = asyncio.ALL_COMPLETED
) -> tuple[set[Waited], set[Waited]]:
    """As `asyncio.wait`, within a limit of this kind: those that are done, and the others."""
    with suppress(TimeoutError):
        async with Within(seconds):
            await asyncio.wait(these, return_when=until)
    done = {one for one in these if one.done()}
    return done, these - done
