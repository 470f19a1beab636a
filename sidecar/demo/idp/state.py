"""The provider's memory, and how the end of one thing ends others. No clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from itertools import chain
from secrets import token_urlsafe
from typing import Final, Protocol, TypeVar

from sidecar.demo.idp.options import EVERYBODY, OFFLINE_ACCESS
from sidecar.demo.idp.records import (
    AccessToken,
    Code,
    Grant,
    Interaction,
    RefreshToken,
    UserSession,
)

INTERACTION_SECONDS: Final = 600
_KEPT_SECONDS: Final = 3600  # after expiry, so that what comes late is known for what it was
_TIDY_SECONDS: Final = 60


class _OfGrant(Protocol):
    @property
    def grant(self) -> Grant: ...


class _Expiring(Protocol):
    @property
    def expires(self) -> float: ...


_E = TypeVar("_E", bound=_Expiring)


class State:
    """Everything by the secret that names it."""

    def __init__(self) -> None:
        self.sessions: Final[dict[str, UserSession]] = {}
        self.interactions: Final[dict[str, Interaction]] = {}
        self.codes: Final[dict[str, Code]] = {}
        self.refresh_tokens: Final[dict[str, RefreshToken]] = {}
        self.access_tokens: Final[dict[str, AccessToken]] = {}
        self._tidied = 0.0

    def session(self, cookie: str | None, now: float) -> UserSession | None:
        """The live session that a browser presents."""
        session = self.sessions.get(cookie or "")
        return session if session is not None and now < session.expires else None

    def session_of(self, sid: str, now: float) -> UserSession | None:
        """The live session that clients know by that `sid`."""
        live = (one for one in self.sessions.values() if now < one.expires)
        return next((one for one in live if one.sid == sid), None)

    def sessions_of(self, subject: str, now: float) -> list[UserSession]:
        """The live sessions of a user, or of everybody."""
        return [
            one
            for one in self.sessions.values()
            if now < one.expires and subject in (EVERYBODY, one.subject)
        ]

    def sign_in(
        self, old: UserSession | None, subject: str, now: float, lifetime: int
    ) -> UserSession:
        """A session of that user, under a new secret; the same user keeps `sid` and clients."""
        session = UserSession(
            cookie=token_urlsafe(32),
            sid=token_urlsafe(12),
            subject=subject,
            auth_time=int(now),
            expires=now + lifetime,
        )
        if old is not None:
            self.sessions.pop(old.cookie, None)
            if old.subject == subject:
                session.sid, session.clients = old.sid, old.clients
        self.sessions[session.cookie] = session
        return session

    def end_session(self, session: UserSession) -> None:
        """Forgets it. Its grants end, but those for offline access (Back-Channel Logout 2.7)."""
        self.sessions.pop(session.cookie, None)
        for grant in self.grants():
            if grant.sid == session.sid and OFFLINE_ACCESS not in grant.scope:
                grant.revoked = True

    def revoke_grants(self, subject: str) -> int:
        """Ends every grant of a user, or of everybody. Returns how many there were."""
        found = [
            grant
            for grant in self.grants()
            if not grant.revoked and subject in (EVERYBODY, grant.subject)
        ]
        for grant in found:
            grant.revoked = True
        return len(found)

    def grants(self) -> Iterator[Grant]:
        """Each grant once."""
        holders: Iterable[_OfGrant] = chain(
            self.codes.values(), self.refresh_tokens.values(), self.access_tokens.values()
        )
        yield from {id(one.grant): one.grant for one in holders}.values()

    def tidy(self, now: float) -> None:
        """Forgets, from time to time, what expired long ago."""
        if now < self._tidied + _TIDY_SECONDS:
            return
        self._tidied = now
        _drop(self.sessions, now)
        _drop(self.interactions, now)
        _drop(self.codes, now)
        _drop(self.refresh_tokens, now)
        _drop(self.access_tokens, now)


def _drop(table: MutableMapping[str, _E], now: float) -> None:
    for key in [key for key, one in table.items() if one.expires + _KEPT_SECONDS < now]:
        del table[key]
