"""Sessions as they are presented: opened once, remembered, and refused once they are dead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Final

from sidecar.core.cookies import CookieJar, NameMatcher, set_cookie_name, with_set_cookies
from sidecar.core.credential import Reading, Result, Source, is_b64token, read_credential
from sidecar.core.tickets import Signer

CACHE_BYTES: Final = 16 * 1024 * 1024
ENTRY_OVERHEAD: Final = 1024  # bytes of an entry besides its Cookie value, twice stored
MAX_TOMBSTONES: Final = 100_000
UNKNOWN_LIFETIME: Final = 30 * 86400.0  # a credential that does not say when it ends


class Presented:
    """What a Cookie header holds: the session, if there is one, and what goes to an upstream.

    `fingerprint` is None and `authorization` empty where there is no live credential;
    `others` is the header without session cookies, byte for byte; `ambiguous` whether it had
    more session cookies than those that were read, in which another session may hide.
    """

    __slots__ = (
        "ambiguous",
        "authorization",
        "fingerprint",
        "is_lasting",
        "others",
        "reading",
        "valid_until",
    )

    def __init__(
        self, reading: Reading, fingerprint: str | None, others: bytes, *, ambiguous: bool = False
    ) -> None:
        self.reading = reading
        self.fingerprint = fingerprint
        self.others = others
        self.ambiguous = ambiguous
        token = reading.token if fingerprint is not None else None
        self.authorization = b"" if token is None else f"Authorization: Bearer {token}\r\n".encode()
        self.is_lasting = reading.result in (Result.OK, Result.NO_SESSION)
        self.valid_until = inf if reading.valid_until is None else reading.valid_until


NOTHING_PRESENTED: Final = Presented(Reading(Result.NO_SESSION), None, b"")
"""Stands in until a request's cookies have been looked at."""


class Tombstone:
    """A dead session: until when its credential could still be presented, and since when."""

    __slots__ = ("since", "until")

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until


class Sessions:
    """The sessions of one process. Times are Unix seconds, given by the caller."""

    __slots__ = (
        "_cache",
        "_cached_bytes",
        "_cookies",
        "_matcher",
        "_signer",
        "_sources",
        "_streams",
        "tombs",
    )

    def __init__(self, sources: Sequence[Source], matcher: NameMatcher, signer: Signer) -> None:
        self._sources: Final = tuple(sources)
        self._matcher: Final = matcher
        self._signer: Final = signer
        self._cache: dict[bytes, Presented] = {}
        self._cached_bytes = 0
        self._cookies: dict[str, set[bytes]] = {}  # fingerprint → where it is remembered
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
        fingerprint = self._signer.fingerprint(token)
        if self.is_dead(fingerprint, now):
            return Presented(Reading(Result.OK, token=token), fingerprint, b"")
        cookies = self._cookies.get(fingerprint, ())
        return next(
            (self._cache[one] for one in cookies if now < self._cache[one].valid_until), None
        )

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
        reading = read_credential(self._sources, jar, now)
        fingerprint = None
        if reading.result is Result.OK and reading.token is not None:
            fingerprint = self._signer.fingerprint(reading.token)
        presented = Presented(
            reading,
            fingerprint,
            jar.without(self._matcher).encode("latin-1"),
            ambiguous=self._session_cookies(jar) > (len(reading.names) if fingerprint else 0),
        )
        if presented.is_lasting:
            self._remember(cookie, presented)
        return presented

    def _session_cookies(self, jar: CookieJar) -> int:
        return sum(self._matcher.matches(name.strip()) for name, _, _ in jar.pairs)

    def _remember(self, cookie: bytes, presented: Presented) -> None:
        self._cache[cookie] = presented
        self._cached_bytes += _cost(cookie)
        if presented.fingerprint is not None:
            self._cookies.setdefault(presented.fingerprint, set()).add(cookie)
        while self._cached_bytes > CACHE_BYTES:
            self._forget(next(iter(self._cache)))

    def _forget(self, cookie: bytes) -> None:
        presented = self._cache.pop(cookie, None)
        if presented is None:
            return
        self._cached_bytes -= _cost(cookie)
        fingerprint = presented.fingerprint
        if fingerprint is not None:
            self._cookies[fingerprint].discard(cookie)
            if not self._cookies[fingerprint]:
                del self._cookies[fingerprint]

    # -- death ----------------------------------------------------------------------------------

    def bury(self, presented: Presented, now: float) -> None:
        """Marks the session dead for as long as its credential could be presented.

        That is no less than `UNKNOWN_LIFETIME`, since a frontend re-seals one credential into
        cookies that end later. A second death does not move the first: a login that began in
        between would be taken for an answer from before the logout.
        """
        fingerprint = presented.fingerprint
        if fingerprint is None:
            return
        until = now + UNKNOWN_LIFETIME
        if presented.valid_until != inf:
            until = max(until, presented.valid_until)
        tomb = self.tombs.pop(fingerprint, None)
        since = tomb.since if tomb is not None and now < tomb.until else now
        self.tombs[fingerprint] = Tombstone(since, until)
        if len(self.tombs) > MAX_TOMBSTONES:
            del self.tombs[next(iter(self.tombs))]
        for cookie in tuple(self._cookies.get(fingerprint, ())):
            self._forget(cookie)
        for close in tuple(self._streams.get(fingerprint, ())):
            close()

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
        """
        if not self.tombs:
            return list(cookies)
        refused: set[str] = set()
        for reading, fingerprint in self._handed_out(cookies, now):
            if not self.is_dead(fingerprint, now):
                continue
            presents_it = presented.ambiguous or presented.fingerprint == fingerprint
            if began > self.tombs[fingerprint].since and not presents_it:
                del self.tombs[fingerprint]
            else:
                refused.update(reading.names)
        return [cookie for cookie in cookies if set_cookie_name(cookie) not in refused]

    def is_ended_by(
        self, cookies: Sequence[bytes], presented: Presented, header: bytes, now: float
    ) -> bool:
        """Whether an answer's Set-Cookie values take away the session that was presented.

        Expiring a piece is not enough: a session that grows or shrinks changes its chunks. What
        the browser presents next must yield no credential any more.
        """
        names = presented.reading.names
        if not any(set_cookie_name(one) in names for one in cookies):
            return False
        after = with_set_cookies(header.decode("latin-1"), cookies, now)
        return read_credential(self._sources, CookieJar.parse(after), now).result is not Result.OK

    def _handed_out(self, cookies: Sequence[bytes], now: float) -> Iterator[tuple[Reading, str]]:
        """The credentials in Set-Cookie values: in each one, and in the chunks together."""
        texts = [_pair(cookie) for cookie in cookies if self.is_session_cookie(cookie)]
        if len(texts) > 1:
            texts.append("; ".join(texts))
        for text in texts:
            reading = read_credential(self._sources, CookieJar.parse(text), now)
            if reading.result is Result.OK and reading.token is not None:
                yield reading, self._signer.fingerprint(reading.token)

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


def _pair(set_cookie: bytes) -> str:
    """The name and value that a browser presents, without the `=` that hides a name."""
    return set_cookie.partition(b";")[0].lstrip(b" \t=").decode("latin-1")


def _cost(cookie: bytes) -> int:
    return 2 * len(cookie) + ENTRY_OVERHEAD
