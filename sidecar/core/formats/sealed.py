"""Sessions sealed into cookies: which values to try, and what an opened one says."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, NamedTuple, Protocol, cast

import msgspec

from sidecar.core.access import ClaimPath, find_claim, picked
from sidecar.core.attributes import NO_KEYS, CookieKeys, Scope
from sidecar.core.cookies import (
    LONGEST_SESSION,
    MAX_CHUNKS,
    PREFIXES,
    CookieJar,
    chunked_lines,
    collect_chunks,
    collect_counted,
    decoded,
    unprefixed,
)
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.errors import loggable
from sidecar.core.jwe import SealError, as_number
from sidecar.core.tickets import ClaimStamp
from sidecar.core.token_set import TokenSet, token_set

MAX_ATTEMPTS = 20
"""Values that one source tries in one request: duplicates cost work before anyone is known."""

MAX_SIBLINGS = 6
"""Of the cookies that a library joins against its own rules, how many are tried alone."""

PRIVATE_CLAIM = "sidecar"
"""What a renewal adds to the claims: the session's fingerprint, and when its token was issued, with
a MAC over both. Applications let their users write claims, so nothing is believed without it."""

_VOLATILE: Final = frozenset(("iat", "exp", "nbf", "jti", PRIVATE_CLAIM))
"""Claims that are written anew each time that a session is sealed."""

_SESSION_END: Final = ("exp",)
"""The claim by which a session ends itself (RFC 7519 4.1.4)."""

_MILLISECONDS_ABOVE = 1e11
"""A date above this is in milliseconds; in seconds it would lie in the year 5138."""


@dataclass(frozen=True, slots=True)
class SealedSession:
    """An opened session: its claims, the expiry it states and the end of the tolerance after that,
    both in Unix seconds (None: it has no end).
    """

    claims: Mapping[str, object] = field(repr=False)
    expires_at: float | None
    valid_until: float | None


class Opener(Protocol):
    """How a format opens a value."""

    def open(self, value: str, name: str, now: float) -> SealedSession:
        """Open the whole value of the cookie `name` (with prefix, without chunk suffix).

        A session that has expired opens too. Raises `SealError` for one that is not to be believed.
        """
        ...

    def respelled(self, value: str) -> str:
        """The value as the library writes it, if it would open it as it is written here too."""
        ...


class Sealer(Opener, Protocol):
    """How a format opens a value, and seals one."""

    def seal(self, claims: Mapping[str, object], name: str) -> str:
        """Seal claims into the whole value of the cookie `name`."""
        ...


class _SealedValue(NamedTuple):
    """A value to try, the cookie it belongs to and the cookies it was joined from.

    The value is None if chunks were presented that do not make a whole set. `places` are the
    indexes in the jar's `pairs` that it was joined from.
    """

    cookie: str
    names: tuple[str, ...]
    value: str | None
    places: tuple[int, ...]
    is_plain: bool = True
    is_sibling: bool = False


class _Verdict(NamedTuple):
    result: Result
    why: str
    session: SealedSession | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class SealedSource:
    """A source whose cookie holds an encrypted session with the token among its claims.

    `names` are the cookie's with each prefix, the bare one last; each is tried whole and in chunks
    named with `separator`. `token` and `expires_at` are paths into the claims; the latter leads to
    Unix seconds or milliseconds that stand for the session's own expiry. `broken` is what chunks
    with a gap count as. `refresh_token` is the path of the token that renews a session; then
    `opener` seals as well, into cookies of at most `chunk_size` characters each, set as `keys` say,
    and `stamp` authenticates the private claim. `suffixes` are what follows the name in further
    cookies that the library joins, whatever comes behind: `""` for every name that begins alike.
    `attempts` is how many values are tried in one request. `counted`: a whole cookie may tell how
    many chunks there are. `shows` are claims that rules and header fields are made of.
    """

    type: str
    names: tuple[str, ...]
    opener: Opener = field(repr=False)
    token: tuple[str, ...]
    expires_at: tuple[str, ...] | None = None
    separator: str = "."
    broken: Result = Result.INVALID
    refresh_token: tuple[str, ...] | None = None
    chunk_size: int = 3936
    keys: CookieKeys = NO_KEYS
    suffixes: tuple[str, ...] = ()
    attempts: int = MAX_ATTEMPTS
    counted: bool = False
    shows: tuple[ClaimPath, ...] = ()
    stamp: ClaimStamp | None = field(default=None, repr=False)

    @property
    def base_names(self) -> tuple[str, ...]:
        return self.names[-1:]

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(self.names[-1] + suffix for suffix in self.suffixes)

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        candidates = chain(self._candidates(jar), self._siblings(jar))
        for candidate in map(self._respelled, islice(candidates, self.attempts)):
            yield self._reading(candidate, self._judge(candidate, now), len(jar.header))

    def _respelled(self, candidate: _SealedValue) -> _SealedValue:
        value = None if candidate.value is None else self.opener.respelled(candidate.value)
        if value == candidate.value:
            return candidate
        return candidate._replace(value=value, is_plain=False)

    def _siblings(self, jar: CookieJar) -> Iterator[_SealedValue]:
        """What the library joins besides: every cookie whose name begins with a stem.

        It never writes such a set. It is read for whose session it holds, and passes nowhere.
        """
        for name in self.names if self.stems else ():
            stems = tuple(name + suffix for suffix in self.suffixes)
            found = [
                (place, stripped, decoded(value))
                for place, (one, value, _) in enumerate(jar.pairs)
                if (stripped := one.strip()) == name or stripped.startswith(stems)
            ]
            if self._is_written({one for _, one, _ in found}, name):
                continue
            for place, one, value in found[:MAX_SIBLINGS]:
                yield _SealedValue(name, (one,), value, (place,), False, True)
            for order in (found, sorted(found, key=lambda each: _index(each[1]))):
                places, names, values = zip(*order[:MAX_CHUNKS], strict=True)
                yield _SealedValue(name, names, "".join(values), places, False, True)

    def _is_written(self, found: Collection[str], name: str) -> bool:
        """Whether the library writes these names together: one whole cookie, or all chunks."""
        chunks = {f"{name}{self.separator}{index}" for index in range(len(found))}
        return found in ({name}, chunks, set())

    def _candidates(self, jar: CookieJar) -> Iterator[_SealedValue]:
        for name in self.names:
            counted = collect_counted(jar, name, decoded) if self.counted else None
            for place in jar.places(name) if counted is None else ():
                value = decoded(jar.pairs[place][1])
                if value:
                    yield _SealedValue(name, (name,), value, (place,))
            chunks = counted or collect_chunks(jar, name, self.separator, decoded)
            if chunks is not None:
                for joined, places in chunks.values():
                    yield _SealedValue(name, chunks.names, joined, places)

    def _judge(self, candidate: _SealedValue, now: float) -> _Verdict:
        if candidate.value is None:
            return _Verdict(self.broken, "the set of chunks is incomplete")
        try:
            session = self.opener.open(candidate.value, candidate.cookie, now)
        except SealError as error:
            return _Verdict(Result.INVALID, str(error))
        if session.valid_until is not None and now >= session.valid_until:
            return _Verdict(Result.EXPIRED, "the session has expired", session)
        token = find_claim(session.claims, self.token)
        if not isinstance(token, str) or not token:
            path = ".".join(self.token)
            why = f"the session has no token at the claim {path}; it has {_names(session)}"
            return _Verdict(Result.TOKEN_MISSING, why, session)
        if not is_b64token(token):
            return _Verdict(Result.BAD_TOKEN, "the token is not one of RFC 6750", session)
        return _Verdict(Result.OK, "the session holds a token", session, token)

    def write(self, reading: Reading, tokens: TokenSet, identity: str, scope: Scope) -> list[bytes]:
        """The same claims with other tokens, and one private claim that says whose they are.

        Nothing if that is too large: the old ones lead on, and no browser is locked out.
        """
        assert reading.claims is not None
        assert reading.cookie is not None
        assert self.refresh_token is not None
        claims = with_claim(reading.claims, self.token, tokens.access_token)
        claims = with_claim(claims, self.refresh_token, tokens.refresh_token)
        assert self.stamp is not None
        claims[PRIVATE_CLAIM] = self.stamp.write(identity, tokens.issued_at)
        if self.expires_at is not None:
            claims = self._with_expiry(claims, self.expires_at, tokens.expires_at)
        sealed = cast("Sealer", self.opener).seal(claims, reading.cookie)
        if len(sealed) > max(LONGEST_SESSION, reading.header_bytes):
            return []
        end = None if reading.valid_until is None else as_number(claims.get("exp"))
        return chunked_lines(
            reading.cookie,
            sealed,
            reading.names,
            scope.attributes(self.names[-1], self.keys),
            separator=self.separator,
            size=self.chunk_size,
            expires_at=end,
        )

    def _with_expiry(
        self, claims: Mapping[str, object], path: tuple[str, ...], expires_at: float | None
    ) -> dict[str, object]:
        """The claims with a token's expiry; if that is unknown, without the one of the old token.

        By that one every process would renew the new token at once. A session's own end stays.
        """
        if expires_at is None:
            return dict(claims) if path == _SESSION_END else without_claim(claims, path)
        unit = 1000 if self._is_in_milliseconds(claims) else 1
        return with_claim(claims, path, int(expires_at * unit))

    def _is_in_milliseconds(self, claims: Mapping[str, object]) -> bool:
        stated = as_number(find_claim(claims, self.expires_at)) if self.expires_at else None
        return stated is not None and stated > _MILLISECONDS_ABOVE

    def _tokens(self, verdict: _Verdict, issued: float | None) -> TokenSet | None:
        """What renews the session, if it holds that."""
        if self.refresh_token is None or verdict.session is None or verdict.token is None:
            return None
        claims = verdict.session.claims
        refresh = find_claim(claims, self.refresh_token)
        if not isinstance(refresh, str) or not refresh:
            return None
        stated = self._expires_at(verdict.session) if self.expires_at is not None else None
        return token_set(verdict.token, refresh, stated, issued)

    def _reading(self, candidate: _SealedValue, verdict: _Verdict, header_bytes: int) -> Reading:
        claims = verdict.session.claims if verdict.session else {}
        identity, issued = None, None
        if self.stamp is not None and PRIVATE_CLAIM in claims:
            identity, issued = self.stamp.read(claims[PRIVATE_CLAIM])
        tokens = self._tokens(verdict, issued)
        content, lasting = self._content(verdict)
        return Reading(
            verdict.result,
            source=self.type,
            cookie=candidate.cookie,
            names=candidate.names,
            places=candidate.places,
            chunks=0 if candidate.is_sibling else len(candidate.names),
            token=verdict.token,
            expires_at=self._expires_at(verdict.session) if verdict.session else None,
            header_bytes=header_bytes,
            why=f"{candidate.cookie}: {verdict.why}",
            valid_until=verdict.session.valid_until if verdict.session else None,
            tokens=tokens,
            claims=claims if tokens is not None else None,
            shown=picked(claims, self.shows) if self.shows else None,
            writer=self if tokens is not None else None,
            identity=identity,
            content=content,
            lasting=lasting,
            subject=subject if isinstance(subject := claims.get("sub"), str) else None,
            is_plain=candidate.is_plain,
        )

    def _content(self, verdict: _Verdict) -> tuple[str | None, str | None]:
        """What stands for a session without a usable token, and what of it lasts.

        That is the text that is no token, else the claims.
        """
        if verdict.session is None or verdict.result is Result.OK:
            return None, None
        claims = verdict.session.claims
        if verdict.result is Result.BAD_TOKEN:
            return str(find_claim(claims, self.token)), None
        lasting = {name: value for name, value in claims.items() if name not in _VOLATILE}
        return _canonical(claims), _canonical(lasting)

    def _expires_at(self, session: SealedSession) -> float | None:
        named = as_number(find_claim(session.claims, self.expires_at)) if self.expires_at else None
        if named is None:
            return session.expires_at
        return named / 1000 if self._is_in_milliseconds(session.claims) else named


def _index(name: str) -> int:
    """The number behind the last dot, 0 if there is none."""
    digits = name.rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


_MOST_NAMES: Final = 20
_LONGEST_NAME: Final = 40


def _names(session: SealedSession) -> str:
    """The names of the claims that are there, never a value."""
    names = [loggable(name[:_LONGEST_NAME]) for name in list(session.claims)[:_MOST_NAMES]]
    return ", ".join(names) or "no claims"


def _canonical(claims: Mapping[str, object]) -> str:
    return msgspec.json.encode(claims, order="sorted").decode()


def prefixed(base: str) -> tuple[str, ...]:
    """The names that a cookie may have been set under, the one that is hardest to forge first."""
    return tuple(prefix + base for prefix in PREFIXES)


def base_name(cookie: str) -> str:
    """The name without prefix, where a configuration gives one with it."""
    return unprefixed((cookie,))[0]


def with_claim(
    claims: Mapping[str, object], path: tuple[str, ...], value: object
) -> dict[str, object]:
    """A copy of the claims with another value at `path`."""
    name, *rest = path
    if rest:
        inner = claims.get(name)
        value = with_claim(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)
    return {**claims, name: value}


def without_claim(claims: Mapping[str, object], path: tuple[str, ...]) -> dict[str, object]:
    """A copy of the claims without the one at `path`."""
    name, *rest = path
    inner = claims.get(name)
    if rest and isinstance(inner, Mapping):
        return {**claims, name: without_claim(inner, tuple(rest))}
    return {key: value for key, value in claims.items() if rest or key != name}
