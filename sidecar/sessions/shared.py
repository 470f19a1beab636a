"""The parts that meet other processes in a store that they share, put together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from sidecar.net.store import Store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.broadcast import Broadcast, DropStored
from sidecar.sessions.feed import SessionFeed
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.refresher import Refresher
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.stored import StoredLogins


class SharedSessions(msgspec.Struct, frozen=True):
    """What this process sends to the others, and what it receives."""

    broadcast: Broadcast
    feed: SessionFeed


def open_shared(
    local: LocalSessions,
    records: SessionRecords,
    *,
    refresher: Refresher | None,
    stored: StoredLogins | None,
    store: Store,
    outbox: Outbox,
    watch: StoreWatch,
    now: Callable[[], float],
    spawn: Callable[[Coroutine[Any, Any, None]], None],
) -> SharedSessions:
    """Connects the sessions of this process with those of the others; `feed.start` listens."""
    broadcast = Broadcast(records, local.revocations, stored, outbox, now)
    feed = SessionFeed(
        store,
        records,
        local,
        broadcast,
        refresher=refresher,
        stored=stored,
        outbox=outbox,
        watch=watch,
        now=now,
        spawn=spawn,
    )
    local.listen(broadcast)
    watch.restore = feed.restore
    watch.doubt = feed.doubt
    outbox.confirm = watch.confirm
    outbox.overflowed = watch.must_restore
    return SharedSessions(broadcast, feed)


def drop_stored(local: LocalSessions, stored: StoredLogins | None, outbox: Outbox) -> None:
    """Has login sessions that end removed from a store that no other process shares."""
    if stored is not None and stored.is_stored:
        local.listen(DropStored(stored, outbox))
