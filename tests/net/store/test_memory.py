"""The store in memory is bounded, and what it keeps is never given up for something else."""

from __future__ import annotations

import heapq
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store import memory
from sidecar.net.store.memory import SWEPT, TAKEN_OVER, MemoryStore
from tests.net.store.conftest import trouble

COST = 512  # bytes that an entry takes besides its value


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, max_bytes: int) -> MemoryStore:
    return MemoryStore(lambda report: None, clock=clock, max_bytes=max_bytes)


async def test_full_it_refuses_and_forgets_nothing(clock: Clock) -> None:
    """A lock that made way would be held twice, a session that made way would be a logout."""
    store = make(clock, 10 * (COST + 100))
    for number in range(10):
        assert await store.add(f"lock{number}", bytes(100), 60)
    for operation in (store.put("new", b"", 60), store.add("new", b"", 60), store.ping()):
        assert "full" in (await trouble(operation)).detail
    await trouble(store.replace("lock0", bytes(100), bytes(101), 60))
    assert await store.replace("lock0", bytes(100), bytes(100), 60)
    await store.put("lock1", b"smaller", 60)
    for number in range(10):
        assert not await store.add(f"lock{number}", b"", 60)


async def test_room_is_made_by_what_has_ended_or_is_removed(clock: Clock) -> None:
    """And by nothing else."""
    store = make(clock, 10 * COST)
    for number in range(10):
        await store.put(f"{number}", b"", 10 + number)
    await trouble(store.put("new", b"", 60))
    clock.now += 12
    for name in ("a", "b", "c"):
        await store.put(name, b"", 60)
    await trouble(store.put("d", b"", 60))
    assert await store.remove("a")
    await store.put("d", b"", 60)


async def test_what_has_ended_together_is_swept_out_by_many_writes(clock: Clock) -> None:
    """A night's sessions are not all dropped within the first request of the morning (T94)."""
    store = make(clock, 1024 * 1024)
    for number in range(5 * SWEPT):
        await store.put(f"old{number}", b"", 60)
    clock.now += 60
    for number in range(5):
        await store.put(f"new{number}", b"", 60)
        assert len(store._kept.entries) == (4 - number) * SWEPT + number + 1
    assert await store.get("old0") is None


async def test_what_has_ended_makes_room_however_much_that_takes(clock: Clock) -> None:
    store = make(clock, 4 * SWEPT * COST)
    for number in range(4 * SWEPT):
        await store.put(f"old{number}", b"", 60)
    clock.now += 60
    await store.put("new", bytes(3 * SWEPT * COST), 60)
    assert len(store._kept.entries) < 2 * SWEPT


async def test_a_write_that_is_refused_leaves_the_old_value(clock: Clock) -> None:
    """Not half a change."""
    store = make(clock, COST + 100)
    await store.put("k", b"old", 60)
    await trouble(store.put("k", bytes(101), 60))
    assert await store.get("k") == b"old"


async def test_what_is_written_often_takes_no_more_memory(clock: Clock) -> None:
    """A session that is used for weeks is one entry, whatever is kept to find what ends."""
    store = make(clock, 100 * COST)
    for _ in range(20_000):
        clock.now += 0.001
        await store.put("session", b"", 86400)
    assert len(store._kept.ends) < 3000
    await store.remove("session")
    for number in range(100):
        await store.put(f"{number}", b"", 1)
    await trouble(store.put("more", b"", 1))
    clock.now += 2
    await store.put("more", b"", 1)
    assert list(store._kept.entries) == ["more"]


async def test_no_write_looks_through_all_that_is_kept(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is outdated is looked for a few entries at a time, so that no request waits (T94)."""
    pushed, push = 0, heapq.heappush

    def counted(heap: list[Any], item: Any) -> None:
        nonlocal pushed
        pushed += 1
        push(heap, item)

    # Event loops have timers in heaps, so the module itself stays as it is.
    functions = {"heappush": counted, "heappop": heapq.heappop, "heapify": pytest.fail}
    monkeypatch.setattr(memory, "heapq", SimpleNamespace(**functions))
    store = make(clock, 1024 * 1024)
    most = 0
    for number in range(20_000):
        clock.now += 0.001
        before = pushed
        await store.put(f"{number % 1000}", b"", 86400)
        most = max(most, pushed - before)
    assert len(store._kept.ends) < 5000
    assert 1 < most <= 1 + TAKEN_OVER


@pytest.mark.parametrize("kind", ["next", "used", "prev", "alias", "departed", "revoked", "login"])
async def test_what_costs_little_makes_way_for_its_kind(clock: Clock, kind: str) -> None:
    """What ends first goes first, and writing is never refused: else nobody would be renewed."""
    store = make(clock, 100 * COST)
    await store.put(f"{kind}:lasting", b"", 86400)
    for number in range(300):
        clock.now += 1
        assert await store.add(f"{kind}:{number}", b"", 3600)
    assert await store.get(f"{kind}:lasting") is not None
    assert await store.get(f"{kind}:299") is not None
    assert await store.get(f"{kind}:0") is None


@pytest.mark.parametrize("kind", ["departed", "login", "used", "lock", "own"])
async def test_no_kind_takes_the_room_of_another(clock: Clock, kind: str) -> None:
    """Logouts of nobody do not end renewals, nor do renewals push sessions out."""
    store = make(clock, 100 * COST)
    others = [one for one in ("departed", "login", "used", "lock", "own", "next") if one != kind]
    for one in others:
        await store.put(f"{one}:before", b"", 60)
    for number in range(500):
        with suppress(StoreUnavailable):
            await store.put(f"{kind}:{number}", b"", 3600)
    for one in others:
        assert await store.get(f"{one}:before") is not None
        await store.put(f"{one}:after", b"", 60)


async def test_a_value_larger_than_its_room_is_refused(clock: Clock) -> None:
    """And pushes nothing out."""
    store = make(clock, 100 * COST)
    await store.put("next:small", b"", 60)
    await trouble(store.put("next:large", bytes(50 * COST), 60))
    assert await store.get("next:small") is not None
