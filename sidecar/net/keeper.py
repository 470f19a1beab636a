"""What must be waited for before a session can be used: the store's word on it, and its renewal.

`net.sessions` knows what this process knows, at once; here other processes and the provider are
asked. Keys in the store, under a session's fingerprint: `dead:` a tombstone; and under the keyed
hash of a credential: `alias:` the fingerprint of the session that it is a later one of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec

from sidecar.core.cookies import Scope
from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.tokens import TokenSet
from sidecar.net.refresh import Refresher
from sidecar.net.sessions import Presented, Sessions, Tombstone
from sidecar.net.store import Store

ALIAS: Final = 30 * 86400.0  # seconds that a renewed credential is known as its session's
ATTEMPTS: Final = 600  # to tell the store what happened, a few seconds apart


class Keeper:
    """Sessions as all processes on one store see them."""

    def __init__(
        self,
        sessions: Sessions,
        store: Store,
        refresher: Refresher | None,
        *,
        is_shared: bool,
        now: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._sessions: Final = sessions
        self._store: Final = store
        self.refresher: Final = refresher
        self._is_shared: Final = is_shared
        self._now: Final = now
        self._spawn: Final = spawn
        sessions.is_shared = is_shared or refresher is not None
        if is_shared:
            sessions.on_death = self._tell_death
            sessions.on_revival = self._tell_revival

    async def start(self) -> None:
        """Listens to what other processes tell."""
        if self._is_shared:
            await self._store.subscribe(self._hear)

    # -- before a request -----------------------------------------------------------------------

    def is_ready(self, presented: Presented, now: float, *, renews: bool) -> bool:
        """Whether a session can be used as it is; `renews`: whether its token must be good."""
        if presented.fingerprint is None:
            return True
        return presented.is_checked and not (renews and now >= presented.renews_at)

    async def ready(
        self, presented: Presented, cookie: bytes, scope: Scope, *, renews: bool
    ) -> Presented:
        """The session, checked with the store and renewed where it is due.

        One that turns out to be over is presented as dead (`Sessions.live_fingerprint`), or without
        a fingerprint. Raises `StoreUnavailable` and `RefreshUnavailable`.
        """
        if not presented.is_checked:
            presented = await self._check(presented, cookie)
        now = self._now()
        tokens = presented.reading.tokens
        if (
            not renews
            or tokens is None
            or now < presented.renews_at
            or self._sessions.is_dead(presented.fingerprint, now)
        ):
            return presented
        try:
            return await self.renew(presented, cookie, scope)
        except (RefreshUnavailable, StoreUnavailable):
            if not tokens.is_valid(self._now()):
                raise
            return presented  # good enough for now

    async def renew(
        self, presented: Presented, cookie: bytes, scope: Scope, rejected: str | None = None
    ) -> Presented:
        """The session with its newest tokens; `rejected` is one that an upstream did not take.

        Raises `StoreUnavailable` and `RefreshUnavailable`.
        """
        refresher, tokens = self.refresher, presented.reading.tokens
        assert refresher is not None
        assert tokens is not None
        try:
            newest = await refresher.renew(tokens, rejected)
        except RefreshRefused:
            self._sessions.bury(presented, self._now())
            return presented
        except RefreshSuperseded:
            if rejected is None and tokens.is_valid(self._now()):
                return presented
            return self._sessions.supersede(presented, cookie)
        if newest == tokens:
            return presented
        await self._name(presented, newest)
        return self._sessions.renewed(presented, cookie, newest, scope)

    def can_renew(self, presented: Presented) -> bool:
        """Whether the session holds what renews it."""
        return self.refresher is not None and presented.reading.tokens is not None

    # -- what the store says --------------------------------------------------------------------

    async def _check(self, presented: Presented, cookie: bytes) -> Presented:
        """Asks the store for what other processes, or this one before a restart, left there."""
        reading, tokens = presented.reading, presented.reading.tokens
        if tokens is not None and reading.identity is None:
            alias = await self._store.get(f"alias:{presented.fingerprint}")
            if alias is not None:
                presented = self._sessions.rename(presented, cookie, alias.decode())
        assert presented.fingerprint is not None
        stored = await self._store.get(f"dead:{presented.fingerprint}")
        if stored is not None:
            self._sessions.entomb(
                presented.fingerprint, msgspec.json.decode(stored, type=Tombstone)
            )
        if tokens is not None and self.refresher is not None and tokens.refresh_token:
            await self.refresher.presented(tokens)
        presented.is_checked = True
        return presented

    async def _name(self, presented: Presented, tokens: TokenSet) -> None:
        """Keeps the session's name where its cookies have no room for it."""
        if presented.reading.claims is not None or presented.fingerprint is None:
            return
        for credential in (tokens.access_token, tokens.refresh_token):
            if credential:
                known_as = self._sessions.fingerprint_of(credential)
                with suppress(StoreUnavailable):
                    await self._store.put(
                        f"alias:{known_as}", presented.fingerprint.encode(), ALIAS
                    )

    # -- what is told and heard -----------------------------------------------------------------

    def _tell_death(self, fingerprint: str, tomb: Tombstone) -> None:
        async def tell() -> None:
            seconds = tomb.until - self._now()
            await self._store.put(f"dead:{fingerprint}", msgspec.json.encode(tomb), seconds)
            await self._store.publish(_message("dead", fingerprint, tomb))

        self._spawn(_until_it_works(tell))

    def _tell_revival(self, fingerprint: str) -> None:
        async def tell() -> None:
            await self._store.remove(f"dead:{fingerprint}")
            await self._store.publish(_message("alive", fingerprint, None))

        self._spawn(_until_it_works(tell))

    def _hear(self, message: bytes) -> None:
        try:
            heard = msgspec.json.decode(message, type=_Message)
        except ValueError:
            return  # of a newer version
        if heard.what == "dead" and heard.tomb is not None:
            self._sessions.entomb(heard.fingerprint, heard.tomb)
        elif heard.what == "alive":
            self._sessions.exhume(heard.fingerprint)


class _Message(msgspec.Struct):
    """What one process tells the others."""

    what: str
    fingerprint: str
    tomb: Tombstone | None = None


def _message(what: str, fingerprint: str, tomb: Tombstone | None) -> bytes:
    return msgspec.json.encode(_Message(what, fingerprint, tomb))


async def _until_it_works(tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Repeats what the store did not take: a logout counts everywhere, if later."""
    for attempt in range(1, ATTEMPTS):
        with suppress(StoreUnavailable):
            await tell()
            return
        await asyncio.sleep(min(0.25 * attempt, 5.0))
