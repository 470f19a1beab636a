"""Writes that the store must take, kept here until it has taken them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec

from sidecar.core.errors import StoreUnavailable
from sidecar.net.deadline import Within

AT_ONCE: Final = 32  # writes under way
LONGEST: Final = 20_000  # writes that wait; what is dropped beyond is written by `overflowed`
WAITING: Final = 2_000  # writes of a kind that strangers can cause, and that wait for the store
PAUSE: Final = (0.1, 0.3)  # seconds between attempts while the store takes nothing
LONGEST_WRITE: Final = 20.0  # seconds after which a write has failed, so that none holds others up
GIVEN_UP: Final = 3600.0  # seconds after which a write is dropped that fails while others do not

Write = Callable[[], Awaitable[object]]
"""Writes once more if it is called again. Raises `StoreUnavailable`."""


class _Item(msgspec.Struct, frozen=True, eq=False):
    kind: str
    write: Write
    taken: asyncio.Future[bool]
    since: float


class Outbox:
    """Writes behind requests: ordered by key, repeated until the store has taken them, bounded.

    A write counts as taken once `confirm` has returned behind it: it raises `StoreUnavailable` if
    the store has lost writes meanwhile, and then all since the last time are made again.
    """

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn: Final = spawn
        self._queues: OrderedDict[str, deque[_Item]] = OrderedDict()
        self._is_running = False
        self._count = 0
        self.pending: Counter[str] = Counter()
        """How many writes the store has not taken yet, by kind."""
        self.confirm: Callable[[], Awaitable[None]] | None = None
        self.overflowed: Callable[[], None] | None = None

    def put(
        self, key: str, kind: str, write: Write, *, is_urgent: bool = False
    ) -> asyncio.Future[bool]:
        """Has something written, behind what was put under the same key before.

        The result is whether it was taken; False if there was no room. An urgent write is made
        before others, and is never dropped.
        """
        loop = asyncio.get_running_loop()
        item = _Item(kind, write, loop.create_future(), loop.time())
        if self._count >= LONGEST and not is_urgent:
            item.taken.set_result(False)
            if self.overflowed is not None:
                self.overflowed()
            return item.taken
        self._queues.setdefault(key, deque()).append(item)
        if is_urgent:
            self._queues.move_to_end(key, last=False)
        self._count += 1
        self.pending[kind] += 1
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run())
        return item.taken

    def put_bounded(self, key: str, kind: str, write: Write) -> None:
        """The same for writes that strangers can cause: once `WAITING` wait, they get one try."""
        if self.pending[kind] < WAITING:
            self.put(key, kind, write)
        else:
            self.try_once(write)

    def try_once(self, write: Write) -> None:
        """Has something written that is not worth a second attempt."""
        self._spawn(_once(write))

    async def flush(self, seconds: float) -> bool:
        """Waits for at most `seconds` until everything is taken. Returns whether it is."""
        last = [queue[-1].taken for queue in self._queues.values() if queue]
        if last:
            await asyncio.wait(last, timeout=seconds)
        return not self._queues

    async def _run(self) -> None:
        try:
            while self._queues:
                if not await self._round():
                    await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311 - no secret
        finally:
            self._is_running = False

    async def _round(self) -> bool:
        """Makes the first write of some keys. Whether any was taken."""
        heads = [(key, queue[0]) for key, queue in islice(self._queues.items(), AT_ONCE)]
        made = await self._are_made([item for _, item in heads])
        is_confirmed = any(made) and await self._is_confirmed()
        given_up = asyncio.get_running_loop().time() - GIVEN_UP
        for (key, item), is_made in zip(heads, made, strict=True):
            if is_confirmed and (is_made or item.since < given_up):
                self._leave(key, item, is_taken=is_made)
            else:
                self._queues.move_to_end(key)  # so that it holds no other up
        return is_confirmed

    def _leave(self, key: str, item: _Item, *, is_taken: bool) -> None:
        queue = self._queues[key]
        queue.popleft()
        if not queue:
            del self._queues[key]
        self._count -= 1
        self.pending[item.kind] -= 1
        if not item.taken.done():
            item.taken.set_result(is_taken)

    async def _are_made(self, items: list[_Item]) -> list[bool]:
        """Side by side; one alone without a task of its own, which costs turns of the loop."""
        if len(items) == 1:
            return [await self._is_made(items[0])]
        return await asyncio.gather(*map(self._is_made, items))

    async def _is_made(self, item: _Item) -> bool:
        try:
            async with Within(LONGEST_WRITE):
                await item.write()
        except (StoreUnavailable, TimeoutError):
            return False
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return False  # a client library's own, which meant no more than a failure
        except Exception as error:  # a defect, which is no reason to hold up all others
            self._spawn(_defect(error))
        return True

    async def _is_confirmed(self) -> bool:
        try:
            if self.confirm is not None:
                async with Within(LONGEST_WRITE):
                    await self.confirm()
        except (StoreUnavailable, TimeoutError):
            return False
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return False
        return True


async def _once(write: Write) -> None:
    with suppress(StoreUnavailable):
        await write()


def _is_cancelled() -> bool:
    """Whether the task that runs was cancelled, as at the end of the process."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _defect(error: Exception) -> None:
    raise error
