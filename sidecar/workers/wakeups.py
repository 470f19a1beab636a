"""Workers wake each other when one has written for the others (`net.store.wakeup`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.net.store.wakeup import LocalWakeup, Wake

if TYPE_CHECKING:
    import asyncio

_ONE: Final = 1


def open_wakeups(count: int) -> tuple[int, ...]:
    """An event counter (eventfd(2)) for each worker, to be opened before the first fork.

    Raises `OSError`.
    """
    return tuple(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count))


def close_wakeups(opened: Sequence[int]) -> None:
    """Closes them, in this process."""
    for one in opened:
        os.close(one)


class WorkerWakeup:
    """The place of one worker, numbered from 1, among the counters of all."""

    def __init__(
        self, counters: Sequence[int], number: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._own: Final = counters[number - 1]
        self._others: Final = [one for one in counters if one != self._own]
        self._readers: Final = LocalWakeup()
        loop.add_reader(self._own, self._woken)

    def send(self) -> None:
        for one in self._others:
            with suppress(BlockingIOError):  # it is full, so that worker is woken all the same
                os.eventfd_write(one, _ONE)
        self._readers.wake()

    def add(self, wake: Wake) -> Callable[[], None]:
        return self._readers.add(wake)

    def _woken(self) -> None:
        with suppress(BlockingIOError):  # a process before this one at the same place has read it
            os.eventfd_read(self._own)
        self._readers.wake()
