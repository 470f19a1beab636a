"""What looks on while others serve: it reads what is known of sessions, and changes none of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sidecar.core.view import Key, OpenedSession, SessionView
from sidecar.sessions.names import SessionNames
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.view_cache import ViewCache


class OnlookingCache(ViewCache):
    """Another cache, as it is: nothing is remembered, and nothing forgotten.

    `is_outdated`: more is known by now than it holds.
    """

    __slots__ = ("_real", "is_outdated")

    def __init__(self, names: SessionNames, real: ViewCache) -> None:
        super().__init__(names)
        self._real: Final = real
        self.is_outdated = False

    def get(self, key: Key) -> SessionView | None:
        """Returns the view of a header, if it is remembered."""
        return None if self.is_outdated else self._real.get(key)

    def with_bearer(self, name: str) -> SessionView | None:
        """Returns the view whose bearer token has this name, if it is remembered."""
        return self._real.with_bearer(name)

    def of_session(self, fingerprint: str) -> Iterator[SessionView]:
        """Yields the views that hold a session, the last one that came first."""
        return self._real.of_session(fingerprint)

    def is_current(self, view: SessionView) -> bool:
        """Returns whether a view is what its Cookie header would be given now."""
        return self._real.is_current(view)

    def put(self, _key: Key, view: SessionView) -> SessionView:
        """Returns the view."""
        return view

    def forget(self, key: Key) -> None:
        """Forgets nothing."""

    def invalidate(self, fingerprint: str) -> None:
        """Forgets nothing."""

    def invalidate_all(self, names: Iterable[str]) -> None:
        """Forgets nothing."""

    def known(self, fingerprint: str) -> OpenedSession | None:
        """Returns a session with the newest tokens that it was presented with."""
        return self._real.known(fingerprint)


class OnlookingRevocations(Revocations):
    """Those of the process, and `found`: sessions that are dead by what the store says."""

    __slots__ = ("found",)

    def __init__(self, real: Revocations, cache: OnlookingCache) -> None:
        super().__init__(real.tombstones, real.names, cache, real.evidence, real)
        self.found: Final[set[str]] = set()

    def is_dead(self, fingerprint: str | None, now: float) -> bool:
        """Returns whether a session has ended, here or by what the store says."""
        return fingerprint in self.found or super().is_dead(fingerprint, now)

    def refuse(self, fingerprint: str, gate: str = "") -> None:
        """Closes nothing."""
