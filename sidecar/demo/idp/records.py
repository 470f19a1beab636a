"""What the provider remembers. Times are Unix seconds; what is secret is in no repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sidecar.demo.idp.idp_errors import ReturnAddress

Verdict: TypeAlias = Literal["live", "expired", "revoked", "unknown"]


@dataclass(slots=True)
class UserSession:
    """A browser that is signed in: `cookie` is what it presents, `sid` what clients are told."""

    cookie: str = field(repr=False)
    sid: str
    subject: str
    auth_time: int
    expires: float
    clients: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Grant:
    """What a user granted to a client at one login: the family of all tokens that come of it."""

    client_id: str
    subject: str
    sid: str
    scope: tuple[str, ...]
    auth_time: int
    nonce: str | None = field(repr=False)
    expires: float
    revoked: bool = False


@dataclass(slots=True)
class Code:
    """An authorization code, good once."""

    grant: Grant
    redirect_uri: str
    challenge: str = field(repr=False)
    expires: float
    spent: bool = False


@dataclass(slots=True)
class RefreshToken:
    """Lives as long as its grant."""

    grant: Grant
    spent: bool = False
    revoked: bool = False

    @property
    def expires(self) -> float:
        return self.grant.expires


@dataclass(slots=True)
class AccessToken:
    """`scope` may be narrower than the grant's."""

    grant: Grant
    scope: tuple[str, ...]
    issued: int
    expires: float
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Introspection:
    """What a resource server is told of an access token; all None unless it is live."""

    verdict: Verdict
    subject: str | None = None
    client_id: str | None = None
    scope: tuple[str, ...] = ()
    issued: int | None = None
    expires: int | None = None

    @property
    def is_live(self) -> bool:
        return self.verdict == "live"


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """An authorization request that holds. `scope` is what can be granted of what was asked for."""

    client_id: str
    to: ReturnAddress
    scope: tuple[str, ...]
    nonce: str | None = field(repr=False)
    challenge: str = field(repr=False)
    prompt: frozenset[str]
    max_age: int | None


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A logout that a person has yet to confirm; `redirect` is registered."""

    redirect: str | None


@dataclass(frozen=True, slots=True)
class Interaction:
    """A page with a question that is open in one browser."""

    browser: str = field(repr=False)
    about: AuthorizationRequest | LogoutRequest
    expires: float


@dataclass(slots=True)
class Stats:
    """What has happened, for tests to count."""

    logins: int = 0
    code_exchanges: int = 0
    refresh_exchanges: int = 0
    refused_exchanges: int = 0
    code_reuses: int = 0
    refresh_reuses: int = 0
    refused_clients: int = 0
    revocations: int = 0
    introspections: int = 0
    checks_live: int = 0
    checks_expired: int = 0
    checks_revoked: int = 0
    checks_unknown: int = 0
    sessions_ended: int = 0
    back_channel_delivered: int = 0
    back_channel_failed: int = 0
    outage_answers: int = 0
    lost_answers: int = 0
