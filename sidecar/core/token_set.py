"""Tokens of a session: what they say about their own lifetime, and when they are to be renewed."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from math import inf

import msgspec

from sidecar.core.json_text import decode_object

_LONGEST_JWT = 16384  # characters that are looked into
_MAX_DATE = 2.0**53


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of one generation of a session. Times are Unix seconds, None where unknown.

    `access_token` is empty where only the refresh token is left. The repr holds no token.
    `generation` counts the exchanges since the login, as far as they are known. It orders tokens
    by succession, since clocks of several machines do not.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    issued_at: float | None = None
    id_token: str | None = field(default=None, repr=False)
    generation: int = field(default=0, compare=False)

    def renews_at(self, leeway: float) -> float:
        """From when on the access token is renewed before it is used; never: infinity.

        That is `leeway` seconds before it expires, but at most half of its lifetime, or tokens that
        live shorter than the leeway would be renewed at every request.
        """
        if not self.refresh_token:
            return inf
        if not self.access_token:
            return 0.0
        if self.expires_at is None:
            return inf
        if self.issued_at is not None and self.issued_at < self.expires_at:
            leeway = min(leeway, (self.expires_at - self.issued_at) / 2)
        return self.expires_at - leeway

    def is_valid(self, now: float) -> bool:
        """Whether the access token can still be used as far as is known."""
        return bool(self.access_token) and (self.expires_at is None or now < self.expires_at)


def token_set(
    access_token: str,
    refresh_token: str | None,
    expires_at: float | None,
    issued_at: float | None = None,
) -> TokenSet:
    """A token set; what is not told of the access token's times is read in it, if it is a JWT."""
    is_told = expires_at is not None and issued_at is not None
    own_issue, own_expiry = (None, None) if is_told else jwt_times(access_token)
    return TokenSet(
        access_token,
        refresh_token,
        own_expiry if expires_at is None else expires_at,
        own_issue if issued_at is None else issued_at,
    )


def jwt_times(token: str) -> tuple[float | None, float | None]:
    """`iat` and `exp` of a JWT (RFC 7519 4.1), unverified; None for each that is not there.

    They only say when to renew, so whoever could forge them gains nothing.
    """
    claims = jwt_claims(token)
    return _date(claims.get("iat")), _date(claims.get("exp"))


def jwt_subject(token: str) -> str | None:
    """`sub` of a JWT (RFC 7519 4.1.2), unverified; None if there is none.

    It only says which tokens of one browser may be of one session.
    """
    subject = jwt_claims(token).get("sub")
    return subject if isinstance(subject, str) else None


def jwt_claims(token: str) -> dict[str, object]:
    """The claims of a JWT, unverified; empty for anything else."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _LONGEST_JWT:
        return {}
    try:
        return decode_object(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}


def _date(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_DATE else None


def to_bytes(tokens: TokenSet) -> bytes:
    """For a store, which encrypts it."""
    return msgspec.json.encode(tokens)


def from_bytes(stored: bytes) -> TokenSet:
    """What `to_bytes` wrote. Raises `ValueError` for anything else."""
    return msgspec.json.decode(stored, type=TokenSet)
