"""The session cookies that the login sets: a bare token, or a session as Auth.js seals it."""

from __future__ import annotations

import json
import secrets
import time
from typing import Final

from joserfc import jwe
from joserfc.jwk import OctKey, thumbprint

from sidecar.core.jwe import A256CBC_HS512, ENCRYPTIONS
from sidecar.core.keys import hkdf

PLAIN_COOKIE: Final = "access_token"
AUTHJS_COOKIE: Final = "authjs.session-token"

KINDS: Final = ("plain", "authjs", "authjs-chunked")

CHUNK_SIZE: Final = 3936  # octets of a value that @auth/core 0.41 puts into one cookie
_LIFETIME: Final = 30 * 86400  # seconds; the library's default
_FILLER: Final = "group-of-people-whom-this-session-lists-"
_FILLERS: Final = 80  # enough for a second chunk


class SessionCookies:
    """Makes session cookies of each kind; `secret` is what Auth.js calls AUTH_SECRET."""

    __slots__ = ("_key", "_protected")

    def __init__(self, secret: str) -> None:
        info = f"Auth.js Generated Encryption Key ({AUTHJS_COOKIE})"
        size = ENCRYPTIONS[A256CBC_HS512].key_size
        raw = hkdf(secret.encode(), salt=AUTHJS_COOKIE.encode(), info=info.encode(), size=size)
        self._key: Final = OctKey.import_key(raw)
        kid = thumbprint(self._key.as_dict(private=True), "sha512")
        self._protected: Final = {"alg": "dir", "enc": A256CBC_HS512, "kid": kid}

    def cookies(self, kind: str, name: str, token: str) -> dict[str, str]:
        """Cookie values by cookie name, for a session of one of `KINDS`."""
        if kind == "plain":
            return {PLAIN_COOKIE: token}
        return _chunked(self._seal(name, token, padded=kind == "authjs-chunked"))

    def _seal(self, name: str, token: str, *, padded: bool) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "name": name,
            "accessToken": token,
            "iat": now,
            "exp": now + _LIFETIME,
            "jti": secrets.token_urlsafe(16),
        }
        if padded:
            claims["groups"] = [f"{_FILLER}{number}" for number in range(_FILLERS)]
        algorithms = [self._protected["alg"], self._protected["enc"]]
        return jwe.encrypt_compact(
            self._protected, json.dumps(claims), self._key, algorithms=algorithms
        )


def _chunked(value: str) -> dict[str, str]:
    """The value whole where it fits into one cookie, else as Auth.js splits it."""
    if len(value) <= CHUNK_SIZE:
        return {AUTHJS_COOKIE: value}
    starts = range(0, len(value), CHUNK_SIZE)
    return {
        f"{AUTHJS_COOKIE}.{index}": value[start : start + CHUNK_SIZE]
        for index, start in enumerate(starts)
    }


ALL_COOKIES: Final = (
    PLAIN_COOKIE,
    AUTHJS_COOKIE,
    *(f"{AUTHJS_COOKIE}.{index}" for index in range(2)),
)
"""Every cookie that a login may set; a login of one kind takes the other kinds' away."""
