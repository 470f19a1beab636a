"""Listeners for what happens to sessions in this process."""

from __future__ import annotations

from typing import Final

from sidecar.sessions.tombstones import Tombstone


class SessionListener:
    """Does nothing: there is no other process to notify.

    A *name* is the keyed hash of a credential, a *fingerprint* the name that a session keeps.
    """

    def revoked(self, fingerprint: str, tombstone: Tombstone) -> None:
        """A session was revoked, or more is known of one that was."""

    def reinstated(self, fingerprint: str, tombstone: Tombstone) -> None:
        """A dead session's credential was handed out again; `tombstone` is what it had."""

    def refused(self, fingerprint: str, gate: str) -> None:
        """The user of a living session is not allowed any more, behind a gate or at all."""

    def evicted(self, fingerprint: str, tombstone: Tombstone) -> None:
        """A tombstone has made room for another one."""

    def accepted(self, fingerprint: str) -> None:
        """An upstream has accepted the credential of a plain session."""

    def handed_out(self, names: tuple[str, ...], began: float) -> None:
        """A credential that is not dead here was set in a response.

        `names` are its session's, `began` is when the request began.
        """

    def succeeded(self, name: str, fingerprint: str) -> None:
        """A session goes on with a credential of this name."""

    def preceded(self, name: str, fingerprint: str) -> None:
        """A session had a credential of this name before."""

    def rotated(self, name: str, earlier: tuple[str, ...]) -> None:
        """An application has rotated a session's tokens; it had the `earlier` names before."""


NOBODY: Final = SessionListener()
