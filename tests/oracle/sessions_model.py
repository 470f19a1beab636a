"""A model of sessions, small enough to be seen to be right.

A session begins with a login and ends with a logout. What a request may do follows from the
sessions that its cookies hold, and from which of them have ended; nothing else.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from sidecar.core.formats import FORMATS
from sidecar.core.jwe import SealError
from tests.oracle.sessions_reading import BASES, parse_cookie, sealed_values
from tests.oracle.sessions_spelling import PREFIXES
from tests.oracle.sessions_world import SECRET

SEALED: Final = BASES["authjs"]
RAW: Final = "access_token"
NAMES: Final = tuple(prefix + SEALED for prefix in reversed(PREFIXES))  # as they are looked for
SOURCES: Final = [
    {
        "type": "authjs",
        "secret": SECRET,
        "token": "accessToken",
        "refresh_token": "refreshToken",
        "expires_at": "exp2",
    },
    {"type": "cookie", "cookie": RAW},
]
_OPENER: Final = FORMATS["authjs"](secrets=[SECRET]).opener  # type: ignore[attr-defined]
CHUNK: Final = 3933
DUE: Final = 5  # seconds until a token ends that is to be renewed first
GOOD: Final = 3000


class Fault(AssertionError):
    """The product has broken a promise."""


@dataclass(eq=False)
class Session:
    """What began with one login. Moments are numbers that grow with every step.

    `tokens` are its access tokens, the newest last; `rotated` is how many of them were there when
    the application itself exchanged its refresh token, which the sidecar had no part in. Of a
    session that is not `promised` nothing is checked any more.
    """

    number: str
    kind: str
    tokens: list[str] = field(default_factory=list)
    refresh: list[str] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    alive: bool = True
    promised: bool = True
    rotated: int = 0
    ended_at: int = -1  # the generation that was logged out
    stale: int = 0  # how many of its tokens the API takes no longer
    doomed: bool = False  # neither the API nor the provider takes anything of it
    name: str = SEALED

    def __repr__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def newest(self) -> str | None:
        """The token that is to be injected."""
        return self.tokens[-1] if self.tokens else None

    def is_dead(self, generation: int) -> bool:
        """Whether nothing of this generation may be used any more.

        Generations on two sides of the application's own exchange may count as two sessions.
        """
        if self.alive or not self.promised:
            return False
        return (generation < self.rotated) == (self.ended_at < self.rotated)


class Reading(NamedTuple):
    """A session in a Cookie header, and with which of its tokens (-1: without any)."""

    session: Session
    generation: int


class Model:
    """Every session there was, the cookies that held them, and the provider that knows them."""

    def __init__(self, serial: str) -> None:
        self._serial: Final = serial
        self.sessions: list[Session] = []
        self.seen: list[dict[str, str]] = []  # cookies as a browser was given them
        self.fingerprints: dict[str, Session] = {}  # what the sidecar wrote into whose cookie
        self.reuses = 0
        self._by_number: dict[str, Session] = {}
        self._by_token: dict[str, Session] = {}
        self._by_refresh: dict[str, Session] = {}

    # -- what there is --------------------------------------------------------------------------

    def begin(self, kind: str, *, has_refresh: bool, has_token: bool) -> Session:
        """A login."""
        session = Session(f"{self._serial}.{len(self.sessions)}", kind)
        self.sessions.append(session)
        self._by_number[session.number] = session
        if has_token:
            self.issue(session, has_refresh=has_refresh)
        return session

    def issue(self, session: Session, *, has_refresh: bool) -> None:
        """New tokens."""
        count = len(session.tokens)
        session.tokens.append(f"at-{session.number}-{count}")
        self._by_token[session.tokens[-1]] = session
        if has_refresh:
            session.refresh.append(f"rt-{session.number}-{count}")
            self._by_refresh[session.refresh[-1]] = session

    def exchange(self, token: str) -> Mapping[str, object] | None:
        """The provider's token endpoint: rotates, and ends the family of a token used twice."""
        session = self._by_refresh.get(token)
        if session is None or session.doomed:
            return None
        if token != session.refresh[-1]:
            self.reuses += session.alive and session.promised
            session.doomed = True
            return None
        self.issue(session, has_refresh=True)
        tokens = {"access_token": session.tokens[-1], "refresh_token": session.refresh[-1]}
        return {**tokens, "expires_in": GOOD}

    def is_accepted(self, token: str | None) -> bool:
        """Whether the API takes a token, in any spelling that servers accept."""
        found = self.of_token(token or "")
        return found is not None and not found[0].doomed and found[1] >= found[0].stale

    def of_token(self, token: str) -> Reading | None:
        """Whose token this is."""
        token = token.rstrip("=")  # which servers leave out
        session = self._by_token.get(token)
        return None if session is None else Reading(session, session.tokens.index(token))

    # -- cookies --------------------------------------------------------------------------------

    def cookies(self, session: Session, *, due: bool = False, **more: Any) -> dict[str, str]:
        """The cookies that the application sets for a session as it is now."""
        if session.kind == "raw":
            return {RAW: session.tokens[-1]}
        claims: dict[str, Any] = {"n": session.number, "sub": f"user of {session.number}", **more}
        claims |= {"iat": int(time.time()), "exp": int(time.time()) + 3600, "jti": time.time()}
        if session.tokens:
            end = time.time() + (DUE if due else GOOD)
            claims |= {"accessToken": session.tokens[-1], "exp2": int(end)}
        if session.refresh:
            claims["refreshToken"] = session.refresh[-1]
        if session.kind == "large":
            claims["large"] = "x" * 4000
        return chunked(session.name, seal(claims, session.name))

    def read(self, header: str) -> list[Reading]:
        """Every session that a library reads in a Cookie header, in the order of the sources."""
        found = [self._reading(opened(value, name)) for name, value in sealed_values(header, NAMES)]
        for name, value in parse_cookie(header).items():
            if name.removeprefix("__Secure-").removeprefix("__Host-") == RAW:
                found.append(self.of_token(value))
        return list(dict.fromkeys(reading for reading in found if reading is not None))

    def found(self, header: str) -> list[Reading]:
        """What some reader might find in a Cookie header, whatever it passes over.

        Of two cookies of one name some take the last, and some try each alone; some take the
        chunks beside a cookie that is whole, what stands between double quotes, or a token in
        pieces.
        """
        pairs = header.replace('"', "").split(";")
        chunks = ";".join(pair for pair in pairs if f"{SEALED}." in pair)
        cut = [re.sub(r'=\s*"(.*).$', r"=\1", pair) for pair in header.split(";")]
        whole = (";".join(pairs), ";".join(reversed(pairs)), ";".join(cut), chunks)
        ways = (header, *whole, *pairs, *cut)
        pieces = "".join(values(header))
        tokens = [token for token in self._by_token if token in pieces]
        return [
            *(reading for way in ways for reading in self.read(way)),
            *(one for token in tokens if (one := self.of_token(token)) is not None),
        ]

    def held(self, header: str) -> list[Session]:
        """Every session that is found so."""
        return [reading.session for reading in self.found(header)]

    def _reading(self, claims: Mapping[str, Any] | None) -> Reading | None:
        session = self._by_number.get(str((claims or {}).get("n")))
        if session is None or claims is None:
            return None
        token = claims.get("accessToken")
        return Reading(session, session.tokens.index(token) if token in session.tokens else -1)

    def private(self, header: str) -> Mapping[str, Any]:
        """The claim that the sidecar wrote into the first cookie that opens."""
        for name, value in sealed_values(header, NAMES):
            written = (opened(value, name) or {}).get("sidecar")
            if written is not None:
                return {"sidecar": written}
        return {}

    def given(self, header: str) -> None:
        """Notes what the sidecar wrote into a cookie."""
        for name, value in sealed_values(header, NAMES):
            claims = opened(value, name) or {}
            reading, written = self._reading(claims), claims.get("sidecar")
            if reading is not None and isinstance(written, dict):
                self.fingerprints.setdefault(str(written.get("fingerprint")), reading.session)


def seal(claims: Mapping[str, Any], name: str) -> str:
    """A session as Auth.js seals it."""
    sealed: str = _OPENER.seal(claims, name)
    return sealed


@lru_cache(4096)
def values(header: str) -> list[str]:
    """The cookie values of a header, without quotes and white space."""
    pairs = (pair.partition("=") for pair in header.replace('"', "").split(";"))
    return [value.strip() for _, _, value in pairs]


def is_made_of(token: str, header: str) -> bool:
    """Whether a token is put together of cookie values alone, as chunks of a raw cookie are.

    Raw values are percent-decoded.
    """
    found = values(header)
    for value in sorted([*found, *map(unquote, found)], key=len, reverse=True):
        if value:
            token = token.replace(value, "", 1)
    return not token


def opened(value: str, name: str) -> Mapping[str, Any] | None:
    """The claims of a sealed session, None where it does not open."""
    try:
        claims: Mapping[str, Any] = _OPENER.open(value, name, time.time()).claims
    except SealError:
        return None
    return claims


def chunked(name: str, value: str) -> dict[str, str]:
    """The cookies of a value, as Auth.js writes them."""
    if len(value) <= CHUNK:
        return {name: value}
    parts = range(0, len(value), CHUNK)
    return {f"{name}.{n}": value[at : at + CHUNK] for n, at in enumerate(parts)}


# -- browsers --------------------------------------------------------------------------------------


def is_session_name(name: str) -> bool:
    """Whether a cookie of this name may be read as a session, or as a part of one."""
    bare = name.removeprefix("__Secure-").removeprefix("__Host-")
    return bare.startswith((SEALED, RAW))


def split(set_cookie: str) -> tuple[str, str, bool]:
    """Name and value of a Set-Cookie value, and whether it takes the cookie away."""
    pair, *attributes = set_cookie.split("; ")
    name, _, value = pair.partition("=")
    return name, value, "Max-Age=0" in attributes or not value


def applied(jar: dict[str, str], set_cookies: Iterable[str]) -> None:
    """What a browser does with an answer."""
    for name, value, is_gone in map(split, set_cookies):
        if is_gone:
            jar.pop(name, None)
        else:
            jar[name] = value


def header_of(jar: Mapping[str, str]) -> str:
    """The Cookie field value that a browser presents."""
    return "; ".join(["theme=dark", *(f"{name}={value}" for name, value in jar.items())])


def set_lines(cookies: Mapping[str, str]) -> list[str]:
    """Set-Cookie values."""
    return [f"{name}={value}; Path=/; HttpOnly" for name, value in cookies.items()]


def families(set_cookies: Sequence[str]) -> Iterator[str]:
    """The Cookie field values in which an answer's session cookies are to be read."""
    kept = {name: value for name, value, is_gone in map(split, set_cookies) if not is_gone}
    yield "; ".join(f"{n}={v}" for n, v in kept.items())
    for name, value in kept.items():
        yield f"{name}={value}"


def as_json(history: Sequence[object]) -> str:
    """A history as the command line takes it."""
    return json.dumps(history, separators=(",", ":"))
