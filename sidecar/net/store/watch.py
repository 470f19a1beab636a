"""Whether the store still has what it has taken.

A store may be emptied (a server without persistence starts again), and it may go *back* (a server
starts again from a snapshot; a failover to a replica that lacked the last writes). Neither is seen
in what it answers. So each process counts in an entry of its own (`beat:`) and never writes it
without comparing it with what it wrote last. A lower count, or none, means that writes were lost.

Who finds that changes `epoch`, which all compare. Each process then writes what it knows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store import Store
from sidecar.net.store.measured import StoreCounts

WATCH: Final = 0.5  # seconds between two looks
BEAT: Final = 3600.0  # seconds that a count is kept
FOR_EVER: Final = 3650 * 86400.0

_EPOCH: Final = "epoch"


class StoreWatch:
    """Watches the store for one process.

    `doubt` is called when the store may have lost writes: while it does not answer, once it does
    again, and when it has lost some. `restore` then writes what this process knows; it is repeated
    while it raises `StoreUnavailable`.
    """

    def __init__(
        self, store: Store, report: Callable[[str], None], counts: StoreCounts | None = None
    ) -> None:
        self._store: Final = store
        self._report: Final = report
        self._key: Final = f"beat:{os.urandom(8).hex()}"
        self._counted = 0  # what the store has taken last
        self._tried = 0  # the highest count that it may have taken
        self._lock: Final = asyncio.Lock()
        self._looking: Final = asyncio.Lock()
        self._wake: Final = asyncio.Event()
        self._has_lost = False
        self._is_restored = True
        self._task: asyncio.Task[None] | None = None
        self.epoch: bytes | None = None
        self._counts: Final = counts or StoreCounts()
        self.found = 0  # how often it turned out here that writes were lost; more than losses
        self.doubt: Callable[[], None] = lambda: None
        self.restore: Callable[[], Awaitable[None]] | None = None

    @property
    def losses(self) -> int:
        """How often this process has seen that the store had lost writes."""
        return self._counts.losses

    def start(self) -> None:
        """Looks every now and then."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Looks no longer."""
        if self._task is not None:
            # A client library may swallow a cancellation that meets its own time limit.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=0.1)
        with suppress(StoreUnavailable):
            await self._store.remove(self._key)

    def look_soon(self) -> None:
        """Looks at once: there was trouble."""
        self._wake.set()

    def must_restore(self) -> None:
        """Has everything written once more, since something was not."""
        self._is_restored = False

    async def is_same(self) -> bool:
        """Whether no process has found that the store lost writes. Raises `StoreUnavailable`."""
        return self.epoch is None or await self._store.get(_EPOCH) == self.epoch

    async def has_all(self, found: int) -> bool:
        """Whether the store has lost nothing since `found` was what it is now, as far as is seen.

        Raises `StoreUnavailable`.
        """
        if not await self._counts_on():
            self.look_soon()
        return await self.is_same() and self.found == found

    async def confirm(self) -> None:
        """Returns if the store has all that it had taken before this.

        Raises `StoreUnavailable`, also if it has lost something.
        """
        if not await self._counts_on():
            self.look_soon()
            raise StoreUnavailable("the store has lost what it had taken")

    async def _counts_on(self) -> bool:
        """Counts one up. False if the store does not have the count that it took last.

        Raises `StoreUnavailable`.
        """
        async with self._lock:
            before, self._tried = self._counted, self._tried + 1
            count = b"%d" % self._tried
            if not before:
                await self._store.put(self._key, count, BEAT)
            elif not await self._store.replace(self._key, b"%d" % before, count, BEAT):
                found = await self._store.get(self._key)
                if found is None or not found.isdigit() or int(found) < before:
                    self._counted, self._has_lost = 0, True  # the next one is put there anew
                    self.found += 1
                    return False
                self._counted = int(found)
                raise StoreUnavailable("the answer to an earlier count was lost")
            self._counted = self._tried
            return True

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except StoreUnavailable:
                self.doubt()
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH):
                    await self._wake.wait()
            self._wake.clear()

    async def look(self) -> None:
        """Finds whether the store has lost writes, and restores them. Raises `StoreUnavailable`."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        """Raises `StoreUnavailable`."""
        await self._store.add(_EPOCH, _fresh(), FOR_EVER)
        epoch = await self._store.get(_EPOCH)
        await self._counts_on()
        if self._has_lost and epoch == self.epoch and epoch is not None:
            await self._store.replace(_EPOCH, epoch, _fresh(), FOR_EVER)
            epoch = await self._store.get(_EPOCH)
        is_other = self.epoch is not None and epoch != self.epoch
        self.epoch, self._has_lost = epoch, False
        if is_other:
            self._counts.losses += 1
            self.found += 1
            self._is_restored = False
            self._report("it has lost writes; what is known here is written once more")
            self.doubt()
        if not self._is_restored and self.restore is not None:
            await self.restore()
            self._is_restored = True


def _fresh() -> bytes:
    return os.urandom(16).hex().encode()
