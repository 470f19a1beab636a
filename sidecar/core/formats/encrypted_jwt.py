"""The session cookies that are encrypted JWTs: one row for each library.

Read in next-auth 4.24.15, @auth/core 0.41.3, @auth0/nextjs-auth0 4.30.0 and better-auth 1.7.25.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.cookies import LIBRARY_COOKIES
from sidecar.core.credential import Result
from sidecar.core.formats.sealed import SealedSession, SealedSource, base_name, prefixed
from sidecar.core.jwe import (
    A256CBC_HS512,
    A256GCM,
    ENCRYPTIONS,
    Keyring,
    KidHash,
    as_compact,
    expiry,
    parse_object,
)
from sidecar.core.keys import hkdf
from sidecar.core.tickets import ClaimStamp

TOLERANCE = 15
"""Seconds of clock skew that every one of these libraries allows."""


class Family(msgspec.Struct, frozen=True):
    """What tells one library's cookie from another's.

    `salt` and `info` go into HKDF, `{name}` being the cookie's name with prefix. `encryptions` are
    those that open, of which the first seals; `kid_hashes` says for which of them a `kid` selects
    the key, and by what hash; `chunk_size` is the longest value of one cookie, in characters;
    `suffixes` are those of `SealedSource`.
    """

    type: str
    cookie: str
    token: tuple[str, ...]
    salt: str
    info: str
    encryptions: tuple[str, ...]
    kid_hashes: Mapping[str, KidHash] = msgspec.field(default_factory=dict)
    separator: str = "."
    broken: Result = Result.INVALID
    chunk_size: int = 3936
    suffixes: tuple[str, ...] = ()


FAMILIES = (
    Family(
        type="authjs",
        cookie=LIBRARY_COOKIES["authjs"],
        token=("accessToken",),
        salt="{name}",
        info="Auth.js Generated Encryption Key ({name})",
        encryptions=(A256CBC_HS512, A256GCM),
        kid_hashes={A256CBC_HS512: "sha512", A256GCM: "sha256"},
        suffixes=("",),  # @auth/core lib/utils/cookie.js joins whatever begins with the name
    ),
    Family(
        type="nextauth",
        cookie=LIBRARY_COOKIES["nextauth"],
        token=("accessToken",),
        salt="",
        info="NextAuth.js Generated Encryption Key",
        encryptions=(A256GCM,),
        chunk_size=3933,
        suffixes=("",),  # next-auth core/lib/cookie.js, likewise
    ),
    Family(
        type="auth0",
        cookie=LIBRARY_COOKIES["auth0"],
        token=("tokenSet", "accessToken"),
        salt="",
        info="JWE CEK",
        encryptions=(A256GCM,),
        separator="__",
        broken=Result.NO_SESSION,
        chunk_size=3500,
    ),
    Family(
        type="better-auth",
        cookie=LIBRARY_COOKIES["better-auth"],
        token=("accessToken",),
        salt="better-auth-account",
        info="BetterAuth.js Generated Encryption Key",
        encryptions=(A256CBC_HS512,),
        kid_hashes={A256CBC_HS512: "sha256"},
        suffixes=(".",),  # better-auth cookies/session-store joins whatever stands behind a dot
    ),
)


@dataclass(frozen=True, slots=True)
class JweOpener:
    """Opens encrypted JWTs with the keys that belong to the name of their cookie."""

    keyrings: Mapping[str, Keyring] = field(repr=False)

    def open(self, value: str, name: str, now: float) -> SealedSession:
        claims = parse_object(self.keyrings[name].open(value))
        expires_at = expiry(claims, now, TOLERANCE)
        valid_until = None if expires_at is None else expires_at + TOLERANCE
        return SealedSession(claims, expires_at, valid_until)

    def respelled(self, value: str) -> str:
        return as_compact(value)

    def seal(self, claims: Mapping[str, object], name: str) -> str:
        return self.keyrings[name].seal(msgspec.json.encode(claims))


def jwe_source(
    family: Family,
    *,
    secrets: Sequence[str],
    token: tuple[str, ...] | None = None,
    cookie: str | None = None,
    expires_at: tuple[str, ...] | None = None,
    refresh_token: tuple[str, ...] | None = None,
    keys: CookieKeys = NO_KEYS,
    stamp: ClaimStamp | None = None,
) -> SealedSource:
    """A source for one library's cookie. Every key is derived here, none per request.

    `secrets` are the application's, newest first. `token`, `expires_at` and `refresh_token` are
    claim paths;
    `cookie` overrides the library's name; renewed cookies are set as `keys` say, and their private
    claim is authenticated by `stamp`. What is None is as the library has it.
    """
    names = prefixed(base_name(cookie or family.cookie))
    return SealedSource(
        type=family.type,
        names=names,
        opener=JweOpener({name: _keyring(family, secrets, name) for name in names}),
        token=token or family.token,
        expires_at=expires_at,
        separator=family.separator,
        broken=family.broken,
        refresh_token=refresh_token,
        chunk_size=family.chunk_size,
        keys=keys,
        suffixes=family.suffixes,
        stamp=stamp,
    )


def _keyring(family: Family, secrets: Sequence[str], name: str) -> Keyring:
    salt, info = family.salt.format(name=name), family.info.format(name=name)
    keys = {
        enc: [
            hkdf(
                secret.encode(),
                salt=salt.encode(),
                info=info.encode(),
                size=ENCRYPTIONS[enc].key_size,
            )
            for secret in secrets
        ]
        for enc in family.encryptions
    }
    return Keyring(keys, family.kid_hashes)
