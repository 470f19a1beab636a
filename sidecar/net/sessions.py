"""Sessions as they are presented: opened once, remembered, and refused once they are dead."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, TypeAlias

from sidecar.core.cookies import (
    CookieJar,
    NameMatcher,
    Scope,
    is_expiring,
    set_cookie_name,
    takes_away,
    with_set_cookies,
)
from sidecar.core.credential import Reading, Result, Source, is_b64token, read_credential
from sidecar.core.formats.own import (
    Handle,
    OwnCookieSource,
    OwnReading,
    OwnSession,
    OwnStoreSource,
)
from sidecar.core.tickets import Signer
from sidecar.core.tokens import TokenSet

CACHE_BYTES: Final = 16 * 1024 * 1024
ENTRY_OVERHEAD: Final = 1024  # bytes of an entry besides its Cookie value, twice stored
MAX_TOMBSTONES: Final = 100_000
MAX_SPENT: Final = 10_000
UNKNOWN_LIFETIME: Final = 30 * 86400.0  # a credential that does not say when it ends

OwnSource: TypeAlias = OwnCookieSource | OwnStoreSource


class Presented:
    """What a Cookie header holds: the session, if there is one, and what goes to an upstream.

    `fingerprint` is None and `authorization` empty where there is no live credential;
    `others` is the header without session cookies, byte for byte; `ambiguous` whether it had
    more session cookies than those that were read, in which another session may hide.
    `is_checked`: nothing more is to be learned of it elsewhere (`net.keeper`); `handles` are the
    own sessions in the store that the cookies may be, to be loaded first; `renews_at`: from when on
    its token is to be renewed, or its use to be noted; `key` is the Cookie header under which it is
    remembered, and `bearer` the name of its token, by which it is recognised. Of a session that
    was renewed for this very request, `sets` are the Set-Cookie values for the client, and `cookie`
    is the whole Cookie header that it would present next.
    """

    __slots__ = (
        "ambiguous",
        "authorization",
        "bearer",
        "cookie",
        "fingerprint",
        "handles",
        "is_checked",
        "is_lasting",
        "key",
        "others",
        "reading",
        "renews_at",
        "sets",
        "valid_until",
    )

    def __init__(
        self,
        reading: Reading,
        fingerprint: str | None,
        others: bytes,
        *,
        ambiguous: bool = False,
        renews_at: float = inf,
        is_checked: bool = True,
    ) -> None:
        self.reading = reading
        self.fingerprint = fingerprint
        self.others = others
        self.ambiguous = ambiguous
        self.renews_at = renews_at
        self.is_checked = is_checked
        self.key: bytes | None = None
        self.bearer: str | None = None
        self.handles: tuple[Handle, ...] = ()
        self.sets: tuple[bytes, ...] = ()
        self.cookie: bytes | None = None
        token = reading.token if fingerprint is not None else None
        self.authorization = b"" if token is None else f"Authorization: Bearer {token}\r\n".encode()
        self.is_lasting = reading.result in (Result.OK, Result.NO_SESSION)
        self.valid_until = inf if reading.valid_until is None else reading.valid_until

    def expired(self) -> Presented:
        """The same cookies where their session cannot be used any longer."""
        reading = replace(self.reading, result=Result.EXPIRED, token=None, tokens=None)
        if isinstance(reading, OwnReading):
            reading = replace(reading, session=None)
        return Presented(reading, None, self.others, ambiguous=self.ambiguous)


NOTHING_PRESENTED: Final = Presented(Reading(Result.NO_SESSION), None, b"")
"""Stands in until a request's cookies have been looked at."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A dead session: until when its credential could still be presented, and since when.

    `credentials` are the names of its tokens besides its fingerprint: where cookies hold a session
    in pieces, one of them alone must not bring it back.
    """

    since: float
    until: float
    credentials: tuple[str, ...] = ()


class Sessions:
    """The sessions of one process. Times are Unix seconds, given by the caller."""

    __slots__ = (
        "_bearers",
        "_cache",
        "_cached_bytes",
        "_cookies",
        "_dead_credentials",
        "_hidden",
        "_holders",
        "_leeway",
        "_matcher",
        "_own",
        "_signer",
        "_sources",
        "_spent",
        "_streams",
        "is_shared",
        "on_death",
        "on_revival",
        "tombs",
    )

    def __init__(
        self,
        sources: Sequence[Source],
        matcher: NameMatcher,
        signer: Signer,
        leeway: float | None = None,
        *,
        own: OwnSource | None = None,
        hidden: NameMatcher | None = None,
    ) -> None:
        """`leeway` is how long before their expiry tokens are renewed; None: they are not.

        `own` is the source of the sidecar's own sessions, which stands first among `sources`;
        `hidden` are the cookies that no API is shown, by default those of `matcher`.
        """
        self._leeway: Final = leeway
        self._own: Final = own
        self._hidden: Final = hidden or matcher
        self.is_shared = False
        self.on_death: Callable[[str, Tombstone], None] | None = None
        self.on_revival: Callable[[str, Tombstone], None] | None = None
        self._sources: Final = tuple(sources)
        self._matcher: Final = matcher
        self._signer: Final = signer
        self._cache: dict[bytes, Presented] = {}
        self._cached_bytes = 0
        self._cookies: dict[str, set[bytes]] = {}  # fingerprint → where it is remembered
        self._bearers: dict[str, bytes] = {}  # a token's name → where its session is remembered
        self._holders: dict[str, set[bytes]] = {}  # a refresh token's name → where it was presented
        self._spent: dict[str, None] = {}  # the names of refresh tokens that were exchanged
        self._dead_credentials: dict[str, str] = {}  # a token's name → its dead session's
        self.tombs: dict[str, Tombstone] = {}
        self._streams: dict[str, set[Callable[[], None]]] = {}

    # -- what is presented ----------------------------------------------------------------------

    def present(self, cookie: bytes, now: float) -> Presented:
        """Reads a Cookie header value, from memory where it was read before.

        A dead session is presented like any other: `live_fingerprint` tells them apart.
        """
        presented = self._cache.get(cookie)
        if presented is None or now >= presented.valid_until:
            self._forget(cookie)
            presented = self._open(cookie, now)
        return presented

    def recognise(self, authorization: bytes, now: float) -> Presented | None:
        """The session whose credential is this Authorization value; None for one not known here.

        So a frontend's server that sends the token by itself, without the cookie, is known for
        whom it asks.
        """
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not is_b64token(token):
            return None
        name = self._signer.fingerprint(token)
        fingerprint = self._dead_credentials.get(name, name)
        if self.is_dead(fingerprint, now):
            return Presented(Reading(Result.OK, token=token), fingerprint, b"")
        presented = self._cache.get(self._bearers.get(name, b""))
        if presented is None or presented.reading.token != token or now >= presented.valid_until:
            return None
        return presented

    def is_dead(self, fingerprint: str | None, now: float) -> bool:
        """Whether a session has ended here; its replayed cookie is refused."""
        tomb = self.tombs.get(fingerprint) if fingerprint is not None else None
        return tomb is not None and now < tomb.until

    def live_fingerprint(self, presented: Presented, now: float) -> str | None:
        """The fingerprint of the live session presented, None where it is dead or absent."""
        fingerprint = presented.fingerprint
        return None if self.is_dead(fingerprint, now) else fingerprint

    def _open(self, cookie: bytes, now: float) -> Presented:
        jar = CookieJar.parse(cookie.decode("latin-1"))
        presented = self._presented(jar, read_credential(self._sources, jar, now))
        if isinstance(self._own, OwnStoreSource):
            presented.handles = self._own.handles(jar)
            presented.is_checked = presented.is_checked and not presented.handles
        if presented.is_lasting:
            self._remember(cookie, presented)
        return presented

    def _presented(self, jar: CookieJar, reading: Reading) -> Presented:
        fingerprint = self._name_of(reading)
        is_known = fingerprint in self._cookies and reading.tokens is None
        return Presented(
            reading,
            fingerprint,
            jar.without(self._hidden).encode("latin-1"),
            ambiguous=self._session_cookies(jar) > (len(reading.names) if fingerprint else 0),
            renews_at=self._attention_at(reading),
            is_checked=fingerprint is None or not self.is_shared or is_known,
        )

    def _attention_at(self, reading: Reading) -> float:
        """From when on a session is more than read: its token is renewed, or its use noted."""
        renewal = inf
        if self._leeway is not None and reading.tokens is not None:
            renewal = reading.tokens.renews_at(self._leeway)
        if self._own is None or not isinstance(reading, OwnReading) or reading.session is None:
            return renewal
        return min(renewal, reading.session.touch_due_at(self._own.lifetimes))

    def _name_of(self, reading: Reading) -> str | None:
        """The fingerprint of an opened session: what it was named by, else its credential's."""
        if reading.result is not Result.OK:
            return None
        if self.tombs:
            for name in self._credentials(reading):
                fingerprint = self._dead_credentials.get(name, name)
                if fingerprint in self.tombs:
                    return fingerprint
        if reading.identity is not None:
            return reading.identity
        credential = reading.token or (reading.tokens and reading.tokens.refresh_token)
        return self._signer.fingerprint(credential) if credential else None

    def _credentials(self, reading: Reading) -> Iterator[str]:
        """The names of the tokens that a session holds; an own one is known by its id alone."""
        if isinstance(reading, OwnReading):
            return
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        for credential in (reading.token, refresh):
            if credential:
                yield self._signer.fingerprint(credential)

    def fingerprint_of(self, credential: str) -> str:
        """The fingerprint of a session of which this is the first credential."""
        return self._signer.fingerprint(credential)

    def rename(self, presented: Presented, fingerprint: str) -> Presented:
        """The same session under the fingerprint that it had before it was renewed."""
        reading = replace(presented.reading, identity=fingerprint)
        named = Presented(
            reading,
            fingerprint,
            presented.others,
            ambiguous=presented.ambiguous,
            renews_at=presented.renews_at,
            is_checked=presented.is_checked,
        )
        self._put_back(presented.key, named)
        return named

    def supersede(self, presented: Presented) -> Presented:
        """What was presented is out of date: its session goes on, but no longer with this."""
        expired = presented.expired()
        self._put_back(presented.key, expired)
        return expired

    def _put_back(self, key: bytes | None, presented: Presented) -> None:
        """Remembers it in the place of what was remembered under these very cookies."""
        if key is not None:
            self._forget(key)
            self._remember(key, presented)

    def renewed(
        self, presented: Presented, cookie: bytes, tokens: TokenSet, scope: Scope
    ) -> Presented:
        """The session with new tokens, for a request that presented it with old ones."""
        reading, fingerprint = presented.reading, presented.fingerprint
        assert fingerprint is not None
        assert reading.writer is not None
        lines = reading.writer.write(reading, tokens, fingerprint, scope)
        # It keeps its name, though its first credential is in it no longer.
        new = replace(reading, token=tokens.access_token, tokens=tokens, identity=fingerprint)
        if isinstance(new, OwnReading) and new.session is not None:
            new = replace(new, session=new.session.renewed(tokens))
        self._spend(reading.tokens, tokens)
        now = _for_this_request(presented, new, cookie, lines, tokens.issued_at or 0.0)
        if lines and now.cookie:
            # A page that is given the new token may use it before its browser has its cookies.
            self._forget(now.cookie)
            jar = CookieJar.parse(now.cookie.decode("latin-1"))
            self._remember(now.cookie, self._presented(jar, new))
        return now

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

    def touched(self, presented: Presented, cookie: bytes, scope: Scope, now: float) -> Presented:
        """A sealed own session whose use is noted, for a request that presented it."""
        reading = presented.reading
        assert isinstance(self._own, OwnCookieSource)
        assert isinstance(reading, OwnReading)
        assert reading.session is not None
        session = reading.session.touched(now)
        lines = [self._own.use_line(session, scope)]
        return _for_this_request(presented, replace(reading, session=session), cookie, lines, now)

    # -- own sessions in the store ----------------------------------------------------------------

    def adopt(
        self, cookie: bytes, handle: Handle, session: OwnSession, now: float
    ) -> Presented | None:
        """What the cookies hold where this session was found for a handle of theirs.

        None where the handle is not this session's. Whatever was remembered of the session goes.
        """
        assert isinstance(self._own, OwnStoreSource)
        jar = CookieJar.parse(cookie.decode("latin-1"))
        reading = self._own.reading(jar, handle, session, now)
        if reading.result is Result.INVALID:
            return None
        self.outdate(handle.fingerprint)
        self._forget(cookie)
        presented = self._presented(jar, reading)
        if presented.is_lasting:
            self._remember(cookie, presented)
        return presented

    def outdate(self, fingerprint: str) -> None:
        """Forgets what is remembered of a session; plans that were made with it hold no longer."""
        for cookie in tuple(self._cookies.get(fingerprint, ())):
            self._cache[cookie].renews_at = 0.0
            self._forget(cookie)

    def known(self, fingerprint: str) -> Presented | None:
        """A live session as it was presented here last, by its name."""
        cookies = self._cookies.get(fingerprint, ())
        return next((self._cache[cookie] for cookie in cookies), None)

    def _session_cookies(self, jar: CookieJar) -> int:
        return sum(self._matcher.matches(name.strip()) for name, _, _ in jar.pairs)

    def _remember(self, cookie: bytes, presented: Presented) -> None:
        if not cookie and presented.reading.result is not Result.NO_SESSION:
            return  # known by its bearer alone: who presents no cookie has no session
        self._cache[cookie] = presented
        self._cached_bytes += _cost(cookie, presented)
        presented.key = cookie
        fingerprint, reading = presented.fingerprint, presented.reading
        if fingerprint is not None:
            self._cookies.setdefault(fingerprint, set()).add(cookie)
            if reading.token:
                is_first = reading.identity is None and fingerprint not in self.tombs
                presented.bearer = fingerprint if is_first else self.fingerprint_of(reading.token)
                self._bearers[presented.bearer] = cookie
            for name in self.pieces(reading):
                self._holders.setdefault(name, set()).add(cookie)
        while self._cached_bytes > CACHE_BYTES:
            self._forget(next(iter(self._cache)))

    def _forget(self, cookie: bytes) -> None:
        presented = self._cache.pop(cookie, None)
        if presented is None:
            return
        self._cached_bytes -= _cost(cookie, presented)
        fingerprint = presented.fingerprint
        if fingerprint is not None:
            self._cookies[fingerprint].discard(cookie)
            if not self._cookies[fingerprint]:
                del self._cookies[fingerprint]
        if presented.bearer is not None and self._bearers.get(presented.bearer) == cookie:
            del self._bearers[presented.bearer]
        if fingerprint is not None:
            for name in self.pieces(presented.reading):
                holders = self._holders.get(name)
                if holders is not None:
                    holders.discard(cookie)
                    if not holders:
                        del self._holders[name]

    def pieces(self, reading: Reading) -> Iterator[str]:
        """The names of tokens that stand in cookies of their own, apart from each other."""
        if reading.tokens is not None and reading.claims is None:
            yield from self._credentials(reading)

    # -- death ----------------------------------------------------------------------------------

    def bury(self, presented: Presented, now: float) -> None:
        """Marks the session dead for as long as its credential could be presented.

        That is no less than `UNKNOWN_LIFETIME`, since a frontend re-seals one credential into
        cookies that end later; only an own session says when it ends. A second death does not move
        the first: a login that began in between would be taken for an answer from before the
        logout.
        """
        fingerprint = presented.fingerprint
        if fingerprint is None:
            return
        until = now + UNKNOWN_LIFETIME
        if isinstance(presented.reading, OwnReading) and presented.reading.ends_at is not None:
            until = presented.reading.ends_at
        elif presented.valid_until != inf:
            until = max(until, presented.valid_until)
        tomb = self.tombs.get(fingerprint)
        since = tomb.since if tomb is not None and now < tomb.until else now
        names = tuple(one for one in self._credentials(presented.reading) if one != fingerprint)
        tomb = Tombstone(since, until, names)
        is_news = not self.is_dead(fingerprint, now) or not set(names) <= set(
            self.tombs[fingerprint].credentials
        )
        if self.on_death is not None and is_news:
            self.on_death(fingerprint, tomb)
        self.entomb(fingerprint, tomb)

    def bury_tokens(self, fingerprint: str, tokens: TokenSet) -> None:
        """Tokens turn out to be a dead session's: they are dead as well."""
        tomb = self.tombs.get(fingerprint)
        reading = Reading(Result.OK, token=tokens.access_token, tokens=tokens)
        names = set(self._credentials(reading)) - {fingerprint}
        if tomb is None or names <= set(tomb.credentials):
            return
        tomb = replace(tomb, credentials=(*tomb.credentials, *sorted(names)))
        if self.on_death is not None:
            self.on_death(fingerprint, tomb)
        self.entomb(fingerprint, tomb)

    def entomb(self, fingerprint: str, tomb: Tombstone) -> None:
        """A session is dead, here or as another process tells: what lives with it ends."""
        before = self.tombs.pop(fingerprint, None)
        if before is not None and before.since == tomb.since:
            known = dict.fromkeys((*before.credentials, *tomb.credentials))
            tomb = replace(tomb, credentials=tuple(known))
        self.tombs[fingerprint] = tomb
        self._dead_credentials.update(dict.fromkeys(tomb.credentials, fingerprint))
        if len(self.tombs) > MAX_TOMBSTONES:
            self.exhume(next(iter(self.tombs)))
        held = (self._holders.get(name, ()) for name in (fingerprint, *tomb.credentials))
        for cookie in {
            *self._cookies.get(fingerprint, ()),
            *(one for part in held for one in part),
        }:
            self._cache[cookie].renews_at = 0.0  # no plan that was made with it holds
            self._forget(cookie)
        for close in tuple(self._streams.get(fingerprint, ())):
            close()

    def exhume(self, fingerprint: str) -> None:
        """A credential was handed out again, here or as another process tells."""
        tomb = self.tombs.pop(fingerprint, None)
        for name in tomb.credentials if tomb is not None else ():
            self._dead_credentials.pop(name, None)

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
        return self._matcher.matches(set_cookie_name(set_cookie))

    def admit(
        self, cookies: Sequence[bytes], presented: Presented, began: float, now: float
    ) -> list[bytes]:
        """The Set-Cookie values that may pass where an upstream may set session cookies.

        A credential that is dead stays dead (threat: a late answer revives it), unless the
        request began after the logout and did not present it: then it was handed out again.
        Nor passes a session whose tokens were renewed meanwhile: a late answer would put old ones
        back.
        """
        if not (self.tombs or self._spent):
            return list(cookies)
        refused: set[str] = set()
        for reading, fingerprint in self._handed_out(cookies, now):
            if self._is_spent(reading):
                refused.update(reading.names)
            if not self.is_dead(fingerprint, now):
                continue
            presents_it = presented.ambiguous or presented.fingerprint == fingerprint
            tomb = self.tombs[fingerprint]
            if began > tomb.since and not presents_it:
                self.exhume(fingerprint)
                if self.on_revival is not None:
                    self.on_revival(fingerprint, tomb)
            else:
                refused.update(reading.names)
        return [cookie for cookie in cookies if set_cookie_name(cookie) not in refused]

    def is_ended_by(
        self,
        cookies: Sequence[bytes],
        presented: Presented,
        header: bytes,
        now: float,
        *,
        domains: Collection[str] = (),
        paths: Collection[str] = (),
    ) -> bool:
        """Whether an answer's Set-Cookie values take away the session that was presented.

        Expiring a piece is not enough: a session that grows or shrinks changes its chunks. What
        the browser presents next must yield no credential any more, and the answer must not set
        another session. `domains` and `paths` are those that its cookies may have been set on.
        """
        names, gone = presented.reading.names, False
        for one in cookies:
            if takes_away(one, now, domains, paths):
                gone = gone or set_cookie_name(one) in names
            elif self.is_session_cookie(one) and not is_expiring(one, now):
                return False
        if not gone:
            return False
        after = CookieJar.parse(with_set_cookies(header.decode("latin-1"), cookies, now))
        if presented.reading.identity is not None and isinstance(self._own, OwnStoreSource):
            handles = self._own.handles(after)
            if any(one.fingerprint == presented.fingerprint for one in handles):
                return False
        return read_credential(self._sources, after, now).result is not Result.OK

    def _handed_out(self, cookies: Sequence[bytes], now: float) -> Iterator[tuple[Reading, str]]:
        """The credentials in Set-Cookie values: in each one, and in the chunks together."""
        texts = [_pair(cookie) for cookie in cookies if self.is_session_cookie(cookie)]
        if len(texts) > 1:
            texts.append("; ".join(texts))
        for text in texts:
            reading = read_credential(self._sources, CookieJar.parse(text), now)
            fingerprint = self._name_of(reading)
            if fingerprint is not None:
                yield reading, fingerprint

    # -- what lives as long as the session --------------------------------------------------------

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


def _for_this_request(
    presented: Presented, reading: Reading, cookie: bytes, lines: list[bytes], now: float
) -> Presented:
    """The session as a request goes on with it, whose client is to be given `lines`."""
    new = Presented(reading, presented.fingerprint, presented.others, ambiguous=presented.ambiguous)
    new.sets = tuple(lines)
    new.cookie = with_set_cookies(cookie.decode("latin-1"), lines, now).encode("latin-1")
    new.is_lasting = False  # what is set is for this request's client
    return new


def _pair(set_cookie: bytes) -> str:
    """The name and value that a browser presents, without the `=` that hides a name."""
    return set_cookie.partition(b";")[0].lstrip(b" \t=").decode("latin-1")


def _cost(cookie: bytes, presented: Presented) -> int:
    """About the bytes of an entry: what was opened is in the cookie, or was loaded besides."""
    return 2 * len(cookie) + 3 * len(presented.authorization) + ENTRY_OVERHEAD
