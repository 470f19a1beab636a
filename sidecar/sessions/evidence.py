"""What speaks for a session, as far as this process has seen it.

Anyone can invent the value of a plain cookie. So it matters whether an upstream has accepted the
credential in it, or the provider has renewed it. A sealed session speaks for itself.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.proof import Proof
from sidecar.core.view import OpenedSession
from sidecar.sessions.bounds import Names
from sidecar.sessions.listener import NOBODY, SessionListener

ACCEPTED_BYTES: Final = 8 * 1024 * 1024  # of plain sessions that an upstream has accepted
VOUCHED_BYTES: Final = 8 * 1024 * 1024  # of those that the provider has renewed


class Evidence:
    """The proof of plain sessions, by fingerprint; bounded in bytes."""

    __slots__ = ("_vouched", "accepted", "listener")

    def __init__(self, before: Evidence | None = None) -> None:
        """`before` is that of the configuration that held until now: what was proven stays so."""
        self.accepted: Final[Names] = Names(ACCEPTED_BYTES) if before is None else before.accepted
        self._vouched: Final[Names] = Names(VOUCHED_BYTES) if before is None else before._vouched
        self.listener: SessionListener = NOBODY

    def of(self, session: OpenedSession) -> Proof:
        """Returns what speaks for a session that was presented."""
        return Proof.VOUCHED if session.is_sealed else self.of_plain(session.fingerprint)

    def of_plain(self, fingerprint: str) -> Proof:
        """Returns what has spoken for a plain session so far."""
        if fingerprint in self._vouched:
            return Proof.VOUCHED
        return Proof.ACCEPTED if fingerprint in self.accepted else Proof.NONE

    def accept(self, fingerprint: str) -> None:
        """Notes that an upstream has accepted a session's credential."""
        if fingerprint not in self.accepted:
            self.accepted.add(fingerprint)
            self.listener.accepted(fingerprint)

    def learn_accepted(self, fingerprint: str) -> None:
        """Notes the same of a session that was accepted in another process."""
        self.accepted.add(fingerprint)

    def vouch(self, fingerprint: str) -> None:
        """Notes that the provider has renewed a session."""
        self._vouched.add(fingerprint)
