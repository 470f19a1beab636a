"""The store of one process: gone with it, and shared with nobody."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store.base import (
    PING,
    PING_SECONDS,
    Cancel,
    Receive,
    Receivers,
    Report,
    lifetime,
)

MAX_BYTES: Final = 128 * 1024 * 1024
_ENTRY_OVERHEAD: Final = 512  # bytes of an entry besides its value
_SLACK: Final = 1000  # outdated ends that are kept before they are swept out


class _Entry(NamedTuple):
    value: bytes
    ends: float


class MemoryStore:
    """A dictionary whose entries end.

    When it is full, what has ended goes and else nothing: a lock or a session that made way for
    another one would break what it stands for. So writing raises `StoreUnavailable` then.
    """

    def __init__(
        self,
        report: Report,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: dict[str, _Entry] = {}
        self._ends: list[tuple[float, str]] = []  # a heap, with outdated pairs among them
        self._receivers = Receivers(report)
        self._closed = False

    async def get(self, key: str) -> bytes | None:
        return self._live(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        self._write(key, value, seconds)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        if self._live(key) is not None:
            return False
        self._write(key, value, seconds)
        return True

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        if self._live(key) != old:
            return False
        self._write(key, new, seconds)
        return True

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        current = self._live(key)
        if current is None or (value is not None and current != value):
            return False
        self._drop(key)
        return True

    async def publish(self, message: bytes) -> None:
        self._check_open()
        self._receivers.deliver(message)

    async def subscribe(self, receive: Receive) -> Cancel:
        return self._receivers.add(receive)

    async def ping(self) -> None:
        self._write(PING, b"", PING_SECONDS)

    async def close(self) -> None:
        self._closed = True
        self._receivers.clear()
        self._entries.clear()
        self._ends.clear()
        self._bytes = 0

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _live(self, key: str) -> bytes | None:
        self._check_open()
        entry = self._entries.get(key)
        return entry.value if entry is not None and entry.ends > self._clock() else None

    def _write(self, key: str, value: bytes, seconds: float) -> None:
        self._check_open()
        now = self._clock()
        self._sweep(now)
        entry = self._entries.get(key)
        freed = _cost(entry.value) if entry is not None else 0
        if self._bytes - freed + _cost(value) > self._max_bytes:
            raise StoreUnavailable(f"the store in memory is full ({len(self._entries)} entries)")
        self._drop(key)
        ends = now + lifetime(seconds)
        self._entries[key] = _Entry(value, ends)
        self._bytes += _cost(value)
        heapq.heappush(self._ends, (ends, key))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _cost(entry.value)

    def _sweep(self, now: float) -> None:
        """Drops what has ended; the cost is shared out among the writes that made it."""
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            entry = self._entries.get(key)
            if entry is not None and entry.ends <= now:
                self._drop(key)
        if len(self._ends) > 2 * len(self._entries) + _SLACK:
            self._ends = [(entry.ends, key) for key, entry in self._entries.items()]
            heapq.heapify(self._ends)


def _cost(value: bytes) -> int:
    return len(value) + _ENTRY_OVERHEAD
