"""How a client proves itself with its own key: private_key_jwt (RFC 7523; OpenID Connect 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sidecar.core.jws import UNFIT

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME: Final = 60
"""Seconds that an assertion is good for."""

PrivateKey: TypeAlias = RSAKey | ECKey
_CURVES: Final[Mapping[str, str]] = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def read_private_key(text: str) -> PrivateKey:
    """The private key of a PEM text. Raises `ValueError` if it is none that can sign here."""
    for kind in (RSAKey, ECKey):
        try:
            key = kind.import_key(text)
            is_fit = key.is_private and (isinstance(key, RSAKey) or key.curve_name in _CURVES)
        except UNFIT:
            continue
        if is_fit:
            return key
    raise ValueError("must be a private RSA key, or an EC key of P-256, P-384 or P-521, in PEM")


def client_assertion(
    key: PrivateKey, client_id: str, audience: str, *, now: float, token_id: str
) -> str:
    """A JWT that says who the client is, for one request.

    `audience` is the token endpoint's URL, whichever endpoint is asked (OpenID Connect Core 9).
    `token_id` must be another one each time.
    """
    algorithm = "RS256" if isinstance(key, RSAKey) else _CURVES[key.curve_name]
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": token_id,
        "iat": int(now),
        "exp": int(now) + LIFETIME,
    }
    return jwt.encode({"alg": algorithm, "typ": "JWT"}, claims, key, algorithms=[algorithm])
