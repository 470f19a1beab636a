"""Which fingerprint a credential belongs to.

A session keeps its fingerprint while it lives, though its credentials change. Its name comes from
the first credential, or from a claim that the sidecar has sealed into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.core.credential import Reading
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

    def __init__(self, signer: Signer, tombstones: Tombstones) -> None:
        self._signer: Final = signer
        self._tombstones: Final = tombstones
        self._successors: Final = Latest[str](MAX_SUCCESSORS)  # a later name → the fingerprint
        self._earlier: Final = Latest[tuple[str, ...]](MAX_SUCCESSORS)

    def name_of(self, credential: str) -> str:
        """Returns the name of a credential.

        Servers accept several spellings of a token: padding, and of a JWT other spellings of its
        signature. The name leaves these out.
        """
        return self._signer.fingerprint(_essence(credential))

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
        name = self.name_of(credential)
        return self._tombstones.dead_session(name) or self._successors.get(name, name)

    def credentials(self, reading: Reading) -> Iterator[str]:
        """Yields the names of a session's tokens. A login session has none: its id names it."""
        if isinstance(reading, LoginReading):
            return
        refresh = reading.tokens.refresh_token if reading.tokens is not None else None
        for credential in (reading.token, refresh):
            if credential:
                yield self.name_of(credential)

    def content(self, reading: Reading) -> Iterator[str]:
        """Yields the name of a session without a token, by its present content."""
        if reading.content:
            yield self.name_of(reading.content)

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


def _essence(token: str) -> str:
    """A token without padding; a JWT (RFC 7519) without its signature, which follows from it."""
    bare = token.rstrip("=")
    parts = bare.split(".")
    return f"{parts[0]}.{parts[1]}" if len(parts) == 3 and all(parts) else bare
