"""A Cookie header is read as the libraries read it, or not at all, and no session is passed over.

Octets below 0x20, which no header holds, stand for sealed values and halves of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

from sidecar.core.cookies import PREFIXES, CookieJar, decoded
from sidecar.core.credential import Reading, Result
from sidecar.core.jwe import SealError
from sidecar.core.view import SessionView
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import JWE, NOW, ORDER, READER, SOURCES, cookie_of, session

TOKENS: Final = {type_: f"token-of-{type_}" for type_ in ORDER}
FIRST, SECOND = "token-a-of-authjs", "token-b-of-authjs"
_WHOLE: Final = [
    *(session(type_, TOKENS[type_]) for type_ in ORDER),
    session("authjs", FIRST),
    session("authjs", SECOND),
    session("authjs", SECOND, "__Secure-authjs.session-token"),
]
_PIECES: Final = [
    *_WHOLE,
    *(_WHOLE[8][:150], _WHOLE[8][150:], _WHOLE[9][:150], _WHOLE[9][150:]),
    *(_WHOLE[2][:150], _WHOLE[2][150:], _WHOLE[3][:150], _WHOLE[3][150:]),
]
_FILLED: Final = dict(enumerate(_PIECES))
_EVERY: Final = (*TOKENS.values(), FIRST, SECOND)

_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_CHUNK: Final = re.compile(r"(.+)(\.|__)[0-9]+").fullmatch
_NAMES: Final = frozenset(
    prefix + name for one in SOURCES.values() for name in one.base_names for prefix in PREFIXES
)


def check(data: bytes) -> None:
    draw = Draw(data)
    dead = {_EVERY[at] for at in (draw.byte() % 16, draw.byte() % 16) if at < len(_EVERY)}
    header = draw.rest().decode("latin-1").translate(_FILLED)
    jar = CookieJar.parse(header)
    view = READER.read(jar, NOW, READER.every, name_of=_name, is_dead=lambda name: name in dead)
    assert view.reading.result is not Result.OK or view.reading.token in (
        None,
        *_raw(view),
        *_EVERY,
    )
    _holds_subset(header, view.others.decode("latin-1"))
    _holds_subset(header, view.forwarded.decode("latin-1"))
    _holds_no_session(view.others.decode("latin-1"))
    living = set(view.living)
    for opened in _as_libraries_read(view.forwarded.decode("latin-1")):
        assert opened not in dead, f"a page is shown the dead session {opened}"
        assert opened in living, f"a page is shown {opened}, which was passed over"


def _name(reading: Reading) -> str | None:
    """The session's token, or what else tells it apart."""
    own = getattr(reading, "session", None)
    return own.tokens.access_token if own else reading.token or reading.content or reading.identity


def _raw(view: SessionView) -> Iterable[str | None]:
    return (one.reading.token for one in view.sessions if not one.is_sealed)


def _holds_subset(header: str, kept: str) -> None:
    """What passes is a part of what came, in its order, byte for byte."""
    came = iter(one.strip(" \t") for one in header.split(";"))
    assert all(one.strip(" \t") in came for one in kept.split(";") if one.strip()), (header, kept)


def _holds_no_session(others: str) -> None:
    for name in _names_by_parsers(others):
        chunk = _CHUNK(name)
        assert name not in _NAMES, f"an API is shown {name}"
        assert chunk is None or chunk[1] not in _NAMES, f"an API is shown {name}"


def _names_by_parsers(header: str) -> Iterator[str]:
    """The names that parsers in use find: npm cookie, Next.js, Starlette, http.cookies."""
    for part in header.split(";"):
        name, equals, _ = part.partition("=")
        if not equals:
            continue  # no name, or no value
        yield name.strip(" \t")  # npm cookie, Go
        yield name.strip()  # Starlette, Django
        yield name.lstrip(" ")  # @edge-runtime/cookies
        yield name.strip("\t\n\v\f\r \xa0")  # String.prototype.trim


def _as_libraries_read(header: str) -> Iterator[str]:
    """The tokens of sessions that libraries open: whole, joined as they join, first or last."""
    pairs = [_pair(part) for part in header.split(";") if "=" in part]
    jars = [dict(reversed(pairs)), dict(pairs)]
    for in_order in (*({name: jar[name] for name, _ in pairs} for jar in jars), _by_nextjs(header)):
        for type_ in JWE:
            for prefix in PREFIXES:
                yield from _opened(type_, prefix + cookie_of(type_), in_order)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip("\t\n\v\f\r \xa0"), decoded(value.strip(" \t"))


def _by_nextjs(header: str) -> dict[str, str]:
    """The cookies as @edge-runtime/cookies reads them: it trims nothing and keeps quotation marks,
    and there is no cookie if its percent-encoding is broken.
    """
    jar: dict[str, str] = {}
    for part in filter(None, re.split(r"; *", header)):
        name, equals, value = part.partition("=")
        if not _BROKEN(value):
            with suppress(UnicodeError):
                jar[name] = unquote(value, "utf-8", "strict") if equals else "true"
    return jar


def _opened(type_: str, name: str, jar: dict[str, str]) -> Iterator[str]:
    values = [jar.get(name, ""), _joined(jar, [f"{name}.{at}" for at in range(len(jar))])]
    if type_ in ("authjs", "nextauth"):
        values.append(
            _joined(jar, sorted((one for one in jar if one.startswith(name)), key=_index))
        )
    if type_ == "better-auth":
        begun = (one for one in jar if one.startswith(name + "."))
        values.append(_joined(jar, sorted(begun, key=_index)))
    if type_ == "auth0":
        values.append(_joined(jar, [f"{name}__{at}" for at in range(len(jar))]))
    source = SOURCES[type_]
    for value in filter(None, values):
        try:
            opened = source.opener.open(source.opener.respelled(value), name, NOW)
        except SealError:
            continue
        token = opened.claims.get("accessToken") or opened.claims["tokenSet"]["accessToken"]
        yield str(token)


def _joined(jar: dict[str, str], names: Iterable[str]) -> str:
    return "".join(jar.get(name, "") for name in names)


def _index(name: str) -> int:
    """`parseInt(name.split(".").pop() || "0")`, as @auth/core sorts; no number counts as 0."""
    found = re.match(r"\s*([0-9]{1,9})", name.rpartition(".")[2])
    return int(found[1]) if found else 0


_AUTHJS: Final = cookie_of("authjs").encode()
TARGET: Final = Target(
    check,
    words=[
        *(cookie_of(type_).encode() for type_ in ORDER),
        *(bytes([at]) for at in range(len(_PIECES))),
        *(b"__Secure-", b"__Host-", b".0", b".1", b"__0", b"__1", b".01", b".x", b"; ", b"=", b'"'),
        *(b"%2E", b"%22", b"%20", b"%E2%98%83", b"%", b"\xa0", b",", b"\t", b"theme=dark"),
        *(b"__chunked__1", b"__chunked__2", b"-used", b"refresh_token", b"access_token"),
    ],
    seeds=[
        b"\xff\xff" + _AUTHJS + b"=\x08; theme=dark",
        b"\x08\xff" + _AUTHJS + b"=\x08; " + _AUTHJS + b".0=\x0b; " + _AUTHJS + b".1=\x0c",
        b"\xff\xff" + _AUTHJS + b".0=\x0b; " + _AUTHJS + b".1=\x0c; __Secure-" + _AUTHJS + b"=\x0a",
        b"\xff\xff"
        + b"; ".join(
            cookie_of(type_).encode() + b"=" + bytes([at]) for at, type_ in enumerate(ORDER)
        ),
        b"\xff\xffaccess_token=abc; refresh_token=def; a=b",
        b"\xff\xffapp=__chunked__2; app.1=a; app.2=b",
    ],
)
