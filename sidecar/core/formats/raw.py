"""A cookie whose value is the token itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sidecar.core.cookies import CookieJar, Scope, is_cookie_value, set_line
from sidecar.core.credential import Reading, Result, is_b64token, more_telling
from sidecar.core.formats.sealed import base_name, prefixed
from sidecar.core.tokens import TokenSet, token_set

LIFETIME: Final = 30 * 86400.0
"""Seconds that renewed cookies are kept by browsers: how long a refresh token lives is unknown."""


@dataclass(frozen=True, slots=True)
class RawSource:
    """Takes the value as it is: whether it is a JWT, and has expired, is the upstream's to say."""

    names: tuple[str, ...]
    refresh_names: tuple[str, ...] = ()
    domain: str = ""
    type: str = "cookie"

    @property
    def base_names(self) -> tuple[str, ...]:
        return (*self.names[-1:], *self.refresh_names[-1:])

    def read(self, jar: CookieJar, now: float) -> Reading:  # noqa: ARG002 - it has no expiry
        """The first value that may be a bearer token wins; an empty one is none."""
        best = Reading(Result.NO_SESSION, header_bytes=len(jar.header), why="no session cookie")
        for name in self.names:
            for value in filter(None, map(_unquote, jar.values(name))):
                reading = self._reading(name, value, len(jar.header))
                if reading.result is Result.OK:
                    return self._with_refresh_token(reading, jar)
                best = more_telling(best, reading)
        if best.result is Result.NO_SESSION and self.refresh_names:
            # Browsers drop a cookie that ends with its token; what renews it is still a session.
            return self._with_refresh_token(best, jar)
        return best

    def _with_refresh_token(self, reading: Reading, jar: CookieJar) -> Reading:
        """The reading with what renews the session, where that is presented too."""
        for name in self.refresh_names:
            for value in filter(None, map(_unquote, jar.values(name))):
                return replace(
                    reading,
                    result=Result.OK,
                    source=self.type,
                    cookie=reading.cookie
                    or name.removesuffix(self.refresh_names[-1]) + self.names[-1],
                    names=(*reading.names, name),
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
        scope = replace(scope, domain=self.domain)
        end = (tokens.issued_at or 0.0) + LIFETIME
        return [
            set_line(reading.cookie, tokens.access_token, scope, end),
            set_line(refresh, tokens.refresh_token or "", scope, end),
        ]

    def _reading(self, name: str, value: str, header_bytes: int) -> Reading:
        good = is_b64token(value)
        return Reading(
            Result.OK if good else Result.BAD_TOKEN,
            source=self.type,
            cookie=name,
            names=(name,),
            chunks=1,
            token=value if good else None,
            header_bytes=header_bytes,
            why=f"{name}: " + ("it is a token" if good else "it is not a token of RFC 6750"),
        )


def _unquote(value: str) -> str:
    """The value without the pair of double quotes that RFC 6265 section 4.1.1 allows around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def raw_source(*, cookie: str, refresh_cookie: str | None = None, domain: str = "") -> RawSource:
    """A source for the cookie named `cookie`, and the one that renews it.

    Renewed ones are set with `domain`.
    """
    refresh = () if refresh_cookie is None else prefixed(base_name(refresh_cookie))
    return RawSource(prefixed(base_name(cookie)), refresh, domain)
