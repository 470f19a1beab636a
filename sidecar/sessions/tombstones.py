"""Dead sessions, and the tokens by which they are still recognised."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from sidecar.core.proof import Proof
from sidecar.core.record import replace
from sidecar.sessions.bounds import Latest

MiB: Final = 1024 * 1024
ROOM: Final[Mapping[Proof, int]] = MappingProxyType(
    {Proof.VOUCHED: 64 * MiB, Proof.ACCEPTED: 48 * MiB, Proof.NONE: 8 * MiB}
)
"""The bytes of tombstones of each kind: none takes the room of another."""

TOMBSTONE_COST: Final = 400  # bytes of a tombstone
NAME_COST: Final = 160  # bytes more for each of its credentials
MAX_NAMES: Final = 32  # credentials of a session; a client with a dead token could add to them
MAX_REINSTATED: Final = 1_000


class Tombstone(msgspec.Struct, frozen=True):
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
        """About the bytes of a tombstone, with every name that leads to it."""
        return TOMBSTONE_COST + NAME_COST * len(self.credentials)


class Tombstones:
    """The dead sessions that one process knows, by fingerprint.

    Bounded in bytes, for each kind of proof apart; the oldest of a kind makes room for the next.
    `evicted` is called with one that did.
    """

    __slots__ = ("_by_credential", "_bytes", "_order", "_reinstated", "by_fingerprint", "evicted")

    def __init__(self) -> None:
        self.by_fingerprint: Final[dict[str, Tombstone]] = {}
        self.evicted: Callable[[str, Tombstone], None] | None = None
        # A dictionary that is emptied from its beginning is looked through from there each time.
        self._order: Final[dict[Proof, OrderedDict[str, None]]] = {
            proof: OrderedDict() for proof in Proof
        }
        self._bytes: Final[dict[Proof, int]] = dict.fromkeys(Proof, 0)
        self._by_credential: Final[dict[str, str]] = {}
        self._reinstated: Final = Latest[float](MAX_REINSTATED)  # since when they were dead

    def __bool__(self) -> bool:
        return bool(self.by_fingerprint)

    def __len__(self) -> int:
        return len(self.by_fingerprint)

    def count(self, proof: Proof) -> int:
        """How many of one kind there are."""
        return len(self._order[proof])

    def of(self, fingerprint: str, now: float) -> Tombstone | None:
        """The tombstone of a session that is dead at `now`."""
        tombstone = self.by_fingerprint.get(fingerprint)
        return tombstone if tombstone is not None and now < tombstone.until else None

    def died_at(self, fingerprint: str, now: float) -> float | None:
        """When a session died last, though it may have been handed out again since."""
        tombstone = self.of(fingerprint, now)
        return tombstone.since if tombstone is not None else self._reinstated.get(fingerprint)

    def dead_session(self, name: str) -> str | None:
        """The fingerprint of the dead session that a token or fingerprint of this name is of."""
        fingerprint = self._by_credential.get(name, name)
        return fingerprint if fingerprint in self.by_fingerprint else None

    def put(self, fingerprint: str, tombstone: Tombstone) -> Tombstone:
        """Marks a session as dead. Returns its tombstone with all credentials that are known."""
        before = self._take(fingerprint)
        if before is not None:
            until = max(before.until, tombstone.until)
            tombstone = replace(tombstone, proof=max(before.proof, tombstone.proof), until=until)
        if before is not None and before.since == tombstone.since:
            known = dict.fromkeys((*before.credentials, *tombstone.credentials))
            tombstone = replace(tombstone, credentials=tuple(known))
        if len(tombstone.credentials) > MAX_NAMES:
            tombstone = replace(tombstone, credentials=tombstone.credentials[:MAX_NAMES])
        self.by_fingerprint[fingerprint] = tombstone
        self._by_credential.update(dict.fromkeys(tombstone.credentials, fingerprint))
        self._order[tombstone.proof][fingerprint] = None
        self._bytes[tombstone.proof] += tombstone.cost
        self._make_room(tombstone.proof)
        return tombstone

    def _make_room(self, proof: Proof) -> None:
        while self._bytes[proof] > ROOM[proof]:
            fingerprint = next(iter(self._order[proof]))
            tombstone = self._take(fingerprint)
            if tombstone is not None and self.evicted is not None:
                self.evicted(fingerprint, tombstone)

    def _take(self, fingerprint: str) -> Tombstone | None:
        tombstone = self.by_fingerprint.pop(fingerprint, None)
        if tombstone is None:
            return None
        del self._order[tombstone.proof][fingerprint]
        self._bytes[tombstone.proof] -= tombstone.cost
        for name in tombstone.credentials:
            if self._by_credential.get(name) == fingerprint:
                del self._by_credential[name]
        return tombstone

    def lift(self, fingerprint: str) -> Tombstone | None:
        """Takes a session's tombstone away, and returns it."""
        tombstone = self._take(fingerprint)
        if tombstone is not None:
            self._reinstated.put(fingerprint, tombstone.since)
        return tombstone

    def with_names(self, fingerprint: str, names: Iterable[str]) -> Tombstone | None:
        """The tombstone with further credentials; None if it has them, or there is none.

        None also if it has as many as it may.
        """
        tombstone = self.by_fingerprint.get(fingerprint)
        if tombstone is None or len(tombstone.credentials) >= MAX_NAMES:
            return None
        new = set(names) - {fingerprint, *tombstone.credentials}
        if not new:
            return None
        return replace(tombstone, credentials=(*tombstone.credentials, *sorted(new)))
