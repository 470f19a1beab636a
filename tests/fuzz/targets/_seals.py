"""A source of every format, and sessions that their applications would have sealed."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import pbkdf2_hmac
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from joserfc import jws
from joserfc.jwk import OctKey

from sidecar.core.attributes import Scope
from sidecar.core.cookies import NameMatcher
from sidecar.core.formats import FORMATS
from sidecar.core.formats.login_session import (
    Lifetimes,
    LoginCookieSource,
    Profile,
    login_cookie_source,
    new_session,
)
from sidecar.core.formats.sealed import SealedSource
from sidecar.core.tickets import Signer
from sidecar.core.token_set import TokenSet
from sidecar.core.view import ViewReader

NOW: Final = 1_800_000_000.0
SECRET: Final = "a secret of the fuzz tests, which is long enough"
OWN: Final = (b"the own secret of the fuzz tests, long enough",)

JWE: Final = ("authjs", "nextauth", "auth0", "better-auth")

SOURCES: Final[Mapping[str, Any]] = {
    "oidc": login_cookie_source(
        cookie="sidecar", secrets=OWN, lifetimes=Lifetimes(idle=3600.0, absolute=86400.0)
    ),
    "authjs": FORMATS["authjs"](secrets=[SECRET], refresh_token=("refreshToken",)),
    "nextauth": FORMATS["nextauth"](secrets=[SECRET]),
    "auth0": FORMATS["auth0"](secrets=[SECRET]),
    "better-auth": FORMATS["better-auth"](secrets=[SECRET]),
    "iron-session": FORMATS["iron-session"](cookie="app", passwords={"1": SECRET}),
    "jwt": FORMATS["jwt"](cookie="session", secrets=[SECRET]),
    "cookie": FORMATS["cookie"](cookie="access_token", refresh_cookie="refresh_token"),
}
ORDER: Final = tuple(SOURCES)
READER: Final = ViewReader(
    tuple(SOURCES.values()),
    names := NameMatcher(
        [name for one in SOURCES.values() for name in one.base_names],
        [stem for one in SOURCES.values() for stem in one.stems],
    ),
    names,
    SOURCES["oidc"],
)


def cookie_of(type_: str) -> str:
    """The name of the cookie of a source, without a prefix."""
    return str(SOURCES[type_].base_names[0])


def claims(type_: str, token: str) -> dict[str, Any]:
    """What an application seals."""
    times = {"iat": int(NOW), "exp": int(NOW) + 3600}
    if type_ == "auth0":
        return {"user": {"sub": "u"}, "tokenSet": {"accessToken": token}, **times}
    return {"sub": "u", "accessToken": token, **times}


def sealed(type_: str, plaintext: bytes, name: str | None = None) -> str:
    """The value of a cookie of this source with any text inside, as its library seals it."""
    source = SOURCES[type_]
    name = name or source.names[-1]
    if type_ == "iron-session":
        return _iron(plaintext)
    if type_ == "jwt":
        key = OctKey.import_key(SECRET.encode())
        return jws.serialize_compact({"alg": "HS256"}, plaintext, key)
    if isinstance(source, LoginCookieSource):
        return source.keyrings[name].seal(plaintext)
    assert isinstance(source, SealedSource)
    return source.opener.keyrings[name].seal(plaintext)  # type: ignore[attr-defined, no-any-return]


def _iron(plaintext: bytes) -> str:
    """A seal as iron-session writes it (Fe26.2)."""
    salt, mac_salt, initial = "a1" * 32, "b2" * 32, bytes(16)
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES256(_iron_key(salt)), CBC(initial)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    signed = f"Fe26.2*1*{salt}*{_b64(initial)}*{_b64(ciphertext)}*{int(NOW + 3600) * 1000}"
    mac = hmac.digest(_iron_key(mac_salt), signed.encode(), "sha256")
    return f"{signed}*{mac_salt}*{_b64(mac)}~2"


def _iron_key(salt: str) -> bytes:
    return pbkdf2_hmac("sha1", SECRET.encode(), salt.encode(), 1, 32)


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def session(type_: str, token: str, name: str | None = None) -> str:
    """The value of a cookie that holds a session with this token."""
    if type_ == "cookie":
        return token
    if type_ == "oidc":
        return sealed(type_, login(token, name or cookie_of(type_)), name)
    return sealed(type_, msgspec.json.encode(claims(type_, token)), name)


def login(token: str, cookie: str) -> bytes:
    """A login session as it is packed."""
    tokens = TokenSet(token, "refresh-" + token, NOW + 600, NOW)
    made = new_session(
        token.encode().ljust(32)[:32],
        Signer(OWN).fingerprint,
        cookie=cookie,
        subject="u",
        sid=None,
        tokens=tokens,
        profile=Profile(name="U"),
        now=NOW,
    )
    return made.packed()


SCOPE: Final = Scope(https=True, host="app.example.com")
