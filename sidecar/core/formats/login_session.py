"""A login session: what it holds, and the cookie that holds it or leads to it.

Kept in the cookie it is sealed there; kept in a store the cookie has the session's id, and the
store has the rest under the session's fingerprint. Where a use is noted that brings no new tokens,
a sealed session gets a second, small cookie: were the session itself sealed again, an answer that
comes late would put old tokens in the place of newer ones.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from sidecar.core.access import (
    EMAIL,
    EMAIL_VERIFIED,
    SUBJECT,
    ClaimPath,
    find_claim,
    key_of,
    path_of,
    picked,
    usable,
    verified_email,
)
from sidecar.core.attributes import Scope
from sidecar.core.cookies import (
    LONGEST_SESSION,
    CookieJar,
    NameMatcher,
    chunked_lines,
    collect_chunks,
    gone_line,
    set_line,
)
from sidecar.core.credential import Reading, Result, Writer, is_b64token
from sidecar.core.formats.ended import EndedSessions
from sidecar.core.formats.packed import pack, unpack
from sidecar.core.formats.sealed import MAX_ATTEMPTS, base_name, prefixed
from sidecar.core.jwe import A256GCM, Keyring, SealError
from sidecar.core.keys import derive_key
from sidecar.core.record import names_of, replace, values_of
from sidecar.core.tickets import encode
from sidecar.core.token_set import TokenSet, jwt_claims

TYPE: Final = "oidc"
ID_BYTES: Final = 32
SEPARATOR: Final = "."
LARGE: Final = 4096  # characters of all cookies of a session, beyond which page servers refuse it
STORED_BYTES: Final = 48 * 1024  # of a session in a store, which takes no longer values
_SEALED: Final = 96  # characters that a seal adds to what is sealed, besides base64
_LONGEST_COOKIE: Final = 3936  # characters of name and value, below what any browser takes
_LONGEST_HANDLE: Final = 256  # characters
_TOUCH_PART: Final = 10  # a session's use is noted when this part of its idle time has passed
_TOUCH_MAX: Final = 3600.0  # seconds, and no later than this
_USE: Final = "-used"  # ends the name of the cookie that notes a use
_SHOWN: Final = (("name",), EMAIL, ("picture",))
_MAX_USES: Final = 2  # such cookies that are looked into


class Profile(msgspec.Struct, frozen=True):
    """What is told of a user, and nothing else: sessions in cookies must stay small.

    `claims` are what the newest id_token says at the paths that the configuration names, None if
    it does not; `more` is what UserInfo said there at the login. Both are by `access.key_of`.
    """

    name: str | None = None
    email: str | None = None
    picture: str | None = None
    claims: dict[str, Any] = msgspec.field(default_factory=dict)
    more: dict[str, Any] = msgspec.field(default_factory=dict)

    def claim(self, path: ClaimPath) -> object:
        """What is held at this path: what the id_token says goes before what UserInfo said.

        UserInfo says of its own email alone whether it is verified.
        """
        key = key_of(path)
        said = self.claims.get(key)
        if said is not None:
            return said
        if path == EMAIL_VERIFIED and self.more.get(key_of(EMAIL)) != self.claim(EMAIL):
            return None
        return self.more.get(key)

    def informed(self, claims: Mapping[str, object]) -> Profile:
        """The same with what a newer id_token says."""
        return replace(self, claims=picked(claims, map(path_of, self.claims)))


class Lifetimes(msgspec.Struct, frozen=True):
    """A session ends `idle` seconds after its last use, and `absolute` seconds after its login."""

    idle: float
    absolute: float


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A session that began with a login here. Times are Unix seconds; the repr holds no secret.

    `id` is random and known to the browser alone, `fingerprint` what it was at login: it stays the
    same when secrets are rotated. `cookie` is the cookie's name, prefix included: a session is good
    under that name only, so that one never passes that a sibling domain has set without `__Host-`.
    `subject` and `sid` are the provider's names for user and session.
    """

    id: str = field(repr=False)
    fingerprint: str
    cookie: str
    subject: str = field(repr=False)
    tokens: TokenSet
    created_at: float
    used_at: float
    sid: str | None = field(default=None, repr=False)
    profile: Profile = field(default=Profile(), repr=False)

    def claim(self, path: ClaimPath) -> object:
        """What is known of the user; None for what is not.

        A session that began before the configuration named the path has it in its id_token.
        """
        if path == SUBJECT:
            return self.subject
        if key_of(path) in self.profile.claims:
            return self.profile.claim(path)
        said = usable(find_claim(self._said_by(self.tokens.id_token), path))
        return getattr(self.profile, path[0]) if said is None and path in _SHOWN else said

    @property
    def email(self) -> str | None:
        """The user's verified email in its one spelling (`access.verified_email`)."""
        return verified_email(self.claim)

    def _said_by(self, id_token: str | None) -> Mapping[str, object]:
        """The claims of an id_token of this user."""
        claims = {} if id_token is None else jwt_claims(id_token)
        return claims if claims.get("sub") == self.subject else {}

    def idle_ends_at(self, lifetimes: Lifetimes) -> float:
        """When the session ends if it is not used again."""
        return min(self.used_at + lifetimes.idle, self.absolute_end(lifetimes))

    def absolute_end(self, lifetimes: Lifetimes) -> float:
        """When the session ends however much it is used."""
        return self.created_at + lifetimes.absolute

    def touch_due_at(self, lifetimes: Lifetimes) -> float:
        """From when on a use is worth noting; not every one is written."""
        return self.used_at + min(lifetimes.idle / _TOUCH_PART, _TOUCH_MAX)

    def touched(self, now: float) -> LoginSession:
        """The session after a use; time does not go back."""
        return replace(self, used_at=max(self.used_at, now))

    def renewed(self, tokens: TokenSet) -> LoginSession:
        """The session with other tokens, which is a use. What is missing stays as it was."""
        kept = tokens if tokens.id_token else replace(tokens, id_token=self.tokens.id_token)
        profile = self.profile
        if profile.claims and kept.id_token != self.tokens.id_token:
            said = self._said_by(kept.id_token)
            profile = profile.informed(said) if said else profile
        return replace(self, tokens=kept, profile=profile).touched(tokens.issued_at or 0.0)

    def to_bytes(self) -> bytes:
        """For a store, which encrypts it."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_bytes(stored: bytes) -> LoginSession:
        """What `to_bytes` wrote. Raises `ValueError` for anything else."""
        return msgspec.json.decode(stored, type=LoginSession)

    def packed(self) -> bytes:
        """For cookies, into which it is sealed."""
        rest = {name: getattr(self, name) for name in _PACKED_AS_THEY_ARE}
        return pack(rest, values_of(self.profile), self.tokens)

    @staticmethod
    def unpacked(packed: bytes) -> LoginSession:
        """What `packed` made. Raises `ValueError` for anything else."""
        members, profile, tokens = unpack(packed)
        given = {**members, "profile": profile, "tokens": tokens}
        return msgspec.convert(given, LoginSession, from_attributes=True)

    def without_hint(self) -> LoginSession:
        """The session without its id_token, which a logout at the provider can do without."""
        return replace(self, tokens=replace(self.tokens, id_token=None))


_PACKED_AS_THEY_ARE: Final = tuple(
    name for name in names_of(LoginSession) if name not in ("tokens", "profile")
)


def new_session(
    entropy: bytes,
    fingerprint_of: Callable[[str], str],
    *,
    cookie: str,
    subject: str,
    sid: str | None,
    tokens: TokenSet,
    profile: Profile,
    now: float,
) -> LoginSession:
    """A session that begins now; `entropy` is `ID_BYTES` random bytes of its own."""
    assert len(entropy) == ID_BYTES
    id_ = encode(entropy)
    return LoginSession(id_, fingerprint_of(id_), cookie, subject, tokens, now, now, sid, profile)


@dataclass(frozen=True, slots=True)
class LoginReading(Reading):
    """A reading that knows the whole session; None where there is none, or one that has ended.

    `ends_at` is the end of the session however much it is used.
    """

    session: LoginSession | None = None
    ends_at: float | None = None

    def claim(self, path: ClaimPath) -> object:
        return None if self.session is None else self.session.claim(path)


class _LoginValue(NamedTuple):
    """A value to try, its cookie and the cookies it was joined from; None: no whole set."""

    cookie: str
    names: tuple[str, ...]
    value: str | None
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _LoginSource:
    """What both places to keep a session have in common.

    `names` are the cookie's with each prefix, the bare one last; `ended` what the provider has
    ended, whether it was known here or not.
    """

    names: tuple[str, ...]
    lifetimes: Lifetimes
    type: str = TYPE
    ended: EndedSessions | None = field(default=None, compare=False, kw_only=True)

    @property
    def base_names(self) -> tuple[str, ...]:
        return (self.names[-1], self.names[-1] + _USE)

    def cookie_name(self, *, https: bool) -> str:
        """The name that a new session's cookie has."""
        return self.names[0] if https else self.names[-1]

    @property
    def stems(self) -> tuple[str, ...]:
        return ()

    def _reading(
        self,
        jar: CookieJar,
        candidate: _LoginValue,
        session: LoginSession | None,
        why: str,
        now: float,
        *,
        writer: Writer | None = None,
    ) -> Reading:
        result = Result.INVALID if session is None else _judge(session, self.lifetimes, now)
        if session is not None and self.ended is not None and self.ended.covers(session):
            result = Result.EXPIRED
        known = session if result is Result.OK else None
        return LoginReading(
            result,
            source=self.type,
            cookie=candidate.cookie,
            names=candidate.names,
            places=candidate.places,
            chunks=len(candidate.names),
            token=known.tokens.access_token or None if known else None,
            expires_at=session.tokens.expires_at if session else None,
            header_bytes=len(jar.header),
            why=f"{candidate.cookie}: {_WHY.get(result, why)}",
            valid_until=_ends_at(session, self.lifetimes) if session else None,
            tokens=known.tokens if known and known.tokens.refresh_token else None,
            identity=session.fingerprint if session else None,
            writer=writer,
            session=known,
            ends_at=known.absolute_end(self.lifetimes) if known else None,
        )


def _ends_at(session: LoginSession, lifetimes: Lifetimes) -> float:
    """When the session ends if it is not used again; with its token, if nothing renews that."""
    idle, tokens = session.idle_ends_at(lifetimes), session.tokens
    is_renewed = tokens.refresh_token is not None or tokens.expires_at is None
    return idle if is_renewed else min(idle, tokens.expires_at or idle)


def _judge(session: LoginSession, lifetimes: Lifetimes, now: float) -> Result:
    """An access token that has ended does not end the session if it may be renewed."""
    if now >= _ends_at(session, lifetimes):
        return Result.EXPIRED
    token = session.tokens.access_token
    if not token:
        return Result.OK if session.tokens.refresh_token else Result.TOKEN_MISSING
    return Result.OK if is_b64token(token) else Result.BAD_TOKEN


_WHY: Final = {
    Result.OK: "the session is live",
    Result.EXPIRED: "the session has expired",
    Result.TOKEN_MISSING: "the session holds no token",
    Result.BAD_TOKEN: "the token is not one of RFC 6750",
}


class _Use(NamedTuple):
    """When a session was used last, beside it."""

    fingerprint: str
    at: float


@dataclass(frozen=True, slots=True)
class LoginCookieSource(_LoginSource):
    """Sessions sealed into their cookies. `keyrings` holds the keys of each name; all cookies of a
    session have `longest` characters together at most.
    """

    keyrings: Mapping[str, Keyring] = field(default_factory=dict, repr=False)
    longest: int = LONGEST_SESSION

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        for candidate in islice(self._candidates(jar), MAX_ATTEMPTS):
            yield self._open(jar, candidate, now)

    def write(self, reading: Reading, tokens: TokenSet, identity: str, scope: Scope) -> list[bytes]:  # noqa: ARG002 - the session holds it
        """The same session with other tokens; nothing if they are too large: the old ones lead on,
        and no browser is locked out.
        """
        assert isinstance(reading, LoginReading)
        assert reading.session is not None
        session = self.fitting(reading.session.renewed(tokens))
        return [] if session is None else self.lines(session, reading.names, scope)

    def fitting(self, session: LoginSession) -> LoginSession | None:
        """The session in a size that its cookies take; None if there is none.

        A large one goes without its id_token, which is but a hint for the logout at the provider.
        """
        if _sealed_size(session) <= LARGE:
            return session
        bare = session.without_hint()
        return bare if _sealed_size(bare) <= self.longest else None

    def lines(self, session: LoginSession, presented: Sequence[str], scope: Scope) -> list[bytes]:
        """Set-Cookie values that put a session into its cookies.

        Of the `presented` names those that are not written again are taken away.
        """
        name = session.cookie
        return chunked_lines(
            name,
            self.keyrings[name].seal(session.packed()),
            presented,
            scope.own,
            separator=SEPARATOR,
            size=_LONGEST_COOKIE - len(name) - len(SEPARATOR) - 2,
            expires_at=session.absolute_end(self.lifetimes),
        )

    def use_line(self, session: LoginSession, scope: Scope) -> bytes:
        """A Set-Cookie value that notes when the session was used last, and nothing else of it."""
        name = session.cookie + _USE
        sealed = self.keyrings[name].seal(
            msgspec.json.encode(_Use(session.fingerprint, session.used_at))
        )
        return set_line(name, sealed, scope.own, session.absolute_end(self.lifetimes))

    def _candidates(self, jar: CookieJar) -> Iterator[_LoginValue]:
        for name in self.names:
            for place in jar.places(name):
                value = jar.pairs[place][1]
                if value:
                    yield _LoginValue(name, (name,), value, (place,))
            chunks = collect_chunks(jar, name, SEPARATOR)
            if chunks is not None:
                for joined, places in chunks.values():
                    yield _LoginValue(name, chunks.names, joined, places)

    def _open(self, jar: CookieJar, candidate: _LoginValue, now: float) -> Reading:
        session, why = None, "the set of chunks is incomplete"
        if candidate.value is not None:
            try:
                sealed = self.keyrings[candidate.cookie].open(candidate.value)
                session = LoginSession.unpacked(sealed)
            except SealError as error:
                why = str(error)
            except (ValueError, RecursionError):
                why = "the value does not contain a session"
        if session is not None and session.cookie != candidate.cookie:
            session, why = None, "the value was sealed for another cookie"
        if session is None:
            return self._reading(jar, candidate, None, why, now)
        name = session.cookie + _USE
        uses = jar.values(name)
        for value in uses[:_MAX_USES]:
            session = self._used(session, name, value)
        reading = self._reading(jar, candidate, session, why, now, writer=self)
        if not uses:
            return reading
        places = (*reading.places, *jar.places(name))
        return replace(reading, names=(*reading.names, name), places=places)

    def _used(self, session: LoginSession, name: str, value: str) -> LoginSession:
        """The session after a use that was noted beside it; another session's counts nothing."""
        try:
            use = msgspec.json.decode(self.keyrings[name].open(value), type=_Use)
        except (SealError, ValueError, RecursionError):
            return session
        return session.touched(use.at) if use.fingerprint == session.fingerprint else session


def _sealed_size(session: LoginSession) -> int:
    return len(session.packed()) * 4 // 3 + _SEALED


class Handle(NamedTuple):
    """What the cookie of a stored session says: which one it is, and the id that proves it."""

    cookie: str
    id: str
    fingerprint: str

    @property
    def key(self) -> str:
        """Where the session is stored."""
        return store_key(self.fingerprint)

    @property
    def value(self) -> str:
        """The cookie's value."""
        return f"{self.id}{SEPARATOR}{self.fingerprint}"


def store_key(fingerprint: str) -> str:
    """The store's key of a session."""
    return f"own:{fingerprint}"


@dataclass(frozen=True, slots=True)
class LoginStoreSource(_LoginSource):
    """Sessions in a store. `recall` gives the session of a fingerprint, if it has been loaded.

    Reading is pure and does not wait: load what `handles` names before.
    """

    recall: Callable[[str], LoginSession | None] = field(default=lambda _: None, repr=False)

    def handles(self, jar: CookieJar) -> tuple[Handle, ...]:
        """The sessions that the cookies may be, the most trusted first."""
        found = (_handle(name, value) for name in self.names for value in jar.values(name))
        return tuple(islice((one for one in found if one is not None), MAX_ATTEMPTS))

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        for one in self.handles(jar):
            yield self.reading(jar, one, self.recall(one.fingerprint), now)

    def reading(
        self, jar: CookieJar, handle: Handle, session: LoginSession | None, now: float
    ) -> Reading:
        """What a handle is worth with the session that was found under its key."""
        value = handle.value
        places = tuple(place for place in jar.places(handle.cookie) if jar.pairs[place][1] == value)
        candidate = _LoginValue(handle.cookie, (handle.cookie,), None, places)
        is_it = (
            session is not None
            and session.cookie == handle.cookie
            and session.fingerprint == handle.fingerprint
            and hmac.compare_digest(session.id, handle.id)
        )
        why = "the session is not known"
        return self._reading(jar, candidate, session if is_it else None, why, now)

    def fitting(self, session: LoginSession) -> LoginSession | None:
        """The session in a size that a store takes; None if there is none."""
        for one in (session, session.without_hint()):
            if len(one.to_bytes()) <= STORED_BYTES:
                return one
        return None

    def lines(self, session: LoginSession, presented: Sequence[str], scope: Scope) -> list[bytes]:
        """Set-Cookie values that let a browser present the session, for as long as it may live.

        Of the `presented` names those that are not written again are taken away.
        """
        attributes = scope.own
        stale = [gone_line(name, attributes) for name in presented if name != session.cookie]
        value = Handle(session.cookie, session.id, session.fingerprint).value
        end = session.absolute_end(self.lifetimes)
        return [*stale, set_line(session.cookie, value, attributes, end)]


def _handle(cookie: str, value: str) -> Handle | None:
    id_, separator, fingerprint = value.partition(SEPARATOR)
    if (
        not separator
        or len(value) > _LONGEST_HANDLE
        or not (_is_name(id_) and _is_name(fingerprint))
    ):
        return None
    return Handle(cookie, id_, fingerprint)


def _is_name(text: str) -> bool:
    """Whether this may be part of a store's key: base64url, and not empty."""
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def presented_names(
    source: LoginCookieSource | LoginStoreSource, jar: CookieJar
) -> tuple[str, ...]:
    """Every cookie name presented that a login session may use, readable or not."""
    matches = NameMatcher(source.base_names).matches
    return tuple(name for name in jar.names() if matches(name))


def login_cookie_source(
    *,
    cookie: str,
    secrets: Sequence[bytes],
    lifetimes: Lifetimes,
    longest: int = LONGEST_SESSION,
) -> LoginCookieSource:
    """A source of sessions sealed into the cookie of this base name.

    `secrets` are the sidecar's own: the first seals, all open. Keys are derived here, one for
    each name.
    """
    names = prefixed(base_name(cookie))
    return LoginCookieSource(
        names=names,
        lifetimes=lifetimes,
        longest=longest,
        keyrings={one: _keyring(secrets, one) for name in names for one in (name, name + _USE)},
    )


def login_store_source(
    *,
    cookie: str,
    lifetimes: Lifetimes,
    recall: Callable[[str], LoginSession | None] = lambda _: None,
) -> LoginStoreSource:
    """A source of sessions in a store; the cookie of this base name says which."""
    return LoginStoreSource(names=prefixed(base_name(cookie)), lifetimes=lifetimes, recall=recall)


def _keyring(secrets: Sequence[bytes], name: str) -> Keyring:
    label = f"own session {name}"
    return Keyring({A256GCM: [derive_key(secret, label) for secret in secrets]}, {})
