"""The asynchronous part of sessions: asks the shared store, and has tokens renewed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.proof import Proof
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet
from sidecar.core.view import OpenedSession, SessionView
from sidecar.net.deadline import Within
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.directory import Onlooker
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.login_views import LoginViews
from sidecar.sessions.refresher import Permit, Refresher, without_limit
from sidecar.sessions.session_records import ALIAS, FORMER, SessionRecords
from sidecar.sessions.succession import RETIRED
from sidecar.sessions.tombstones import Tombstone

ROUNDS: Final = 8  # sessions of one header, of which one after the other turns out to be dead
VOUCHING: Final = 0.5  # seconds that a logout waits for what other processes know


class Foreseen(msgspec.Struct, frozen=True):
    """The view that a request would be served with. `is_due`: its token would be renewed first."""

    view: SessionView
    is_due: bool = False


class SessionCoordinator:
    """Makes a view ready for a request: checked with the store, and with valid tokens.

    `orphaned` is called with new tokens of a session that has ended while it was renewed, `refused`
    with a session that ends since the provider refuses its refresh token, and `renewed` with a
    session before and after its tokens were renewed, here or elsewhere.
    """

    def __init__(
        self,
        local: LocalSessions,
        records: SessionRecords,
        refresher: Refresher | None,
        logins: LoginViews | None,
        broadcast: Broadcast | None,
        *,
        now: Callable[[], float],
        orphaned: Callable[[TokenSet], None],
        refused: Callable[[OpenedSession], None] = lambda _: None,
        renewed: Callable[[SessionView, SessionView], None] = lambda *_: None,
    ) -> None:
        """`broadcast` is None if no other process shares the store."""
        self._local: Final = local
        self._directory: Final = local.directory
        self._revocations: Final = local.revocations
        self._records: Final = records
        self._refresher: Final = refresher
        self._logins: Final = logins
        self._broadcast: Final = broadcast
        self._now: Final = now
        self._orphaned: Final = orphaned
        self._refused: Final = refused
        self._renewed: Final = renewed

    # -- before a request -------------------------------------------------------------------------

    async def ready(
        self,
        view: SessionView,
        scope: Scope,
        *,
        renews: bool,
        by_cookie: bool,
        permit: Permit = without_limit,
    ) -> SessionView:
        """Returns the view checked with the store, renewed if it is due, and its use noted.

        `by_cookie`: the client presented cookies, so it has the newest tokens; `permit` is called
        before an exchange of tokens begins. A session that
        is over comes back as dead (`Revocations.live_fingerprint`), or without
        a fingerprint. Raises `StoreUnavailable` and `RefreshUnavailable`.
        """
        view = await self.checked(view, by_cookie=by_cookie)
        now = self._now()
        if not (renews and view.is_due(now)) or not self._is_live(view):
            return view
        tokens, refresher = view.reading.tokens, self._refresher
        if tokens is None or refresher is None or not _is_due(view, refresher, now):
            assert self._logins is not None
            return self._logins.touch(view, scope, now)
        rejected = tokens.access_token if view.leads_on else None
        try:
            view, _ = await self.recover(view, scope, rejected, permit)
        except (RefreshUnavailable, StoreUnavailable):
            if rejected is not None or not tokens.is_valid(self._now()):
                raise
        return view

    def _is_live(self, view: SessionView) -> bool:
        return self._revocations.live_fingerprint(view, self._now()) is not None

    # -- what the store says ----------------------------------------------------------------------

    async def checked(self, view: SessionView, *, by_cookie: bool) -> SessionView:
        """Returns the sessions with all that the store says of them. Raises `StoreUnavailable`.

        A session that has died elsewhere makes room for the next one that is presented, of which
        the store is asked then.
        """
        for _ in range(ROUNDS):
            if view.is_checked:
                return view
            if view.handles:
                assert self._logins is not None
                view = await self._logins.load(view)
                continue
            view = await self._check(view, by_cookie=by_cookie)
            if not by_cookie:
                return view
        raise StoreUnavailable("the sessions presented change while they are looked up")

    async def _check(self, view: SessionView, *, by_cookie: bool) -> SessionView:
        """Asks the store for what other processes, or this one before a restart, left there.

        Raises `StoreUnavailable`.
        """
        key, has_died = view.key, False
        assert key is not None
        for session in self._revocations.living(view, self._now()):
            fingerprint = await self._known_as(session)
            death = await self._death(session, fingerprint)
            if death is not None:
                self._learn_death(*death)
                has_died = True
            elif fingerprint != session.fingerprint:
                view = self._directory.rename(view, session, fingerprint)
        if has_died:
            cookie, allowed = key
            return self._directory.present(cookie, self._now(), allowed)
        if not by_cookie:
            return view
        for session in view.sessions:
            tokens = session.reading.tokens
            if tokens is not None and self._refresher is not None and tokens.refresh_token:
                await self._refresher.presented(tokens)
        return self._directory.checked(view, leads_on=await self._leads_on(view))

    async def _leads_on(self, view: SessionView) -> bool:
        """Whether the token was rejected, and has a successor. Raises `StoreUnavailable`."""
        tokens = view.reading.tokens if view.has_credential else None
        if tokens is None or self._refresher is None or not tokens.refresh_token:
            return False
        return await self._refresher.leads(tokens)

    async def _known_as(self, session: OpenedSession) -> str:
        """The fingerprint that a session had before it was renewed. Raises `StoreUnavailable`."""
        alias = await self._alias(session)
        if alias is None:
            return session.fingerprint
        if not session.is_sealed:
            self._local.evidence.vouch(alias)  # it has been renewed
        return alias

    async def _alias(self, session: OpenedSession) -> str | None:
        """The same if it is another one than now. Raises `StoreUnavailable`."""
        if session.reading.identity is not None:
            return None
        for name in self._names(session, session.fingerprint):
            fingerprint = await self._records.alias(name)
            if fingerprint is not None:
                return fingerprint
        return None

    def _names(self, session: OpenedSession, fingerprint: str) -> tuple[str, ...]:
        """What the store may know a session by."""
        names, reading = self._local.names, session.reading
        return tuple(dict.fromkeys((fingerprint, *names.former(reading), *names.pieces(reading))))

    async def _death(
        self, session: OpenedSession, fingerprint: str
    ) -> tuple[str, Tombstone] | None:
        """The dead session that this one is, with all its names. Raises `StoreUnavailable`."""
        pieces = self._names(session, session.fingerprint)
        for name in self._names(session, fingerprint):
            death = await self._records.death(name)
            if death is not None:
                dead, tombstone = death
                names = dict.fromkeys((*tombstone.credentials, *pieces))
                names.pop(dead, None)
                return dead, replace(tombstone, credentials=tuple(names))
        return None

    def _learn_death(self, fingerprint: str, tombstone: Tombstone) -> None:
        if self._broadcast is not None:
            self._broadcast.learn_death(fingerprint, tombstone)
        else:
            self._revocations.learn(fingerprint, tombstone)

    # -- what would be done -----------------------------------------------------------------------

    async def foresee(
        self, view: SessionView, by: Onlooker, *, renews: bool, by_cookie: bool
    ) -> Foreseen:
        """Returns what `ready` would make of a view, as far as that can be read. Changes nothing.

        What the provider would say is not asked: of a renewal it is known that it is due. Raises
        `StoreUnavailable`.
        """
        for _ in range(ROUNDS):
            if view.is_checked:
                break
            if view.handles:
                assert self._logins is not None
                view = await self._logins.load(view, by.directory)
            else:
                view = await self._foreseen(view, by, by_cookie=by_cookie)
        else:
            raise StoreUnavailable("the sessions presented change while they are looked up")
        now = self._now()
        is_live = by.revocations.live_fingerprint(view, now) is not None
        if not (renews and view.is_due(now)) or not is_live:
            return Foreseen(view)
        refresher = self._refresher
        return Foreseen(view, is_due=refresher is not None and _is_due(view, refresher, now))

    async def _foreseen(self, view: SessionView, by: Onlooker, *, by_cookie: bool) -> SessionView:
        """What `_check` would make of it. Raises `StoreUnavailable`."""
        key, has_died = view.key, False
        assert key is not None
        for session in by.revocations.living(view, self._now()):
            alias = await self._alias(session)
            if await self._death(session, alias or session.fingerprint) is not None:
                by.learn_death(session.fingerprint)
                has_died = True
            elif alias is not None and alias != session.fingerprint:
                view = by.directory.rename(view, session, alias)
        if has_died:
            cookie, allowed = key
            again = by.directory.present(cookie, self._now(), allowed)
            return again if by_cookie else replace(again, is_checked=True)
        return by.directory.checked(view, leads_on=by_cookie and await self._leads_on(view))

    # -- renewal ----------------------------------------------------------------------------------

    def can_renew(self, view: SessionView) -> bool:
        """Returns whether the session holds what renews it."""
        return self._refresher is not None and view.reading.tokens is not None

    async def recover(
        self,
        view: SessionView,
        scope: Scope,
        rejected: str | None,
        permit: Permit = without_limit,
    ) -> tuple[SessionView, bool]:
        """Returns the session with its newest tokens, after an upstream has refused `rejected`.

        And whether there is nothing left to be tried with its refresh token. Whoever else comes
        with that token is led on to the newest ones from now on, in each process. Raises
        `StoreUnavailable` and `RefreshUnavailable`.
        """
        refresher = self._refresher
        assert refresher is not None
        if self._has_stored(view):
            assert self._logins is not None
            # Another process may have renewed it, and then this one's tokens are out of date.
            view = await self._logins.reload(view)
            tokens = view.reading.tokens
            if tokens is None:
                return view, True
            if tokens.access_token != rejected and not refresher.is_due(tokens, self._now()):
                return view, False
        tokens = view.reading.tokens
        assert tokens is not None
        try:
            renewed = await refresher.renewed(
                tokens, rejected, is_sealed=_is_sealed(view), permit=permit
            )
        except RefreshRefused:
            self._revoke(view)
            return view, True
        except RefreshSuperseded:
            if rejected is None and tokens.is_valid(self._now()):
                return view, True
            return self._directory.supersede(view), True
        if rejected is not None and not view.leads_on:
            self._lead_on(view, renewed.tokens)
        newest = await self._with_tokens(view, renewed.tokens, scope)
        self._renewed(view, newest)
        return newest, renewed.is_fresh

    def _lead_on(self, view: SessionView, newest: TokenSet) -> None:
        """Has those who come with a rejected token led on, here and elsewhere."""
        if view.fingerprint is None:
            return
        self._directory.recheck(view.fingerprint)
        if self._broadcast is not None:
            name = self._local.names.name_of(newest.access_token)
            self._broadcast.renewed(view.fingerprint, name)

    def _has_stored(self, view: SessionView) -> bool:
        return self._logins is not None and self._logins.has_stored(view)

    async def _with_tokens(self, view: SessionView, newest: TokenSet, scope: Scope) -> SessionView:
        """A session with its newest tokens, written to where they came from.

        Raises `StoreUnavailable`.
        """
        if newest == view.reading.tokens:
            return view
        if self._logins is not None:
            self._logins.note_email(view, newest)
        if self._is_live(view) and self._has_stored(view):
            assert self._logins is not None
            return await self._logins.rewrite(view, newest)
        if self._is_live(view):
            await self._name(view, newest)
            self._note_successor(view, newest)
        if not self._is_live(view):  # it may have ended meanwhile
            self._revoke_orphans(view, newest)
            return view
        return self._directory.renewed(view, newest, scope)

    async def _name(self, view: SessionView, tokens: TokenSet) -> None:
        """Keeps the session's fingerprint in the store if its cookies have no room for it."""
        reading = view.reading
        if _is_sealed(view) or view.fingerprint is None:
            return
        spent = None if reading.tokens is None else reading.tokens.refresh_token
        expiry = tokens.expires_at
        access = ALIAS if expiry is None else max(0.0, expiry - self._now()) + RETIRED
        known_for = {spent: FORMER, tokens.refresh_token: ALIAS, tokens.access_token: access}
        for credential, seconds in known_for.items():
            if credential:
                name = self._local.names.name_of(credential)
                self._records.note_alias(name, view.fingerprint)
                with suppress(StoreUnavailable):
                    await self._records.put_alias(name, view.fingerprint, seconds)

    def _note_successor(self, view: SessionView, tokens: TokenSet) -> None:
        """Notes the new token's session: applications may seal the token without that claim."""
        fingerprint = view.fingerprint
        is_login = isinstance(view.reading, LoginReading)
        if not tokens.access_token or is_login or fingerprint is None:
            return
        name = self._local.names.name_of(tokens.access_token)
        if name == fingerprint:
            return
        self._directory.succeed(name, fingerprint)
        if self._broadcast is not None and view.reading.claims is not None:
            self._broadcast.succeeded(name, fingerprint)
            before = self._local.names.name_of(view.reading.token or "")
            if before not in (name, fingerprint):
                self._broadcast.preceded(before, fingerprint)

    def _revoke(self, view: SessionView) -> None:
        session = view.session(view.fingerprint)
        if session is not None:
            if not self._revocations.is_dead(session.fingerprint, self._now()):
                self._refused(session)
            self._revocations.revoke(session, self._now())

    def _revoke_orphans(self, view: SessionView, tokens: TokenSet) -> None:
        """A session has ended while it was renewed: its new tokens must not be used."""
        if view.fingerprint is not None:
            self._revocations.revoke_tokens(view.fingerprint, tokens)
        self._orphaned(tokens)

    # -- what speaks for a session ----------------------------------------------------------------

    def doubts(self, view: SessionView) -> bool:
        """Returns whether other processes may know more in favour of a session presented."""
        return self._broadcast is not None and any(map(self._is_doubted, view.sessions))

    def _is_doubted(self, session: OpenedSession) -> bool:
        return session.has_credential and self._local.evidence.of(session) is Proof.NONE

    async def vouch_for(self, view: SessionView) -> None:
        """Finds out what other processes know in favour of the sessions, if the store says so."""
        with suppress(StoreUnavailable, TimeoutError):
            async with Within(VOUCHING):
                for one in filter(self._is_doubted, view.sessions):
                    if await self._records.is_accepted(one.fingerprint):
                        self._local.evidence.learn_accepted(one.fingerprint)


def _is_sealed(view: SessionView) -> bool:
    """Whether the session came in a cookie that no stranger can make up."""
    return view.reading.claims is not None or isinstance(view.reading, LoginReading)


def _is_due(view: SessionView, refresher: Refresher, now: float) -> bool:
    """Whether other tokens are to take the place of the session's."""
    tokens = view.reading.tokens
    return tokens is not None and (view.leads_on or refresher.is_due(tokens, now))
