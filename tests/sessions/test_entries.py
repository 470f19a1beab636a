"""Entries of the store that another version of the sidecar has written: never taken for absent."""

from __future__ import annotations

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.tickets import Signer
from sidecar.core.token_set import TokenSet
from sidecar.net.store.memory import MemoryStore
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.succession import Succession

NOW = 1_800_000_000.0
TOKENS = TokenSet("a", "r")
NEW = TokenSet("b", "s")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda _: None)


@pytest.fixture
def succession(store: MemoryStore) -> Succession:
    signer = Signer([b"a secret of thirty-two bytes or more"])
    return Succession(store, hash_of=signer.fingerprint, now=lambda: NOW, grace=30.0)


UNKNOWN = [b"", b"{}", b"\xff", b"[" * 3000, b'{"what":"dead","fingerprint":"f"}']


@pytest.mark.parametrize("entry", UNKNOWN)
async def test_a_tombstone_of_another_version_revives_no_session(
    store: MemoryStore, entry: bytes
) -> None:
    """It says that a session is dead, so until it ends nobody is served with that session."""
    await store.put("dead:name", entry, 60.0)
    with pytest.raises(StoreUnavailable):
        await SessionRecords(store, lambda: NOW).death("name")


async def test_an_alias_of_another_version_names_no_session(store: MemoryStore) -> None:
    await store.put("alias:name", b"\xff", 60.0)
    with pytest.raises(StoreUnavailable):
        await SessionRecords(store, lambda: NOW).alias("name")


@pytest.mark.parametrize("entry", [*UNKNOWN, b'{"access_token":"a"}'])
async def test_a_successor_of_another_version_is_none_that_is_missing(
    store: MemoryStore, succession: Succession, entry: bytes
) -> None:
    """Taken for absent, it would have the spent token sent once more."""
    await store.put(f"next:{succession.name_of(TOKENS)}", entry, 60.0)
    with pytest.raises(StoreUnavailable):
        await succession.newest(TOKENS)


async def test_names_of_another_version_hold_up_no_renewal(
    store: MemoryStore, succession: Succession
) -> None:
    """What was exchanged can be written down, whatever stands there of earlier tokens."""
    name = succession.name_of(TOKENS)
    await store.put(f"prev:{name}", b"earlier \xff", 60.0)
    await succession.note(name, TOKENS, NEW)()
    assert await succession.newest(TOKENS) == NEW
    assert await succession.presented(NEW)
