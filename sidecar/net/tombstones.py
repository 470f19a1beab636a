"""Dead sessions, and the tokens by which they are still recognised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

MAX_TOMBSTONES: Final = 100_000
MAX_RISEN: Final = 1_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A dead session: until when its credential could still be presented, and since when.

    Times are Unix seconds. `credentials` are the names of its tokens besides its fingerprint: if
    cookies hold a session in pieces, one of them alone must not bring it back.
    """

    since: float
    until: float
    credentials: tuple[str, ...] = ()


class Tombstones:
    """The dead sessions that one process knows, by fingerprint; bounded in number."""

    __slots__ = ("_by_credential", "_risen", "by_fingerprint")

    def __init__(self) -> None:
        self.by_fingerprint: Final[dict[str, Tombstone]] = {}
        self._by_credential: Final[dict[str, str]] = {}
        self._risen: Final[dict[str, float]] = {}  # since when those were dead that live again

    def __bool__(self) -> bool:
        return bool(self.by_fingerprint)

    def __len__(self) -> int:
        return len(self.by_fingerprint)

    def of(self, fingerprint: str, now: float) -> Tombstone | None:
        """The tombstone of a session that is dead at `now`."""
        tomb = self.by_fingerprint.get(fingerprint)
        return tomb if tomb is not None and now < tomb.until else None

    def died_at(self, fingerprint: str, now: float) -> float | None:
        """When a session died last, though it may have been handed out again since."""
        tomb = self.of(fingerprint, now)
        return tomb.since if tomb is not None else self._risen.get(fingerprint)

    def dead_session(self, name: str) -> str | None:
        """The fingerprint of the dead session that a token or fingerprint of this name is of."""
        fingerprint = self._by_credential.get(name, name)
        return fingerprint if fingerprint in self.by_fingerprint else None

    def put(self, fingerprint: str, tomb: Tombstone) -> Tombstone:
        """Marks a session as dead. Returns its tombstone with all credentials that are known.

        The oldest one makes room.
        """
        before = self.by_fingerprint.pop(fingerprint, None)
        if before is not None and before.since == tomb.since:
            known = dict.fromkeys((*before.credentials, *tomb.credentials))
            tomb = replace(tomb, credentials=tuple(known))
        for name in before.credentials if before is not None else ():
            self._by_credential.pop(name, None)
        self.by_fingerprint[fingerprint] = tomb
        self._by_credential.update(dict.fromkeys(tomb.credentials, fingerprint))
        if len(self.by_fingerprint) > MAX_TOMBSTONES:
            self.lift(next(iter(self.by_fingerprint)))
        return tomb

    def lift(self, fingerprint: str) -> Tombstone | None:
        """Takes a session's tombstone away, and returns it."""
        tomb = self.by_fingerprint.pop(fingerprint, None)
        if tomb is not None:
            self._risen[fingerprint] = tomb.since
            if len(self._risen) > MAX_RISEN:
                del self._risen[next(iter(self._risen))]
        for name in tomb.credentials if tomb is not None else ():
            self._by_credential.pop(name, None)
        return tomb

    def with_names(self, fingerprint: str, names: Iterable[str]) -> Tombstone | None:
        """The tombstone with further credentials; None if it has them, or there is none."""
        tomb = self.by_fingerprint.get(fingerprint)
        if tomb is None:
            return None
        new = set(names) - {fingerprint, *tomb.credentials}
        if not new:
            return None
        return replace(tomb, credentials=(*tomb.credentials, *sorted(new)))
