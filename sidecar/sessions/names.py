"""Which fingerprint a credential belongs to.

A session keeps its fingerprint while it lives, though its credentials change. Its name comes from
the first credential, or from a claim that the sidecar has sealed into it. It is made with the first
secret. With each other one the session has a former name: before a reload, or in another process,
that one may be the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.core.credential import Reading, essence
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.tickets import Signer
from sidecar.sessions.bounds import Latest
from sidecar.sessions.tombstones import Tombstones

MAX_SUCCESSORS: Final = 10_000
MAX_EARLIER: Final = 8  # generations that a logout ends besides the one presented


class SessionNames:
    """Names the sessions that one process reads.

    A *name* is the keyed hash of one credential; a *fingerprint* is the name that a session keeps.
    """

    __slots__ = ("_earlier", "_signer", "_successors", "_tombstones")

    def __init__(
        self, signer: Signer, tombstones: Tombstones, before: SessionNames | None = None
    ) -> None:
        """`before` are those of the configuration that held until now: what was named stays so."""
        self._tombstones: Final = tombstones
        if before is None:
            self._signer = signer
            self._successors = Latest[str](MAX_SUCCESSORS)  # a later name → the fingerprint
            self._earlier = Latest[tuple[str, ...]](MAX_SUCCESSORS)
        else:
            self._signer = signer.after(before._signer)
            self._successors, self._earlier = before._successors, before._earlier

    def name_of(self, credential: str) -> str:
        """Returns the name of a credential.

        Servers accept several spellings of a token: padding, and of a JWT other spellings of its
        signature. The name leaves these out.
        """
        return self._signer.fingerprint(essence(credential))

    def names_of(self, credential: str) -> tuple[str, ...]:
        """Returns the name of a credential, and its former ones."""
        text = essence(credential)
        return self._signer.fingerprint(text), *self._signer.former_fingerprints(text)

    def dead_session(self, credential: str) -> str | None:
        """Returns the fingerprint of the dead session that a credential is of."""
        return self._dead(self.names_of(credential)) if self._tombstones else None

    def _dead(self, names: tuple[str, ...]) -> str | None:
        return next(filter(None, map(self._tombstones.dead_session, names)), None)

    def fingerprint_of(self, reading: Reading) -> str | None:
        """Returns the fingerprint of an opened session, or None if nothing in it can name it."""
        if self._tombstones:
            for name in self.credentials(reading):
                fingerprint = self._tombstones.dead_session(name)
                if fingerprint is not None:
                    return fingerprint
        if reading.identity is not None:
            return reading.identity
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        credential = reading.token or refresh or reading.content
        if not credential:
            return None
        names = self.names_of(credential)
        known = (self._successors[one] for one in names if one in self._successors)
        return self._dead(names) or next(known, names[0])

    def credentials(self, reading: Reading) -> Iterator[str]:
        """Yields the names of a session's tokens. A login session has none: its id names it."""
        if isinstance(reading, LoginReading):
            return
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        for credential in (reading.token, refresh):
            if credential:
                yield from self.names_of(credential)

    def content(self, reading: Reading) -> Iterator[str]:
        """Yields the name of a session without a token, by its present content."""
        if reading.content:
            yield from self.names_of(reading.content)

    def former(self, reading: Reading) -> Iterator[str]:
        """Yields what a session was called when another secret was the first."""
        credential = reading.token or reading.content
        if credential and reading.identity is None and not isinstance(reading, LoginReading):
            yield from self.names_of(credential)[1:]

    def pieces(self, reading: Reading) -> Iterator[str]:
        """Yields the names of tokens that stand in cookies of their own."""
        if reading.tokens is not None and reading.claims is None:
            yield from self.credentials(reading)

    # -- generations ------------------------------------------------------------------------------

    def succeed(self, name: str, fingerprint: str) -> None:
        """Notes that a credential is a later one of a session."""
        self._successors.put(name, fingerprint)

    def rotate(self, name: str, earlier: tuple[str, ...]) -> None:
        """Notes the names that a session had before its application rotated its tokens."""
        self._earlier.put(name, earlier)

    def earlier(self, name: str) -> tuple[str, ...]:
        """Returns these names, the oldest first."""
        return self._earlier.get(name, ())

    def rotated_from(self, name: str) -> tuple[str, ...]:
        """Returns the earlier names of a session that comes after the one of this name."""
        return (*self.earlier(name), name)[-MAX_EARLIER:]
