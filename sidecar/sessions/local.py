"""The parts that know sessions in this process alone, put together."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sidecar.core.tickets import Signer
from sidecar.core.view import SessionView, ViewReader
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.evidence import Evidence
from sidecar.sessions.listener import SessionListener
from sidecar.sessions.names import SessionNames
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.set_cookies import SetCookies
from sidecar.sessions.tombstones import Tombstones
from sidecar.sessions.view_cache import ViewCache


class LocalSessions(msgspec.Struct, frozen=True):
    """What one process knows of sessions. Nothing here waits for anything."""

    names: SessionNames
    evidence: Evidence
    revocations: Revocations
    directory: SessionDirectory
    set_cookies: SetCookies

    def listen(self, listener: SessionListener) -> None:
        """Has a listener notified of everything that happens to sessions from now on."""
        self.evidence.listener = listener
        self.revocations.listener = listener
        self.revocations.tombstones.evicted = listener.evicted
        self.set_cookies.listener = listener


def local_sessions(
    reader: ViewReader,
    signer: Signer,
    *,
    leeway: float | None = None,
    is_shared: bool = False,
    on_read: Callable[[SessionView, float], None] | None = None,
    before: Revocations | None = None,
) -> LocalSessions:
    """Returns the parts for one process, which know nothing yet.

    `leeway` are the seconds before their expiry that tokens are renewed; None: they are not.
    `is_shared`: the store may know more of a session than this process. `on_read` is called with
    each Cookie header that is read for the first time, and holds what looks like a session.
    `before` are the revocations of the configuration that held until now: what is dead stays dead.
    """
    tombstones = Tombstones() if before is None else before.tombstones
    names = SessionNames(signer, tombstones, None if before is None else before.names)
    cache = ViewCache(names)
    evidence = Evidence(None if before is None else before.evidence)
    revocations = Revocations(tombstones, names, cache, evidence, before)
    directory = SessionDirectory(
        reader,
        names,
        cache,
        revocations,
        leeway=leeway,
        is_shared=is_shared,
        on_read=on_read,
    )
    set_cookies = SetCookies(reader, names, directory, revocations)
    return LocalSessions(names, evidence, revocations, directory, set_cookies)
