"""What a provider said of sessions that nobody knew here: all older ones are refused.

A restart forgets the login sessions that are kept in cookies. A back-channel logout names users and
provider sessions, so it is remembered by these names, and counts for whatever is presented later.
"""

from __future__ import annotations

from typing import Final, Protocol

MOST: Final = 10_000  # names; the provider signs each, and the oldest give way

_SID, _SUBJECT, _UNNAMED = "sid", "sub", "sub without sid"


class NamedSession(Protocol):
    """A login session with the provider's names, and when it began."""

    @property
    def subject(self) -> str: ...
    @property
    def sid(self) -> str | None: ...
    @property
    def created_at(self) -> float: ...


class EndedSessions:
    """By the provider's names: when their sessions ended (Unix seconds)."""

    def __init__(self) -> None:
        self._ended: Final[dict[tuple[str, str], float]] = {}

    def add(self, subject: str | None, sid: str | None, now: float) -> None:
        """Notes a logout: of a provider session if there is a `sid`, else of the whole user.

        With both, also of the user's sessions that the provider did not name (Back-Channel 2.7).
        """
        names = [(_SID, sid), (_UNNAMED, subject)] if sid else [(_SUBJECT, subject)]
        for kind, name in names:
            if name:
                self._ended.pop((kind, name), None)
                self._ended[kind, name] = now
                if len(self._ended) > MOST:
                    del self._ended[next(iter(self._ended))]

    def covers(self, session: NamedSession) -> bool:
        """Whether a session began before such a logout."""
        if not self._ended:
            return False
        by_session = (_SID, session.sid) if session.sid else (_UNNAMED, session.subject)
        ends = (self._ended.get(name, -1.0) for name in (by_session, (_SUBJECT, session.subject)))
        return session.created_at <= max(ends)
