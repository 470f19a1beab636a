"""Signing keys and the JWTs made with them: id_token, access token, logout token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from secrets import token_urlsafe
from typing import Any, Final, Literal, TypeAlias

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet, RSAKey
from joserfc.util import urlsafe_b64encode

from sidecar.demo.idp.options import Options
from sidecar.demo.idp.records import Grant

Algorithm: TypeAlias = Literal["RS256", "ES256"]
Claims: TypeAlias = dict[str, Any]

ID_TOKEN: Final = "JWT"  # noqa: S105  # a media type, as the next two
ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105
LOGOUT_TOKEN: Final = "logout+jwt"  # noqa: S105
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TOKEN_LIFETIME: Final = 120  # seconds; the specification advises two minutes at most


@dataclass(frozen=True, slots=True)
class _Retired:
    key: RSAKey | ECKey
    published_until: float


class SigningKeys:
    """The key that signs, and the older ones. `now` is Unix seconds."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm: Final = algorithm
        self._current = self._generate()
        self._retired: list[_Retired] = []

    def _generate(self) -> RSAKey | ECKey:
        about: KeyParameters = {"use": "sig", "alg": self.algorithm, "kid": token_urlsafe(9)}
        if self.algorithm == "ES256":
            return ECKey.generate_key("P-256", about)
        return RSAKey.generate_key(2048, about)

    def rotate(self, now: float, overlap: float) -> None:
        """Signs with a new key; the old one stays published for `overlap` seconds."""
        self._retired.insert(0, _Retired(self._current, now + overlap))
        self._current = self._generate()

    def published(self, now: float) -> Mapping[str, Any]:
        """The public key set (RFC 7517 section 5), the key that signs first."""
        old = [one.key for one in self._retired if now < one.published_until]
        return KeySet([self._current, *old]).as_dict(private=False)

    def sign(self, claims: Claims, typ: str) -> str:
        """A JWT of one of the types above."""
        header = {"alg": self.algorithm, "typ": typ, "kid": self._current.kid}
        return jwt.encode(header, claims, self._current, algorithms=[self.algorithm])

    def read(self, token: str, typ: str) -> Claims | None:
        """The claims of a token of that type that was signed here once, expired or not."""
        keys = KeySet([self._current, *(one.key for one in self._retired)])
        try:
            read = jwt.decode(token, keys, algorithms=[self.algorithm])
        except (JoseError, ValueError):
            return None
        return read.claims if read.header.get("typ") == typ else None


def id_token_claims(
    issuer: str,
    options: Options,
    grant: Grant,
    *,
    access_token: str,
    nonce: str | None,
    now: float,
) -> Claims:
    """OpenID Connect Core section 2; `sid` of Back-Channel Logout section 2.1."""
    return {
        "iss": issuer,
        "sub": grant.subject,
        "aud": grant.client_id,
        "iat": int(now),
        "exp": int(now) + options.id_token_lifetime,
        "auth_time": grant.auth_time,
        "sid": grant.sid,
        "at_hash": half_hash(access_token),
        **({} if nonce is None else {"nonce": nonce}),
        **personal_claims(grant.subject, grant.scope),
    }


def access_token_claims(
    issuer: str, options: Options, grant: Grant, *, scope: tuple[str, ...], now: float
) -> Claims:
    """RFC 9068 section 2.2. `exp` is rounded up: the token lives as long as `expires_in` said."""
    return {
        "iss": issuer,
        "sub": grant.subject,
        "aud": options.audience,
        "client_id": grant.client_id,
        "iat": int(now),
        "exp": ceil(now + options.access_token_lifetime),
        "auth_time": grant.auth_time,
        "jti": token_urlsafe(16),
        "scope": " ".join(scope),
    }


def logout_token_claims(issuer: str, client_id: str, subject: str, sid: str, now: float) -> Claims:
    """OpenID Connect Back-Channel Logout section 2.4."""
    return {
        "iss": issuer,
        "sub": subject,
        "aud": client_id,
        "iat": int(now),
        "exp": int(now) + LOGOUT_TOKEN_LIFETIME,
        "jti": token_urlsafe(16),
        "sid": sid,
        "events": {LOGOUT_EVENT: {}},
    }


def personal_claims(subject: str, scope: tuple[str, ...]) -> Claims:
    """What `profile` and `email` tell of a user (OpenID Connect Core section 5.4)."""
    claims: Claims = {}
    if "profile" in scope:
        claims |= {"name": display_name(subject), "preferred_username": subject}
    if "email" in scope:
        claims |= {"email": f"{subject}@example.com", "email_verified": True}
    return claims


def display_name(subject: str) -> str:
    """How a user is called on pages."""
    return subject.capitalize()


def half_hash(text: str) -> str:
    """`at_hash` for algorithms with SHA-256: its left half (Core section 3.1.3.6)."""
    return urlsafe_b64encode(sha256(text.encode()).digest()[:16]).decode()
