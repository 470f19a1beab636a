"""Fe26.2 seals of @hapi/iron, as several libraries write them.

Read in iron-session 8.0.4 and 9.0.1, and in h3 1.15.11 and 2.0.8, of which Nuxt (nuxt-auth-utils),
Nitro and TanStack Start have theirs. iron-session names its password and ends with a version; h3
does neither, and h3 2 derives keys in 8192 iterations.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from joserfc.util import urlsafe_b64decode

from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.formats.sealed import (
    MAX_ATTEMPTS,
    SealedSession,
    SealedSource,
    base_name,
    prefixed,
)
from sidecar.core.jwe import SealError, parse_object

SKEW = 60
"""Seconds of clock skew that iron-session allows."""

_OTHER_ALPHABET = str.maketrans("+/", "-_")
_NAMELESS: Final = "Fe26.2**"
_HINT: Final = "; a seal of h3 2 or later needs `iterations: 8192`"
_NO_SEAL = re.compile(r"[^A-Za-z0-9_.*-]+")
_SEAL = re.compile(
    r"(?P<signed>Fe26\.2"
    r"\*(?P<password_id>[A-Za-z0-9_]*)"
    r"\*(?P<salt>[0-9a-f]{64})"
    r"\*(?P<iv>[A-Za-z0-9_-]{22})"
    r"\*(?P<ciphertext>[A-Za-z0-9_-]+)"
    r"\*(?P<expiry>[1-9][0-9]{0,15}|))"
    r"\*(?P<mac_salt>[0-9a-f]{64})"
    r"\*(?P<mac>[A-Za-z0-9_-]{43})"
    r"(?P<version>~2)?"
)
_DEFAULT_ID: Final = "default"  # of the password of a seal that names none, in @hapi/iron
COSTLY_ATTEMPTS: Final = 3
"""Seals that are tried in one request if each costs thousands of iterations: 16 ms and more."""


@dataclass(frozen=True, slots=True)
class IronOpener:
    """Opens seals with the password that they name. `passwords` maps id to password.

    A seal that names none opens with the one called `default`, or with any. `iterations` are the
    numbers by which keys may be derived, the cheapest first.
    """

    passwords: Mapping[str, bytes] = field(repr=False)
    iterations: tuple[int, ...] = (1,)

    def open(self, value: str, name: str, now: float) -> SealedSession:  # noqa: ARG002 - no part of it
        seal = _SEAL.fullmatch(value)
        if seal is None or bool(seal["password_id"]) is not bool(seal["version"]):
            raise SealError("the value is not a seal of iron-session or h3")
        claims = self._unseal(seal)
        expires_at = int(seal["expiry"]) / 1000 if seal["expiry"] else None
        return SealedSession(claims, expires_at, None if expires_at is None else expires_at + SKEW)

    def _unseal(self, seal: re.Match[str]) -> dict[str, object]:
        """The claims. Raises `SealError`."""
        for password in self._passwords(seal["password_id"]):
            for iterations in self.iterations if not seal["version"] else (1,):
                try:
                    _verify(seal, password, iterations)
                    return parse_object(_decrypt(seal, password, iterations))
                except ValueError:
                    continue
        hint = "" if seal["version"] or len(self.iterations) > 1 else _HINT
        raise SealError(f"the configured password does not open the value{hint}")

    def _passwords(self, id_: str) -> Iterable[bytes]:
        """Those that may open a seal. Raises `SealError` where there is none."""
        if not id_:
            named = self.passwords.get(_DEFAULT_ID)
            return self.passwords.values() if named is None else (named,)
        if id_ not in self.passwords:
            raise SealError("the value was sealed with a password id that is not configured")
        return (self.passwords[id_],)

    def respelled(self, value: str) -> str:
        # iron-session takes what stands before the first `~`, whatever version stands behind.
        seal = value.partition("~")[0]
        if seal.count("*") != 7:
            return value
        seal = _NO_SEAL.sub("", seal.translate(_OTHER_ALPHABET))
        return seal if seal.startswith(_NAMELESS) else f"{seal}~2"


def _key(password: bytes, salt: str, iterations: int) -> bytes:
    # The salt's hexadecimal text: that is the format, not a choice made here.
    return hashlib.pbkdf2_hmac("sha1", password, salt.encode("ascii"), iterations, 32)


def _verify(seal: re.Match[str], password: bytes, iterations: int) -> None:
    """Raise ValueError unless the MAC is that of the first six fields."""
    key = _key(password, seal["mac_salt"], iterations)
    mac = hmac.digest(key, seal["signed"].encode("ascii"), "sha256")
    if not hmac.compare_digest(mac, _b64decode(seal["mac"])):
        raise ValueError


def _decrypt(seal: re.Match[str], password: bytes, iterations: int) -> bytes:
    """The plaintext. Raises ValueError for a bad length or padding."""
    cipher = Cipher(AES256(_key(password, seal["salt"], iterations)), CBC(_b64decode(seal["iv"])))
    decryptor, unpadder = cipher.decryptor(), PKCS7(AES256.block_size).unpadder()
    padded = decryptor.update(_b64decode(seal["ciphertext"])) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _b64decode(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii"))


def iron_source(
    *,
    passwords: Mapping[str, str],
    cookie: str,
    token: tuple[str, ...] | None = None,
    expires_at: tuple[str, ...] | None = None,
    keys: CookieKeys = NO_KEYS,
    iterations: int = 1,
) -> SealedSource:
    """A source for the cookie named `cookie` of iron-session, or of h3.

    `passwords` maps id to password (iron-session gives a single one the id `1`); `token` and
    `expires_at` are claim paths, the token's by default `accessToken`. `iterations` derive the keys
    of seals that name no password, besides one.
    """
    return SealedSource(
        type="iron-session",
        names=prefixed(base_name(cookie)),
        opener=IronOpener(
            {id_: password.encode() for id_, password in passwords.items()},
            tuple(sorted({1, iterations})),
        ),
        attempts=MAX_ATTEMPTS if iterations == 1 else COSTLY_ATTEMPTS,
        counted=True,
        token=token or ("accessToken",),
        expires_at=expires_at,
        keys=keys,
    )
