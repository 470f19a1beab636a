"""Whoever reads or writes the store beneath learns nothing and passes nothing off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.store_url import parse_store_url
from sidecar.net.store import open_store
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.redis import RedisStore
from sidecar.net.store.sealed_store import SealedStore
from sidecar.net.store.sqlite import SqliteStore
from tests.net.store.conftest import trouble

OLD, NEW, FOREIGN = (name * 32 for name in (b"o", b"n", b"f"))


@pytest.fixture
def beneath() -> MemoryStore:
    return MemoryStore(lambda report: None)


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def sealed(beneath: MemoryStore, reports: list[str]) -> Callable[..., SealedStore]:
    return lambda *secrets: SealedStore(beneath, secrets, reports.append)


Sealed = Callable[..., SealedStore]


async def test_nothing_can_be_read(beneath: MemoryStore, sealed: Sealed) -> None:
    """Not the value, nor whether two are the same."""
    store, heard = sealed(OLD), list[bytes]()
    await beneath.subscribe(heard.append)
    await store.put("a", b"refresh-token", 60)
    await store.put("b", b"refresh-token", 60)
    assert await store.add("c", b"refresh-token", 60)
    await store.publish(b"refresh-token")
    await store.publish(b"refresh-token")
    seen = [await beneath.get(key) for key in "abc"] + heard
    assert len(set(seen)) == 5
    assert all(one is not None and b"token" not in one for one in seen)
    assert b"token" not in repr(vars(store)).encode()
    assert OLD not in repr(vars(store)).encode()


async def test_secrets_rotate(beneath: MemoryStore, sealed: Sealed) -> None:
    """The first seals and all open, so processes change over one after the other."""
    old, both, new = sealed(OLD), sealed(NEW, OLD), sealed(NEW)
    await old.put("k", b"v", 60)
    assert await both.get("k") == b"v"
    assert await both.replace("k", b"v", b"w", 60)
    assert await new.get("k") == b"w"
    await old.put("lock", b"mine", 60)
    assert await both.remove("lock", b"mine")
    heard: list[bytes] = []
    await both.subscribe(heard.append)
    await old.publish(b"1")
    await new.publish(b"2")
    assert heard == [b"1", b"2"]


async def damaged(beneath: MemoryStore, sealed: Sealed, damage: str) -> SealedStore:
    """A store whose entry `k` was `v` until something happened to it."""
    store = sealed(OLD)
    await store.put("k", b"v", 60)
    await store.put("other", b"v", 60)
    value, other = await beneath.get("k"), await beneath.get("other")
    assert value is not None
    assert other is not None
    await beneath.put(
        "k",
        {
            "foreign": value,
            "swapped": other,
            "flipped": value[:-1] + bytes([value[-1] ^ 1]),
            "nonce": value[:5] + bytes([value[5] ^ 1]) + value[6:],
            "format": b"\x02" + value[1:],
            "cut": value[:-1],
            "short": value[:9],
            "empty": b"",
            "plain": b"v",
        }[damage],
        60,
    )
    return sealed(FOREIGN) if damage == "foreign" else store


DAMAGES = ["foreign", "swapped", "flipped", "nonce", "format", "cut", "short", "empty", "plain"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_does_not_open_is_neither_believed_nor_absent(
    beneath: MemoryStore, sealed: Sealed, damage: str
) -> None:
    """It is trouble for who reads it, so nobody is logged out; and a lock stays one."""
    store = await damaged(beneath, sealed, damage)
    for operation in (
        store.get("k"),
        store.replace("k", b"v", b"w", 60),
        store.replace("k", b"", b"w", 60),
        store.remove("k", b"v"),
    ):
        assert "does not open" in (await trouble(operation)).detail
    assert not await store.add("k", b"w", 60)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_way_out_is_a_logout_or_a_new_login(
    beneath: MemoryStore, sealed: Sealed, damage: str
) -> None:
    """Removing and writing work, so nobody is stuck."""
    store = await damaged(beneath, sealed, damage)
    assert await store.remove("k")
    assert await store.get("k") is None
    store = await damaged(beneath, sealed, damage)
    await store.put("k", b"new", 60)
    assert await store.get("k") == b"new"


async def test_messages_that_do_not_open(
    beneath: MemoryStore, sealed: Sealed, reports: list[str]
) -> None:
    """They are dropped and reported, once until a good one comes."""
    store, heard = sealed(OLD), list[bytes]()
    await store.subscribe(heard.append)
    await sealed(FOREIGN).publish(b"logout")
    await beneath.publish(b"logout")
    await store.put("k", b"logout", 60)
    value = await beneath.get("k")
    assert value is not None
    await beneath.publish(value)  # a value is no message
    assert heard == []
    assert len(reports) == 1
    await store.publish(b"good")
    await beneath.publish(b"")
    assert heard == [b"good"]
    assert len(reports) == 2


async def test_a_message_is_no_value(beneath: MemoryStore, sealed: Sealed) -> None:
    """What was published cannot be put in a session's place."""
    store, seen = sealed(OLD), list[bytes]()
    await beneath.subscribe(seen.append)
    await store.publish(b"m")
    await beneath.put("message", seen[0], 60)
    await trouble(store.get("message"))


async def test_comparing_sees_the_value_and_not_its_seal(sealed: Sealed) -> None:
    """The same value written again in between is still the same value."""
    store = sealed(OLD)
    await store.put("k", b"v", 60)

    async def write_again() -> None:
        for _ in range(200):
            await store.put("k", b"v", 60)
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_again())
    await asyncio.sleep(0)
    assert await store.replace("k", b"v", b"w", 60)
    writing.cancel()


class Busy(MemoryStore):
    """Another process writes the same value between any two operations."""

    writer: SealedStore

    async def get(self, key: str) -> bytes | None:
        value = await super().get(key)
        await self.writer.put(key, b"v", 60)
        return value


async def test_comparing_ends() -> None:
    """With trouble instead of trying for ever, and never with a wrong answer."""
    busy = Busy(lambda report: None)
    store = busy.writer = SealedStore(busy, [OLD], lambda report: None)
    await store.put("k", b"v", 60)
    with pytest.raises(StoreUnavailable, match="too often"):
        await store.replace("k", b"v", b"w", 60)
    with pytest.raises(StoreUnavailable, match="too often"):
        await store.remove("k", b"v")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///nowhere/store.db", SqliteStore),
        ("redis://127.0.0.1:1", RedisStore),
        ("rediss://127.0.0.1:1", RedisStore),
        ("redis+sentinel://127.0.0.1:1/main", RedisStore),
        ("redis+cluster://127.0.0.1:1", RedisStore),
    ],
)
async def test_what_leaves_the_process_is_sealed(url: str, kind: type) -> None:
    """Whatever the URL; opening it touches nothing."""
    store = open_store(parse_store_url(url), [OLD], lambda report: None)
    assert isinstance(store, SealedStore)
    assert isinstance(store._store, kind)
    await trouble(store.get("k"))
    await store.close()


async def test_memory_is_not() -> None:
    """There is nobody to hide it from."""
    store = open_store(parse_store_url("memory:"), [OLD], lambda report: None)
    assert isinstance(store, MemoryStore)
    await store.close()
