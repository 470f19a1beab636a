"""Writes behind requests: in order, until the store has taken them, and never without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store import outbox as module
from sidecar.net.store.outbox import Outbox


class Place:
    """What takes writes, unless it is down, or refuses some."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.is_down = False
        self.refused: set[str] = set()

    def write(self, what: str) -> Callable[[], Awaitable[None]]:
        async def write() -> None:
            await asyncio.sleep(0)
            if self.is_down or what in self.refused:
                raise StoreUnavailable("down")
            self.taken.append(what)

        return write


@pytest.fixture
async def place() -> Place:
    return Place()


@pytest.fixture
async def outbox() -> Outbox:
    tasks = set[asyncio.Task[None]]()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return Outbox(spawn)


async def test_what_the_store_did_not_take_is_written_in_order(
    outbox: Outbox, place: Place
) -> None:
    """Of one key; whatever was put meanwhile, and it is counted until then."""
    place.is_down = True
    first = outbox.put("anna", "logout", place.write("dead"))
    outbox.put("anna", "login", place.write("alive"))
    outbox.put("otto", "logout", place.write("other"))
    await asyncio.sleep(0.5)
    assert place.taken == []
    assert not first.done()
    assert +outbox.pending == {"logout": 2, "login": 1}
    assert not await outbox.flush(0.01)
    place.is_down = False
    assert await outbox.flush(5)
    assert await first
    assert place.taken.index("dead") < place.taken.index("alive")
    assert len(place.taken) == 3
    assert +outbox.pending == {}


async def test_one_that_fails_holds_up_no_other(
    outbox: Outbox, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up in the end, if the store takes others."""
    place.refused = {f"bad{number}" for number in range(2 * module.AT_ONCE)}
    bad = [outbox.put(name, "logout", place.write(name)) for name in sorted(place.refused)]
    assert await asyncio.wait_for(outbox.put("otto", "logout", place.write("good")), 5)
    assert not any(one.done() for one in bad)
    monkeypatch.setattr(module, "GIVEN_UP", 0.0)
    for number in range(3):
        await outbox.put(f"more{number}", "logout", place.write("more"))
    assert await outbox.flush(5) or all(not one.result() for one in bad if one.done())
    assert any(one.done() and not one.result() for one in bad)


async def test_a_write_that_hangs_or_is_cancelled_holds_up_no_other(
    outbox: Outbox, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it end the work."""
    monkeypatch.setattr(module, "LONGEST_WRITE", 0.2)
    attempts = 0

    async def hang() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        if attempts == 2:
            raise asyncio.CancelledError

    hanging = outbox.put("anna", "logout", hang)
    other = outbox.put("otto", "logout", place.write("other"))
    assert await asyncio.wait_for(other, 5)
    assert await asyncio.wait_for(hanging, 5)
    assert attempts == 3


async def test_an_urgent_write_comes_first(outbox: Outbox, place: Place) -> None:
    """A renewal's lock is held until it is written, however many logouts wait."""
    for number in range(1000):
        outbox.put(f"{number}", "logout", place.write("logout"))
    assert await outbox.put("anna", "renewal", place.write("renewal"), is_urgent=True)
    assert place.taken.index("renewal") <= 2 * module.AT_ONCE


async def test_it_is_bounded(outbox: Outbox, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is told of, and urgent writes have room."""
    monkeypatch.setattr(module, "LONGEST", 10)
    overflows = list[int]()
    outbox.overflowed = lambda: overflows.append(1)
    place.is_down = True
    kept = [outbox.put(f"{number}", "logout", place.write(f"{number}")) for number in range(10)]
    assert not await outbox.put("more", "logout", place.write("more"))
    urgent = outbox.put("anna", "renewal", place.write("renewal"), is_urgent=True)
    assert overflows == [1]
    place.is_down = False
    assert all(await asyncio.gather(*kept, urgent))
    assert "more" not in place.taken


async def test_what_is_not_confirmed_is_written_again(outbox: Outbox, place: Place) -> None:
    """The store may have lost it behind its answer."""
    confirmations = 0

    async def confirm() -> None:
        nonlocal confirmations
        confirmations += 1
        if confirmations == 1:
            raise StoreUnavailable("it has lost writes")

    outbox.confirm = confirm
    assert await outbox.put("anna", "logout", place.write("dead"))
    assert place.taken == ["dead", "dead"]
