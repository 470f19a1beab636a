"""Who an id_token and the UserInfo endpoint say has logged in (OpenID Connect Core 1.0)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sidecar.core.access import SUBJECT, ClaimPath, lets_in, picked, why_not
from sidecar.core.formats.login_session import Profile
from sidecar.core.jws import InvalidToken, Verified
from sidecar.core.oidc.relying_party import LoginRefused, OidcClient
from sidecar.core.oidc.token_claims import check_origin, check_times, identifier
from sidecar.core.record import replace
from sidecar.core.tickets import encode
from sidecar.core.token_set import jwt_subject

ID_TOKEN: Final = frozenset(("jwt",))
_LONGEST_CLAIM: Final = 512  # characters of what is told of a user
_HALF_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in: the provider's names for user and session, and what may be shown."""

    subject: str = field(repr=False)
    sid: str | None = field(repr=False)
    profile: Profile = field(repr=False)

    def claim(self, path: ClaimPath) -> object:
        """What the provider says of the user."""
        return self.subject if path == SUBJECT else self.profile.claim(path)

    def lacks(self, paths: Sequence[ClaimPath]) -> bool:
        """Whether one of these claims is not known."""
        return any(self.claim(path) is None for path in paths)


def read_id_token(
    verified: Verified, client: OidcClient, *, nonce: str, access_token: str, now: float
) -> Identity:
    """Who an id_token with a right signature says it is (Core 3.1.3.7). Raises `InvalidToken`."""
    claims = verified.claims
    check_origin(claims, client)
    check_times(claims, now, client.tolerance)
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise InvalidToken("its nonce is not that of the login")
    half = claims.get("at_hash")
    if half is not None and half != _half_hash(access_token, verified.algorithm):
        raise InvalidToken("it belongs to another access token")
    subject = identifier(claims, "sub")
    if subject is None:
        raise InvalidToken("it names no subject")
    profile = replace(_profile(claims), claims=picked(claims, client.kept))
    return Identity(subject, identifier(claims, "sid"), profile)


def check_refreshed(verified: Verified, client: OidcClient, old: str) -> None:
    """An id_token that came with renewed tokens is of the same user (Core 12.2).

    `old` is the one that it takes the place of. Raises `InvalidToken`.
    """
    check_origin(verified.claims, client)
    if identifier(verified.claims, "sub") != jwt_subject(old):
        raise InvalidToken("it is of another user")


def may_be_of_same_user(unverified: str, old: str) -> bool:
    """Whether an id_token of a refresh whose signature proves nothing names no other user."""
    return jwt_subject(unverified) in (None, jwt_subject(old))


def with_userinfo(
    identity: Identity, said: Mapping[str, object], paths: Sequence[ClaimPath] = ()
) -> Identity:
    """What the UserInfo endpoint says besides (Core 5.3.2), also at these `paths`.

    Raises `InvalidToken`.
    """
    if said.get("sub") != identity.subject:
        raise InvalidToken("it is about another user")
    known, more = identity.profile, _profile(said)
    profile = replace(
        known,
        name=known.name or more.name,
        email=known.email or more.email,
        picture=known.picture or more.picture,
        more={key: value for key, value in picked(said, paths).items() if value is not None},
    )
    return replace(identity, profile=profile)


def check_allowed(identity: Identity, client: OidcClient) -> None:
    """Raises `LoginRefused` for a user whom no rule of `oidc.allow` lets in."""
    profile = identity.profile
    if lets_in(client.allow, identity.claim):
        return
    raise LoginRefused(why_not(client.allow, identity.claim), profile.email or profile.name or "")


def _half_hash(token: str, algorithm: str) -> str:
    """`at_hash`: the left half of the hash that the signature uses (Core 3.1.3.6).

    For Ed25519 that is SHA-512 (RFC 8032 5.1).
    """
    digest = _HALF_HASHES.get(algorithm[-3:], hashlib.sha512)(token.encode("ascii")).digest()
    return encode(digest[: len(digest) // 2])


def _profile(claims: Mapping[str, object]) -> Profile:
    """What may be shown of a user: short texts; a picture is an address and no data."""
    name, email, picture = (_text(claims.get(one)) for one in ("name", "email", "picture"))
    is_address = picture is not None and picture.startswith(("https://", "http://"))
    return Profile(name, email, picture if is_address else None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_CLAIM else None
