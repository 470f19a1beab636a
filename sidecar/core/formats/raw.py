"""A cookie whose value is the token itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

from sidecar.core.cookies import (
    CHUNK_SEPARATORS,
    CookieJar,
    Scope,
    chunked_lines,
    collect_chunks,
    decoded,
    is_cookie_value,
    set_line,
)
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.sealed import MAX_ATTEMPTS, base_name, prefixed
from sidecar.core.tokens import TokenSet, jwt_subject, token_set

_NO_TOKEN: Final = partial(re.compile(r"[^A-Za-z0-9\-._~+/=]+").sub, "")
"""Leaves out what no token holds: servers that trim find a token behind it."""

TYPE: Final = "cookie"
LIFETIME: Final = 30 * 86400.0
"""Seconds that renewed cookies are kept by browsers: how long a refresh token lives is unknown."""

CHUNK_SIZE: Final = 3936
"""Characters of a chunk, if a renewed token goes into chunks as the old one did."""


@dataclass(frozen=True, slots=True)
class RawSource:
    """Takes the value as it is: whether it is a JWT, and has expired, is the upstream's to say."""

    names: tuple[str, ...]
    refresh_names: tuple[str, ...] = ()
    domain: str = ""
    type: str = TYPE

    @property
    def base_names(self) -> tuple[str, ...]:
        return (*self.names[-1:], *self.refresh_names[-1:])

    @property
    def stems(self) -> tuple[str, ...]:
        return ()

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:  # noqa: ARG002 - no expiry
        """Percent-encoded values are decoded, and chunks joined, as the applications do."""
        is_alone = True
        for candidate in islice(self._candidates(jar), MAX_ATTEMPTS):
            is_alone = False
            reading = self._reading(*candidate, len(jar.header))
            is_token = reading.result is Result.OK
            yield self._with_refresh_token(reading, jar) if is_token else reading
        if is_alone and self.refresh_names:
            # Browsers drop a cookie that ends with its token; what renews it is still a session.
            nothing = Reading(Result.NO_SESSION, header_bytes=len(jar.header))
            reading = self._with_refresh_token(nothing, jar)
            if reading is not nothing:
                yield reading

    def _candidates(
        self, jar: CookieJar
    ) -> Iterator[tuple[str, tuple[str, ...], str, tuple[int, ...]]]:
        for name in self.names:
            for place in jar.places(name):
                value = _value(jar.pairs[place][1])
                if value:
                    yield name, (name,), value, (place,)
            for separator in CHUNK_SEPARATORS:
                chunks = collect_chunks(jar, name, separator, _value)
                if chunks is not None:
                    for joined, places in zip(chunks.joined, chunks.places, strict=True):
                        yield name, chunks.names, joined, places

    def _with_refresh_token(self, reading: Reading, jar: CookieJar) -> Reading:
        """The reading with what renews the session, if that is presented too."""
        for name in self.refresh_names:
            for place in jar.places(name):
                value = _value(jar.pairs[place][1])
                if not value:
                    continue
                return replace(
                    reading,
                    result=Result.OK,
                    source=self.type,
                    cookie=reading.cookie
                    or name.removesuffix(self.refresh_names[-1]) + self.names[-1],
                    names=(*reading.names, name),
                    places=(*reading.places, place),
                    tokens=token_set(reading.token or "", value, None),
                    writer=self,
                )
        return reading

    def write(self, reading: Reading, tokens: TokenSet, identity: str, scope: Scope) -> list[bytes]:  # noqa: ARG002 - there is no room for it
        """Both cookies, under the names that they were presented with.

        Neither where the provider's tokens cannot stand in a cookie: then the old ones lead on.
        """
        assert reading.cookie is not None
        if not is_cookie_value(f"{tokens.access_token}{tokens.refresh_token}"):
            return []
        refresh = next(name for name in reading.names if name in self.refresh_names)
        presented = [name for name in reading.names if name != refresh]
        scope = replace(scope, domain=self.domain)
        end = (tokens.issued_at or 0.0) + LIFETIME
        is_whole = presented in ([], [reading.cookie])
        lines = chunked_lines(
            reading.cookie,
            tokens.access_token,
            presented,
            scope,
            separator=CHUNK_SEPARATORS[reading.cookie + CHUNK_SEPARATORS[1] + "0" in presented],
            size=len(tokens.access_token) if is_whole else CHUNK_SIZE,
            expires_at=end,
        )
        return [*lines, set_line(refresh, tokens.refresh_token or "", scope, end)]

    def _reading(
        self, name: str, names: tuple[str, ...], value: str, places: tuple[int, ...], size: int
    ) -> Reading:
        good = is_b64token(value)
        return Reading(
            Result.OK if good else Result.BAD_TOKEN,
            source=self.type,
            cookie=name,
            names=names,
            places=places,
            chunks=len(names),
            token=value if good else None,
            content=None if good else _NO_TOKEN(decoded(value)),
            subject=jwt_subject(value) if good else None,
            header_bytes=size,
            why=f"{name}: " + ("it is a token" if good else "it is not a token of RFC 6750"),
        )


def _value(value: str) -> str:
    """The value as the application reads it.

    A pair of double quotes around it is taken off (RFC 6265 section 4.1.1); one alone is no token.
    """
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return decoded(value) if is_quoted or value[:1] != '"' else value


def raw_source(*, cookie: str, refresh_cookie: str | None = None, domain: str = "") -> RawSource:
    """A source for the cookie named `cookie`, and the one that renews it.

    Renewed ones are set with `domain`.
    """
    refresh = () if refresh_cookie is None else prefixed(base_name(refresh_cookie))
    return RawSource(prefixed(base_name(cookie)), refresh, domain)
