"""A cookie whose value is the token itself."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, is_b64token, more_telling
from sidecar.core.formats.sealed import base_name, prefixed


@dataclass(frozen=True, slots=True)
class RawSource:
    """Takes the value as it is: whether it is a JWT, and has expired, is the upstream's to say."""

    names: tuple[str, ...]
    type: str = "cookie"

    @property
    def base_names(self) -> tuple[str, ...]:
        return self.names[-1:]

    def read(self, jar: CookieJar, now: float) -> Reading:  # noqa: ARG002 - it has no expiry
        """The first value that may be a bearer token wins; an empty one is none."""
        best = Reading(Result.NO_SESSION, header_bytes=len(jar.header), why="no session cookie")
        for name in self.names:
            for value in filter(None, map(_unquote, jar.values(name))):
                reading = self._reading(name, value, len(jar.header))
                if reading.result is Result.OK:
                    return reading
                best = more_telling(best, reading)
        return best

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


def raw_source(*, cookie: str) -> RawSource:
    """A source for the cookie named `cookie`."""
    return RawSource(prefixed(base_name(cookie)))
