"""The Cookie header of every measured request: a session as Auth.js seals it, and a rest."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.jwk import OctKey, thumbprint

HEADER_BYTES: Final = 600
VERSION_5, VERSION_4 = "authjs.session-token", "next-auth.session-token"

_LIFETIME = 30 * 86400  # seconds; the library's default


@dataclass(frozen=True, slots=True)
class Login:
    """A session made for one run: what seals it, the token in it, and the headers that carry it.

    `header` has it as Auth.js v5 seals it, `header_4` as next-auth v4 does. `others` and `others_4`
    are the headers' cookies that are nobody's session.
    """

    secret: str = field(repr=False)
    token: str = field(repr=False)
    header: str = field(repr=False)
    others: str
    header_4: str = field(repr=False)
    others_4: str


def log_in() -> Login:
    """A login with a secret and a token of its own; its headers are `HEADER_BYTES` long."""
    secret, token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    return Login(
        secret,
        token,
        *_filled(VERSION_5, _seal_5(secret, token)),
        *_filled(VERSION_4, _seal_4(secret, token)),
    )


def _filled(name: str, value: str) -> tuple[str, str]:
    """The whole header, and its cookies that are nobody's session."""
    session = f"{name}={value}; "
    others = "theme=dark; seen="
    others += "x" * (HEADER_BYTES - len(session) - len(others))
    assert len(session + others) == HEADER_BYTES
    return session + others, others


def _seal_5(secret: str, token: str) -> str:
    """What @auth/core 0.41's encode() makes: alg dir, kid the key's RFC 7638 thumbprint."""
    info = f"Auth.js Generated Encryption Key ({VERSION_5})"
    key = OctKey.import_key(_derive(secret, 64, VERSION_5, info))
    kid = thumbprint(key.as_dict(private=True), "sha512")
    return _encrypt({"alg": "dir", "enc": "A256CBC-HS512", "kid": kid}, token, key)


def _seal_4(secret: str, token: str) -> str:
    """What next-auth 4.24's encode() makes: alg dir, no salt."""
    key = OctKey.import_key(_derive(secret, 32, "", "NextAuth.js Generated Encryption Key"))
    return _encrypt({"alg": "dir", "enc": "A256GCM"}, token, key)


def _derive(secret: str, length: int, salt: str, info: str) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=length, salt=salt.encode(), info=info.encode())
    return kdf.derive(secret.encode())


def _encrypt(header: dict[str, str], token: str, key: OctKey) -> str:
    return jwe.encrypt_compact(
        header, json.dumps(_claims(token)), key, algorithms=["dir", header["enc"]]
    )


def _claims(token: str) -> dict[str, object]:
    now = int(time.time())
    return {
        "name": "Ada",
        "sub": "4711",
        "accessToken": token,
        "iat": now,
        "exp": now + _LIFETIME,
        "jti": str(uuid.uuid4()),
    }
