"""Users of a history: each with one session of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import read_credential
from sidecar.core.formats import FORMATS

SECRET: Final = "a secret of Auth.js, for the oracle"
SESSION: Final = "authjs.session-token"
SOURCE: Final = FORMATS["authjs"](
    secrets=[SECRET],
    token=("accessToken",),
    refresh_token=("refreshToken",),
    expires_at=("exp2",),
)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a `token`, which upstreams are to see, and a Cookie header that holds it.

    A "renewing" one presents an expired token, whose refresh token leads to `token`.
    """

    kind: str
    name: str
    token: str
    cookie: str


def user(kind: str, name: str) -> User:
    """The user of that name; `name` is the same length for users of alike answers."""
    token = f"token-of-{name}"
    if kind == "nobody":
        return User(kind, name, "", "theme=dark")
    if kind == "raw":
        return User(kind, name, token, f"theme=dark; access_token={token}")
    now = int(time.time())
    claims: dict[str, Any] = {"name": "Zoë", "sub": name, "iat": now, "exp": now + 3600}
    claims["accessToken"] = token
    if kind == "renewing":
        claims |= {"accessToken": f"old-{name}", "refreshToken": f"r-{token}", "exp2": now - 5}
    sealed = SOURCE.opener.seal(claims, SESSION)  # type: ignore[attr-defined]
    return User(kind, name, token, f"theme=dark; {SESSION}={sealed}")


def token_in(cookie: str) -> str:
    """The token that a Cookie header holds, or what is empty."""
    jar = CookieJar.parse(cookie)
    if "access_token" in jar.names():
        return cookie.partition("access_token=")[2].partition(";")[0]
    return read_credential([SOURCE], jar, time.time()).token or ""
