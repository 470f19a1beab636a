"""Ends login sessions that no request presents, or that only the store can name."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sidecar.core.credential import Reading, Result
from sidecar.core.formats.login_session import TYPE, Handle, LoginSession
from sidecar.core.view import OpenedSession
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.tombstones import Tombstone


class SessionTermination:
    """Ends sessions by their fingerprint: back-channel logouts, and an administrator's."""

    def __init__(
        self,
        local: LocalSessions,
        records: SessionRecords,
        stored: StoredLogins,
        broadcast: Broadcast | None,
        *,
        outbox: Outbox,
        watch: StoreWatch,
        now: Callable[[], float],
    ) -> None:
        """`broadcast` is None if no other process shares the store."""
        self._local: Final = local
        self._records: Final = records
        self._stored: Final = stored
        self._broadcast: Final = broadcast
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._now: Final = now

    async def end(self, fingerprint: str, ends_at: float) -> OpenedSession | None:
        """Ends a login session everywhere. Returns it as far as it is known, None if it had ended.

        `ends_at` is until when it could be presented. Raises `StoreUnavailable`: the session has
        ended in this process even then, and a second call is harmless.
        """
        is_over = self._local.revocations.is_dead(fingerprint, self._now())
        if self._broadcast is not None:
            is_over = await self._records.death(fingerprint) is not None
        session = await self._stored.get(fingerprint) if self._stored.is_stored else None
        if session is None and (is_over or self._stored.is_stored):
            return None
        known = self._local.directory.known(fingerprint) or _as_named(fingerprint, session)
        tombstone = Tombstone(self._now(), ends_at)
        self._local.revocations.mark_revoked(fingerprint, tombstone)
        if self._broadcast is not None:
            await self._broadcast.write_death(fingerprint, tombstone)
            await self._watch.confirm()
        elif self._stored.is_stored:
            await self._stored.drop(fingerprint)
        return known

    def end_later(self, handles: Sequence[Handle], ended: Callable[[OpenedSession], None]) -> None:
        """Ends the login sessions that cookies lead to, once the store can be asked.

        `ended` is called with each. Anyone can invent such cookies, so what waits is bounded.
        """
        for handle in handles:
            end = partial(self._end_presented, handle, ended)
            self._outbox.put_bounded(handle.fingerprint, "lookup", end)

    async def _end_presented(self, handle: Handle, ended: Callable[[OpenedSession], None]) -> None:
        """Raises `StoreUnavailable`."""
        session = await self._stored.get(handle.fingerprint)
        if session is None or not hmac.compare_digest(session.id, handle.id):
            return
        ends_at = session.absolute_end(self._stored.source.lifetimes)
        one = await self.end(handle.fingerprint, ends_at)
        if one is not None:
            ended(one)


def _as_named(fingerprint: str, session: LoginSession | None) -> OpenedSession:
    """Stands for a session that no request presents, with the tokens that are to be revoked."""
    tokens = None if session is None else session.tokens
    reading = Reading(
        Result.OK,
        source=TYPE,
        token=None if tokens is None else tokens.access_token or None,
        tokens=tokens if tokens is not None and tokens.refresh_token else None,
        identity=fingerprint,
    )
    return OpenedSession(fingerprint, reading, 0)
