"""What a renewal writes into cookies the next request reads: the new tokens of the same session.

Every other claim stays, and every line is one that a browser takes. An input says the format, what
the application has sealed, how it is presented, and what the provider answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sidecar.core.attributes import Attributes, CookieKeys, Scope
from sidecar.core.cookies import PREFIXES, CookieJar, with_set_cookies
from sidecar.core.credential import Reading, Result
from sidecar.core.formats import FORMATS
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.formats.sealed import PRIVATE_CLAIM
from sidecar.core.headers import is_clean_block
from sidecar.core.tickets import ClaimStamp
from sidecar.core.token_response import read_oauth2
from sidecar.core.token_set import TokenSet
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import (
    JWE,
    NOW,
    OWN,
    SECRET,
    SOURCES,
    claims,
    cookie_of,
    login,
    sealed,
)

STAMP: Final = ClaimStamp(OWN)
RENEWED: Final[dict[str, Any]] = {
    **{
        type_: FORMATS[type_](
            secrets=[SECRET],
            refresh_token=("refreshToken",),
            expires_at=path,
            stamp=STAMP,
            keys=keys,
        )
        for type_, path, keys in zip(
            JWE,
            (None, ("expiresAt",), ("tokenSet", "expiresAt"), ("exp",)),
            (CookieKeys(), CookieKeys(domain="example.com", same_site="None"), *[CookieKeys()] * 2),
            strict=True,
        )
    },
    "cookie": SOURCES["cookie"],
    "oidc": SOURCES["oidc"],
}
TYPES: Final = tuple(RENEWED)
IDENTITY: Final = "the-fingerprint-of-a-session"
SIZES: Final = (8000, 300, 20)  # characters of one cookie as it is presented
SCOPES: Final = (
    Scope(https=True, host="app.example.com"),
    Scope(),
    Scope(
        https=True,
        host="app.example.com",
        seen={
            cookie_of(type_): Attributes(domain="example.com", path="/a", partitioned=True)
            for type_ in TYPES
        },
    ),
)
_PAIR: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+=[!#-+\--:<-\[\]-~]*").fullmatch
_LONGEST: Final = 4096  # bytes of a cookie that browsers take, with its name (RFC 6265 6.1)


@dataclass(frozen=True)
class _Answer:
    body: bytes
    status: int = 200
    content_type: str = "application/json"


def check(data: bytes) -> None:
    draw = Draw(data)
    type_, prefix, size = draw.pick(TYPES), draw.pick(PREFIXES), draw.pick(SIZES)
    scope, longer = draw.pick(SCOPES), draw.byte() * 64
    said, _, plaintext = draw.rest().partition(b"\n")
    header = _presented(type_, prefix + cookie_of(type_), plaintext, size)
    for reading in RENEWED[type_].readings(CookieJar.parse(header), NOW):
        if reading.result is not Result.OK or reading.tokens is None:
            continue
        tokens = read_oauth2(_Answer(said), reading.tokens, NOW).tokens
        if tokens is not None:
            _is_renewed(type_, header, reading, _longer(tokens, longer), scope)
            return


def _presented(type_: str, name: str, plaintext: bytes, size: int) -> str:
    if type_ == "cookie":
        return plaintext.decode("latin-1")
    value = sealed(type_, plaintext, name)
    if len(value) <= size:
        return f"a=b; {name}={value}; c=d"
    separator = "__" if type_ == "auth0" else "."
    parts = (value[at : at + size] for at in range(0, len(value), size))
    return "; ".join(f"{name}{separator}{at}={part}" for at, part in enumerate(parts))


def _longer(tokens: TokenSet, by: int) -> TokenSet:
    return TokenSet(
        tokens.access_token[:-1] + "x" * by + tokens.access_token[-1:],
        tokens.refresh_token,
        tokens.expires_at,
        tokens.issued_at,
        tokens.id_token,
    )


def _is_renewed(type_: str, header: str, reading: Reading, tokens: TokenSet, scope: Scope) -> None:
    assert reading.writer is not None
    lines = reading.writer.write(reading, tokens, IDENTITY, scope)
    assert is_clean_block(b"".join(lines), 0)
    for line in lines:
        pair = line.partition(b";")[0]
        assert _PAIR(pair), pair
        assert len(pair) <= _LONGEST or type_ == "cookie", "browsers refuse the cookie"
    if not lines:
        return  # too large: the old ones lead on
    after = with_set_cookies(header, lines, NOW)
    for other in ("a=b", "c=d"):
        assert (other in after) == (other in header)
    found = list(RENEWED[type_].readings(CookieJar.parse(after), NOW))
    again = next((one for one in found if one.result is Result.OK), None)
    assert again is not None, (header, after, [one.why for one in found])
    assert again.token == tokens.access_token
    assert again.tokens is not None
    assert again.tokens.refresh_token == tokens.refresh_token
    if type_ in JWE:
        assert again.identity == IDENTITY
        assert again.valid_until == reading.valid_until or RENEWED[type_].expires_at == ("exp",)
        _holds_the_rest(reading.claims, again.claims)
    if isinstance(reading, LoginReading):
        assert isinstance(again, LoginReading)
        assert reading.session is not None
        assert again.session is not None
        before, now = reading.session, again.session
        assert (before.id, before.subject, before.sid) == (now.id, now.subject, now.sid)


def _holds_the_rest(before: object, after: object) -> None:
    """Everything but what was renewed is as it was."""
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    renewed = {"accessToken", "refreshToken", "expiresAt", "exp", "tokenSet", PRIVATE_CLAIM}
    for name in (before.keys() | after.keys()) - renewed:
        assert before[name] == after[name]


def _packed(type_: str, **more: object) -> bytes:
    if type_ == "oidc":
        return login("t", cookie_of(type_))
    if type_ == "cookie":
        return b"access_token=t; refresh_token=r"
    return msgspec.json.encode({**claims(type_, "t"), "refreshToken": "r", **more})


_SAID: Final = b'{"access_token":"new","refresh_token":"other","expires_in":300}\n'
TARGET: Final = Target(
    check,
    words=[
        *(b'"access_token":', b'"refresh_token":', b'"expires_in":', b'"new"', b'"e30.e30.e30"'),
        *(b'"accessToken":"t"', b'"refreshToken":"r"', b'"expiresAt":', b'"tokenSet":{', b'"exp":'),
        *(b"1800000500", b"1800000500000", b"9007199254740992", b"253402300800", b"1e15", b"null"),
        *(b"-1", b"0", b"true", b'"a":', b"{", b"}", b"[", b"]", b",", b'"\\u0000"', b"\xc3\xa9"),
        *(b"access_token=", b"refresh_token", b".0=", b".1=", b"__0=", b"; ", b"%20", b"%", b'"'),
        *(b'"sidecar":{"fingerprint":"f","issuedAt":1,"mac":"m"}', b'"iat":', b'"nbf":', b"\n"),
    ],
    seeds=[
        *(
            bytes([at, 2, draw % 3, draw % 3, 0]) + _SAID + _packed(type_)
            for at, type_ in enumerate(TYPES)
            for draw in range(2)
        ),
        *(bytes([at, 1, 1, 0, 90]) + _SAID + _packed(type_) for at, type_ in enumerate(JWE)),
        b"\4\2\0\1\0" + _SAID + b"access_token.0=a; access_token.1=b; refresh_token=%72",
        b"\4\2\0\0\2" + _SAID + b"__Host-refresh_token=r",
        b"\1\2\1\0\0" + _SAID + _packed("nextauth", expiresAt=1800000500000, a=[1, {"b": None}]),
    ],
    longest=2048,
)
