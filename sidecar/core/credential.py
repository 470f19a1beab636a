"""The bearer token of a request: what a source may say about a Cookie header, and who is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final, Protocol

from sidecar.core.access import ClaimPath, key_of
from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar
from sidecar.core.token_set import TokenSet

MOST_TEXTS: Final = 256
"""Strings of one JSON text that are looked at. A response that hands out tokens has few others."""

_TEXTS = re.compile(rb'"((?>[A-Za-z0-9\-._~+/]|\\/)++=*+)"(?!\s*:)').finditer
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*").fullmatch


class Result(StrEnum):
    """What came of reading a session, from the least telling to the most.

    The order is the order in which readings of several cookies or sources outrank each other:
    a session that opened but holds no token says more than one that did not open.
    """

    NO_SESSION = "no_session"
    INVALID = "invalid"
    EXPIRED = "expired"
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a result (behaviour: credential)
    BAD_TOKEN = "bad_token"  # noqa: S105 - a result (behaviour: credential)
    OK = "ok"


_RANK = {result: rank for rank, result in enumerate(Result)}


def most_telling(results: Iterable[Result]) -> Result:
    """The one that outranks all others; `NO_SESSION` of none."""
    return max(results, key=_RANK.__getitem__, default=Result.NO_SESSION)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source, or all of them together, found in a Cookie header.

    `source` is the source's type; `cookie` the name of the session cookie as presented, prefix
    included but no chunk suffix; `names` the cookies that the session was joined from, `places`
    their indexes in the jar's `pairs` and `chunks`
    their number (1: it came whole; 0: there was none). `expires_at` is the expiry that the session
    states, `valid_until` the moment from which the same cookies read otherwise (both Unix seconds;
    None: never). `tokens` are those of a session that can be renewed, and `claims` what is written
    back with it by `writer`; `identity` is the fingerprint that an earlier renewal wrote into it.
    `content` stands for a session that opened without a usable token: the same text for the same
    cookie in every spelling, and None otherwise; `lasting` is that part of it which stays when its
    application seals it again. `subject` is the user that the session names, if it names one.
    `encoded` are the cookies whose values came percent-encoded, without a chunk's suffix. `shown`
    are claims that rules ask for, by `access.key_of`.
    `is_plain` is False for a spelling that its library would open and never writes: such a session
    is known for whose it is, and passes nowhere.
    `header_bytes` is the size of the Cookie field value. `why` is for a person and
    holds no secret; neither does the repr.
    """

    result: Result
    source: str | None = None
    cookie: str | None = None
    names: tuple[str, ...] = ()
    chunks: int = 0
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    header_bytes: int = 0
    why: str = ""
    valid_until: float | None = None
    tokens: TokenSet | None = None
    claims: Mapping[str, object] | None = field(default=None, repr=False)
    identity: str | None = None
    content: str | None = field(default=None, repr=False)
    lasting: str | None = field(default=None, repr=False)
    subject: str | None = field(default=None, repr=False)
    is_plain: bool = True
    places: tuple[int, ...] = ()
    writer: Writer | None = field(default=None, repr=False)
    encoded: frozenset[str] = frozenset()
    shown: Mapping[str, object] | None = field(default=None, repr=False)

    def claim(self, path: ClaimPath) -> object:
        """What the session says of its user; None if it does not, or if nobody configured it."""
        return None if self.shown is None else self.shown.get(key_of(path))

    def is_resealed_from(self, before: Reading) -> bool:
        """Whether a session without a token is `before`, sealed again by its application."""
        return self.lasting is not None and self.lasting == before.lasting

    def has_rotated_from(self, before: Reading) -> bool:
        """Whether a session may be `before` with tokens that its application has rotated.

        A login of another user may set the same cookie, so both must name the same user.
        """
        return self.subject is not None and self.subject == before.subject


class Source(Protocol):
    """One place to find a credential. Built at load; reading is pure and never raises."""

    @property
    def type(self) -> str: ...

    @property
    def base_names(self) -> tuple[str, ...]:
        """Cookie names without prefix and chunk suffix that belong to this source."""
        ...

    @property
    def stems(self) -> tuple[str, ...]:
        """Beginnings of further cookie names in which the library would look for its session."""
        ...

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        """What each value holds at the Unix time `now` (seconds), the most trusted first.

        Bounded in number, however many cookies there are.
        """
        ...


class Writer(Protocol):
    """A source whose sessions can be renewed: it puts new tokens where the old ones were."""

    def write(self, reading: Reading, tokens: TokenSet, identity: str, scope: Scope) -> list[bytes]:
        """Set-Cookie values for a reading of this source, which has `tokens`, with others.

        `identity` is the session's fingerprint, which stays.
        """
        ...


def read_credential(sources: Sequence[Source], jar: CookieJar, now: float) -> Reading:
    """Ask the sources in order: the first `ok` wins, else the most telling failure, else the first.

    `now` is Unix time in seconds. Never raises.
    """
    readings = (reading for source in sources for reading in source.readings(jar, now))
    return best_reading(credible(readings), jar)


def credible(readings: Iterable[Reading]) -> Iterator[Reading]:
    """The readings that count for what they say; of a spelling that is not plain, a refusal."""
    for reading in readings:
        if reading.is_plain:
            yield reading
        elif reading.chunks:
            why = f"{reading.cookie}: the library never writes a session in this spelling"
            yield Reading(
                Result.INVALID,
                source=reading.source,
                cookie=reading.cookie,
                names=reading.names,
                chunks=reading.chunks,
                header_bytes=reading.header_bytes,
                why=why,
            )


def best_reading(readings: Iterable[Reading], jar: CookieJar) -> Reading:
    """The first `ok`, else the most telling failure; `no_session` if there is no reading."""
    best = Reading(Result.NO_SESSION, header_bytes=len(jar.header), why="no session cookie")
    for reading in readings:
        if reading.result is Result.OK:
            return reading
        best = more_telling(best, reading)
    return best


def more_telling(first: Reading, second: Reading) -> Reading:
    """The reading that says more; of two that say as much, the first that names a source."""
    if first.source is None and first.result is second.result:
        return second
    return second if _RANK[second.result] > _RANK[first.result] else first


def credentials_in(document: bytes) -> Iterator[str]:
    """The strings of a JSON text that may be tokens, names of members aside; `MOST_TEXTS` at most.

    Some servers escape the solidus (RFC 8259 section 7).
    """
    for match in islice(_TEXTS(document), MOST_TEXTS):
        yield match[1].replace(b"\\/", b"/").decode()


def essence(token: str) -> str:
    """A token without padding; a JWT (RFC 7519) without its signature, which follows from it."""
    bare = token.rstrip("=")
    parts = bare.split(".")
    return f"{parts[0]}.{parts[1]}" if len(parts) == 3 and all(parts) else bare


def is_b64token(text: str) -> bool:
    """Whether `text` is RFC 6750 section 2.1 `b64token`, so that it may stand after `Bearer `."""
    return _B64TOKEN(text) is not None
