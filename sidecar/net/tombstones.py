"""Dead sessions, and the tokens by which they are still recognised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sidecar.core.proof import Proof

MiB: Final = 1024 * 1024
ROOM: Final[Mapping[Proof, int]] = MappingProxyType(
    {Proof.VOUCHED: 64 * MiB, Proof.ACCEPTED: 48 * MiB, Proof.NONE: 8 * MiB}
)
"""The bytes of tombstones of each kind: none takes the room of another."""

TOMB_COST: Final = 400  # bytes of a tombstone
NAME_COST: Final = 160  # bytes more for each of its credentials
MAX_NAMES: Final = 32  # credentials of a session; whoever holds a dead token could add to them
MAX_RISEN: Final = 1_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A dead session: until when its credential could still be presented, and since when.

    Times are Unix seconds. `credentials` are the names of its tokens besides its fingerprint: if
    cookies hold a session in pieces, one of them alone must not bring it back. `proof` is what
    spoke for the session.
    """

    since: float
    until: float
    credentials: tuple[str, ...] = ()
    proof: Proof = Proof.VOUCHED

    @property
    def cost(self) -> int:
        """About the bytes that it takes, with all that leads to it."""
        return TOMB_COST + NAME_COST * len(self.credentials)


class Tombstones:
    """The dead sessions that one process knows, by fingerprint.

    Bounded in bytes, for each kind of proof apart; the oldest of a kind makes room for the next.
    `on_evicted` is called with one that did.
    """

    __slots__ = ("_by_credential", "_bytes", "_order", "_risen", "by_fingerprint", "on_evicted")

    def __init__(self) -> None:
        self.by_fingerprint: Final[dict[str, Tombstone]] = {}
        self.on_evicted: Callable[[str, Tombstone], None] | None = None
        self._order: Final[dict[Proof, dict[str, None]]] = {proof: {} for proof in Proof}
        self._bytes: Final[dict[Proof, int]] = dict.fromkeys(Proof, 0)
        self._by_credential: Final[dict[str, str]] = {}
        self._risen: Final[dict[str, float]] = {}  # since when those were dead that live again

    def __bool__(self) -> bool:
        return bool(self.by_fingerprint)

    def __len__(self) -> int:
        return len(self.by_fingerprint)

    def count(self, proof: Proof) -> int:
        """How many of one kind there are."""
        return len(self._order[proof])

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
        """Marks a session as dead. Returns its tombstone with all credentials that are known."""
        before = self._take(fingerprint)
        if before is not None:
            until = max(before.until, tomb.until)
            tomb = replace(tomb, proof=max(before.proof, tomb.proof), until=until)
        if before is not None and before.since == tomb.since:
            known = dict.fromkeys((*before.credentials, *tomb.credentials))
            tomb = replace(tomb, credentials=tuple(known))
        if len(tomb.credentials) > MAX_NAMES:
            tomb = replace(tomb, credentials=tomb.credentials[:MAX_NAMES])
        self.by_fingerprint[fingerprint] = tomb
        self._by_credential.update(dict.fromkeys(tomb.credentials, fingerprint))
        self._order[tomb.proof][fingerprint] = None
        self._bytes[tomb.proof] += tomb.cost
        self._make_room(tomb.proof)
        return tomb

    def _make_room(self, proof: Proof) -> None:
        while self._bytes[proof] > ROOM[proof]:
            fingerprint = next(iter(self._order[proof]))
            evicted = self._take(fingerprint)
            if evicted is not None and self.on_evicted is not None:
                self.on_evicted(fingerprint, evicted)

    def _take(self, fingerprint: str) -> Tombstone | None:
        tomb = self.by_fingerprint.pop(fingerprint, None)
        if tomb is None:
            return None
        del self._order[tomb.proof][fingerprint]
        self._bytes[tomb.proof] -= tomb.cost
        for name in tomb.credentials:
            if self._by_credential.get(name) == fingerprint:
                del self._by_credential[name]
        return tomb

    def lift(self, fingerprint: str) -> Tombstone | None:
        """Takes a session's tombstone away, and returns it."""
        tomb = self._take(fingerprint)
        if tomb is not None:
            self._risen[fingerprint] = tomb.since
            if len(self._risen) > MAX_RISEN:
                del self._risen[next(iter(self._risen))]
        return tomb

    def with_names(self, fingerprint: str, names: Iterable[str]) -> Tombstone | None:
        """The tombstone with further credentials; None if it has them, or there is none.

        Nor if it has as many as it may.
        """
        tomb = self.by_fingerprint.get(fingerprint)
        if tomb is None or len(tomb.credentials) >= MAX_NAMES:
            return None
        new = set(names) - {fingerprint, *tomb.credentials}
        if not new:
            return None
        return replace(tomb, credentials=(*tomb.credentials, *sorted(new)))
