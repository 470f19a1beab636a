"""The promises of every store, held on each real backend."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.net.store.conftest import Place, trouble, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.net.store import Store

ROOT = Path(__file__).parents[3]
LARGE = bytes(range(256)) * 256  # 64 KiB, every octet


@pytest.fixture
def store(place: Place, opened: Callable[[Store], Store]) -> Store:
    return opened(place.open())


@pytest.fixture
def other(place: Place, store: Store, opened: Callable[[Store], Store]) -> Store:
    """A second handle on the same store, as another process has it."""
    return opened(place.open()) if place.is_shared else store


# -- entries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"\0", LARGE], ids=["empty", "nul", "large"])
async def test_what_is_put_is_what_others_get(
    store: Store, other: Store, key: str, value: bytes
) -> None:
    """Byte for byte, and over what was there."""
    assert await other.get(key) is None
    await store.put(key, b"before", 60)
    await store.put(key, value, 60)
    assert await other.get(key) == value
    assert await other.get(key + "x") is None


async def test_an_entry_ends_by_itself(store: Store, other: Store, key: str) -> None:
    """Not before its time, and then for every operation; it can be added again."""
    began = time.monotonic()
    await store.put(key, b"short", 0.3)
    await store.put(key + ":long", b"long", 60)
    while await other.get(key) == b"short":
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.02)
    assert time.monotonic() - began > 0.28
    assert await other.get(key) is None
    assert not await store.replace(key, b"short", b"new", 60)
    assert not await store.remove(key)
    assert not await store.remove(key, b"short")
    assert await store.add(key, b"again", 60)
    assert await other.get(key) == b"again"
    assert await other.get(key + ":long") == b"long"


async def test_what_sets_the_time(store: Store, key: str) -> None:
    """Every write: what is used lives on. No failed one does: a lock ends with its holder."""
    await store.put(key + ":put", b"1", 0.2)
    await store.put(key + ":put", b"2", 60)
    await store.put(key + ":replaced", b"1", 0.2)
    assert await store.replace(key + ":replaced", b"1", b"2", 60)
    await store.put(key + ":cut", b"1", 60)
    assert await store.replace(key + ":cut", b"1", b"1", 0.1)
    assert await store.add(key + ":lock", b"mine", 0.2)
    assert not await store.add(key + ":lock", b"theirs", 60)
    assert not await store.replace(key + ":lock", b"theirs", b"theirs", 60)
    await asyncio.sleep(0.3)
    assert await store.get(key + ":put") == b"2"
    assert await store.get(key + ":replaced") == b"2"
    assert await store.get(key + ":cut") is None
    assert await store.get(key + ":lock") is None


@pytest.mark.parametrize("seconds", [0, -5])
async def test_no_time_is_hardly_any(store: Store, key: str, seconds: float) -> None:
    """What has ended by the time it is written is no error."""
    await store.put(key, b"gone", seconds)
    await asyncio.sleep(0.05)
    assert await store.get(key) is None


async def test_a_very_long_time_is_one(store: Store, key: str) -> None:
    """No backend's number is too small for it."""
    for number, seconds in enumerate((1e9, 1e300, float("inf"))):
        await store.put(f"{key}{number}", b"lasts", seconds)
        assert await store.get(f"{key}{number}") == b"lasts"


async def test_add_writes_only_where_there_is_nothing(store: Store, other: Store, key: str) -> None:
    """A lock, or what is used once: the second one fails, with the same value too."""
    assert await store.add(key, b"mine", 60)
    assert not await other.add(key, b"theirs", 60)
    assert not await store.add(key, b"mine", 60)
    assert await other.get(key) == b"mine"
    assert await other.remove(key)
    assert await other.add(key, b"theirs", 60)


async def test_replace_compares(store: Store, other: Store, key: str) -> None:
    """It writes over the value that is named and over no other, nor where there is none."""
    assert not await store.replace(key, b"", b"new", 60)
    await store.put(key, b"one", 60)
    assert not await other.replace(key, b"on", b"new", 60)
    assert not await other.replace(key, b"", b"new", 60)
    assert await other.get(key) == b"one"
    assert await other.replace(key, b"one", b"two", 60)
    assert not await store.replace(key, b"one", b"three", 60)
    assert await store.get(key) == b"two"


async def test_remove(store: Store, other: Store, key: str) -> None:
    """Whatever the value, or one value only: a lock that has passed to another stays."""
    await store.put(key, b"theirs", 60)
    assert not await other.remove(key, b"mine")
    assert not await other.remove(key, b"")
    assert await store.get(key) == b"theirs"
    assert await other.remove(key, b"theirs")
    assert not await other.remove(key, b"theirs")
    assert await store.get(key) is None
    await store.put(key, b"any", 60)
    assert await other.remove(key)
    assert not await other.remove(key)


async def test_of_many_at_once_one_wins(store: Store, other: Store, key: str) -> None:
    """In one process, over two handles; every way of winning."""
    both = [store, other]
    values = [str(number).encode() for number in range(40)]
    added = await asyncio.gather(*(both[int(v) % 2].add(key, v, 60) for v in values))
    assert sum(added) == 1
    winner = values[added.index(True)]
    assert await other.get(key) == winner
    replaced = await asyncio.gather(
        *(both[int(v) % 2].replace(key, winner, b"new" + v, 60) for v in values)
    )
    assert sum(replaced) == 1
    latest = b"new" + values[replaced.index(True)]
    removed = await asyncio.gather(*(both[int(v) % 2].remove(key, latest) for v in values))
    assert sum(removed) == 1


async def test_ping(store: Store) -> None:
    """Readiness: it returns where the store works."""
    await store.ping()
    await store.ping()


# -- messages --------------------------------------------------------------------------------------


async def test_messages_reach_every_subscriber(store: Store, other: Store) -> None:
    """This process too; each once, in order, within a second."""
    heard: list[list[bytes]] = [[], [], []]
    await store.subscribe(heard[0].append)
    await store.subscribe(heard[1].append)
    await other.subscribe(heard[2].append)
    messages = [b"%d" % number for number in range(450)]  # more than are read at once
    for message in messages[:-1]:
        await store.publish(message)
    await until(lambda: all(len(one) == len(messages) - 1 for one in heard))
    await store.publish(messages[-1])
    await until(lambda: all(len(one) == len(messages) for one in heard), 1.0)
    assert heard == [messages] * 3


class Heard:
    """What a subscriber learns of trouble (`base.Trouble`)."""

    def __init__(self) -> None:
        self.breaks = 0
        self.gaps: list[bool] = []

    def broken(self) -> None:
        self.breaks += 1

    def resumed(self, *, has_gap: bool) -> None:
        self.gaps.append(has_gap)


async def test_many_messages_are_caught_up_with(store: Store, other: Store) -> None:
    """As of a wave of logouts: they are read as fast as they can be, and none is missed."""
    heard, trouble = list[bytes](), Heard()
    await other.subscribe(heard.append, trouble)
    messages = [b"%d" % number for number in range(5000)]
    for first in range(0, len(messages), 50):
        await asyncio.gather(*map(store.publish, messages[first : first + 50]))
    await until(lambda: len(heard) == len(messages), 2.0)
    assert set(heard) == set(messages)
    assert (trouble.breaks, trouble.gaps) == (0, [])


async def test_what_is_put_together(store: Store, other: Store, key: str) -> None:
    """All of it, and the message behind it; also entries alone, or the message alone."""
    heard: list[bytes] = []
    await other.subscribe(heard.append)
    await store.put(f"{key}:1", b"before", 60)
    await store.put_all({f"{key}:{number}": b"%d" % number for number in range(20)}, 60, b"told")
    await until(lambda: heard == [b"told"])
    for number in range(20):
        assert await other.get(f"{key}:{number}") == b"%d" % number
    await store.put_all({key: b"short"}, 0.2)
    await store.put_all({}, 60, b"alone")
    await until(lambda: heard == [b"told", b"alone"])
    await asyncio.sleep(0.3)
    assert await other.get(key) is None


async def test_a_message_may_hold_anything(store: Store, other: Store) -> None:
    """Byte for byte, empty too."""
    heard: list[bytes] = []
    await other.subscribe(heard.append)
    for message in (b"", b"\0\xff", bytes(range(256)) * 4):
        await store.publish(message)
    await until(lambda: len(heard) == 3)
    assert heard == [b"", b"\0\xff", bytes(range(256)) * 4]


async def test_only_messages_from_now_on(store: Store, other: Store, key: str) -> None:
    """Those from before are not received, those right behind the subscription are."""
    await store.publish(key.encode() + b"before")
    heard: list[bytes] = []
    await other.subscribe(heard.append)
    await store.publish(key.encode() + b"after")
    await until(lambda: heard)
    assert heard == [key.encode() + b"after"]


async def test_a_subscription_can_be_cancelled(store: Store, other: Store) -> None:
    """The others go on; twice is harmless; it may happen within a message."""
    kept: list[bytes] = []
    cancelled: list[bytes] = []
    once: list[bytes] = []
    await store.subscribe(kept.append)
    cancel = await store.subscribe(cancelled.append)

    def receive_once(message: bytes) -> None:
        once.append(message)
        cancel_once()

    cancel_once = await store.subscribe(receive_once)
    await other.publish(b"1")
    await until(lambda: kept)
    cancel()
    cancel()
    await other.publish(b"2")
    await until(lambda: len(kept) == 2)
    assert (kept, cancelled, once) == ([b"1", b"2"], [b"1"], [b"1"])


async def test_a_receiver_that_fails_harms_nobody(store: Store, other: Store, place: Place) -> None:
    """It is reported, without what it said; the next message comes to it as well."""
    heard: list[bytes] = []

    def fail(message: bytes) -> None:
        raise ValueError(message)

    await store.subscribe(fail)
    await store.subscribe(heard.append)
    await other.publish(b"token-1")
    await other.publish(b"token-2")
    await until(lambda: len(heard) == 2)
    assert place.reports == ["a receiver of messages failed: ValueError"] * 2


# -- the end ---------------------------------------------------------------------------------------


async def test_closed_it_is_unavailable(store: Store, other: Store, place: Place, key: str) -> None:
    """Every operation, and no message comes any more. Other handles work; twice is harmless."""
    heard: list[bytes] = []
    await store.subscribe(heard.append)
    await store.put(key, b"value", 60)
    await store.close()
    await store.close()
    for operation in (
        store.get(key),
        store.put(key, b"", 60),
        store.add(key, b"", 60),
        store.replace(key, b"value", b"", 60),
        store.remove(key),
        store.remove(key, b"value"),
        store.put_all({key: b""}, 60, b""),
        store.publish(b""),
        store.ping(),
    ):
        await trouble(operation, 1.0)
    if place.is_shared:
        await other.publish(b"late")
        await asyncio.sleep(0.3)
        assert await other.get(key) == b"value"
    assert heard == []


async def test_closing_what_was_never_used(place: Place) -> None:
    """Opening has touched nothing, so there is nothing to fail."""
    await place.open().close()


# -- processes -------------------------------------------------------------------------------------


async def test_processes_contend(
    shared_place: Place, opened: Callable[[Store], Store], key: str
) -> None:
    """Of each lock exactly one process has it, no count is lost, and all hear all."""
    rivals, count = ("a", "b"), 40
    store = opened(shared_place.open())
    await store.put(key, b"0", 60)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.net.store.contender", shared_place.url),
            *("sealed" if shared_place.sealed else "plain", key, me, str(len(rivals)), str(count)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for me in rivals
    ]
    try:
        async with asyncio.timeout(30):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
            outputs = [(await process.communicate())[0] for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    results = [json.loads(output) for output in outputs]
    assert sorted(results[0]["won"] + results[1]["won"]) == list(range(count))
    assert await store.get(key) == str(2 * count).encode()
    for result in results:
        for me in rivals:
            said = [one for one in result["heard"] if one.startswith(f"{key}:{me}:")]
            assert said == [f"{key}:{me}:{number}" for number in range(3)]
