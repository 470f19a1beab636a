"""Work that no request waits for: it goes on when a client leaves, and ends with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LAST_SECONDS: Final = 3.0  # for what is still under way when the process ends

Result = TypeVar("Result")


class Background:
    """The tasks of one event loop that belong to no request."""

    __slots__ = ("_log", "_loop", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop, log: FilteringBoundLogger) -> None:
        self._loop: Final = loop
        self._log: Final = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it; what it raises is logged."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Runs what requests wait for, if they stay (`asyncio.shield`): they get what it raises."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, though every caller may have left

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("defect", exc_info=error)

    async def close(self) -> None:
        """Waits a moment for running work, then ends it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
