"""Event streams of the admin listener: the document every two seconds, and requests as they end.

Nothing runs while nobody listens. A listener that does not keep up is told how many it has missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

EVERY: Final = 2.0
"""Seconds between two documents."""
LISTENERS: Final = 16
"""Of each stream at a time."""
BEAT: Final = 15.0
"""Seconds of silence after which a stream says that it is still there."""
WAITING: Final = 1_000
"""Requests that wait for a listener to take them."""


class TooManyListeners(Exception):
    """No more can listen."""


class StatusFeed:
    """Makes one document for all who listen."""

    def __init__(self, make: Callable[[], Awaitable[bytes]]) -> None:
        self._make: Final = make
        self._listeners: Final[set[asyncio.Queue[bytes]]] = set()
        self._task: asyncio.Task[None] | None = None

    async def documents(self) -> AsyncGenerator[bytes]:
        """Yields a document at once and then every `EVERY` seconds.

        Raises `TooManyListeners`.
        """
        if len(self._listeners) >= LISTENERS:
            raise TooManyListeners
        queue: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._listeners.add(queue)
        try:
            queue.put_nowait(await self._make())
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._run())
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                await self.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                document = await self._make()
            except ValueError:  # nobody answers just now
                continue
            for queue in self._listeners:
                if not queue.full():  # who has not taken the last one gets the next
                    queue.put_nowait(document)

    async def close(self) -> None:
        """Ends the work for those who listened."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Tail:
    """The requests that one listener follows, as far as it has not taken them: bounded.

    `wanted` says whether it wants to be told of a request.
    """

    def __init__(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        self._wanted: Final = wanted
        self._lines: Final[deque[bytes]] = deque()
        self._lost = 0
        self._is_here: Final = asyncio.Event()

    def add(self, facts: dict[str, Any]) -> None:
        """Takes a request that has ended."""
        if not self._wanted(facts):
            return
        if len(self._lines) >= WAITING:
            self._lost += 1
        else:
            self._lines.append(msgspec.json.encode(facts))
        self._is_here.set()

    async def lines(self) -> AsyncGenerator[bytes]:
        """Yields each request as a JSON object, and `{"lost": n}` where some were dropped."""
        while True:
            await self._is_here.wait()
            self._is_here.clear()
            while self._lines:
                yield self._lines.popleft()
            if self._lost:
                lost, self._lost = self._lost, 0
                yield msgspec.json.encode({"lost": lost})


async def with_beats(
    found: AsyncGenerator[bytes], seconds: float = BEAT
) -> AsyncGenerator[bytes | None]:
    """Yields what is found, and None after each silence: only a write shows who has left."""
    pending: asyncio.Future[bytes] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(found))
            done, _ = await asyncio.wait([pending], timeout=seconds)
            if not done:
                yield None
                continue
            try:
                item, pending = pending.result(), None
            except StopAsyncIteration:
                return
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait([pending])


def event(data: bytes, name: str = "") -> bytes:
    """One event of an event stream; JSON has no line ends."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, data)
