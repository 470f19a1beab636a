"""The provider as a whole: options, keys, memory and counters, with a clock that it is given.

No IO: the handlers in `web` ask it and send what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from secrets import token_urlsafe
from typing import Any, Final, Literal, TypeAlias

from sidecar.demo.idp.options import Options, RegisteredClient
from sidecar.demo.idp.records import AccessToken, Grant, Introspection, Stats, UserSession, Verdict
from sidecar.demo.idp.state import State
from sidecar.demo.idp.tokens import (
    ACCESS_TOKEN,
    ID_TOKEN,
    LOGOUT_TOKEN,
    SigningKeys,
    access_token_claims,
    id_token_claims,
    logout_token_claims,
)

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class LogoutNotice:
    """A logout token, and where it goes."""

    uri: str
    token: str = field(repr=False)


@dataclass(slots=True)
class _Burst:
    until: float = 0.0
    left: int | Literal["all"] = 0
    hit: set[str] = field(default_factory=set)

    def hits(self, token: str, now: float) -> bool:
        """Whether the token counts as revoked; the first that come are the ones that are hit."""
        if now >= self.until:
            return False
        if self.left == "all" or token in self.hit:
            return True
        if self.left > 0:
            self.left -= 1
            self.hit.add(token)
            return True
        return False


class DemoProvider:
    """An OpenID Provider without a network. `clock` gives Unix seconds."""

    def __init__(self, issuer: str, options: Options, clock: Clock) -> None:
        self.issuer: Final = issuer
        self.options = options
        self.clients = {client.client_id: client for client in options.all_clients()}
        self.state: Final = State()
        self.stats = Stats()
        self.keys: Final = SigningKeys(options.signing_algorithm)
        self._clock = clock
        self._burst = self._new_burst()

    def now(self) -> float:
        """Unix seconds. What is long past is forgotten on the way."""
        now = self._clock()
        self.state.tidy(now)
        return now

    # -- the rehearsal ------------------------------------------------------------------------

    def set(self, **changes: Any) -> None:
        """Turns switches, all or none. Raises `pydantic.ValidationError`, which is a ValueError."""
        self.options = self.options.with_switches(changes)
        if "burst" in changes:
            self._burst = self._new_burst()

    def _new_burst(self) -> _Burst:
        return _Burst(self._clock() + self.options.burst_seconds, self.options.burst)

    def use_up(self, switch: Literal["invalid_grant", "lost_refreshes"]) -> bool:
        """Whether a switch that counts down applies now; if so it is one less."""
        left: int = getattr(self.options, switch)
        if left > 0:
            self.options = self.options.with_switches({switch: left - 1})
        return left > 0

    def register(self, client: RegisteredClient) -> None:
        """Adds a client, or replaces the one of that name."""
        self.clients[client.client_id] = client

    def rotate_key(self) -> None:
        """Signs with a new key from now on; the old one stays published for a while."""
        self.keys.rotate(self.now(), self.options.key_overlap)

    # -- access tokens ------------------------------------------------------------------------

    def issue_access_token(self, grant: Grant, scope: tuple[str, ...]) -> str:
        """A new access token of the grant."""
        now = self.now()
        expires = now + self.options.access_token_lifetime
        if self.options.opaque_access_tokens:
            token = f"at_{token_urlsafe(32)}"
        else:
            claims = access_token_claims(self.issuer, self.options, grant, scope=scope, now=now)
            token = self.keys.sign(claims, ACCESS_TOKEN)
        self.state.access_tokens[token] = AccessToken(grant, scope, int(now), expires)
        return token

    def issue_id_token(self, grant: Grant, access_token: str, nonce: str | None) -> str:
        """An id_token that goes with an access token of the grant."""
        claims = id_token_claims(
            self.issuer,
            self.options,
            grant,
            access_token=access_token,
            nonce=nonce,
            now=self.now(),
        )
        return self.keys.sign(claims, ID_TOKEN)

    def verify(self, access_token: str) -> Introspection:
        """What a resource server learns of an access token; the burst of 401s counts."""
        now = self.now()
        record = self.state.access_tokens.get(access_token)
        verdict = self._verdict(access_token, record, now)
        name = f"checks_{verdict}"
        setattr(self.stats, name, getattr(self.stats, name) + 1)
        if record is None or verdict != "live":
            return Introspection(verdict)
        return Introspection(
            verdict,
            subject=record.grant.subject,
            client_id=record.grant.client_id,
            scope=record.scope,
            issued=record.issued,
            expires=ceil(record.expires),
        )

    def _verdict(self, token: str, record: AccessToken | None, now: float) -> Verdict:
        if record is None:
            return "unknown"
        if record.revoked or record.grant.revoked:
            return "revoked"
        if now >= record.expires:
            return "expired"
        return "revoked" if self._burst.hits(token, now) else "live"

    # -- sessions and grants ------------------------------------------------------------------

    def grant(
        self, session: UserSession, client_id: str, scope: tuple[str, ...], nonce: str | None
    ) -> Grant:
        """What the user of that session grants to a client, which takes part in it from now on."""
        session.clients.add(client_id)
        return Grant(
            client_id=client_id,
            subject=session.subject,
            sid=session.sid,
            scope=scope,
            auth_time=session.auth_time,
            nonce=nonce,
            expires=self.now() + self.options.refresh_token_lifetime,
        )

    def end(self, session: UserSession) -> list[LogoutNotice]:
        """Ends a session. Returns the logout tokens to be sent to the clients in it."""
        now = self.now()
        self.state.end_session(session)
        self.stats.sessions_ended += 1
        return [
            LogoutNotice(
                client.backchannel_logout_uri,
                self.keys.sign(
                    logout_token_claims(
                        self.issuer, client.client_id, session.subject, session.sid, now
                    ),
                    LOGOUT_TOKEN,
                ),
            )
            for client in self._clients_of(session)
            if client.backchannel_logout_uri is not None
        ]

    def end_all(self, subject: str) -> list[LogoutNotice]:
        """Ends every session of a user, or of everybody (`*`), as above."""
        sessions = self.state.sessions_of(subject, self.now())
        return [notice for session in sessions for notice in self.end(session)]

    def frames(self, session: UserSession) -> list[tuple[str, str]]:
        """The clients' pages to frame at logout, with the `sid` (Front-Channel Logout 3)."""
        clients = self._clients_of(session)
        uris = (client.frontchannel_logout_uri for client in clients)
        return [(uri, session.sid) for uri in uris if uri is not None]

    def _clients_of(self, session: UserSession) -> list[RegisteredClient]:
        return [self.clients[name] for name in sorted(session.clients) if name in self.clients]
