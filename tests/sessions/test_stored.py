"""Login sessions are found in the store by the provider's names for as long as they may live."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

import pytest

from sidecar.core.formats.login_session import (
    ID_BYTES,
    Lifetimes,
    LoginSession,
    Profile,
    login_store_source,
    new_session,
)
from sidecar.core.oidc.session_index import SessionIndex
from sidecar.core.token_set import TokenSet
from sidecar.net.store.memory import MemoryStore
from sidecar.sessions.stored import StoredLogins

HOUR: Final = 3600.0
SECRETS: Final = [b"the sidecar's own secret, 32 bytes"]


class World:
    """A store, and the login sessions in it, by one clock."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        login: Any = SimpleNamespace(
            index=SessionIndex("https://idp.example.com", SECRETS),
            source=login_store_source(cookie="sidecar", lifetimes=Lifetimes(HOUR, 10 * HOUR)),
            is_stored=True,
        )
        store = MemoryStore(lambda _: None, clock=lambda: self.time)
        self.logins = StoredLogins(login, store, lambda: self.time)

    def session(self, name: str, *, sid: str | None) -> LoginSession:
        """One of Alice's that begins now."""
        return new_session(
            name.encode().ljust(ID_BYTES),
            lambda _: name,
            cookie="sidecar",
            subject="alice",
            sid=sid,
            tokens=TokenSet("a", "r"),
            profile=Profile(),
            now=self.time,
        )

    async def found(self, sid: str | None = None) -> set[str]:
        """The sessions that a logout of Alice would end."""
        return {one.fingerprint for one in await self.logins.find("alice", sid)}


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("way", ["begin", "restore"])
async def test_session_without_a_sid_is_found_by_a_logout_that_names_one(
    world: World, way: str
) -> None:
    """A provider need not say which session a login began (Back-Channel 2.7)."""
    await getattr(world.logins, way)(world.session("unnamed", sid=None))
    await getattr(world.logins, way)(world.session("named", sid="s1"))
    assert await world.found("another") == {"unnamed"}
    assert await world.found("s1") == {"unnamed", "named"}


async def test_session_that_is_written_down_again_cuts_no_other_one_short(world: World) -> None:
    """It may be one that ends soon, when the store has lost data or its email has changed."""
    old = world.session("old", sid=None)
    world.time += 9 * HOUR
    await world.logins.begin(world.session("new", sid=None))
    await world.logins.restore(old)
    assert await world.found() == {"old", "new"}
    world.time += 2 * HOUR
    assert await world.found() == {"new"}
