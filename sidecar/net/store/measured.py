"""What the operations of a store cost, and whether they succeed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from time import perf_counter, time
from types import TracebackType
from typing import Final, NamedTuple

from sidecar.core.errors import StoreUnavailable
from sidecar.core.histogram import Histogram
from sidecar.net.store.base import Cancel, MessageListener, Receive, Store
from sidecar.spans import span

OPERATIONS: Final = ("get", "put", "put_all", "add", "replace", "remove", "publish", "ping")


class StoreFill(NamedTuple):
    """How much a store holds. `max_bytes` is what it may take, and `entries` how many there are.

    None: that is not known, or has no bound. `may_evict`: it may drop sessions to make room.
    """

    size: int
    max_bytes: int | None = None
    entries: int | None = None
    may_evict: bool = False


def _not_known() -> None:
    """Nothing is known of a store that is not open."""


class StoreCounts:
    """What one process sees of its store.

    `is_up`: whether the last operation succeeded. `unopened` are entries and messages that another
    secret has sealed, and `losses` how often the store had lost what it had taken. `fill` says how
    much it holds, as far as that is known; it waits for nothing.
    """

    __slots__ = (
        "errors",
        "fill",
        "is_up",
        "last_error",
        "last_error_at",
        "losses",
        "seconds",
        "unopened",
    )

    def __init__(self) -> None:
        self.seconds: Final = {name: Histogram() for name in OPERATIONS}
        self.errors: Final[Counter[str]] = Counter(dict.fromkeys(OPERATIONS, 0))
        self.is_up = True
        self.last_error: str | None = None
        self.last_error_at: float | None = None
        self.unopened = 0
        self.losses = 0
        self.fill: Callable[[], StoreFill | None] = _not_known

    def not_opened(self) -> None:
        """Counts an entry or a message that does not open."""
        self.unopened += 1


class _Timed:
    """Times one operation, and traces it. One that is cancelled says nothing of the store."""

    __slots__ = ("_began", "_counts", "_name", "_span")

    def __init__(self, counts: StoreCounts, name: str) -> None:
        self._counts: Final = counts
        self._name: Final = name
        self._span: Final = span(f"store {name}")

    def __enter__(self) -> None:
        self._began = perf_counter()
        self._span.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._span.__exit__(kind, error, traceback)
        counts = self._counts
        has_failed = isinstance(error, StoreUnavailable)
        if error is not None and not has_failed:
            return
        counts.seconds[self._name].observe(perf_counter() - self._began)
        counts.is_up = not has_failed
        if has_failed:
            counts.errors[self._name] += 1
            counts.last_error, counts.last_error_at = str(error), time()


class MeasuredStore:
    """Another store, of which each operation is counted."""

    def __init__(self, store: Store, counts: StoreCounts) -> None:
        self._store: Final = store
        self._counts: Final = counts

    async def get(self, key: str) -> bytes | None:
        with _Timed(self._counts, "get"):
            return await self._store.get(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        with _Timed(self._counts, "put"):
            await self._store.put(key, value, seconds)

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        with _Timed(self._counts, "put_all"):
            await self._store.put_all(entries, seconds, message)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        with _Timed(self._counts, "add"):
            return await self._store.add(key, value, seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        with _Timed(self._counts, "replace"):
            return await self._store.replace(key, old, new, seconds)

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        with _Timed(self._counts, "remove"):
            return await self._store.remove(key, value)

    async def publish(self, message: bytes) -> None:
        with _Timed(self._counts, "publish"):
            await self._store.publish(message)

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        return await self._store.subscribe(receive, listener)

    async def ping(self) -> None:
        with _Timed(self._counts, "ping"):
            await self._store.ping()

    async def close(self) -> None:
        await self._store.close()
