"""A store that has lost writes is noticed: emptied, or gone back to what it was before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store import watch as module
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.watch import StoreWatch


class Mortal(MemoryStore):
    """A store that can be down, and goes back to what it was."""

    down = False
    answers_are_lost = False

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise StoreUnavailable("down")
        return await super().get(key)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        if self.down:
            raise StoreUnavailable("down")
        return await super().add(key, value, seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        done = await super().replace(key, old, new, seconds)
        if self.answers_are_lost or self.down:
            raise StoreUnavailable("down")
        return done

    def snapshot(self) -> dict[str, object]:
        return dict(self._kept.entries)

    def go_back(self, snapshot: dict[str, object]) -> None:
        self._kept.entries.clear()
        self._kept.entries.update(snapshot)  # type: ignore[arg-type]


class Process:
    """One process that watches the store."""

    def __init__(self, store: MemoryStore) -> None:
        self.watch = StoreWatch(store, self.report)
        self.restored = self.doubts = 0
        self.reports: list[str] = []
        self.watch.restore, self.watch.doubt = self.restore, self.doubt

    def report(self, text: str) -> None:
        self.reports.append(text)

    async def restore(self) -> None:
        self.restored += 1

    def doubt(self) -> None:
        self.doubts += 1


@pytest.fixture
async def store() -> Mortal:
    return Mortal(lambda _: None)


@pytest.fixture
async def two(store: Mortal, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Process]]:
    monkeypatch.setattr(module, "WATCH", 0.02)
    processes = [Process(store) for _ in range(2)]
    for process in processes:
        process.watch.start()
    await asyncio.sleep(0.2)
    assert [process.restored for process in processes] == [0, 0]
    yield processes
    for process in processes:
        await process.watch.close()


async def restored(processes: list[Process], counts: list[int]) -> None:
    """Each process restores what it knows, and not again and again."""
    async with asyncio.timeout(5):
        while [process.restored for process in processes] != counts:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert [process.restored for process in processes] == counts


async def test_an_emptied_store(store: Mortal, two: list[Process]) -> None:
    store.go_back({})
    await restored(two, [1, 1])
    assert all(process.watch.losses == 1 and process.doubts for process in two)
    assert len(two[0].reports) == 1


async def test_a_store_that_has_gone_back(store: Mortal, two: list[Process]) -> None:
    """All know by the epoch, though the counts of one alone are wrong."""
    snapshot = store.snapshot()
    await asyncio.sleep(0.1)
    store.go_back(snapshot)
    await restored(two, [1, 1])
    await two[0].watch.confirm()


async def test_what_was_written_last_is_not_confirmed(store: Mortal) -> None:
    """Also if the store goes back before anybody has looked."""
    watch = Process(store).watch
    await watch.confirm()
    snapshot = store.snapshot()
    await store.put("dead:anna", b"1", 60)
    await watch.confirm()
    store.go_back(snapshot)
    with pytest.raises(StoreUnavailable):
        await watch.confirm()
    await watch.confirm()


async def test_a_process_can_see_for_itself_that_a_store_has_gone_back(store: Mortal) -> None:
    """Before anybody has looked: what it has counted is not there."""
    one = Process(store)
    await one.watch.look()
    found = one.watch.found
    assert await one.watch.has_all(found)
    snapshot = store.snapshot()
    assert await one.watch.has_all(found)
    store.go_back(snapshot)
    assert not await one.watch.has_all(found)
    assert not await one.watch.has_all(found)
    await one.watch.look()
    assert one.restored == 1
    assert not await one.watch.has_all(found)  # whoever knew it before is to begin again
    assert await one.watch.has_all(one.watch.found)


async def test_a_lost_answer_is_no_loss(store: Mortal, two: list[Process]) -> None:
    """The store has more than is known."""
    store.answers_are_lost = True
    await asyncio.sleep(0.1)
    store.answers_are_lost = False
    await asyncio.sleep(0.2)
    assert [process.restored for process in two] == [0, 0]
    assert all(process.doubts for process in two)
    await two[0].watch.confirm()


async def test_trouble_is_no_loss(store: Mortal, two: list[Process]) -> None:
    """But while there is some, and for a moment after, nothing is certain."""
    store.down = True
    await asyncio.sleep(0.2)
    store.down = False
    await asyncio.sleep(0.2)
    assert [process.restored for process in two] == [0, 0]
    assert all(process.doubts >= 2 for process in two)


async def test_restoring_is_repeated_until_it_works(store: Mortal, two: list[Process]) -> None:
    attempts = 0

    async def restore() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise StoreUnavailable("down again")

    two[0].watch.restore = restore
    store.go_back({})
    await restored([two[1]], [1])
    assert attempts == 3
