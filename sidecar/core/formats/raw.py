"""A cookie whose value is the token itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from sidecar.core.attributes import NO_KEYS, Attributes, CookieKeys, Scope
from sidecar.core.cookies import (
    CHUNK_SEPARATORS,
    LONGEST_SESSION,
    CookieJar,
    chunked_lines,
    collect_chunks,
    decoded,
    is_cookie_value,
)
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.sealed import MAX_ATTEMPTS, base_name, prefixed
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet, jwt_subject, token_set

_NO_TOKEN: Final = partial(re.compile(r"[^A-Za-z0-9\-._~+/=]+").sub, "")
"""Leaves out what no token holds: servers that trim find a token behind it."""

_UNENCODED: Final = "!'()*"
"""What encodeURIComponent leaves as it is, besides letters, digits and `-_.~`."""

TYPE: Final = "cookie"
LIFETIME: Final = 30 * 86400.0
"""Seconds that renewed cookies are kept by browsers: how long a refresh token lives is unknown."""

CHUNK_SIZE: Final = 3936
"""Characters of a chunk, if a renewed token goes into chunks as the old one did."""


class _RawValue(NamedTuple):
    """A value to try: decoded, and whether it came percent-encoded.

    Its cookie, the cookies that it was joined from, and their indexes in the jar's `pairs`.
    """

    cookie: str
    names: tuple[str, ...]
    places: tuple[int, ...]
    value: str
    is_encoded: bool


class RawSource(msgspec.Struct, frozen=True):
    """Takes the value as it is: whether it is a JWT, and has expired, is the upstream's to say."""

    names: tuple[str, ...]
    refresh_names: tuple[str, ...] = ()
    keys: CookieKeys = NO_KEYS
    type: str = TYPE

    @property
    def base_names(self) -> tuple[str, ...]:
        return (*self.names[-1:], *self.refresh_names[-1:])

    @property
    def stems(self) -> tuple[str, ...]:
        return ()

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:  # noqa: ARG002 - no expiry
        """Percent-encoded values are decoded, and chunks joined, as the applications do."""
        refresh = next(_candidates(jar, self.refresh_names), None)
        is_alone = True
        for candidate in islice(_candidates(jar, self.names), MAX_ATTEMPTS):
            is_alone = False
            reading = _reading(self.type, candidate, len(jar.header))
            is_token = reading.result is Result.OK
            yield self._with(refresh, reading) if is_token and refresh else reading
        if is_alone and refresh is not None:
            # Browsers drop a cookie that ends with its token; what renews it is still a session.
            yield self._with(refresh, Reading(Result.NO_SESSION, header_bytes=len(jar.header)))

    def _with(self, refresh: _RawValue, reading: Reading) -> Reading:
        """The reading with what renews the session."""
        prefix = refresh.cookie.removesuffix(self.refresh_names[-1])
        encoded = reading.encoded | ({refresh.cookie} if refresh.is_encoded else set())
        return replace(
            reading,
            result=Result.OK,
            source=self.type,
            cookie=reading.cookie or prefix + self.names[-1],
            names=(*reading.names, *refresh.names),
            places=(*reading.places, *refresh.places),
            tokens=token_set(reading.token or "", refresh.value, None),
            writer=self,
            encoded=encoded,
        )

    def write(self, reading: Reading, tokens: TokenSet, identity: str, scope: Scope) -> list[bytes]:  # noqa: ARG002 - there is no room for it
        """Both cookies, under the names that they were presented with, and encoded as they were.

        Neither where the provider's tokens cannot stand in a cookie, or are too large for any
        server: then the old ones lead on.
        """
        assert reading.cookie is not None
        refresh = self._refresh_cookie(reading)
        written = (
            (reading.cookie, self.names[-1], tokens.access_token),
            (refresh, self.refresh_names[-1], tokens.refresh_token or ""),
        )
        values = {name: _spelled(token, name in reading.encoded) for name, _, token in written}
        size = sum(map(len, values.values()))
        is_too_large = size > max(LONGEST_SESSION, reading.header_bytes)
        if is_too_large or not all(map(is_cookie_value, values.values())):
            return []
        end = (tokens.issued_at or 0.0) + LIFETIME
        return [
            line
            for name, base, _ in written
            for line in _lines(name, values[name], reading, scope.attributes(base, self.keys), end)
        ]

    def _refresh_cookie(self, reading: Reading) -> str:
        """The name of the cookie that the refresh token came in, without a chunk's suffix."""
        return next(
            name
            for name in self.refresh_names
            if any(one in reading.names for one in (name, *_first_chunks(name)))
        )


def _candidates(jar: CookieJar, names: Iterable[str]) -> Iterator[_RawValue]:
    """The values that cookies of these names hold, whole or in chunks; none that is empty."""
    for name in names:
        for place in jar.places(name):
            came = jar.pairs[place][1]
            if value := _value(came):
                yield _RawValue(name, (name,), (place,), value, _is_encoded(came))
        for separator in CHUNK_SEPARATORS:
            chunks = collect_chunks(jar, name, separator, _value)
            if chunks is None:
                continue
            for joined, places in zip(chunks.joined, chunks.places, strict=True):
                is_encoded = any(_is_encoded(jar.pairs[place][1]) for place in places)
                if joined:
                    yield _RawValue(name, chunks.names, places, joined, is_encoded)


def _reading(type_: str, candidate: _RawValue, size: int) -> Reading:
    name, names, places, value, is_encoded = candidate
    good = is_b64token(value)
    return Reading(
        Result.OK if good else Result.BAD_TOKEN,
        source=type_,
        cookie=name,
        names=names,
        places=places,
        chunks=len(names),
        token=value if good else None,
        content=None if good else _NO_TOKEN(decoded(value)),
        subject=jwt_subject(value) if good else None,
        header_bytes=size,
        why=f"{name}: "
        + ("the value is a token" if good else "the value is not a token of RFC 6750"),
        encoded=frozenset({name} if is_encoded else ()),
    )


def _value(value: str) -> str:
    """The value as the application reads it.

    A pair of double quotes around it is taken off (RFC 6265 section 4.1.1); one alone is no token.
    """
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return decoded(value) if is_quoted or value[:1] != '"' else value


def _is_encoded(value: str) -> bool:
    return "%" in value and _value(value) != value


def _spelled(token: str, is_encoded: bool) -> str:
    """A token as a cookie's value: encoded as the former one was, or if it read otherwise.

    Each character of a token stands for an octet, as in all cookie text.
    """
    if not is_encoded and _value(token) == token:
        return token
    return quote(token, safe=_UNENCODED, encoding="latin-1")


def _first_chunks(name: str) -> tuple[str, ...]:
    return tuple(f"{name}{separator}0" for separator in CHUNK_SEPARATORS)


def _lines(
    name: str, value: str, reading: Reading, attributes: Attributes, end: float
) -> list[bytes]:
    """Set-Cookie values of one cookie, whole or in chunks, as it was presented."""
    first = next((one for one in _first_chunks(name) if one in reading.names), None)
    separator = CHUNK_SEPARATORS[0] if first is None else first.removeprefix(name)[:-1]
    stem = name + separator
    return chunked_lines(
        name,
        value,
        [one for one in reading.names if one == name or one.startswith(stem)],
        attributes,
        separator=separator,
        size=len(value) if first is None else CHUNK_SIZE,
        expires_at=end,
    )


def raw_source(
    *, cookie: str, refresh_cookie: str | None = None, keys: CookieKeys = NO_KEYS
) -> RawSource:
    """A source for the cookie named `cookie`, and the one that renews it.

    Renewed ones are set as `keys` say.
    """
    refresh = () if refresh_cookie is None else prefixed(base_name(refresh_cookie))
    return RawSource(prefixed(base_name(cookie)), refresh, keys)
