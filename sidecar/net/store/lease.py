"""A lock whose holder keeps it alive, so that it ends soon after its holder has died."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Final

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store.base import Store

LEASE: Final = 3.0  # seconds after which the lock of a process that died is free
KEEP: Final = 0.5  # seconds between two looks after a lock
CLAIM: Final = 15.0  # seconds that a claim outlasts the last sign of its holder


class Lease:
    """One attempt to hold the lock at `key`, and what is held.

    Two entries, since a process that died looks like one that cannot reach the store:

    - the lock itself (`lock:` KEY) ends after `LEASE` seconds; others wait for it;
    - a claim (`lock:` KEY `:sent`) says that its holder does what must not be done twice. It
      outlasts the holder by `CLAIM` seconds, in which one that is cut off may come back.
    """

    __slots__ = ("_claim", "_keeping", "_key", "_owner", "_store", "has_claim", "may_claim")

    def __init__(self, store: Store, key: str) -> None:
        self._store: Final = store
        self._key: Final = f"lock:{key}"
        self._claim: Final = f"lock:{key}:sent"
        self._owner: Final = os.urandom(16).hex().encode()
        self.has_claim = False
        self.may_claim = False  # also if the store did not say
        self._keeping: asyncio.Task[None] | None = None

    async def take(self) -> bool:
        """Takes the lock if it is free. Raises `StoreUnavailable`; it may be taken then."""
        if not await self._store.add(self._key, self._owner, LEASE):
            return False
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        return True

    async def claim(self) -> bool:
        """Claims what must not be done twice, if it is free. Raises `StoreUnavailable`."""
        self.may_claim = True
        self.has_claim = self.may_claim = await self._store.add(self._claim, self._owner, CLAIM)
        return self.has_claim

    async def unclaim(self) -> None:
        """Gives the claim back: it is known what became of it. Raises `StoreUnavailable`."""
        self.has_claim = self.may_claim = False
        await self._store.remove(self._claim, self._owner)

    async def release(self) -> None:
        """Lets the lock go. If the store cannot be reached, the lock ends by itself."""
        self.abandon()
        with suppress(StoreUnavailable):
            await self.free()

    def abandon(self) -> None:
        """Holds on no longer: lock and claim end by themselves."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None  # it holds this lease: else both wait for the garbage collector

    async def free(self) -> None:
        """Removes the lock, though it may not have been taken. Raises `StoreUnavailable`."""
        await self._store.remove(self._key, self._owner)

    async def _keep(self) -> None:
        """Holds on; takes both once more from a store that has lost its data."""
        while True:
            await asyncio.sleep(KEEP)
            with suppress(StoreUnavailable):
                await _held(self._store, self._key, self._owner, LEASE)
                if self.has_claim:
                    await _held(self._store, self._claim, self._owner, CLAIM)


async def _held(store: Store, key: str, owner: bytes, seconds: float) -> None:
    if not await store.replace(key, owner, owner, seconds):
        await store.add(key, owner, seconds)
