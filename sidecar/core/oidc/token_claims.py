"""What id_tokens and logout tokens have in common: whom they are for, and when they are good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.core.jwe import as_number
from sidecar.core.jws import InvalidToken
from sidecar.core.oidc.relying_party import OidcClient

LONGEST_NAME: Final = 255  # characters of a subject (Core 2), and of a session's name


def check_origin(claims: Mapping[str, object], client: OidcClient) -> None:
    """`iss`, `aud` and `azp` (Core 3.1.3.7 with errata 2, rules 2 to 5)."""
    if claims.get("iss") != client.issuer:
        raise InvalidToken("it is from another issuer")
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if client.client_id not in names:
        raise InvalidToken("it is meant for another client")
    party = claims.get("azp")
    if party is not None and party != client.client_id:
        raise InvalidToken("it was issued to another client")


def check_times(
    claims: Mapping[str, object], now: float, tolerance: float, *, lasts: float | None = None
) -> float:
    """`exp` and `iat` are there and right, and so is `nbf` if it is there (RFC 7519 4.1).

    A token without `exp` is good for `lasts` seconds after `iat`; None: it is not. Returns its end
    (Unix seconds). Raises `InvalidToken`.
    """
    end, began = as_number(claims.get("exp")), as_number(claims.get("iat"))
    if end is None and "exp" not in claims and began is not None and lasts is not None:
        end = began + lasts
    if end is None or began is None:
        raise InvalidToken("it does not say when it was issued and when it ends")
    if now >= end + tolerance:
        raise InvalidToken(f"it expired {now - end:.0f} s ago (oidc.clock_tolerance)")
    start = as_number(claims["nbf"]) if "nbf" in claims else began
    if start is None or max(began, start) > now + tolerance:
        ahead = max(began, start or began) - now
        raise InvalidToken(f"it is from the future, {ahead:.0f} s ahead (oidc.clock_tolerance)")
    return end


def identifier(claims: Mapping[str, object], claim: str) -> str | None:
    """An identifier; None where there is none. Raises `InvalidToken` for anything else."""
    value = claims.get(claim)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME:
        raise InvalidToken(f"its {claim} is not what it must be")
    return value
