"""The Cookie header of every measured request: a session as Auth.js v5 seals it, and a rest."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.jwk import OctKey, thumbprint

SESSION_COOKIE = "authjs.session-token"
HEADER_BYTES = 600

_ENC = "A256CBC-HS512"
_LIFETIME = 30 * 86400  # seconds; the library's default


@dataclass(frozen=True, slots=True)
class Login:
    """A session made for one run: what seals it, the token in it, and the header that carries it.

    `others` are the header's cookies that are nobody's session.
    """

    secret: str = field(repr=False)
    token: str = field(repr=False)
    header: str = field(repr=False)
    others: str


def log_in() -> Login:
    """A login with a secret and a token of its own; its header is `HEADER_BYTES` long."""
    secret, token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    session = f"{SESSION_COOKIE}={_seal(secret, token)}; "
    others = "theme=dark; seen="
    others += "x" * (HEADER_BYTES - len(session) - len(others))
    header = session + others
    assert len(header) == HEADER_BYTES
    return Login(secret, token, header, others)


def _seal(secret: str, token: str) -> str:
    """What @auth/core 0.41's encode() makes: alg dir, kid the key's RFC 7638 thumbprint."""
    info = f"Auth.js Generated Encryption Key ({SESSION_COOKIE})"
    kdf = HKDF(algorithm=SHA256(), length=64, salt=SESSION_COOKIE.encode(), info=info.encode())
    key = OctKey.import_key(kdf.derive(secret.encode()))
    kid = thumbprint(key.as_dict(private=True), "sha512")
    header = {"alg": "dir", "enc": _ENC, "kid": kid}
    return jwe.encrypt_compact(header, json.dumps(_claims(token)), key, algorithms=["dir", _ENC])


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
