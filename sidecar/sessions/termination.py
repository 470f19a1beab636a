"""Ends login sessions that no request presents, or that only the store can name."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeAlias

from sidecar.core.credential import Reading, Result
from sidecar.core.formats.ended import EndedNames, EndedSessions
from sidecar.core.formats.login_session import TYPE, Handle, LoginSession
from sidecar.core.oidc.session_index import IndexEntry
from sidecar.core.view import OpenedSession
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.revocations import UNKNOWN_LIFETIME
from sidecar.sessions.session_records import Message, SessionRecords
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.tombstones import Tombstone

Ended: TypeAlias = Callable[[OpenedSession], None]


class SessionTermination:
    """Ends sessions by their names: back-channel logouts, and an administrator's.

    `Ended` is called with each session that has ended, as far as it is known.
    """

    def __init__(
        self,
        local: LocalSessions,
        records: SessionRecords,
        stored: StoredLogins | None,
        broadcast: Broadcast | None,
        *,
        ended: EndedSessions,
        outbox: Outbox,
        watch: StoreWatch,
        now: Callable[[], float],
    ) -> None:
        """`broadcast` is None if no other process shares the store, `stored` without a login here.

        `ended` are the names by which sessions have ended that may be presented later.
        """
        self._local: Final = local
        self._records: Final = records
        self._stored: Final = stored
        self._broadcast: Final = broadcast
        self._ended: Final = ended
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._now: Final = now
        self._listening: Final = asyncio.Lock()

    async def end(self, fingerprint: str, ends_at: float) -> OpenedSession | None:
        """Ends a login session everywhere. Returns it as far as it is known, None if it had ended.

        `ends_at` is until when it could be presented. Raises `StoreUnavailable`: the session has
        ended in this process even then, and a second call is harmless.
        """
        stored = self._of_logins
        is_over = self._local.revocations.is_dead(fingerprint, self._now())
        if self._broadcast is not None:
            is_over = await self._records.death(fingerprint) is not None
        session = await stored.get(fingerprint) if stored.is_stored else None
        if session is None and (is_over or stored.is_stored):
            return None
        known = self._local.directory.known(fingerprint) or _as_named(fingerprint, session)
        tombstone = Tombstone(self._now(), ends_at)
        self._local.revocations.mark_revoked(fingerprint, tombstone)
        if self._broadcast is not None:
            await self._broadcast.write_death(fingerprint, tombstone)
            await self._watch.confirm()
        elif stored.is_stored:
            await stored.drop(fingerprint)
        return known

    async def end_all(self, entries: Iterable[IndexEntry], ended: Ended) -> int:
        """Ends login sessions everywhere. Returns how many. Raises as `end`."""
        count = 0
        for entry in entries:
            one = await self.end(entry.fingerprint, entry.ends_at)
            if one is not None:
                count += 1
                ended(one)
        return count

    async def end_named(
        self, subject: str | None, sid: str | None, ended: Ended, reason: str
    ) -> int:
        """Ends the login sessions of a user, or of one session at the provider, everywhere.

        Those too that are presented later and began before. Returns how many; raises as `end`.
        """
        names = EndedNames(self._now(), reason, subject, sid)
        return await self._end_all_of(names, await self._of_logins.find(subject, sid), ended)

    async def end_by_email(self, email: str, ended: Ended, reason: str) -> int:
        """Ends the login sessions of everybody who has this email, everywhere, as `end_named` does.

        `email` is in its one spelling (`access.folded_email`).
        """
        names = EndedNames(self._now(), reason, email=email)
        return await self._end_all_of(names, await self._of_logins.find_email(email), ended)

    async def _end_all_of(
        self, names: EndedNames, found: Iterable[IndexEntry], ended: Ended
    ) -> int:
        """Ends what is found here, and has the other processes end what they alone know.

        A store that has lost its data finds no sessions that live in their cookies.
        """
        self._ended.note(names)
        count = await self._end_found(found, names, ended)
        if self._broadcast is not None:
            await self._records.publish(Message("ended", "", names=names))
        return count

    async def end_told(self, names: EndedNames, ended: Ended) -> int:
        """Ends what this process knows of what another one has ended; returns and raises so."""
        self._ended.note(names)
        async with self._listening:  # each of them finds dead what one before it has ended
            return await self._end_found((), names, ended)

    async def _end_found(self, found: Iterable[IndexEntry], names: EndedNames, ended: Ended) -> int:
        """Ends what the store has found, and what is known here by the same names.

        Only these are compared: to read an email takes long, and few logouts are by one.
        """
        stored, now, these = self._of_logins, self._now(), EndedSessions()
        these.note(names)
        entries = {one.fingerprint: one for one in found}
        for one in self._local.directory.login_sessions(now):  # not written down since the start
            if these.covers(one):
                end = one.absolute_end(stored.source.lifetimes)
                entries.setdefault(one.fingerprint, IndexEntry(one.fingerprint, end))
        return await self.end_all(entries.values(), ended)

    async def end_one(self, fingerprint: str, ended: Ended, *, known_only: bool = False) -> bool:
        """Ends a session of any source everywhere. Returns whether it is known, or had ended.

        One that nobody knows is refused once it is presented, unless `known_only`. Raises
        `StoreUnavailable`: it has ended in this process even then.
        """
        stored = self._stored
        if stored is not None and stored.is_stored:
            session = await stored.get(fingerprint)
            if session is not None:
                end = session.absolute_end(stored.source.lifetimes)
                await self.end_all((IndexEntry(fingerprint, end),), ended)
                return True
        known, revocations, now = (
            self._local.directory.known(fingerprint),
            self._local.revocations,
            self._now(),
        )
        was_over = revocations.is_dead(fingerprint, now)
        if not was_over and self._broadcast is not None:
            was_over = await self._records.death(fingerprint) is not None
        if known is not None:
            self._local.evidence.vouch(fingerprint)  # an administrator speaks for it
            revocations.revoke(known, now)
        elif was_over or known_only:
            return was_over
        else:
            revocations.mark_revoked(fingerprint, Tombstone(now, now + UNKNOWN_LIFETIME))
        if known is not None and not was_over:
            ended(known)
        await self._share(fingerprint)
        return known is not None

    async def _share(self, fingerprint: str) -> None:
        """Lets the other processes know of a death. Raises `StoreUnavailable`."""
        tombstone = self._local.revocations.tombstones.by_fingerprint.get(fingerprint)
        if self._broadcast is not None and tombstone is not None:
            await self._broadcast.write_death(fingerprint, tombstone)
            await self._watch.confirm()

    @property
    def _of_logins(self) -> StoredLogins:
        assert self._stored is not None, "login sessions are there only with oidc"
        return self._stored

    def end_later(self, handles: Sequence[Handle], ended: Ended) -> None:
        """Ends the login sessions that cookies lead to, once the store can be asked.

        `ended` is called with each. Anyone can invent such cookies, so what waits is bounded.
        """
        for handle in handles:
            end = partial(self._end_presented, handle, ended)
            self._outbox.put_bounded(handle.fingerprint, "lookup", end)

    async def _end_presented(self, handle: Handle, ended: Ended) -> None:
        """Raises `StoreUnavailable`."""
        session = await self._of_logins.get(handle.fingerprint)
        if session is None or not hmac.compare_digest(session.id, handle.id):
            return
        ends_at = session.absolute_end(self._of_logins.source.lifetimes)
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
