"""Sessions as they are presented: opened once, remembered, and refused once they are dead."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Final

from sidecar.core.attributes import Scope
from sidecar.core.cookies import (
    CookieJar,
    is_expiring,
    set_cookie_name,
    takes_away,
    with_set_cookies,
)
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.own import Handle, OwnCookieSource, OwnReading, OwnSession, OwnStoreSource
from sidecar.core.proof import Proof
from sidecar.core.tickets import Signer
from sidecar.core.tokens import TokenSet
from sidecar.core.view import Key, OpenedSession, SessionView, SourceSet, ViewReader
from sidecar.net.bounds import Names
from sidecar.net.tombstones import Tombstone, Tombstones

CACHE_BYTES: Final = 16 * 1024 * 1024  # of headers with a sealed session; of others as much
ENTRY_OVERHEAD: Final = 1024  # bytes of an entry besides its Cookie value, stored several times
MAX_SPENT: Final = 10_000
MAX_SUCCESSORS: Final = 10_000
MAX_EARLIER: Final = 8  # generations that a logout ends besides the one presented
UNKNOWN_LIFETIME: Final = 30 * 86400.0  # a credential that does not say when it ends
MAX_WORDS: Final = 8  # of an Authorization value that are looked at
ACCEPTED_BYTES: Final = 8 * 1024 * 1024  # of plain sessions that an upstream has accepted
VOUCHED_BYTES: Final = 8 * 1024 * 1024  # of those that the provider has renewed
NOT_FOUND: Final = 5.0  # seconds for which it is remembered that the store has no such session


_WORDS: Final = re.compile(r"[\s,]+")


class Sessions:
    """The sessions of one process. Times are Unix seconds, given by the caller.

    What is remembered of a Cookie header is a `SessionView`. A view is never changed: what is
    learned later of its session is another view, which takes its place. A request that holds the
    former one goes on with that, and nothing is planned with it any more (`is_current`).
    """

    __slots__ = (
        "_bearers",
        "_cache",
        "_cached",
        "_earlier",
        "_holders",
        "_keys",
        "_leeway",
        "_own",
        "_reader",
        "_signer",
        "_spent",
        "_streams",
        "_successors",
        "_vouched",
        "accepted",
        "deaths",
        "is_shared",
        "on_accepted",
        "on_death",
        "on_handed_out",
        "on_read",
        "on_revival",
        "on_rotation",
        "on_successor",
        "tombs",
    )

    def __init__(self, reader: ViewReader, signer: Signer, leeway: float | None = None) -> None:
        """`leeway` is how long before their expiry tokens are renewed; None: they are not."""
        self._leeway: Final = leeway
        self._reader: Final = reader
        self._own: Final = reader.own
        self._signer: Final = signer
        self.is_shared = False
        self.on_death: Callable[[str, Tombstone], None] | None = None
        self.on_revival: Callable[[str, Tombstone], None] | None = None
        self.on_handed_out: Callable[[tuple[str, ...], float], None] | None = None
        self.on_successor: Callable[[str, str], None] | None = None
        self.on_rotation: Callable[[str, tuple[str, ...]], None] | None = None
        self.on_accepted: Callable[[str], None] | None = None
        self.on_read: Callable[[SessionView, float], None] | None = None
        self.deaths = 0  # counts sessions that have died or risen, for what was planned before
        self._cache: dict[Key, SessionView] = {}
        self._cached: Final = (_Order(), _Order())  # anybody's headers, and those with a seal
        self._keys: dict[str, set[Key]] = {}  # fingerprint → where it is remembered
        self._bearers: dict[str, Key] = {}  # a token's name → where its session is remembered
        self._holders: dict[str, set[Key]] = {}  # a token's name → where it was presented
        self._spent: dict[str, None] = {}  # the names of refresh tokens that were exchanged
        self._earlier: dict[str, tuple[str, ...]] = {}  # fingerprint → those of older generations
        self._successors: dict[str, str] = {}  # the name of a later credential → the session's
        self.accepted: Final = Names(ACCEPTED_BYTES)
        self._vouched: Final = Names(VOUCHED_BYTES)
        self.tombs: Final = Tombstones()
        self._streams: dict[str, set[Callable[[], None]]] = {}

    # -- what is presented ----------------------------------------------------------------------

    def present(self, cookie: bytes, now: float, allowed: SourceSet | None = None) -> SessionView:
        """Reads a Cookie header value, from memory if it was read before.

        `allowed` are the sources that the credential may be of; None: all. A dead session is
        presented like any other if there is no living one: `live_fingerprint` tells them apart.
        """
        key = (cookie, self._reader.every if allowed is None else allowed)
        view = self._cache.get(key)
        return self._open(key, now) if view is None or now >= view.valid_until else view

    def recognise(
        self, authorization: bytes, now: float, allowed: SourceSet | None = None
    ) -> SessionView | None:
        """The session whose credential is this Authorization value; None for one not known here.

        So a frontend's server that sends the token by itself, without the cookie, is known for
        whom it asks.
        """
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not is_b64token(token):
            return None
        name = self.fingerprint_of(token)
        fingerprint = self.tombs.dead_session(name) or name
        if self.is_dead(fingerprint, now):
            return SessionView(Reading(Result.OK, token=token), fingerprint, b"", b"")
        key = self._bearers.get(name)
        view = None if key is None else self._cache.get(key)
        if view is None or view.reading.token != token or now >= view.valid_until:
            return None
        session = view.session(view.fingerprint)
        is_allowed = allowed is None or (session is not None and session.source in allowed)
        return view if is_allowed else None

    def is_current(self, view: SessionView) -> bool:
        """Whether a view is what the same Cookie header would be given now."""
        return view.key is not None and self._cache.get(view.key) is view

    def is_dead(self, fingerprint: str | None, now: float) -> bool:
        """Whether a session has ended here; its replayed cookie is refused."""
        return fingerprint is not None and self.tombs.of(fingerprint, now) is not None

    def live_fingerprint(self, view: SessionView, now: float) -> str | None:
        """The fingerprint of the living session with a credential; None if there is none."""
        if not view.has_credential or self.is_dead(view.fingerprint, now):
            return None
        return view.fingerprint

    def _open(
        self, key: Key, now: float, loaded: tuple[Reading, ...] = (), *, is_settled: bool = False
    ) -> SessionView:
        """Reads a Cookie header. `is_settled`: the store has said what it has of it."""
        cookie, allowed = key
        jar = CookieJar.parse(cookie.decode("latin-1"))
        view = self._reader.read(
            jar,
            now,
            allowed,
            name_of=self._name_of,
            is_dead=lambda fingerprint: self.is_dead(fingerprint, now),
            loaded=loaded,
        )
        if self.on_read is not None and (view.readable or view.unreadable):
            self.on_read(view, now)
        handles = self._reader.handles(jar) if 0 in allowed and not is_settled else ()
        view = replace(
            view,
            key=key,
            handles=handles,
            renews_at=self._attention_at(view.reading),
            is_checked=not handles and self._is_known(view),
        )
        self._forget(key)
        return view if handles or not view.is_lasting else self._remember(key, view)

    def _is_known(self, view: SessionView) -> bool:
        """Whether the store need not be asked: it was, for each of the sessions."""
        return not self.is_shared or all(map(self._was_checked, view.sessions))

    def _was_checked(self, session: OpenedSession) -> bool:
        keys = self._keys.get(session.fingerprint, ())
        return session.reading.tokens is None and any(self._cache[key].is_checked for key in keys)

    def _attention_at(self, reading: Reading) -> float:
        """From when on a session is more than read: its token is renewed, or its use noted."""
        renewal = inf
        if reading.result is not Result.OK:
            return renewal
        if self._leeway is not None and reading.tokens is not None:
            renewal = reading.tokens.renews_at(self._leeway)
        if self._own is None or not isinstance(reading, OwnReading) or reading.session is None:
            return renewal
        return min(renewal, reading.session.touch_due_at(self._own.lifetimes))

    # -- names ----------------------------------------------------------------------------------

    def _name_of(self, reading: Reading) -> str | None:
        """The fingerprint of an opened session: what it was named by, else its credential's."""
        if self.tombs:
            for name in self._credentials(reading):
                fingerprint = self.tombs.dead_session(name)
                if fingerprint is not None:
                    return fingerprint
        if reading.identity is not None:
            return reading.identity
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        credential = reading.token or refresh or reading.content
        if not credential:
            return None
        name = self.fingerprint_of(credential)
        return self.tombs.dead_session(name) or self._successors.get(name, name)

    def _credentials(self, reading: Reading) -> Iterator[str]:
        """The names of the tokens that a session holds; an own one is known by its id alone."""
        if isinstance(reading, OwnReading):
            return
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        for credential in (reading.token, refresh):
            if credential:
                yield self.fingerprint_of(credential)

    def _content_name(self, reading: Reading) -> Iterator[str]:
        """The name of a session without a token by what is in it now."""
        if reading.content:
            yield self.fingerprint_of(reading.content)

    def fingerprint_of(self, credential: str) -> str:
        """The fingerprint of a session of which this is the first credential.

        Servers take several spellings of a token: padding, and of a JWT other spellings of its
        signature. So the name leaves these out.
        """
        return self._signer.fingerprint(_essence(credential))

    def pieces(self, reading: Reading) -> Iterator[str]:
        """The names of tokens that stand in cookies of their own, apart from each other."""
        if reading.tokens is not None and reading.claims is None:
            yield from self._credentials(reading)

    # -- what speaks for a session ----------------------------------------------------------------

    def proof_of(self, session: OpenedSession) -> Proof:
        """What speaks for a session that was presented."""
        return Proof.VOUCHED if session.is_sealed else self.known_of(session.fingerprint)

    def known_of(self, fingerprint: str) -> Proof:
        """What has spoken here for a plain session so far."""
        if fingerprint in self._vouched:
            return Proof.VOUCHED
        return Proof.ACCEPTED if fingerprint in self.accepted else Proof.NONE

    def accept(self, fingerprint: str) -> None:
        """An upstream has accepted a session's credential; that may be told to others."""
        if fingerprint not in self.accepted:
            self.accepted.add(fingerprint)
            if self.on_accepted is not None:
                self.on_accepted(fingerprint)

    def vouch(self, fingerprint: str) -> None:
        """The provider has renewed a session."""
        self._vouched.add(fingerprint)

    # -- what is learned of a session -------------------------------------------------------------

    def rename(self, view: SessionView, session: OpenedSession, fingerprint: str) -> SessionView:
        """One of its sessions under the fingerprint that it had before it was renewed."""
        return self._succeed(view, view.renamed(session, fingerprint))

    def checked(self, view: SessionView) -> SessionView:
        """The same sessions, of which the store has nothing else to say."""
        return self._succeed(view, replace(view, is_checked=True))

    def postponed(self, view: SessionView, renews_at: float) -> SessionView:
        """The same session, which needs no attention before `renews_at`."""
        return self._succeed(view, replace(view, renews_at=renews_at))

    def supersede(self, view: SessionView) -> SessionView:
        """What was presented is out of date: its session goes on, but no longer with this."""
        return self._succeed(view, view.expired())

    def _succeed(self, old: SessionView, new: SessionView) -> SessionView:
        """Remembers a view in the place of the one that it was made of, if that is still there."""
        if old.key is None or not self.is_current(old):
            return new
        self._forget(old.key)
        return self._remember(old.key, new)

    def renewed(self, view: SessionView, tokens: TokenSet, scope: Scope) -> SessionView:
        """The session with new tokens, for a request that presented it with old ones."""
        reading, fingerprint = view.reading, view.fingerprint
        assert fingerprint is not None
        assert reading.writer is not None
        lines = reading.writer.write(reading, tokens, fingerprint, scope)
        if view.is_raw:
            self.vouch(fingerprint)
        # It keeps its name, though its first credential is in it no longer.
        new = replace(reading, token=tokens.access_token, tokens=tokens, identity=fingerprint)
        if isinstance(new, OwnReading) and new.session is not None:
            new = replace(new, session=new.session.renewed(tokens))
        self._spend(reading.tokens, tokens)
        issued_at = tokens.issued_at or 0.0
        own = _for_this_request(view, new, lines, issued_at)
        if lines and own.cookie and view.key is not None:
            # A page that is given the new token may use it before its browser has its cookies.
            for allowed in {view.key[1], self._reader.every}:
                self._expect((own.cookie, allowed), fingerprint, tokens, issued_at)
        return own

    def _expect(self, key: Key, fingerprint: str, tokens: TokenSet, now: float) -> None:
        """Remembers a header that is to be presented next, with what is known of its session."""
        view = self._open(key, now)
        if view.has_credential and not view.handles:
            reading = replace(view.reading, tokens=tokens, identity=fingerprint)
            renamed = replace(
                view.with_reading(reading),
                renews_at=self._attention_at(reading),
                is_checked=not self.is_shared,  # nobody has presented it yet
            )
            self._forget(key)
            self._remember(key, renamed)

    def _spend(self, old: TokenSet | None, new: TokenSet) -> None:
        """Remembers a refresh token that was exchanged for another one."""
        if old is None or not old.refresh_token or old.refresh_token == new.refresh_token:
            return
        self._spent[self.fingerprint_of(old.refresh_token)] = None
        if len(self._spent) > MAX_SPENT:
            del self._spent[next(iter(self._spent))]

    def _is_spent(self, reading: Reading) -> bool:
        """Whether a session holds a refresh token that was exchanged here already."""
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        return bool(refresh) and self.fingerprint_of(refresh or "") in self._spent

    def touched(self, view: SessionView, scope: Scope, now: float) -> SessionView:
        """A sealed own session whose use is noted, for a request that presented it."""
        reading = view.reading
        assert isinstance(self._own, OwnCookieSource)
        assert isinstance(reading, OwnReading)
        assert reading.session is not None
        session = reading.session.touched(now)
        lines = [self._own.use_line(session, scope)]
        return _for_this_request(view, replace(reading, session=session), lines, now)

    # -- own sessions in the store ----------------------------------------------------------------

    def adopt(
        self, view: SessionView, handle: Handle, session: OwnSession, now: float
    ) -> SessionView | None:
        """What the cookies hold if this session was found for a handle of theirs.

        None if the handle is not this session's. Whatever was remembered of the session goes.
        """
        assert isinstance(self._own, OwnStoreSource)
        assert view.key is not None
        jar = CookieJar.parse(view.key[0].decode("latin-1"))
        reading = self._own.reading(jar, handle, session, now)
        if reading.result is Result.INVALID:
            return None
        self.outdate(handle.fingerprint)
        return self._open(view.key, now, (reading,), is_settled=True)

    def not_found(self, view: SessionView, now: float) -> SessionView:
        """What the cookies hold if the store has no session for any of their handles."""
        assert view.key is not None
        opened = self._open(view.key, now, is_settled=True)
        until = min(opened.valid_until, now + NOT_FOUND)
        return self._succeed(opened, replace(opened, valid_until=until))

    def outdate(self, fingerprint: str) -> None:
        """Forgets what is remembered of a session; plans that were made with it hold no longer."""
        for key in tuple(self._keys.get(fingerprint, ())):
            self._forget(key)

    def known(self, fingerprint: str) -> OpenedSession | None:
        """A session as it was presented here last, by its name."""
        keys = self._keys.get(fingerprint, ())
        return next((self._cache[key].session(fingerprint) for key in keys), None)

    def has_lost(self, view: SessionView, now: float) -> bool:
        """Whether a session has died since the view was made."""
        return any(self.is_dead(fingerprint, now) for fingerprint in view.living)

    def is_dead_bearer(self, authorization: bytes, now: float) -> bool:
        """Whether an Authorization value holds a token, or a sealed session, that is dead.

        Servers split it as they like, and libraries take a session out of it as out of a cookie.
        """
        if not self.tombs:
            return False
        words = _WORDS.split(authorization.decode("latin-1"))[:MAX_WORDS]
        for word in words:
            fingerprint = self.tombs.dead_session(self.fingerprint_of(word))
            if self.is_dead(fingerprint, now):
                return True
            jar = CookieJar.parse("; ".join(f"{name}={word}" for name in self._reader.sealed_names))
            for session in self._reader.opened(jar, now, self._name_of):
                if self.is_dead(session.fingerprint, now):
                    return True
        return False

    def living(self, view: SessionView, now: float) -> list[OpenedSession]:
        """The sessions presented that are alive."""
        return [one for one in view.sessions if not self.is_dead(one.fingerprint, now)]

    def is_of(self, name: str, sessions: Iterable[OpenedSession]) -> bool:
        """Whether a cookie belongs to the sources of one of these sessions."""
        matchers = self._reader.matchers
        return any(matchers[one.source].matches(name) for one in sessions)

    # -- the memory -----------------------------------------------------------------------------

    def _remember(self, key: Key, view: SessionView) -> SessionView:
        view = replace(view, bearer=self._bearer(view))
        self._cache[key] = view
        order = self._cached[_has_seal(view)]
        order.keys[key] = None
        order.bytes += _cost(view)
        for index, name in self._index_entries(view):
            index.setdefault(name, set()).add(key)
        if view.bearer is not None:
            self._bearers[view.bearer] = key
        while order.bytes > CACHE_BYTES:
            self._forget(next(iter(order.keys)))
        return view

    def _bearer(self, view: SessionView) -> str | None:
        reading, fingerprint = view.reading, view.fingerprint
        if not view.has_credential or not reading.token:
            return None
        is_first = reading.identity is None and self.tombs.dead_session(fingerprint or "") is None
        return fingerprint if is_first else self.fingerprint_of(reading.token)

    def _index_entries(self, view: SessionView) -> Iterator[tuple[dict[str, set[Key]], str]]:
        for session in view.sessions:
            yield self._keys, session.fingerprint
            for name in self.pieces(session.reading):
                yield self._holders, name

    def _forget(self, key: Key) -> None:
        view = self._cache.pop(key, None)
        if view is None:
            return
        order = self._cached[_has_seal(view)]
        del order.keys[key]
        order.bytes -= _cost(view)
        for index, name in self._index_entries(view):
            keys = index.get(name)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del index[name]
        if view.bearer is not None and self._bearers.get(view.bearer) == key:
            del self._bearers[view.bearer]

    # -- death ----------------------------------------------------------------------------------

    def bury(self, session: OpenedSession, now: float) -> None:
        """Marks the session dead for as long as its credential could be presented.

        That is no less than `UNKNOWN_LIFETIME`, since a frontend re-seals one credential into
        cookies that end later; only an own session says when it ends. A second death does not move
        the first: a login that began in between would be taken for an answer from before the
        logout.
        """
        fingerprint, reading = session.fingerprint, session.reading
        until = now + UNKNOWN_LIFETIME
        if isinstance(reading, OwnReading) and reading.ends_at is not None:
            until = reading.ends_at
        elif reading.valid_until is not None:
            until = max(until, reading.valid_until)
        before = self.tombs.of(fingerprint, now)
        since = now if before is None else before.since
        names = {
            *self._credentials(reading),
            *self._content_name(reading),
            *self._earlier.get(fingerprint, ()),
        } - {fingerprint}
        proof = self.proof_of(session)
        tomb = Tombstone(since, until, tuple(sorted(names)), proof)
        is_news = (
            before is None
            or proof > before.proof
            or self.tombs.with_names(fingerprint, names) is not None
        )
        if self.on_death is not None and is_news:
            self.on_death(fingerprint, tomb)
        self.entomb(fingerprint, tomb)

    def bury_tokens(self, fingerprint: str, tokens: TokenSet) -> None:
        """Tokens turn out to be a dead session's: they are dead as well."""
        reading = Reading(Result.OK, token=tokens.access_token, tokens=tokens)
        self._bury_names(fingerprint, self._credentials(reading))

    def _bury_names(self, fingerprint: str, names: Iterable[str]) -> None:
        tomb = self.tombs.with_names(fingerprint, names)
        if tomb is None:
            return
        if self.on_death is not None:
            self.on_death(fingerprint, tomb)
        self.entomb(fingerprint, tomb)

    def entomb(self, fingerprint: str, tomb: Tombstone) -> None:
        """A session is dead, here or as another process tells: what lives with it ends."""
        self.deaths += 1
        tomb = self.tombs.put(fingerprint, tomb)
        self._outdate_all(fingerprint, tomb)
        for close in tuple(self._streams.get(fingerprint, ())):
            close()

    def learn_death(self, fingerprint: str, tomb: Tombstone) -> None:
        """Another process has ended a session: its earlier generations are known here, perhaps."""
        self.entomb(fingerprint, tomb)
        names = (fingerprint, *tomb.credentials)
        earlier = [one for name in names for one in self._earlier.get(name, ())]
        self._bury_names(fingerprint, earlier)

    def exhume(self, fingerprint: str) -> None:
        """A credential was handed out again, here or as another process tells."""
        self.deaths += 1
        tomb = self.tombs.lift(fingerprint)
        if tomb is not None:
            self._outdate_all(fingerprint, tomb)

    def _outdate_all(self, fingerprint: str, tomb: Tombstone) -> None:
        """Forgets every header that a session, or a token of it, was presented in."""
        keys = set(self._keys.get(fingerprint, ()))
        for name in (fingerprint, *tomb.credentials):
            keys.update(self._keys.get(name, ()))
            keys.update(self._holders.get(name, ()))
        for key in keys:
            self._forget(key)

    def forget_all(self) -> None:
        """Forgets every header, so that the store is asked once more of its sessions."""
        for key in tuple(self._cache):
            self._forget(key)

    def own_sessions(self, now: float) -> list[OwnSession]:
        """The living login sessions that are remembered, each with the newest tokens known."""
        found: dict[str, OwnSession] = {}
        for view in tuple(self._cache.values()):
            for one in view.sessions:
                session = one.reading.session if isinstance(one.reading, OwnReading) else None
                if session is None or self.is_dead(one.fingerprint, now):
                    continue
                before = found.get(one.fingerprint)
                if before is None or before.tokens.generation < session.tokens.generation:
                    found[one.fingerprint] = session
        return list(found.values())

    @property
    def dead(self) -> int:
        """How many tombstones there are."""
        return len(self.tombs)

    @property
    def cached(self) -> int:
        """How many Cookie headers are remembered."""
        return len(self._cache)

    # -- what an answer sets --------------------------------------------------------------------

    def is_session_cookie(self, set_cookie: bytes) -> bool:
        """Whether a Set-Cookie value names a session cookie."""
        return self._reader.names.matches(set_cookie_name(set_cookie))

    def admit(
        self, cookies: Sequence[bytes], view: SessionView, began: float, now: float
    ) -> list[bytes]:
        """The Set-Cookie values that may pass if an upstream may set session cookies.

        No answer to a request that presented a session and began before its logout sets a session
        cookie, whatever is in it: it may be the same session with rotated tokens, which are dead
        then as well. A credential that is dead stays dead, unless the request began after the
        logout and did not present it: then it was handed out again. Nor passes a session whose
        tokens were renewed meanwhile: a late answer would put old ones back.
        """
        if not any(map(self.is_session_cookie, cookies)):
            return list(cookies)
        died = self._died_since(view, began, now)
        if died is not None:
            for session in self._handed_out(cookies, now):
                self._bury_names(died, (session.fingerprint, *self._credentials(session.reading)))
            return [
                one for one in cookies if not self.is_session_cookie(one) or is_expiring(one, now)
            ]
        refused: set[str] = set()
        for session in self._handed_out(cookies, now):
            if self._is_spent(session.reading) or not self._may_live(session, view, began, now):
                refused.update(session.reading.names)
            else:
                self._note_successor(session, view, now)
                if not session.is_sealed:
                    self.accept(session.fingerprint)  # it comes from the upstream
        return [cookie for cookie in cookies if set_cookie_name(cookie) not in refused]

    def _died_since(self, view: SessionView, began: float, now: float) -> str | None:
        """A session that was presented and has ended since the request began."""
        for one in view.sessions:
            fingerprint = self._name_of(one.reading) or one.fingerprint
            died_at = self.tombs.died_at(fingerprint, now)
            if died_at is not None and died_at >= began:
                return fingerprint
        return None

    def _may_live(
        self, session: OpenedSession, view: SessionView, began: float, now: float
    ) -> bool:
        """Whether a session that an answer sets is alive, or may live again."""
        fingerprint = session.fingerprint
        tomb = self.tombs.of(fingerprint, now)
        if tomb is None:
            if self.on_handed_out is not None and not view.presents(fingerprint):
                names = (fingerprint, *self._credentials(session.reading))
                self.on_handed_out(tuple(dict.fromkeys(names)), began)
            return True
        if began <= tomb.since or view.presents(fingerprint):
            return False
        self.exhume(fingerprint)
        if self.on_revival is not None:
            self.on_revival(fingerprint, tomb)
        return True

    def _note_successor(self, session: OpenedSession, view: SessionView, now: float) -> None:
        """Keeps what a session was before that its application has sealed again.

        Without a token it goes on under its name. With rotated tokens it is a later generation: its
        logout ends the earlier ones, but a 401 for an earlier one does not end it.
        """
        name, after = session.fingerprint, session.reading
        for before in view.sessions:
            if before.source != session.source or before.fingerprint == name:
                continue
            if self.is_dead(before.fingerprint, now) or after.identity is not None:
                continue
            if after.is_resealed_from(before.reading):
                self.succeed(name, before.fingerprint)
                if self.on_successor is not None:
                    self.on_successor(name, before.fingerprint)
            elif after.has_rotated_from(before.reading):
                earlier = (*self._earlier.get(before.fingerprint, ()), before.fingerprint)
                earlier = earlier[-MAX_EARLIER:]
                self.rotated(name, earlier)
                if self.on_rotation is not None:
                    self.on_rotation(name, earlier)

    def rotated(self, name: str, earlier: tuple[str, ...]) -> None:
        """A session had these names before its application rotated its tokens, the oldest first."""
        self._earlier[name] = earlier
        if len(self._earlier) > MAX_SUCCESSORS:
            del self._earlier[next(iter(self._earlier))]
        dead = self.tombs.dead_session(name)
        if dead is not None:
            self._bury_names(dead, earlier)

    def succeed(self, name: str, fingerprint: str) -> None:
        """A credential of this name is a later one of a session."""
        self.outdate(name)
        self._successors[name] = fingerprint
        if len(self._successors) > MAX_SUCCESSORS:
            del self._successors[next(iter(self._successors))]

    def ended_by(
        self,
        cookies: Sequence[bytes],
        view: SessionView,
        now: float,
        *,
        domains: Collection[str] = (),
        paths: Collection[str] = (),
    ) -> list[OpenedSession]:
        """The living sessions presented that an answer's Set-Cookie values take away.

        Expiring a piece is not enough: a session that grows or shrinks changes its chunks. What
        the browser presents next must hold no session of that source any more, and the answer must
        not set another one. `domains` and `paths` are those that the cookies may have been set on.
        """
        gone = {set_cookie_name(one) for one in cookies if takes_away(one, now, domains, paths)}
        candidates = [
            one
            for one in view.sessions
            if not gone.isdisjoint(one.reading.names) and not self.is_dead(one.fingerprint, now)
        ]
        if not candidates or view.key is None:
            return []
        set_anew = {set_cookie_name(one) for one in cookies if not is_expiring(one, now)} - gone
        header = view.key[0].decode("latin-1")
        after = CookieJar.parse(with_set_cookies(header, cookies, now))
        left = {one.source for one in self._reader.opened(after, now, self._name_of)}
        handles = {one.fingerprint for one in self._reader.handles(after)}
        return [
            one
            for one in candidates
            if one.source not in left
            and one.fingerprint not in handles
            and not any(map(self._reader.matchers[one.source].matches, set_anew))
        ]

    def _handed_out(self, cookies: Sequence[bytes], now: float) -> Iterator[OpenedSession]:
        """The sessions in Set-Cookie values: in each one, and in the chunks together."""
        texts = [_pair(cookie) for cookie in cookies if self.is_session_cookie(cookie)]
        if len(texts) > 1:
            texts.append("; ".join(texts))
        for text in texts:
            yield from self._reader.opened(CookieJar.parse(text), now, self._name_of)

    # -- what lives as long as the session --------------------------------------------------------

    @property
    def attached(self) -> tuple[str, ...]:
        """The sessions that something lives as long as."""
        return tuple(self._streams)

    def attach(self, fingerprint: str, close: Callable[[], None]) -> None:
        """Has `close` called when the session ends (WebSockets, event streams)."""
        self._streams.setdefault(fingerprint, set()).add(close)

    def detach(self, fingerprint: str, close: Callable[[], None]) -> None:
        """Takes back what `attach` did."""
        closers = self._streams.get(fingerprint)
        if closers is not None:
            closers.discard(close)
            if not closers:
                del self._streams[fingerprint]


class _Order:
    """The headers of one kind, the one remembered first before all others, and their bytes."""

    __slots__ = ("bytes", "keys")

    def __init__(self) -> None:
        self.keys: dict[Key, None] = {}
        self.bytes = 0


def _has_seal(view: SessionView) -> bool:
    """Whether a stranger cannot have made up all that is presented."""
    return any(one.is_sealed for one in view.sessions)


def _for_this_request(
    view: SessionView, reading: Reading, lines: list[bytes], now: float
) -> SessionView:
    """The session as a request goes on with it, whose client is to be given `lines`."""
    cookie = with_set_cookies(view.forwarded.decode("latin-1"), lines, now).encode("latin-1")
    return replace(
        view.with_reading(reading), sets=tuple(lines), cookie=cookie, renews_at=inf, is_checked=True
    )


def _essence(token: str) -> str:
    """A token without padding; a JWT (RFC 7519) without its signature, which follows from it."""
    bare = token.rstrip("=")
    parts = bare.split(".")
    return f"{parts[0]}.{parts[1]}" if len(parts) == 3 and all(parts) else bare


def _pair(set_cookie: bytes) -> str:
    """The name and value that a browser presents, without the `=` that hides a name."""
    return set_cookie.partition(b";")[0].lstrip(b" \t=").decode("latin-1")


def _cost(view: SessionView) -> int:
    """About the bytes of an entry: what was opened is in the cookie, or was loaded besides."""
    cookie = b"" if view.key is None else view.key[0]
    loaded = sum(_loaded(one.reading) for one in view.sessions)
    return 4 * len(cookie) + loaded + ENTRY_OVERHEAD * (1 + len(view.sessions))


def _loaded(reading: Reading) -> int:
    """The bytes of a session besides its cookie: its token, and what the store has of it."""
    bearer = 3 * len(reading.token or "")
    if not isinstance(reading, OwnReading) or reading.session is None:
        return bearer
    tokens = reading.session.tokens
    return bearer + len(tokens.id_token or "") + len(tokens.refresh_token or "")
