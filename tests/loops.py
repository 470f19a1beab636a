"""Event loops that are late, as under more work than there is time for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def busy(turn: float) -> AsyncIterator[None]:
    """Has each turn of the running loop last for so many seconds at least; 0: as it is."""

    async def work() -> None:
        while True:
            time.sleep(turn)  # noqa: ASYNC251 - that is what it is for
            await asyncio.sleep(0)

    working = asyncio.get_running_loop().create_task(work()) if turn else None
    try:
        yield
    finally:
        if working is not None:
            working.cancel()


class Timer:
    def __init__(self, at: float, fire: Callable[[], None]) -> None:
        self.at = at
        self.fire = fire
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop whose clock the test moves; `made` counts timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, fire: Callable[[], None]) -> Timer:
        self.made += 1
        self.timers.append(Timer(at, fire))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = min(self.timers, key=lambda timer: timer.at, default=None)
            if due is None or due.at > end:
                break
            self.timers.remove(due)
            self.now = max(self.now, due.at)
            due.fire()
        self.now = end

    def be_busy(self, seconds: float) -> None:
        """One turn that lasts so long: timers come behind it, those that were due by its end."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in sorted(due, key=lambda one: one.at):
            if not timer.cancelled:
                timer.fire()
