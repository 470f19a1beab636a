"""iron-session cookies: the Fe26.2 seal of @hapi/iron, read in iron-session 8.0.4 and 9.0.1."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from joserfc.util import urlsafe_b64decode

from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.formats.sealed import SealedSource, Session, base_name, prefixed
from sidecar.core.jose import SealError, parse_object

SKEW = 60
"""Seconds of clock skew that iron-session allows."""

_OTHER_ALPHABET = str.maketrans("+/", "-_")
_NO_SEAL = re.compile(r"[^A-Za-z0-9_.*-]+")
_SEAL = re.compile(
    r"(?P<signed>Fe26\.2"
    r"\*(?P<password_id>[A-Za-z0-9_]+)"
    r"\*(?P<salt>[0-9a-f]{64})"
    r"\*(?P<iv>[A-Za-z0-9_-]{22})"
    r"\*(?P<ciphertext>[A-Za-z0-9_-]+)"
    r"\*(?P<expiry>[1-9][0-9]{0,15}|))"
    r"\*(?P<mac_salt>[0-9a-f]{64})"
    r"\*(?P<mac>[A-Za-z0-9_-]{43})"
    r"~2"
)


@dataclass(frozen=True, slots=True)
class IronOpener:
    """Opens seals with the password that they name. `passwords` maps id to password."""

    passwords: Mapping[str, bytes] = field(repr=False)

    def open(self, value: str, name: str, now: float) -> Session:  # noqa: ARG002 - no part of it
        seal = _SEAL.fullmatch(value)
        if seal is None:
            raise SealError("the value is not an iron-session seal")
        password = self.passwords.get(seal["password_id"])
        if password is None:
            raise SealError("the value was sealed with a password id that is not configured")
        try:
            _verify(seal, password)
            claims = parse_object(_decrypt(seal, password))
        except ValueError:
            raise SealError("the configured password does not open the value") from None
        expires_at = int(seal["expiry"]) / 1000 if seal["expiry"] else None
        return Session(claims, expires_at, None if expires_at is None else expires_at + SKEW)

    def respelled(self, value: str) -> str:
        # iron-session takes what stands before the first `~`, whatever version stands behind.
        if value.count("*") != 7:
            return value
        seal = value.partition("~")[0]
        return f"{_NO_SEAL.sub('', seal.translate(_OTHER_ALPHABET))}~2"


def _key(password: bytes, salt: str) -> bytes:
    # One iteration, and the salt's hexadecimal text: that is the format, not a choice made here.
    return hashlib.pbkdf2_hmac("sha1", password, salt.encode("ascii"), 1, 32)


def _verify(seal: re.Match[str], password: bytes) -> None:
    """Raise ValueError unless the MAC is that of the first six fields."""
    mac = hmac.digest(_key(password, seal["mac_salt"]), seal["signed"].encode("ascii"), "sha256")
    if not hmac.compare_digest(mac, _b64decode(seal["mac"])):
        raise ValueError


def _decrypt(seal: re.Match[str], password: bytes) -> bytes:
    """The plaintext. Raises ValueError for a bad length or padding."""
    cipher = Cipher(AES256(_key(password, seal["salt"])), CBC(_b64decode(seal["iv"])))
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
) -> SealedSource:
    """A source for the iron-session cookie named `cookie`.

    `passwords` maps id to password (iron-session gives a single one the id `1`); `token` and
    `expires_at` are claim paths, the token's by default `accessToken`.
    """
    return SealedSource(
        type="iron-session",
        names=prefixed(base_name(cookie)),
        opener=IronOpener({id_: password.encode() for id_, password in passwords.items()}),
        token=token or ("accessToken",),
        expires_at=expires_at,
        keys=keys,
    )
