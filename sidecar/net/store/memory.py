"""The store of one process: it ends with the process and is not shared."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store.base import (
    PING,
    PING_SECONDS,
    Cancel,
    MessageListener,
    Receive,
    Receivers,
    Report,
    lifetime,
)
from sidecar.net.store.measured import StoreFill

MAX_BYTES: Final = 64 * 1024 * 1024
_ENTRY_OVERHEAD: Final = 512  # bytes of an entry besides its value
_SLACK: Final = 1000  # outdated ends that are kept before they are looked for
TAKEN_OVER: Final = 8  # pairs that one write looks at then
SWEPT: Final = 100  # entries that have ended and that one write drops, unless it needs more room


class _Entry(NamedTuple):
    value: bytes
    ends: float


class _Kind(NamedTuple):
    """Entries that have room of their own, as a share of `max_bytes`.

    `evicts`: what would end first makes way for a new one, since losing it costs little.
    """

    keys: tuple[str, ...]
    share: float
    evicts: bool = True


_KINDS: Final = (
    _Kind(("next", "prev"), 1 / 4),  # a late caller learns that its session is out of date
    _Kind(("used", "alias"), 3 / 8),  # ended first are those of older generations
    _Kind(("departed", "revoked"), 1 / 8),  # a step of a logout is taken twice
    _Kind(("login",), 1 / 8),  # a login's response that comes twice is an error the second time
    _Kind(("lock",), 1 / 8, evicts=False),
)
"""By what stands before the colon of their keys. All others are kept, and have `max_bytes`."""


class _Ends:
    """When entries end, the first one first; with outdated pairs among them.

    Two heaps. Once most pairs are outdated, `_old` is what there is, and each write takes a few of
    its pairs over into `_new`: to look through a hundred thousand at once would take long.
    """

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: list[tuple[float, str]] = []
        self._old: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    @property
    def first(self) -> float:
        """When the first one ends; infinite if there is none."""
        return min((heap[0][0] for heap in (self._new, self._old) if heap), default=inf)

    def add(self, ends: float, key: str, entries: Mapping[str, _Entry]) -> None:
        """Adds a pair; `entries` are those that there are."""
        heapq.heappush(self._new, (ends, key))
        if not self._old and len(self._new) > 2 * len(entries) + _SLACK:
            self._new, self._old = self._old, self._new
        for _ in range(min(TAKEN_OVER, len(self._old))):
            pair = self._old.pop()  # a heap without its end is one
            entry = entries.get(pair[1])
            if entry is not None and entry.ends == pair[0]:
                heapq.heappush(self._new, pair)

    def pop(self) -> tuple[float, str]:
        """Takes out the first pair."""
        heaps = [heap for heap in (self._new, self._old) if heap]
        return heapq.heappop(min(heaps, key=itemgetter(0)))


class _Space:
    """Entries of one kind, within their bytes: `size` is what they take."""

    __slots__ = ("_max_bytes", "ends", "entries", "evicts", "size")

    def __init__(self, max_bytes: float, *, evicts: bool) -> None:
        self._max_bytes: Final = max_bytes
        self.size = 0
        self.evicts: Final = evicts
        self.entries: dict[str, _Entry] = {}
        self.ends = _Ends()

    def write(self, key: str, value: bytes, ends: float, now: float) -> None:
        """Raises `StoreUnavailable` if there is no room, and no entry may make way."""
        room = self._max_bytes - _cost(value)
        self._sweep(now, room)
        entry = self.entries.get(key)
        freed = 0 if entry is None else _cost(entry.value)
        if room < 0 or (self.size - freed > room and not self.evicts):
            raise StoreUnavailable(f"the store in memory is full ({len(self.entries)} entries)")
        self.drop(key)
        while self.size > room:
            self._drop_first()
        self.entries[key] = _Entry(value, ends)
        self.size += _cost(value)
        self.ends.add(ends, key, self.entries)

    def drop(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size -= _cost(entry.value)

    def clear(self) -> None:
        self.entries.clear()
        self.ends = _Ends()
        self.size = 0

    def _drop_first(self) -> None:
        """Drops what ends first, if the first pair is not outdated."""
        ends, key = self.ends.pop()
        entry = self.entries.get(key)
        if entry is not None and entry.ends <= ends:
            self.drop(key)

    def _sweep(self, now: float, room: float) -> None:
        """Drops what has ended, for `room` if there is less; the rest waits for the next writes.

        A hundred thousand entries may have ended since the last one.
        """
        swept = 0
        while self.ends.first <= now and (swept < SWEPT or self.size > room):
            self._drop_first()
            swept += 1


class MemoryStore:
    """A dictionary whose entries end.

    Bounded in bytes, by kind. A session or a lock that made way for another one would break what it
    stands for: when there is no room for them, writing raises `StoreUnavailable`. Of all other
    kinds what costs least makes way, and none takes the room of another kind.
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
        self._kept = _Space(max_bytes, evicts=False)
        self._spaces: dict[str, _Space] = {}
        for kind in _KINDS:
            space = _Space(kind.share * max_bytes, evicts=kind.evicts)
            self._spaces.update(dict.fromkeys(kind.keys, space))
        self._receivers = Receivers(report)
        self._closed = False

    async def get(self, key: str) -> bytes | None:
        return self._live(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        self._write(key, value, seconds)

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        for key, value in entries.items():
            await self.put(key, value, seconds)
        if message is not None:
            await self.publish(message)

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
        self._space(key).drop(key)
        return True

    async def publish(self, message: bytes) -> None:
        self._check_open()
        self._receivers.deliver(message)

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:  # noqa: ARG002 - there is none
        return self._receivers.add(receive)

    async def ping(self) -> None:
        self._write(PING, b"", PING_SECONDS)

    def fill(self) -> StoreFill:
        """How much it holds; what has ended counts until it is swept out."""
        spaces = {self._kept, *self._spaces.values()}
        size, entries = sum(one.size for one in spaces), sum(len(one.entries) for one in spaces)
        return StoreFill(size, self._max_bytes, entries)

    async def close(self) -> None:
        self._closed = True
        self._receivers.clear()
        self._clear()

    def _clear(self) -> None:
        for space in (self._kept, *self._spaces.values()):
            space.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _space(self, key: str) -> _Space:
        return self._spaces.get(key.partition(":")[0], self._kept)

    def _live(self, key: str) -> bytes | None:
        self._check_open()
        entry = self._space(key).entries.get(key)
        return entry.value if entry is not None and entry.ends > self._clock() else None

    def _write(self, key: str, value: bytes, seconds: float) -> None:
        self._check_open()
        now = self._clock()
        self._space(key).write(key, value, now + lifetime(seconds), now)


def _cost(value: bytes) -> int:
    return len(value) + _ENTRY_OVERHEAD
