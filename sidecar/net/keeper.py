"""What must be waited for before a session can be used: the store's word on it, and its renewal.

`net.sessions` knows what this process knows, at once; here other processes and the provider are
asked. Keys in the store, under a session's fingerprint: `dead:` a tombstone, `accepted:` that an
upstream has accepted the credential of a plain one; and under the keyed hash of a credential:
`alias:` the fingerprint of the session that it is a later one of. An own session that is kept in
the store is loaded before it is presented, and written there again when it changes (`net.own`).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.credential import Reading, Result
from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.formats.own import TYPE, Handle, OwnReading, OwnSession
from sidecar.core.proof import Proof
from sidecar.core.tokens import TokenSet
from sidecar.core.view import OpenedSession, SessionView
from sidecar.net.bounds import Budget
from sidecar.net.outbox import Outbox, Write
from sidecar.net.own import OwnSessions
from sidecar.net.refresh import RETIRED, Refresher
from sidecar.net.sessions import UNKNOWN_LIFETIME, Sessions
from sidecar.net.store import Cancel, Store
from sidecar.net.store_watch import WATCH, StoreWatch
from sidecar.net.tombstones import Tombstone

ALIAS: Final = 30 * 86400.0  # seconds that a renewed credential is known as its session's
FORMER: Final = 86400.0  # the same of one that has been renewed
ALIASES: Final = 10_000  # that are remembered here for a store that loses its data
ROUNDS: Final = 8  # sessions of one header, of which one after the other turns out to be dead
SHARED: Final = 60.0  # seconds for which others are told of a death that nothing speaks for
ACCEPTED: Final = 86400.0  # seconds for which they are told that a session was accepted
VOUCHING: Final = 0.5  # seconds that a logout waits for what they know
WAITING: Final = 2_000  # writes of a kind that strangers can cause, and that wait for the store
DOUBT: Final = 3.0  # seconds after trouble in which what is not found may be written once more
AT_ONCE: Final = 32  # writes under way where what a store has lost is written once more


class Keeper:
    """Sessions as all processes on one store see them."""

    def __init__(
        self,
        sessions: Sessions,
        store: Store,
        refresher: Refresher | None,
        own: OwnSessions | None = None,
        *,
        is_shared: bool,
        now: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        outbox: Outbox,
        watch: StoreWatch,
    ) -> None:
        self._sessions: Final = sessions
        self._store: Final = store
        self.refresher: Final = refresher
        self._own: Final = own
        self._is_shared: Final = is_shared
        self._now: Final = now
        self._spawn: Final = spawn
        # What strangers can have told to other processes, in entries of the store.
        self.unproven_deaths: Final = Budget(200, 2)
        self.acceptances: Final = Budget(10_000, 1)
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._doubtful_until = 0.0
        self._looks_again = False
        self._is_over = False
        self._deafen: Cancel | None = None
        self._aliases: dict[str, str] = {}  # a credential's name → its session's fingerprint
        self.on_orphans: Callable[[TokenSet], None] | None = None
        sessions.is_shared = is_shared or refresher is not None
        if is_shared or self._is_stored:
            sessions.on_death = self._tell_death
        if is_shared:
            sessions.on_revival = self._tell_revival
            sessions.on_successor = self._tell_successor
            sessions.on_rotation = self._tell_rotation
            sessions.on_handed_out = self._handed_out
            sessions.on_accepted = self._tell_accepted
            sessions.tombs.on_evicted = self._untell_death
            watch.restore = self._restore
            watch.doubt = self._doubt
            outbox.confirm = watch.confirm
            outbox.overflowed = watch.must_restore

    async def start(self) -> None:
        """Listens to what other processes tell."""
        if self._is_shared:
            self._deafen = await self._store.subscribe(self._hear, self)
            self._watch.start()

    def stop_listening(self) -> None:
        """Nothing is begun any more because of what others tell."""
        self._is_over = True
        if self._deafen is not None:
            self._deafen()

    async def close(self) -> None:
        """Lets go of the store."""
        self.stop_listening()
        await self._watch.close()

    # -- the store's trouble --------------------------------------------------------------------

    def _doubt(self) -> None:
        self._doubtful_until = self._now() + DOUBT
        if self.refresher is not None:
            self.refresher.lost_data()

    def _check_doubt(self) -> None:
        """Raises `StoreUnavailable` if what the store does not have may be written once more."""
        if self._now() < self._doubtful_until:
            raise StoreUnavailable("the store may have lost what is looked for")

    def broken(self) -> None:
        """Messages cannot be read: the store may be starting again, with less than it had."""
        self._doubt()

    def resumed(self, *, has_gap: bool) -> None:
        """They are read again. `has_gap`: some will never come."""
        self._doubt()
        self._watch.look_soon()
        if has_gap:
            self._look_again()

    def _look_again(self) -> None:
        """Messages were missed, so the store is asked once more of every session."""
        if not self._looks_again and not self._is_over:
            self._looks_again = True
            self._spawn(self._forget())

    async def _forget(self) -> None:
        """Forgets what is known of sessions, but not before a store that has lost it has it."""
        while True:
            with suppress(StoreUnavailable):
                await self._watch.look()
                break
            await asyncio.sleep(WATCH)
        self._looks_again = False
        self._sessions.forget_all()
        for fingerprint in self._sessions.attached:
            look = partial(self._look_after, fingerprint)
            self._outbox.put(f"stream:{fingerprint}", "look", look)

    async def _look_after(self, fingerprint: str) -> None:
        """Raises `StoreUnavailable`."""
        stored = await self._store.get(f"dead:{fingerprint}")
        if stored is not None:
            self._hear(stored)

    @property
    def _is_stored(self) -> bool:
        """Whether own sessions are kept in the store."""
        return self._own is not None and self._own.is_stored

    # -- before a request -----------------------------------------------------------------------

    def is_ready(self, view: SessionView, now: float, *, renews: bool) -> bool:
        """Whether a session can be used as it is; `renews`: whether its token must be good."""
        return view.is_checked and not (renews and now >= view.renews_at)

    async def ready(
        self, view: SessionView, scope: Scope, *, renews: bool, by_cookie: bool
    ) -> SessionView:
        """The session, checked with the store, renewed if it is due, and its use noted.

        `by_cookie`: its cookies were presented, so that the client has its newest tokens.
        One that turns out to be over is presented as dead (`Sessions.live_fingerprint`), or without
        a fingerprint. Raises `StoreUnavailable` and `RefreshUnavailable`.
        """
        view = await self.checked(view, by_cookie=by_cookie)
        now = self._now()
        if not renews or now < view.renews_at or self._sessions.live_fingerprint(view, now) is None:
            return view
        tokens = view.reading.tokens
        if tokens is None or self.refresher is None or not self.refresher.is_due(tokens, now):
            return self._touched(view, scope, now)
        try:
            return await self.renew(view, scope)
        except (RefreshUnavailable, StoreUnavailable):
            if not tokens.is_valid(self._now()):
                raise
            return view  # good enough for now

    async def checked(self, view: SessionView, *, by_cookie: bool) -> SessionView:
        """The sessions with all that the store says of them. Raises `StoreUnavailable`.

        A session that has died elsewhere makes way for the next one that is presented, of which the
        store is asked then.
        """
        for _ in range(ROUNDS):
            if view.is_checked:
                return view
            if view.handles:
                view = await self._loaded(view)
                continue
            view = await self._check(view, by_cookie=by_cookie)
            if not by_cookie:
                return view
        raise StoreUnavailable("the sessions presented change while they are looked up")

    async def _loaded(self, view: SessionView) -> SessionView:
        """The sessions with the login session that the store holds, if it holds any of them.

        Raises `StoreUnavailable`.
        """
        assert self._own is not None
        for handle in view.handles:
            session = await self._own.get(handle.fingerprint)
            if session is not None:
                found = self._sessions.adopt(view, handle, session, self._now())
                if found is not None:
                    return found
        if not all(self._sessions.is_dead(one.fingerprint, self._now()) for one in view.handles):
            self._check_doubt()
        return self._sessions.not_found(view, self._now())

    def _touched(self, view: SessionView, scope: Scope, now: float) -> SessionView:
        """An own session is used, and that is noted: in the store behind the request, or by a
        cookie.
        """
        own, reading = self._own, view.reading
        assert own is not None
        assert isinstance(reading, OwnReading)
        assert reading.session is not None
        if not own.is_stored:
            return self._sessions.touched(view, scope, now)
        renews_at = reading.session.touched(now).touch_due_at(own.source.lifetimes)
        if reading.tokens is not None and self.refresher is not None:
            renews_at = min(renews_at, self.refresher.due_at(reading.tokens))
        self._spawn(self._touch(own, reading.session.fingerprint, now))
        return self._sessions.postponed(view, renews_at)

    async def _touch(self, own: OwnSessions, fingerprint: str, now: float) -> None:
        with suppress(StoreUnavailable):  # then the next use is noted
            await own.change(fingerprint, lambda session: session.touched(now))
            self._sessions.outdate(fingerprint)

    async def renew(
        self, view: SessionView, scope: Scope, rejected: str | None = None
    ) -> SessionView:
        """The session of `recover`. Raises what it raises."""
        return (await self.recover(view, scope, rejected))[0]

    async def recover(
        self, view: SessionView, scope: Scope, rejected: str | None
    ) -> tuple[SessionView, bool]:
        """The session with its newest tokens, after an upstream did not take `rejected`.

        And whether there is nothing left to be tried with its refresh token. Raises
        `StoreUnavailable` and `RefreshUnavailable`.
        """
        refresher = self.refresher
        assert refresher is not None
        if self._is_kept_here(view):
            # Another process may have renewed it, and then this one's tokens are out of date.
            view = await self._reloaded(view)
            tokens = view.reading.tokens
            if tokens is None:
                return view, True
            if tokens.access_token != rejected and not refresher.is_due(tokens, self._now()):
                return view, False
        tokens = view.reading.tokens
        assert tokens is not None
        try:
            renewed = await refresher.renewed(tokens, rejected, is_sealed=_is_sealed(view))
        except RefreshRefused:
            self._bury(view)
            return view, True
        except RefreshSuperseded:
            if rejected is None and tokens.is_valid(self._now()):
                return view, True
            return self._sessions.supersede(view), True
        return await self._with_tokens(view, renewed.tokens, scope), renewed.is_fresh

    async def _with_tokens(self, view: SessionView, newest: TokenSet, scope: Scope) -> SessionView:
        """A session with its newest tokens, written to where they came from.

        Raises `StoreUnavailable`.
        """
        if newest == view.reading.tokens:
            return view
        if self._sessions.live_fingerprint(view, self._now()) is None:
            self._orphaned(view, newest)
            return view
        if self._is_kept_here(view):
            return await self._rewritten(view, newest)
        await self._name(view, newest)
        if newest.access_token and not isinstance(view.reading, OwnReading):
            self._succeeded(view, newest)
        if self._sessions.live_fingerprint(view, self._now()) is None:
            self._orphaned(view, newest)  # it has ended meanwhile
            return view
        return self._sessions.renewed(view, newest, scope)

    def _succeeded(self, view: SessionView, tokens: TokenSet) -> None:
        """Applications may seal the new token without the claim that says whose it is."""
        name = self._sessions.fingerprint_of(tokens.access_token)
        if view.fingerprint is not None and name != view.fingerprint:
            self._sessions.succeed(name, view.fingerprint)
            if self._is_shared and view.reading.claims is not None:
                self._tell_successor(name, view.fingerprint)
                before = self._sessions.fingerprint_of(view.reading.token or "")
                if before not in (name, view.fingerprint):
                    self._tell_successor(before, view.fingerprint, FORMER)

    def _bury(self, view: SessionView) -> None:
        session = view.session(view.fingerprint)
        if session is not None:
            self._sessions.bury(session, self._now())

    # -- what speaks for a session ----------------------------------------------------------------

    def doubts(self, view: SessionView) -> bool:
        """Whether other processes may know more in favour of a session that is presented."""
        return self._is_shared and any(map(self._is_doubted, view.sessions))

    def _is_doubted(self, session: OpenedSession) -> bool:
        return session.has_credential and self._sessions.proof_of(session) is Proof.NONE

    async def vouch_for(self, view: SessionView) -> None:
        """Finds out what other processes know in favour of the sessions, if the store says so."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(VOUCHING):
                for one in filter(self._is_doubted, view.sessions):
                    if await self._store.get(f"accepted:{one.fingerprint}") is not None:
                        self._sessions.accepted.add(one.fingerprint)

    def _tell_accepted(self, fingerprint: str) -> None:
        async def tell() -> None:
            with suppress(StoreUnavailable):
                await self._store.put(f"accepted:{fingerprint}", b"", ACCEPTED)

        if self.acceptances.take(self._now()):
            self._spawn(tell())

    # -- own sessions in the store ----------------------------------------------------------------

    def _is_kept_here(self, view: SessionView) -> bool:
        return self._is_stored and isinstance(view.reading, OwnReading)

    async def _reloaded(self, view: SessionView) -> SessionView:
        """A session as the store has it now; expired where it has ended there."""
        assert self._own is not None
        assert view.fingerprint is not None
        session = await self._own.get(view.fingerprint)
        if session is None and not self._sessions.is_dead(view.fingerprint, self._now()):
            self._check_doubt()
        return self._adopted(view, session)

    async def _rewritten(self, view: SessionView, tokens: TokenSet) -> SessionView:
        """A session with new tokens, which are written to the store; later where it is down now.

        Until then they are found by the old ones (`net.refresh`).
        """
        own, reading = self._own, view.reading
        assert own is not None
        assert isinstance(reading, OwnReading)
        assert reading.session is not None
        name = reading.session.fingerprint
        change = partial(_with_newer, tokens)
        try:
            session = await own.change(name, change)
        except StoreUnavailable:
            self._outbox.put(f"own:{name}", "session", partial(own.change, name, change))
            session = reading.session.renewed(tokens)
        return self._adopted(view, session)

    def _adopted(self, view: SessionView, session: OwnSession | None) -> SessionView:
        reading = view.reading
        assert isinstance(reading, OwnReading)
        assert reading.session is not None
        assert reading.cookie is not None
        adopted = None
        if session is not None:
            handle = Handle(reading.cookie, reading.session.id, session.fingerprint)
            adopted = self._sessions.adopt(view, handle, session, self._now())
        return adopted or self._sessions.supersede(view)

    # -- the end of a session that nobody presents ----------------------------------------------

    async def end(self, fingerprint: str, ends_at: float) -> OpenedSession | None:
        """Ends an own session everywhere; returns it as far as it is known, None if it had ended.

        `ends_at` is until when it could be presented. Raises `StoreUnavailable`; it has ended in
        this process all the same, and doing it again is harmless.
        """
        own, now = self._own, self._now()
        assert own is not None
        is_over = self._sessions.is_dead(fingerprint, now)
        if self._is_shared:
            is_over = await self._store.get(f"dead:{fingerprint}") is not None
        session = await own.get(fingerprint) if own.is_stored else None
        if session is None and (is_over or own.is_stored):
            return None
        known = self._sessions.known(fingerprint) or _as_named(fingerprint, session)
        tomb = Tombstone(now, ends_at)
        self._sessions.entomb(fingerprint, tomb)
        await self._write_death(fingerprint, tomb)
        if self._is_shared:
            await self._watch.confirm()
        return known

    def end_later(self, handles: Sequence[Handle], ended: Callable[[OpenedSession], None]) -> None:
        """Ends the own sessions in the store that cookies lead to, once the store can be asked.

        `ended` is called with each. Anybody can make such cookies up, so what waits is bounded.
        """
        for handle in handles:
            end = partial(self._end_presented, handle, ended)
            self._put_bounded(handle.fingerprint, "lookup", end)

    async def _end_presented(self, handle: Handle, ended: Callable[[OpenedSession], None]) -> None:
        own = self._own
        assert own is not None
        session = await own.get(handle.fingerprint)
        if session is None or not hmac.compare_digest(session.id, handle.id):
            return
        one = await self.end(handle.fingerprint, session.absolute_end(own.source.lifetimes))
        if one is not None:
            ended(one)

    def _orphaned(self, view: SessionView, tokens: TokenSet) -> None:
        """A session has ended while it was renewed: its new tokens are nobody's."""
        if view.fingerprint is not None:
            self._sessions.bury_tokens(view.fingerprint, tokens)
        if self.on_orphans is not None:
            self.on_orphans(tokens)

    def can_renew(self, view: SessionView) -> bool:
        """Whether the session holds what renews it."""
        return self.refresher is not None and view.reading.tokens is not None

    # -- what the store says --------------------------------------------------------------------

    async def _check(self, view: SessionView, *, by_cookie: bool) -> SessionView:
        """Asks the store for what other processes, or this one before a restart, left there.

        Raises `StoreUnavailable`.
        """
        key, has_died = view.key, False
        assert key is not None
        for session in view.sessions:
            if self._sessions.is_dead(session.fingerprint, self._now()):
                continue
            fingerprint, tomb = await self._ask(session)
            if tomb is not None:
                self._learn_death(fingerprint, tomb)
                has_died = True
            elif fingerprint != session.fingerprint:
                view = self._sessions.rename(view, session, fingerprint)
        if has_died:
            cookie, allowed = key
            return self._sessions.present(cookie, self._now(), allowed)
        if not by_cookie:
            return view
        for session in view.sessions:
            tokens = session.reading.tokens
            if tokens is not None and self.refresher is not None and tokens.refresh_token:
                await self.refresher.presented(tokens)
        return self._sessions.checked(view)

    async def _ask(self, session: OpenedSession) -> tuple[str, Tombstone | None]:
        """The fingerprint that a session is known by, and its tombstone if it is dead."""
        reading, fingerprint = session.reading, session.fingerprint
        pieces = tuple(self._sessions.pieces(reading))
        if reading.identity is None:
            for name in dict.fromkeys((fingerprint, *pieces)):
                alias = await self._store.get(f"alias:{name}")
                if alias is not None:
                    fingerprint = alias.decode()
                    if not session.is_sealed:
                        self._sessions.vouch(fingerprint)  # it has been renewed
                    break
        for name in dict.fromkeys((fingerprint, *pieces)):
            stored = await self._store.get(f"dead:{name}")
            if stored is None:
                continue
            told = msgspec.json.decode(stored, type=_Message)
            if told.tomb is not None:
                credentials = dict.fromkeys((*told.tomb.credentials, session.fingerprint, *pieces))
                credentials.pop(told.fingerprint, None)
                return told.fingerprint, replace(told.tomb, credentials=tuple(credentials))
        return fingerprint, None

    async def _name(self, view: SessionView, tokens: TokenSet) -> None:
        """Keeps the session's name where its cookies have no room for it."""
        reading = view.reading
        has_room = reading.claims is not None or isinstance(reading, OwnReading)
        if has_room or view.fingerprint is None:
            return
        old = reading.tokens
        spent = old.refresh_token if old is not None else None
        expiry = tokens.expires_at
        access = ALIAS if expiry is None else max(0.0, expiry - self._now()) + RETIRED
        known_for = {spent: FORMER, tokens.refresh_token: ALIAS, tokens.access_token: access}
        for credential, seconds in known_for.items():
            if credential:
                known_as = self._sessions.fingerprint_of(credential)
                self._remember_alias(known_as, view.fingerprint)
                with suppress(StoreUnavailable):
                    await self._store.put(f"alias:{known_as}", view.fingerprint.encode(), seconds)

    # -- what is told and heard -----------------------------------------------------------------

    def _tell_death(self, fingerprint: str, tomb: Tombstone) -> None:
        """Of one that nothing speaks for, others are told for a minute, if there is time for it."""
        if tomb.proof is Proof.NONE:
            if self._is_shared and self.unproven_deaths.take(self._now()):
                told = replace(tomb, until=min(tomb.until, self._now() + SHARED))
                tell = partial(self._write_death, fingerprint, told)
                # Others may know more of it, so it is repeated until the store is back.
                self._put_bounded(fingerprint, "unproven_logout", tell)
            return
        tell = partial(self._write_death, fingerprint, tomb)
        if tomb.proof is Proof.VOUCHED:
            self._outbox.put(fingerprint, "logout", tell)
        else:
            self._put_bounded(fingerprint, "accepted_logout", tell)

    def _put_bounded(self, key: str, kind: str, write: Write) -> None:
        """Repeats what the store did not take, unless too much is waiting already."""
        if self._outbox.pending[kind] < WAITING:
            self._outbox.put(key, kind, write)
        else:
            self._spawn(_once(write))

    async def _write_death(self, fingerprint: str, tomb: Tombstone) -> None:
        """Raises `StoreUnavailable`."""
        if self._is_shared:
            fingerprint, tomb = await self._first_named(fingerprint, tomb)
            await self._put_death(fingerprint, tomb, _message("dead", fingerprint, tomb))
        elif self._own is not None and self._own.is_stored:
            await self._own.drop(fingerprint)

    async def _first_named(self, fingerprint: str, tomb: Tombstone) -> tuple[str, Tombstone]:
        """The death under the name that the session had before others renewed it.

        When it ended here, the store may not have been there to be asked. Raises
        `StoreUnavailable`.
        """
        names = dict.fromkeys((fingerprint, *tomb.credentials))
        for name in names:
            alias = await self._store.get(f"alias:{name}")
            if alias is None or alias.decode() == fingerprint:
                continue
            first = alias.decode()
            known = replace(tomb, credentials=tuple(one for one in names if one != first))
            self._sessions.entomb(first, known)
            return first, known
        return fingerprint, tomb

    async def _put_death(
        self, fingerprint: str, tomb: Tombstone, message: bytes | None = None
    ) -> None:
        """Raises `StoreUnavailable`."""
        seconds, told = tomb.until - self._now(), _message("dead", fingerprint, tomb)
        keys = [f"dead:{name}" for name in (fingerprint, *tomb.credentials)]
        if tomb.proof is Proof.NONE:  # what others have told of it for longer stays
            for key in keys:
                await self._store.add(key, told, seconds)
            keys = []
        await self._store.put_all(dict.fromkeys(keys, told), seconds, message)
        if self._own is not None and self._own.is_stored:
            await self._own.drop(fingerprint)

    def _learn_death(self, fingerprint: str, tomb: Tombstone) -> None:
        """Another process has ended a session; what is known here in its favour is told then."""
        proof = self._sessions.known_of(fingerprint)
        if proof > tomb.proof:
            until = max(tomb.until, self._now() + UNKNOWN_LIFETIME)
            tomb = replace(tomb, proof=proof, until=until)
            self._tell_death(fingerprint, tomb)
        self._sessions.learn_death(fingerprint, tomb)

    def _untell_death(self, fingerprint: str, tomb: Tombstone) -> None:
        """What a session that an upstream has accepted left in the store goes with its tombstone.

        There is no other bound for it there. Others have it still, as long as they have room.
        """
        if tomb.proof is Proof.ACCEPTED:
            self._spawn(_once(partial(self._remove_death, fingerprint, tomb)))

    async def _remove_death(self, fingerprint: str, tomb: Tombstone) -> None:
        for name in (fingerprint, *tomb.credentials):
            await self._store.remove(f"dead:{name}")

    def _tell_successor(self, name: str, fingerprint: str, seconds: float = ALIAS) -> None:
        self._remember_alias(name, fingerprint)
        put = partial(self._store.put, f"alias:{name}", fingerprint.encode(), seconds)
        self._outbox.put(f"alias:{name}", "name", put)

    def _remember_alias(self, name: str, fingerprint: str) -> None:
        """For a store that loses its data; the oldest ones make room."""
        self._aliases.pop(name, None)
        self._aliases[name] = fingerprint
        if len(self._aliases) > ALIASES:
            del self._aliases[next(iter(self._aliases))]

    def _tell_rotation(self, name: str, earlier: tuple[str, ...]) -> None:
        told = msgspec.json.encode(_Message("rotated", name, earlier=earlier))
        self._outbox.put(f"rotated:{name}", "name", partial(self._store.publish, told))

    def _handed_out(self, names: tuple[str, ...], began: float) -> None:
        """A login handed out a credential that is not dead here: what others know of its death
        before is over.
        """

        async def lift() -> None:
            for name in names:
                stored = await self._store.get(f"dead:{name}")
                told = None if stored is None else msgspec.json.decode(stored, type=_Message)
                if told is not None and told.tomb is not None and told.tomb.since < began:
                    self._sessions.exhume(told.fingerprint)
                    self._tell_revival(told.fingerprint, told.tomb)
                    return

        self._put_bounded(names[0], "lookup", lift)

    def _tell_revival(self, fingerprint: str, tomb: Tombstone) -> None:
        async def tell() -> None:
            await self._remove_death(fingerprint, tomb)
            await self._store.publish(_message("alive", fingerprint, None))

        self._outbox.put(fingerprint, "login", tell)

    async def _restore(self) -> None:
        """Writes what this process knows once more, and has all look at it.

        Raises `StoreUnavailable`.
        """
        if self.refresher is not None:
            await self.refresher.restore()
        now = self._now()
        tombs = tuple(self._sessions.tombs.by_fingerprint.items())
        await _in_turn(
            partial(self._put_death, fingerprint, tomb)
            for fingerprint, tomb in tombs
            if now < tomb.until and tomb.proof is not Proof.NONE
        )
        await _in_turn(
            partial(self._store.put, f"alias:{name}", fingerprint.encode(), FORMER)
            for name, fingerprint in tuple(self._aliases.items())
        )
        if self._own is not None:
            await _in_turn(
                partial(self._restore_own, self._own, session)
                for session in self._sessions.own_sessions(now)
            )
        await self._store.publish(_message("restored", "", None))

    async def _restore_own(self, own: OwnSessions, session: OwnSession) -> None:
        """Raises `StoreUnavailable`."""
        await own.restore(session)
        # Who ended it writes its death first and drops it then. One of both sees the other.
        if await self._store.get(f"dead:{session.fingerprint}") is not None and own.is_stored:
            await own.drop(session.fingerprint)

    def _hear(self, message: bytes) -> None:
        try:
            heard = msgspec.json.decode(message, type=_Message)
        except ValueError:
            return  # of a newer version
        if heard.what == "dead" and heard.tomb is not None:
            self._learn_death(heard.fingerprint, heard.tomb)
        elif heard.what == "alive":
            self._sessions.exhume(heard.fingerprint)
        elif heard.what == "rotated":
            self._sessions.rotated(heard.fingerprint, heard.earlier)
        elif heard.what == "restored":
            self._look_again()


class _Message(msgspec.Struct):
    """What one process tells the others."""

    what: str
    fingerprint: str
    tomb: Tombstone | None = None
    earlier: tuple[str, ...] = ()


def _message(what: str, fingerprint: str, tomb: Tombstone | None) -> bytes:
    return msgspec.json.encode(_Message(what, fingerprint, tomb))


def _is_sealed(view: SessionView) -> bool:
    """Whether the session came in a cookie that no stranger can make up."""
    return view.reading.claims is not None or isinstance(view.reading, OwnReading)


def _with_newer(tokens: TokenSet, session: OwnSession) -> OwnSession:
    """The session with these tokens, unless it has newer ones already."""
    is_older = tokens.generation < session.tokens.generation
    return session if is_older else session.renewed(tokens)


def _as_named(fingerprint: str, session: OwnSession | None) -> OpenedSession:
    """Stands for a session that nobody presents, with the tokens that are to be revoked."""
    tokens = None if session is None else session.tokens
    reading = Reading(
        Result.OK,
        source=TYPE,
        token=None if tokens is None else tokens.access_token or None,
        tokens=tokens if tokens is not None and tokens.refresh_token else None,
        identity=fingerprint,
    )
    return OpenedSession(fingerprint, reading, 0)


async def _once(tell: Write) -> None:
    """What is not worth a second attempt."""
    with suppress(StoreUnavailable):
        await tell()


async def _in_turn(writes: Iterable[Write]) -> None:
    """Some at a time. Raises `StoreUnavailable`."""
    left = iter(writes)
    while batch := tuple(islice(left, AT_ONCE)):
        await asyncio.gather(*(write() for write in batch))
