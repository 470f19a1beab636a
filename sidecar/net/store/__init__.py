"""What processes share: sessions, locks, what was used once; and messages between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.core.store_url import StoreUrl
from sidecar.net.store.base import LIMIT, Cancel, MessageListener, Receive, Report, Store
from sidecar.net.store.measured import MeasuredStore, StoreCounts, StoreFill
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.sealed_store import SealedStore
from sidecar.net.store.wakeup import Wakeup

__all__ = ["Cancel", "MessageListener", "Receive", "Report", "Store", "open_store"]


def open_store(
    url: StoreUrl,
    secrets: Sequence[bytes],
    report: Report,
    *,
    limit: float = LIMIT,
    counts: StoreCounts | None = None,
    wakeup: Wakeup | None = None,
) -> Store:
    """The store at `url`, sealed with the first of `secrets` if it leaves this process.

    Touches nothing yet: a store that is down raises `StoreUnavailable` when it is used, and works
    once it is up. Belongs to the event loop that uses it, and is opened after a fork. `limit` is
    in seconds and holds for each operation; `report` gets lines for the log, `counts` is told
    what the operations come to, `wakeup` reaches other processes on the same file.
    """
    store, fill = _open_backend(url, report, limit, wakeup)
    if counts is not None:
        store, counts.fill = MeasuredStore(store, counts), fill
    if url.kind == "memory":
        return store
    told = {} if counts is None else {"not_opened": counts.not_opened}
    return SealedStore(store, secrets, report, limit=limit, **told)


def _open_backend(
    url: StoreUrl, report: Report, limit: float, wakeup: Wakeup | None
) -> tuple[Store, Callable[[], StoreFill | None]]:
    """The store itself, and what says how full it is."""
    if url.kind == "memory":
        memory = MemoryStore(report)
        return memory, memory.fill
    # Imported where it is used: the client of Redis alone takes a tenth of a second.
    if url.kind == "sqlite":
        from sidecar.net.store.sqlite import SqliteStore

        sqlite = SqliteStore(url.path, report, limit=limit, wakeup=wakeup)
        return sqlite, sqlite.fill
    from sidecar.net.store.redis import RedisStore

    redis = RedisStore(url, report, limit=limit)
    return redis, redis.fill
