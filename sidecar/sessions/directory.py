"""From a Cookie header to its sessions: read once, remembered, replaced as more is learned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, with_set_cookies
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.login_session import (
    Handle,
    LoginCookieSource,
    LoginReading,
    LoginSession,
    LoginStoreSource,
)
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet
from sidecar.core.view import Key, OpenedSession, SessionView, SourceSet, ViewReader
from sidecar.sessions.bounds import Latest
from sidecar.sessions.names import SessionNames
from sidecar.sessions.onlooking import OnlookingCache, OnlookingRevocations
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.view_cache import ViewCache

MAX_SPENT: Final = 10_000
MAX_WORDS: Final = 8  # of an Authorization value that are looked at
NOT_FOUND: Final = 5.0  # seconds for which it is remembered that the store has no such session

# No session has one of these within; as part of a cookie each `;` would make another one of it.
_WORDS: Final = re.compile(r"[\s,;=]+")


class SessionDirectory:
    """The sessions of one process. Times are Unix seconds, given by the caller.

    What is remembered of a Cookie header is a `SessionView`. A view never changes: what is learned
    later of its session is another view, which takes its place. A request that holds the former one
    goes on with that, and no new plan uses it (`is_current`).
    """

    __slots__ = (
        "_cache",
        "_leeway",
        "_login",
        "_names",
        "_on_read",
        "_reader",
        "_revocations",
        "_spent",
        "is_current",
        "is_shared",
    )

    def __init__(
        self,
        reader: ViewReader,
        names: SessionNames,
        cache: ViewCache,
        revocations: Revocations,
        *,
        leeway: float | None = None,
        is_shared: bool = False,
        on_read: Callable[[SessionView, float], None] | None = None,
    ) -> None:
        """`leeway`: seconds before their expiry that tokens are renewed; None: they are not.

        `is_shared`: the store may know more of a session than this process. `on_read` is called
        with each view that is read anew, and holds what looks like a session; if the store has to
        be asked of it, once that has answered.
        """
        self._on_read: Final = on_read
        self.is_current: Final = cache.is_current
        """Whether a view is what the same Cookie header would be given now."""
        self._reader: Final = reader
        self._names: Final = names
        self._cache: Final = cache
        self._revocations: Final = revocations
        self._leeway: Final = leeway
        self._login: Final = reader.login
        self._spent: Final = Latest[None](MAX_SPENT)  # refresh tokens that were exchanged
        self.is_shared: Final = is_shared

    def onlooking(self) -> Onlooker:
        """Returns what reads headers as this does now, and leaves no trace of it."""
        cache = OnlookingCache(self._names, self._cache)
        revocations = OnlookingRevocations(self._revocations, cache)
        directory = SessionDirectory(
            self._reader,
            self._names,
            cache,
            revocations,
            leeway=self._leeway,
            is_shared=self.is_shared,
        )
        return Onlooker(directory, revocations, cache)

    # -- what is presented ------------------------------------------------------------------------

    def present(self, cookie: bytes, now: float, allowed: SourceSet | None = None) -> SessionView:
        """Returns the view of a Cookie header value, from memory if it was read before.

        `allowed` are the sources that the credential may be of; None: all. A dead session is
        presented like any other if there is no living one: `Revocations.live_fingerprint`
        distinguishes them.
        """
        key = (cookie, self._reader.every if allowed is None else allowed)
        view = self._cache.get(key)
        return self._open(key, now) if view is None or now >= view.valid_until else view

    def recognise(
        self, authorization: bytes, now: float, allowed: SourceSet | None = None
    ) -> SessionView | None:
        """Returns the session whose credential is this Authorization value, None if not known here.

        A frontend's server may send the token by itself, without the cookie.
        """
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not is_b64token(token):
            return None
        name = self._names.name_of(token)
        fingerprint = self._names.dead_session(token) or name
        if self._revocations.is_dead(fingerprint, now):
            return SessionView(Reading(Result.OK, token=token), fingerprint, b"", b"")
        view = self._cache.with_bearer(name)
        if view is None or view.reading.token != token or now >= view.valid_until:
            return None
        session = view.session(view.fingerprint)
        is_allowed = allowed is None or (session is not None and session.source in allowed)
        return view if is_allowed else None

    def is_dead_bearer(self, authorization: bytes, now: float) -> bool:
        """Returns whether an Authorization value holds a token, or a sealed session, that is dead.

        Servers split it in ways of their own, and libraries take a session out of it as out of a
        cookie.
        """
        revocations = self._revocations
        if not revocations.tombstones:
            return False
        words = _WORDS.split(authorization.decode("latin-1"))[:MAX_WORDS]
        for word in words:
            if revocations.is_dead(self._names.dead_session(word), now):
                return True
            jar = CookieJar.parse("; ".join(f"{name}={word}" for name in self._reader.sealed_names))
            for session in self._reader.opened(jar, now, self._names.fingerprint_of):
                if revocations.is_dead(session.fingerprint, now):
                    return True
        return False

    def is_of(self, name: str, sessions: Iterable[OpenedSession]) -> bool:
        """Returns whether a cookie belongs to the sources of one of these sessions."""
        matchers = self._reader.matchers
        return any(matchers[one.source].matches(name) for one in sessions)

    def fingerprint_of(self, reading: Reading) -> str | None:
        """Returns what a session is known by here; remembers nothing of it."""
        return self._names.fingerprint_of(reading)

    def known(self, fingerprint: str) -> OpenedSession | None:
        """Returns a session with the newest tokens that it was presented with here."""
        return self._cache.known(fingerprint)

    def login_sessions(self, now: float) -> list[LoginSession]:
        """Returns the living login sessions that are remembered, with the newest tokens known."""
        found: dict[str, LoginSession] = {}
        for one in (session for view in self._cache.every() for session in view.sessions):
            session = one.reading.session if isinstance(one.reading, LoginReading) else None
            if session is None or self._revocations.is_dead(one.fingerprint, now):
                continue
            before = found.get(one.fingerprint)
            if before is None or before.tokens.generation < session.tokens.generation:
                found[one.fingerprint] = session
        return list(found.values())

    @property
    def cached(self) -> int:
        """How many Cookie headers are remembered."""
        return len(self._cache)

    def invalidate(self, fingerprint: str) -> None:
        """Forgets what is remembered of a session; plans made with it no longer hold."""
        self._cache.invalidate(fingerprint)

    def forget_all(self) -> None:
        """Forgets every header, so that the store is asked once more of its sessions."""
        self._cache.clear()

    # -- reading ----------------------------------------------------------------------------------

    def _open(
        self,
        key: Key,
        now: float,
        loaded: tuple[Reading, ...] = (),
        *,
        is_settled: bool = False,
    ) -> SessionView:
        """Reads a Cookie header that is presented. `is_settled`: the store has been asked."""
        view = self._read(key, now, loaded, is_settled=is_settled)
        if self._on_read is not None and view.results and not view.handles:
            self._on_read(view, now)
        return self._keep(key, view)

    def _read(
        self,
        key: Key,
        now: float,
        loaded: tuple[Reading, ...] = (),
        *,
        is_settled: bool = False,
    ) -> SessionView:
        """What `_open` reads, though no request need have presented it. Nothing is remembered."""
        cookie, allowed = key
        jar = CookieJar.parse(cookie.decode("latin-1"))
        view = self._reader.read(
            jar,
            now,
            allowed,
            name_of=self._names.fingerprint_of,
            is_dead=lambda fingerprint: self._revocations.is_dead(fingerprint, now),
            loaded=loaded,
        )
        handles = self._reader.handles(jar) if 0 in allowed and not is_settled else ()
        return replace(
            view,
            key=key,
            handles=handles,
            renews_at=self._attention_at(view.reading),
            is_checked=not handles and self._is_known(view),
            bearer=self._bearer(view) if view.is_lasting and not handles else None,
        )

    def _keep(self, key: Key, view: SessionView) -> SessionView:
        """Remembers a view if it lasts, and in any case no former one."""
        if view.is_lasting and not view.handles:
            return self._cache.put(key, view)
        self._cache.forget(key)
        return view

    def _is_known(self, view: SessionView) -> bool:
        """Whether the store was asked for each of the sessions."""
        return not self.is_shared or all(map(self._was_checked, view.sessions))

    def _was_checked(self, session: OpenedSession) -> bool:
        views = self._cache.of_session(session.fingerprint)
        return session.reading.tokens is None and any(view.is_checked for view in views)

    def _attention_at(self, reading: Reading) -> float:
        """From when on a session is more than read: its token is renewed, or its use noted."""
        renewal = inf
        if reading.result is not Result.OK:
            return renewal
        if self._leeway is not None and reading.tokens is not None:
            renewal = reading.tokens.renews_at(self._leeway)
        if self._login is None or not isinstance(reading, LoginReading) or reading.session is None:
            return renewal
        return min(renewal, reading.session.touch_due_at(self._login.lifetimes))

    def _bearer(self, view: SessionView) -> str | None:
        """The name of the token that the view injects."""
        token = view.reading.token if view.has_credential else None
        return self._names.name_of(token) if token else None

    # -- what is learned of a session -------------------------------------------------------------

    def rename(self, view: SessionView, session: OpenedSession, fingerprint: str) -> SessionView:
        """Gives one of the sessions the fingerprint that it had before it was renewed."""
        return self._replace(view, view.renamed(session, fingerprint))

    def checked(self, view: SessionView, *, leads_on: bool = False) -> SessionView:
        """Notes that the store has nothing else to say of the sessions.

        `leads_on`: the token was rejected, and others have taken its place.
        """
        return self._replace(view, replace(view, is_checked=True, leads_on=leads_on))

    def recheck(self, fingerprint: str) -> None:
        """Has the store asked once more of a session: a token of it has a successor there.

        Its bearer is still known, but what the store itself holds is loaded anew.
        """
        for view in tuple(self._cache.of_session(fingerprint)):
            assert view.key is not None
            if any(isinstance(one.reading, LoginReading) for one in view.sessions):
                self._cache.forget(view.key)
            elif view.is_checked:
                self._cache.put(view.key, replace(view, is_checked=False, leads_on=False))

    def postponed(self, view: SessionView, renews_at: float) -> SessionView:
        """Notes that the session needs no attention before `renews_at`."""
        return self._replace(view, replace(view, renews_at=renews_at))

    def supersede(self, view: SessionView) -> SessionView:
        """Notes that what was presented is out of date, though its session goes on."""
        return self._replace(view, view.expired())

    def _replace(self, old: SessionView, new: SessionView) -> SessionView:
        """Replaces a remembered view by one made of it, if the old one is still current."""
        if old.key is None or not self.is_current(old):
            return new
        if new.reading is not old.reading:
            new = replace(new, bearer=self._bearer(new))
        return self._cache.put(old.key, new)

    def succeed(self, name: str, fingerprint: str) -> None:
        """Notes that a credential of this name is a later one of a session."""
        self.invalidate(name)
        self._names.succeed(name, fingerprint)

    # -- renewal ----------------------------------------------------------------------------------

    def renewed(self, view: SessionView, tokens: TokenSet, scope: Scope) -> SessionView:
        """Returns the session with new tokens, for a request that presented it with old ones."""
        reading, fingerprint = view.reading, view.fingerprint
        assert fingerprint is not None
        assert reading.writer is not None
        lines = reading.writer.write(reading, tokens, fingerprint, scope)
        if view.is_raw:
            self._revocations.evidence.vouch(fingerprint)
        # It keeps its name, though its first credential is in it no longer.
        new = replace(reading, token=tokens.access_token, tokens=tokens, identity=fingerprint)
        if isinstance(new, LoginReading) and new.session is not None:
            new = replace(new, session=new.session.renewed(tokens))
        self._spend(reading.tokens, tokens)
        issued_at = tokens.issued_at or 0.0
        renewed = _for_this_request(view, new, lines, issued_at)
        if lines and renewed.cookie and view.key is not None:
            # A page that is given the new token may use it before its browser has its cookies.
            for allowed in {view.key[1], self._reader.every}:
                self._expect((renewed.cookie, allowed), fingerprint, tokens, issued_at)
        return renewed

    def _expect(self, key: Key, fingerprint: str, tokens: TokenSet, now: float) -> None:
        """Remembers a header that is to be presented next, with what is known of its session."""
        view = self._read(key, now)
        if view.has_credential and not view.handles:
            reading = replace(view.reading, tokens=tokens, identity=fingerprint)
            view = replace(
                view.with_reading(reading),
                renews_at=self._attention_at(reading),
                is_checked=not self.is_shared,  # no request has presented it yet
            )
        self._keep(key, view)

    def _spend(self, old: TokenSet | None, new: TokenSet) -> None:
        """Remembers a refresh token that was exchanged for another one."""
        if old is not None and old.refresh_token and old.refresh_token != new.refresh_token:
            self._spent.put(self._names.name_of(old.refresh_token), None)

    def is_spent(self, reading: Reading) -> bool:
        """Returns whether a session holds a refresh token that was exchanged here already."""
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        return bool(refresh) and self._names.name_of(refresh or "") in self._spent

    def touched(self, view: SessionView, scope: Scope, now: float) -> SessionView:
        """Returns a sealed login session whose use is noted, for a request that presented it."""
        reading = view.reading
        assert isinstance(self._login, LoginCookieSource)
        assert isinstance(reading, LoginReading)
        assert reading.session is not None
        session = reading.session.touched(now)
        lines = [self._login.use_line(session, scope)]
        return _for_this_request(view, replace(reading, session=session), lines, now)

    # -- login sessions in the store --------------------------------------------------------------

    def adopt(
        self, view: SessionView, handle: Handle, session: LoginSession, now: float
    ) -> SessionView | None:
        """Returns what the cookies hold if this session was found for a handle of theirs.

        None if the handle is not this session's. What was remembered of the session is forgotten.
        """
        assert isinstance(self._login, LoginStoreSource)
        assert view.key is not None
        jar = CookieJar.parse(view.key[0].decode("latin-1"))
        reading = self._login.reading(jar, handle, session, now)
        if reading.result is Result.INVALID:
            return None
        self.invalidate(handle.fingerprint)
        return self._open(view.key, now, (reading,), is_settled=True)

    def not_found(self, view: SessionView, now: float) -> SessionView:
        """Returns what the cookies hold if the store has no session for any of their handles."""
        assert view.key is not None
        opened = self._open(view.key, now, is_settled=True)
        until = min(opened.valid_until, now + NOT_FOUND)
        return self._replace(opened, replace(opened, valid_until=until))


class Onlooker(msgspec.Struct, frozen=True):
    """A directory and revocations that look on (`sessions.onlooking`)."""

    directory: SessionDirectory
    revocations: OnlookingRevocations
    cache: OnlookingCache

    def learn_death(self, fingerprint: str) -> None:
        """Takes a session for dead, for this one look."""
        self.revocations.found.add(fingerprint)
        self.cache.is_outdated = True


def _for_this_request(
    view: SessionView, reading: Reading, lines: list[bytes], now: float
) -> SessionView:
    """The session as a request goes on with it, whose client is to be given `lines`."""
    cookie = with_set_cookies(view.forwarded.decode("latin-1"), lines, now).encode("latin-1")
    return replace(
        view.with_reading(reading),
        sets=tuple(lines),
        cookie=cookie,
        renews_at=inf,
        is_checked=True,
        leads_on=False,
    )
