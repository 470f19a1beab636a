"""What the other processes say of sessions, and what is done if the store has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.ended import EndedNames
from sidecar.core.formats.login_session import LoginSession
from sidecar.core.proof import Proof
from sidecar.net.store import Cancel, Store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import WATCH, StoreWatch
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.refresher import Refresher
from sidecar.sessions.session_records import Message, SessionRecords, in_turn
from sidecar.sessions.stored import StoredLogins

DOUBT: Final = 3.0  # seconds after trouble in which what is not found may be written once more


def _nobody(_: EndedNames) -> None:
    """Does nothing: only sessions of the sidecar's own login have names."""


class SessionFeed:
    """Receives from the other processes on one store, and restores what the store loses.

    Is the store's `MessageListener`, and does what `StoreWatch` asks for.
    """

    def __init__(
        self,
        store: Store,
        records: SessionRecords,
        local: LocalSessions,
        broadcast: Broadcast,
        *,
        refresher: Refresher | None,
        stored: StoredLogins | None,
        outbox: Outbox,
        watch: StoreWatch,
        now: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store: Final = store
        self._records: Final = records
        self._directory: Final = local.directory
        self._revocations: Final = local.revocations
        self._broadcast: Final = broadcast
        self._refresher: Final = refresher
        self._stored: Final = stored
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._now: Final = now
        self._spawn: Final = spawn
        self.ended: Callable[[EndedNames], None] = _nobody
        """Is called with the names by which another process has ended sessions."""
        self._doubtful_until = 0.0
        self._looks_again = False
        self._has_stopped = False
        self._cancel: Cancel | None = None

    async def start(self) -> None:
        """Begins to listen."""
        self._cancel = await self._store.subscribe(self._hear, self)
        self._watch.start()

    def stop(self) -> None:
        """Stops listening: nothing new begins because of what others say."""
        self._has_stopped = True
        if self._cancel is not None:
            self._cancel()

    def _hear(self, data: bytes) -> None:
        message = Message.from_bytes(data)
        if message is None:
            return
        if message.what == "dead" and message.tombstone is not None:
            self._broadcast.learn_death(message.fingerprint, message.tombstone)
        elif message.what == "alive":
            self._revocations.mark_reinstated(message.fingerprint)
        elif message.what == "refused":
            self._revocations.close_attached(message.fingerprint, message.gate)
        elif message.what == "renewed":
            self._directory.recheck(message.fingerprint)
        elif message.what == "rotated":
            self._revocations.rotate(message.fingerprint, message.earlier)
        elif message.what == "ended" and message.names is not None:
            self.ended(message.names)
        elif message.what == "restored":
            self._look_again()

    # -- trouble ----------------------------------------------------------------------------------

    def doubt(self) -> None:
        """The store may have lost writes just now."""
        self._doubtful_until = self._now() + DOUBT
        if self._refresher is not None:
            self._refresher.lost_data()

    def is_doubtful(self) -> bool:
        """Returns whether what the store does not have may be written there once more."""
        return self._now() < self._doubtful_until

    def broken(self) -> None:
        """Messages cannot be read: the store may restart with less data."""
        self.doubt()

    def resumed(self, *, has_gap: bool) -> None:
        """They are read again. `has_gap`: some will never come."""
        self.doubt()
        self._watch.look_soon()
        if has_gap:
            self._look_again()

    def _look_again(self) -> None:
        """Messages were missed, so the store is asked once more of every session."""
        if not self._looks_again and not self._has_stopped:
            self._looks_again = True
            self._spawn(self._forget())

    async def _forget(self) -> None:
        """Forgets what is known of sessions, after a store that has lost it has it again."""
        while True:
            with suppress(StoreUnavailable):
                await self._watch.look()
                break
            await asyncio.sleep(WATCH)
        self._looks_again = False
        self._directory.forget_all()
        for fingerprint in self._revocations.attached:
            self._outbox.put(f"stream:{fingerprint}", "look", partial(self._look_up, fingerprint))

    async def _look_up(self, fingerprint: str) -> None:
        """Raises `StoreUnavailable`."""
        death = await self._records.death(fingerprint)
        if death is not None:
            self._broadcast.learn_death(*death)

    # -- restoration ------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Writes what this process knows once more, and has all others look at it.

        Raises `StoreUnavailable`.
        """
        if self._refresher is not None:
            await self._refresher.restore()
        now = self._now()
        await in_turn(
            partial(self._broadcast.restore_death, fingerprint, tombstone)
            for fingerprint, tombstone in tuple(self._revocations.tombstones.by_fingerprint.items())
            if now < tombstone.until and tombstone.proof is not Proof.NONE
        )
        await self._records.restore_aliases()
        if self._stored is not None:
            await in_turn(
                partial(self._restore_login, self._stored, session)
                for session in self._directory.login_sessions(now)
            )
        await self._records.publish(Message("restored", ""))

    async def _restore_login(self, stored: StoredLogins, session: LoginSession) -> None:
        """Raises `StoreUnavailable`."""
        await stored.restore(session)
        # Who ended it writes its death first and drops it then. One of both sees the other.
        if stored.is_stored and await self._records.death(session.fingerprint) is not None:
            await stored.drop(session.fingerprint)
