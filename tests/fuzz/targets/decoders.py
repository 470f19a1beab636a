"""Each format refuses by its own verdicts, opens nothing that was changed, and holds claims to
their types.

An input says the format and what is done: any text is read, a genuine seal is changed, or any
plaintext is sealed with the right key. The octet 0x01 in a text stands for a genuine seal.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sidecar.core.cookies import CookieJar, decoded
from sidecar.core.credential import Reading, Result, is_b64token
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import (
    JWE,
    NOW,
    ORDER,
    SECRET,
    SOURCES,
    claims,
    cookie_of,
    login,
    sealed,
    session,
)

TYPES: Final = tuple(type_ for type_ in ORDER if type_ != "cookie")
_GENUINE: Final = {type_: session(type_, "token-of-a-session") for type_ in TYPES}
_OPENED: Final = (Result.OK, Result.TOKEN_MISSING, Result.BAD_TOKEN, Result.EXPIRED)
_DATES: Final = ("exp", "nbf", "iat")
_SEPARATOR: Final = re.compile(r"([.*~])")


def check(data: bytes) -> None:
    draw = Draw(data)
    type_ = draw.pick(TYPES)
    draw.pick((_any_text, _changed, _any_plaintext))(type_, draw)


def _read(type_: str, value: str) -> Iterator[Reading]:
    for reading in SOURCES[type_].readings(CookieJar.parse(f"{cookie_of(type_)}={value}"), NOW):
        assert SECRET not in reading.why
        assert reading.token is None or is_b64token(reading.token)
        assert (reading.result is Result.OK) >= (reading.token is not None)
        yield reading


def _any_text(type_: str, draw: Draw) -> None:
    text = draw.rest().decode("latin-1").replace("\x01", _GENUINE[type_])
    opened = [one for one in _read(type_, text) if one.result in _OPENED]
    assert not opened or _GENUINE[type_] in text, "a text opens that nobody sealed"


def _changed(type_: str, draw: Draw) -> None:
    genuine = value = _GENUINE[type_]
    while draw.left:
        at, octet = (draw.byte() << 8 | draw.byte()) % (len(value) + 1), chr(draw.byte())
        kind = draw.byte() % 3
        value = value[:at] + (octet if kind < 2 else "") + value[at + (kind > 0) :]
    for reading in _read(type_, value):
        if reading.result in _OPENED:
            is_iron = type_ == "iron-session"
            is_same = _octets(value, is_iron=is_iron) == _octets(genuine, is_iron=is_iron)
            assert is_same, "a changed seal opens"
            assert reading.token == "token-of-a-session"


def _octets(value: str, *, is_iron: bool) -> list[bytes | str]:
    """What a seal says, whatever characters its base64url leaves out or leaves open.

    As npm `cookie` has it, a quotation mark at the beginning takes the last character with it.
    """
    text = decoded(value.split(";", maxsplit=1)[0].strip(" \t"))
    value = text.strip('" \t\n\v\f\r\xa0').translate(str.maketrans("+/", "-_"))
    if is_iron:
        kept = re.sub(r"[^A-Za-z0-9_.*-]", "", value.partition("~")[0])
    else:
        kept = re.sub(r"[^A-Za-z0-9_.-]", "", value)
    return [_decoded(part) for part in _SEPARATOR.split(kept)]


def _decoded(part: str) -> bytes | str:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return part


def _any_plaintext(type_: str, draw: Draw) -> None:
    plaintext = draw.rest()
    for reading in _read(type_, sealed(type_, plaintext)):
        if reading.result is Result.OK and type_ != "oidc":
            _is_believable(type_, msgspec.json.decode(plaintext))


def _is_believable(type_: str, given: dict[str, Any]) -> None:
    """What a session may say that is served."""
    if type_ == "iron-session":
        return
    for name in _DATES if type_ in JWE else _DATES[:2]:
        assert name not in given or type(given[name]) in (int, float), f"{name} is no date"
    assert given.get("exp", NOW + 1) > NOW - 60
    assert given.get("nbf", NOW) <= NOW + 60


TARGET: Final = Target(
    check,
    words=[
        *(b'"accessToken":', b'"tokenSet":{', b'"exp":', b'"nbf":', b'"iat":', b'"sub":', b"null"),
        *(b'"sidecar":', b'"fingerprint":', b'"issuedAt":', b'"mac":', b'"refreshToken":"r"'),
        *(b"1800000500", b"1e300", b"-1", b"true", b'"a"', b"{}", b"[", b"\xff", b'"\\ud800"'),
        *(b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0", b"eyJhbGciOiJub25lIn0", b"Fe26.2*1*"),
        *(b"eyJhbGciOiJIUzI1NiJ9", b"....", b"~2", b"*", b"==", b"%20", b'"'),
    ],
    seeds=[
        *(bytes([at, 0, 1]) for at in range(len(TYPES))),
        *(bytes([at, 1, 0, at, 65, 1]) for at in range(len(TYPES))),
        *(
            bytes([at, 2])
            + (
                login("t", "sidecar")
                if type_ == "oidc"
                else msgspec.json.encode(claims(type_, "t"))
            )
            for at, type_ in enumerate(TYPES)
        ),
        bytes([len(TYPES) - 1, 2]) + b'{"accessToken":"t","exp":"never"}',
    ],
    longest=2048,
)
