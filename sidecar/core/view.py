"""What a Cookie header holds, as one value that never changes.

A header may hold several sessions: of several sources, dead ones beside living ones, one of them
spelled in several ways. They are read once, together. So a request is served with one of them, and
no upstream finds another one that was passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

import msgspec

from sidecar.core.cookies import CookieJar, NameMatcher
from sidecar.core.credential import (
    Reading,
    Result,
    Source,
    best_reading,
    credible,
    most_telling,
)
from sidecar.core.formats.login_session import (
    Handle,
    LoginCookieSource,
    LoginReading,
    LoginStoreSource,
)
from sidecar.core.formats.raw import TYPE as RAW
from sidecar.core.formats.raw import RawSource
from sidecar.core.formats.sealed import SealedSource
from sidecar.core.record import replace

LoginSource: TypeAlias = LoginCookieSource | LoginStoreSource

SourceSet: TypeAlias = frozenset[int]
"""The sources that a route takes credentials from, by their place in the configuration."""

Key: TypeAlias = tuple[bytes, SourceSet]
"""What a view is remembered by: the Cookie header, and the sources that were asked."""

_OPENED: Final = frozenset((Result.OK, Result.TOKEN_MISSING, Result.BAD_TOKEN))
"""Readings of a session that opened, be there a token in it or not."""

_READABLE: Final = _OPENED | {Result.EXPIRED}
"""Readings of what was sealed with a secret that is held here."""

_LASTING: Final = frozenset((Result.OK, Result.TOKEN_MISSING, Result.NO_SESSION))


class OpenedSession(msgspec.Struct, frozen=True):
    """A session that opened: its fingerprint, what was read, and the place of its source."""

    fingerprint: str
    reading: Reading
    source: int

    @property
    def has_credential(self) -> bool:
        """Whether it holds what can be injected, or what renews it."""
        return self.reading.result is Result.OK

    @property
    def is_sealed(self) -> bool:
        """Whether nobody but who holds a secret can have made it."""
        return self.reading.source != RAW


class SessionView(msgspec.Struct, frozen=True, eq=False):
    """The sessions of a Cookie header, and the one that its requests are served with.

    `reading` and `fingerprint` are those of that session; if none of the allowed sources has a
    living one, of a dead one, or the most telling failure. `sessions` are all that opened, of any
    source, dead or alive, and `living` the fingerprints of those that were alive. `others` is the
    header without session cookies, and `forwarded` the header with those alone that the living
    sessions were read from. `is_ambiguous`: there are session cookies that did not open, in which
    another session may hide.

    `is_checked`: the store has nothing to add. `leads_on`: an upstream has rejected the token, and
    others have taken its place, with which requests go on. `handles` are login sessions in the
    store that the cookies may be, to be loaded first. `renews_at`: from when on the token is due
    for renewal, or the use is to be noted. `valid_until`: from when on the same header reads
    otherwise (Unix seconds). `key` is what the view is remembered by, None if it is not. `bearer`
    names the token.
    `readable` and `unreadable` are the sources with a secret whose cookies opened, and did not;
    `results` what came of the cookies of each source that has some.
    `is_raw`: the request's session is a plain value, of which nothing here says that it is one.

    The view of one request whose session was renewed has `sets`, the Set-Cookie values for its
    client, and `cookie`, the Cookie header for its upstream. Such a view is never remembered.
    """

    reading: Reading
    fingerprint: str | None
    others: bytes
    forwarded: bytes
    sessions: tuple[OpenedSession, ...] = ()
    living: tuple[str, ...] = ()
    is_ambiguous: bool = False
    is_checked: bool = True
    leads_on: bool = False
    handles: tuple[Handle, ...] = ()
    renews_at: float = inf
    valid_until: float = inf
    key: Key | None = None
    bearer: str | None = None
    readable: SourceSet = frozenset()
    unreadable: SourceSet = frozenset()
    results: tuple[tuple[int, Result], ...] = ()
    is_raw: bool = False
    sets: tuple[bytes, ...] = ()
    cookie: bytes | None = None

    @property
    def authorization(self) -> bytes:
        """The Authorization line for an upstream; empty without a credential."""
        token = self.reading.token if self.has_credential else None
        return b"" if token is None else f"Authorization: Bearer {token}\r\n".encode()

    @property
    def has_credential(self) -> bool:
        """Whether there is something to inject, or to get it with."""
        return self.reading.result is Result.OK

    @property
    def is_lasting(self) -> bool:
        """Whether the view is worth remembering: guesses at a session are not."""
        return not self.sets and self.reading.result in _LASTING

    def is_due(self, now: float) -> bool:
        """Whether the session is more than read: its token is renewed, or its use noted."""
        return self.leads_on or now >= self.renews_at

    def is_ready(self, now: float, *, renews: bool) -> bool:
        """Whether the view can be used as it is. `renews`: its token must be valid."""
        return self.is_checked and not (renews and self.is_due(now))

    def presents(self, fingerprint: str) -> bool:
        """Whether a session is, or may be, among those presented."""
        return (
            self.is_ambiguous
            or self.fingerprint == fingerprint
            or self.session(fingerprint) is not None
        )

    def session(self, fingerprint: str | None) -> OpenedSession | None:
        """The session of this fingerprint, if it is presented."""
        return next((one for one in self.sessions if one.fingerprint == fingerprint), None)

    def renamed(self, session: OpenedSession, fingerprint: str) -> SessionView:
        """One of the sessions under the fingerprint that it had before it was renewed."""
        reading = replace(session.reading, identity=fingerprint)
        return self._exchanged(session, OpenedSession(fingerprint, reading, session.source))

    def with_reading(self, reading: Reading) -> SessionView:
        """The request's session with other tokens."""
        old = next(one for one in self.sessions if one.reading is self.reading)
        fingerprint = reading.identity or old.fingerprint
        return self._exchanged(old, OpenedSession(fingerprint, reading, old.source))

    def _exchanged(self, old: OpenedSession, new: OpenedSession) -> SessionView:
        sessions = tuple(new if one is old else one for one in self.sessions)
        living = tuple(new.fingerprint if one == old.fingerprint else one for one in self.living)
        changed = replace(self, sessions=sessions, living=living)
        if old.reading is not self.reading:
            return changed
        return replace(changed, reading=new.reading, fingerprint=new.fingerprint)

    def expired(self) -> SessionView:
        """The same header if its session cannot be used any longer."""
        reading = replace(self.reading, result=Result.EXPIRED, token=None, tokens=None)
        if isinstance(reading, LoginReading):
            reading = replace(reading, session=None)
        sessions = tuple(one for one in self.sessions if one.reading is not self.reading)
        return replace(
            self,
            reading=reading,
            fingerprint=None,
            sessions=sessions,
            is_ambiguous=True,
            leads_on=False,
            renews_at=inf,
            bearer=None,
        )


NOTHING_PRESENTED: Final = SessionView(Reading(Result.NO_SESSION), None, b"", b"")
"""Stands in until a request's cookies have been looked at."""


class _Found(msgspec.Struct, frozen=True):
    """What one source made of the header: every reading, and the pairs that may be its."""

    source: int
    readings: tuple[Reading, ...]
    opened: tuple[OpenedSession, ...]
    named: frozenset[int]

    @property
    def result(self) -> Result:
        """What came of its cookies."""
        return most_telling(one.result for one in self.readings)


@dataclass(frozen=True, slots=True)
class ViewReader:
    """Reads Cookie headers. Built when the configuration is loaded.

    `secretive` says of each source whether it needs a secret to read its sessions.
    `names` are the cookies of sessions, `hidden` those that no API is shown. `login` is the source
    of login sessions, which stands first among `sources`.
    """

    sources: tuple[Source, ...]
    names: NameMatcher
    hidden: NameMatcher
    login: LoginSource | None = None
    matchers: tuple[NameMatcher, ...] = field(init=False)
    sealed_names: tuple[str, ...] = field(init=False)
    secretive: tuple[bool, ...] = field(init=False)
    every: SourceSet = field(init=False)

    def __post_init__(self) -> None:
        matchers = tuple(NameMatcher(one.base_names, one.stems) for one in self.sources)
        sealed = [one for one in self.sources if isinstance(one, SealedSource)]
        object.__setattr__(self, "matchers", matchers)
        object.__setattr__(self, "sealed_names", tuple(n for one in sealed for n in one.names))
        secretive = (not isinstance(one, RawSource | LoginStoreSource) for one in self.sources)
        object.__setattr__(self, "secretive", tuple(secretive))
        object.__setattr__(self, "every", frozenset(range(len(self.sources))))

    def handles(self, jar: CookieJar) -> tuple[Handle, ...]:
        """The login sessions in the store that the cookies may be."""
        return self.login.handles(jar) if isinstance(self.login, LoginStoreSource) else ()

    def opened(
        self, jar: CookieJar, now: float, name_of: Callable[[Reading], str | None]
    ) -> Iterator[OpenedSession]:
        """Every session in the jar, of every source. `name_of` gives their fingerprints."""
        for source in range(len(self.sources)):
            yield from self._found(source, jar, now, name_of, ()).opened

    def read(
        self,
        jar: CookieJar,
        now: float,
        allowed: SourceSet,
        *,
        name_of: Callable[[Reading], str | None],
        is_dead: Callable[[str], bool],
        loaded: tuple[Reading, ...] = (),
    ) -> SessionView:
        """The sessions of a jar; the first living one of the `allowed` sources is the request's.

        `name_of` gives the fingerprint of a reading, None for one without; `loaded` are readings of
        login sessions that the store has.
        """
        found = [
            self._found(source, jar, now, name_of, loaded if source == 0 else ())
            for source in range(len(self.sources))
        ]
        living = [one for each in found for one in _living(each, is_dead)]
        chosen = _choose(found, living, allowed, is_dead)
        readings = (r for one in found if one.source in allowed for r in one.readings)
        reading = best_reading(credible(readings), jar) if chosen is None else chosen.reading
        taken = _taken_out(jar, found, living)
        read_from = {place for one in found for s in one.opened for place in s.reading.places}
        return SessionView(
            reading,
            None if chosen is None else chosen.fingerprint,
            jar.without(jar.named(self.hidden)).encode("latin-1"),
            jar.without(taken).encode("latin-1"),
            sessions=tuple(session for one in found for session in one.opened),
            living=tuple(one.fingerprint for one in living),
            is_ambiguous=not jar.named(self.names) <= read_from,
            readable=frozenset(one.source for one in found if self._opens(one)),
            unreadable=frozenset(one.source for one in found if self._fails(one)),
            results=tuple((one.source, one.result) for one in found if one.readings),
            is_raw=chosen is not None and not chosen.is_sealed,
            valid_until=inf if reading.valid_until is None else reading.valid_until,
        )

    def _opens(self, found: _Found) -> bool:
        """Whether a secret opened what a source found."""
        is_sealed = self.secretive[found.source]
        return is_sealed and any(one.result in _READABLE for one in found.readings)

    def _fails(self, found: _Found) -> bool:
        """Whether no secret opened what a source found, though there is something."""
        results = {one.result for one in found.readings}
        is_sealed = self.secretive[found.source]
        return is_sealed and Result.INVALID in results and results.isdisjoint(_READABLE)

    def _found(
        self,
        source: int,
        jar: CookieJar,
        now: float,
        name_of: Callable[[Reading], str | None],
        loaded: tuple[Reading, ...],
    ) -> _Found:
        named = jar.named(self.matchers[source])
        if not named:
            return _Found(source, (), (), named)
        readings = loaded or tuple(self.sources[source].readings(jar, now))
        opened = []
        for reading in readings:
            fingerprint = name_of(reading) if reading.result in _OPENED else None
            if fingerprint is not None:
                opened.append(OpenedSession(fingerprint, reading, source))
        return _Found(source, readings, tuple(opened), named)


def _living(found: _Found, is_dead: Callable[[str], bool]) -> list[OpenedSession]:
    """The sessions of one source that live: one of each cookie, those with a credential first.

    Prefixes make several cookies, of which an application reads one.
    """
    alive = [one for one in found.opened if one.reading.is_plain and not is_dead(one.fingerprint)]
    alive.sort(key=lambda one: not one.has_credential)
    first = {one.reading.cookie: one for one in reversed(alive)}
    return [one for one in alive if first[one.reading.cookie] is one]


def _choose(
    found: Sequence[_Found],
    living: Sequence[OpenedSession],
    allowed: SourceSet,
    is_dead: Callable[[str], bool],
) -> OpenedSession | None:
    """The session that requests are served with.

    The first living one with a credential, else a dead one, since that is what the client is told,
    else one without a credential.
    """
    for one in living:
        if one.has_credential and one.source in allowed:
            return one
    opened = [s for one in found if one.source in allowed for s in one.opened]
    dead = next((one for one in opened if is_dead(one.fingerprint)), None)
    return dead or next((one for one in living if one.source in allowed), None)


def _taken_out(
    jar: CookieJar, found: Sequence[_Found], living: Collection[OpenedSession]
) -> set[int]:
    """The indexes of the pairs that no upstream may see.

    Of a source that opened anything only the cookies of its living sessions pass. If nothing
    opened, only cookies pass that have been tried alone: libraries join others in ways of their
    own, and may find a session in them.
    """
    passing = {place for one in living for place in one.reading.places}
    taken: set[int] = set()
    for one in found:
        taken |= one.named if one.opened else one.named - _tried(jar, one.readings)
    return taken - passing


def _tried(jar: CookieJar, readings: Sequence[Reading]) -> set[int]:
    """The pairs of cookies that are written plainly, and were read in one way only: whole, or in
    chunks.

    Either all pairs of a cookie are, or none: with fewer chunks it would be another value.
    """
    ways: dict[str | None, set[tuple[bool, tuple[str, ...]]]] = {}
    for reading in readings:
        is_plain = reading.is_plain and jar.are_read_alike(reading.places)
        ways.setdefault(reading.cookie, set()).add((is_plain, reading.names))
    return {
        place for one in readings if ways[one.cookie] == {(True, one.names)} for place in one.places
    }
