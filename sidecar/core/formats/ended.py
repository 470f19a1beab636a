"""What a provider said of sessions that nobody knew here: all older ones are refused.

A restart forgets the login sessions that are kept in cookies. A back-channel logout and an
administrator name users and provider sessions, so what they end is remembered by these names, and
counts for whatever is presented later.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol, TypeVar

import msgspec

MOST: Final = 10_000  # names; the provider signs each or an administrator says it; the oldest go

_Name = TypeVar("_Name")
_SID, _SUBJECT, _UNNAMED = "sid", "sub", "sub without sid"


class NamedSession(Protocol):
    """A login session with the provider's names, and when it began."""

    @property
    def subject(self) -> str: ...
    @property
    def sid(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...
    @property
    def created_at(self) -> float: ...


class EndedNames(msgspec.Struct, frozen=True):
    """Whose sessions ended at `at` (Unix seconds), and why: those of a provider session or a user,
    or of all who have an email (`access.folded_email`).
    """

    at: float
    reason: str
    subject: str | None = None
    sid: str | None = None
    email: str | None = None


class EndedSessions:
    """By the provider's names: when their sessions ended (Unix seconds)."""

    def __init__(self) -> None:
        self._ended: Final[OrderedDict[tuple[str, str], float]] = OrderedDict()
        self._ended_emails: Final[OrderedDict[str, float]] = OrderedDict()

    def add(self, subject: str | None, sid: str | None, now: float) -> None:
        """Notes a logout: of a provider session if there is a `sid`, else of the whole user.

        With both, also of the user's sessions that the provider did not name (Back-Channel 2.7).
        """
        names = [(_SID, sid), (_UNNAMED, subject)] if sid else [(_SUBJECT, subject)]
        for kind, name in names:
            if name:
                _note(self._ended, (kind, name), now)

    def note(self, names: EndedNames) -> None:
        """Notes a logout by whatever names it has."""
        self.add(names.subject, names.sid, names.at)
        if names.email is not None:
            self.add_email(names.email, names.at)

    def add_email(self, email: str, now: float) -> None:
        """Notes a logout of all users who have this email (`access.folded_email`)."""
        _note(self._ended_emails, email, now)

    def covers(self, session: NamedSession) -> bool:
        """Whether a session began before such a logout."""
        if self._ended_emails and session.created_at <= self._ended_emails.get(
            session.email or "", -1.0
        ):
            return True
        if not self._ended:
            return False
        by_session = (_SID, session.sid) if session.sid else (_UNNAMED, session.subject)
        ends = (self._ended.get(name, -1.0) for name in (by_session, (_SUBJECT, session.subject)))
        return session.created_at <= max(ends)


def _note(ended: OrderedDict[_Name, float], name: _Name, now: float) -> None:
    """Notes when the sessions of a name ended, as the newest of at most `MOST`."""
    ended.pop(name, None)
    ended[name] = now
    if len(ended) > MOST:
        ended.popitem(last=False)
