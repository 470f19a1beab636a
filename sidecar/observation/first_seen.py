"""When this process saw a session first: where its story begins, unless that is a login."""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.observation.status_model import SessionEvent

PROVEN: Final = 10_000
"""Sessions that something speaks for: the one that was noted first makes room."""
UNPROVEN: Final = 1_000
KIND: Final = "opened"

_PERHAPS: Final = "more sessions are in use than are remembered: it may have been here before"


class _FirstRequest(NamedTuple):
    """What is kept of the first request; its texts come from the configuration, but for the id."""

    at: float
    request_id: str
    route: str
    source: str | None
    is_certain: bool


class FirstSeen:
    """The sessions that were seen, with their first requests. Times are Unix seconds.

    Anyone can invent a session, so those that nothing speaks for have a space of their own.
    """

    __slots__ = ("_proven", "_unproven")

    def __init__(self) -> None:
        self._proven: Final = _FirstRequests(PROVEN)
        self._unproven: Final = _FirstRequests(UNPROVEN)

    def knows(self, session: str) -> bool:
        """Returns whether the first request of a proven session is noted already."""
        return session in self._proven.seen

    def note(self, event: SessionEvent, *, is_proven: bool) -> None:
        """Notes a request of a session, unless one is noted. One that is proven by now is moved."""
        session = event.session or ""
        before = self._unproven.seen.get(session)
        if not is_proven:
            if before is None:
                self._unproven.put(session, self._unproven.seen_first(event))
            return
        if before is not None:
            del self._unproven.seen[session]
        self._proven.put(session, before or self._proven.seen_first(event))

    def event(self, session: str | None) -> SessionEvent | None:
        """Returns what the story of a session begins with."""
        seen = self._proven.seen.get(session or "") or self._unproven.seen.get(session or "")
        if seen is None:
            return None
        return SessionEvent(
            at=seen.at,
            kind=KIND,
            session=session,
            request_id=seen.request_id,
            route=seen.route,
            source=seen.source,
            detail="" if seen.is_certain else _PERHAPS,
        )

    def session_of(self, request_id: str) -> str | None:
        """Returns the session whose first request had this id."""
        for space in (self._proven, self._unproven):
            for session, seen in space.seen.items():
                if seen.request_id == request_id:
                    return session
        return None


class _FirstRequests:
    """At most `most` sessions. Once one had to go, another may be none that was never here."""

    __slots__ = ("_has_dropped", "_most", "seen")

    def __init__(self, most: int) -> None:
        self.seen: Final[dict[str, _FirstRequest]] = {}
        self._most: Final = most
        self._has_dropped = False

    def seen_first(self, event: SessionEvent) -> _FirstRequest:
        is_certain = not self._has_dropped
        return _FirstRequest(
            event.at, event.request_id or "", event.route or "", event.source, is_certain
        )

    def put(self, session: str, seen: _FirstRequest) -> None:
        if session in self.seen:
            return
        self.seen[session] = seen
        if len(self.seen) > self._most:
            del self.seen[next(iter(self.seen))]
            self._has_dropped = True
