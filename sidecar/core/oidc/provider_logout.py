"""The end of a session at the provider, said by it or to it.

Back-Channel Logout 1.0, Front-Channel Logout 1.0, RP-Initiated Logout 1.0. Time is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from sidecar.core.jws import InvalidToken, Verified
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.core.oidc.token_claims import LONGEST_NAME, check_origin, check_times, identifier

LOGOUT_TOKEN: Final = frozenset(("logout+jwt", "jwt"))
"""Values of `typ`; a provider need not say that a logout token is one (Back-Channel 2.4)."""
LOGOUT_TOKEN_SECONDS: Final = 300.0  # that a logout token without `exp` is good for, after `iat`
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LONGEST_URL: Final = 8000  # characters; beyond, servers refuse an address


def end_session_url(
    endpoint: str, client: OidcClient, *, id_token: str | None, back_to: str
) -> str:
    """Where the browser goes to end the session at the provider (RP-Initiated Logout 2).

    Without the id_token the provider may ask the user; one that is too long for an address is
    left out.
    """
    query = {"client_id": client.client_id, "post_logout_redirect_uri": back_to}
    mark = "&" if "?" in endpoint else "?"
    if id_token is not None:
        url = f"{endpoint}{mark}{urlencode({'id_token_hint': id_token, **query})}"
        if len(url) <= _LONGEST_URL:
            return url
    return f"{endpoint}{mark}{urlencode(query)}"


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """Whose sessions have ended at the provider: of a user, or one session, or both.

    `jti` counts once, until `ends_at` (Unix seconds), after which the token is not believed.
    """

    subject: str | None = field(repr=False)
    sid: str | None = field(repr=False)
    jti: str
    ends_at: float


def read_logout_token(verified: Verified, client: OidcClient, *, now: float) -> LogoutToken:
    """What a logout token with a right signature says (Back-Channel 2.6). Raises `InvalidToken`."""
    claims = verified.claims
    check_origin(claims, client)
    end = check_times(claims, now, client.tolerance, lasts=LOGOUT_TOKEN_SECONDS)
    events = claims.get("events")
    if not isinstance(events, Mapping) or not isinstance(events.get(_LOGOUT_EVENT), Mapping):
        raise InvalidToken("it is no logout token")
    if "nonce" in claims:
        raise InvalidToken("it has a nonce, which no logout token has")
    subject, sid, jti = (identifier(claims, name) for name in ("sub", "sid", "jti"))
    if subject is None and sid is None:
        raise InvalidToken("it names neither a subject nor a session")
    if jti is None:
        raise InvalidToken("it has no jti")
    return LogoutToken(subject, sid, jti, end + client.tolerance)


def read_front_channel(parameters: Mapping[str, str], client: OidcClient) -> str | None:
    """The session that a front-channel logout names; None where it does not prove to know one.

    Both parameters are demanded (Front-Channel 3): without, any page could end a session. No
    session's name has octets that are no UTF-8, which stand in the text as surrogates.
    """
    sid = parameters.get("sid", "")
    is_name = 0 < len(sid) <= LONGEST_NAME and not _SURROGATE.search(sid)
    return sid if parameters.get("iss") == client.issuer and is_name else None
