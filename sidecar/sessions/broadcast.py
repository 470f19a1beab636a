"""Reports sessions to the other processes: written after requests, through the outbox."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from sidecar.core.proof import Proof
from sidecar.core.record import replace
from sidecar.net.store.outbox import Outbox
from sidecar.sessions.bounds import Budget, Latest
from sidecar.sessions.listener import SessionListener
from sidecar.sessions.revocations import UNKNOWN_LIFETIME, Revocations
from sidecar.sessions.session_records import ALIAS, FORMER, Message, SessionRecords
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.tombstones import Tombstone

SHARED: Final = 60.0  # seconds for which others know of a death without proof
REFUSAL: Final = 5.0  # seconds in which one is not sent again, though each request is refused
REFUSALS: Final = 10_000  # that are remembered for that
RENEWALS: Final = 10_000  # that are remembered so that each is sent once


class DropStored(SessionListener):
    """Drops the login sessions that end from a store that no other process shares."""

    def __init__(self, stored: StoredLogins, outbox: Outbox) -> None:
        self._stored: Final = stored
        self._outbox: Final = outbox

    def revoked(self, fingerprint: str, tombstone: Tombstone) -> None:
        """The stored session goes."""
        if tombstone.proof is Proof.VOUCHED:
            self._outbox.put(fingerprint, "logout", partial(self._stored.drop, fingerprint))


class Broadcast(SessionListener):
    """Reports to the other processes on the same store.

    Strangers can cause some of it, so `unproven` and `acceptances` bound how much.
    """

    def __init__(
        self,
        records: SessionRecords,
        revocations: Revocations,
        stored: StoredLogins | None,
        outbox: Outbox,
        now: Callable[[], float],
    ) -> None:
        self._records: Final = records
        self._revocations: Final = revocations
        self._stored: Final = stored
        self._outbox: Final = outbox
        self._now: Final = now
        self.unproven: Final = Budget(200, 2)
        self.acceptances: Final = Budget(10_000, 1)
        self._refused: Final = Latest[float](REFUSALS)
        self._renewed: Final = Latest[None](RENEWALS)

    # -- revocations ------------------------------------------------------------------------------

    def revoked(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Writes the tombstone. One that nothing speaks for is kept for a minute, within a budget.

        That one is repeated too until the store takes it: others may know more of the session.
        """
        if tombstone.proof is Proof.VOUCHED:
            write = partial(self.write_death, fingerprint, tombstone)
            self._outbox.put(fingerprint, "logout", write)
        elif tombstone.proof is Proof.ACCEPTED:
            write = partial(self.write_death, fingerprint, tombstone)
            self._outbox.put_bounded(fingerprint, "accepted_logout", write)
        elif self.unproven.take(self._now()):
            shared = replace(tombstone, until=min(tombstone.until, self._now() + SHARED))
            write = partial(self.write_death, fingerprint, shared)
            self._outbox.put_bounded(fingerprint, "unproven_logout", write)

    async def write_death(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Writes a tombstone for all to see. Raises `StoreUnavailable`."""
        fingerprint, tombstone = await self._first_named(fingerprint, tombstone)
        await self._records.put_death(fingerprint, tombstone, is_told=True)
        await self._drop_stored(fingerprint)

    async def restore_death(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Writes a tombstone that the store may have lost. Raises `StoreUnavailable`."""
        await self._records.put_death(fingerprint, tombstone, is_told=False)
        await self._drop_stored(fingerprint)

    async def _drop_stored(self, fingerprint: str) -> None:
        """Raises `StoreUnavailable`."""
        if self._stored is not None and self._stored.is_stored:
            await self._stored.drop(fingerprint)

    async def _first_named(self, fingerprint: str, tombstone: Tombstone) -> tuple[str, Tombstone]:
        """The death under the fingerprint that the session had before others renewed it.

        When it ended here, the store may not have been there to be asked. Raises
        `StoreUnavailable`.
        """
        names = dict.fromkeys((fingerprint, *tombstone.credentials))
        for name in names:
            first = await self._records.alias(name)
            if first is None or first == fingerprint:
                continue
            known = replace(tombstone, credentials=tuple(one for one in names if one != first))
            self._revocations.mark_revoked(first, known)
            return first, known
        return fingerprint, tombstone

    def evicted(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Removes the entry of a session that an upstream has accepted, which has no other bound.

        Other processes remember it as long as they have room.
        """
        if tombstone.proof is Proof.ACCEPTED:
            self._outbox.try_once(partial(self._records.remove_death, fingerprint, tombstone))

    def learn_death(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Marks a session that another process has ended, and reports what proves it here."""
        proof = self._revocations.evidence.of_plain(fingerprint)
        if proof > tombstone.proof:
            until = max(tombstone.until, self._now() + UNKNOWN_LIFETIME)
            tombstone = replace(tombstone, proof=proof, until=until)
            self.revoked(fingerprint, tombstone)
        self._revocations.learn(fingerprint, tombstone)

    # -- users who are not allowed any more -------------------------------------------------------

    def refused(self, fingerprint: str, gate: str) -> None:
        """Sends that a user is not allowed any more: what is open elsewhere must close, too."""
        key, now = f"refused:{fingerprint} {gate}", self._now()
        if now < self._refused.get(key, -REFUSAL) + REFUSAL:
            return
        self._refused.put(key, now)
        message = Message("refused", fingerprint, gate=gate)
        self._outbox.put_bounded(key, "refusal", partial(self._records.publish, message))

    # -- reinstatement ----------------------------------------------------------------------------

    def reinstated(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Removes the tombstone everywhere."""

        async def remove() -> None:
            await self._records.remove_death(fingerprint, tombstone)
            await self._records.publish(Message("alive", fingerprint))

        self._outbox.put(fingerprint, "login", remove)

    def handed_out(self, names: tuple[str, ...], began: float) -> None:
        """Removes what others know of a death of this session from before the request began."""

        async def remove() -> None:
            for name in names:
                death = await self._records.death(name)
                if death is not None and death[1].since < began:
                    self._revocations.mark_reinstated(death[0])
                    self.reinstated(*death)
                    return

        self._outbox.put_bounded(names[0], "lookup", remove)

    # -- generations ------------------------------------------------------------------------------

    def succeeded(self, name: str, fingerprint: str) -> None:
        """Writes the name that the session has now."""
        self._put_alias(name, fingerprint, ALIAS)

    def preceded(self, name: str, fingerprint: str) -> None:
        """Writes a name that the session had."""
        self._put_alias(name, fingerprint, FORMER)

    def _put_alias(self, name: str, fingerprint: str, seconds: float) -> None:
        self._records.note_alias(name, fingerprint)
        write = partial(self._records.put_alias, name, fingerprint, seconds)
        self._outbox.put(f"alias:{name}", "name", write)

    def renewed(self, fingerprint: str, name: str) -> None:
        """Sends that a token which an upstream has rejected has a successor in the store.

        `name` is that of the successor: many requests find the same one.
        """
        key = f"{fingerprint} {name}"
        if key not in self._renewed:
            self._renewed.put(key, None)
            message = Message("renewed", fingerprint)
            self._outbox.put(f"renewed:{key}", "name", partial(self._records.publish, message))

    def rotated(self, name: str, earlier: tuple[str, ...]) -> None:
        """Sends the earlier names, which a logout ends as well."""
        message = Message("rotated", name, earlier=earlier)
        self._outbox.put(f"rotated:{name}", "name", partial(self._records.publish, message))

    # -- evidence ---------------------------------------------------------------------------------

    def accepted(self, fingerprint: str) -> None:
        """Writes that an upstream has accepted a session, within a budget."""
        if self.acceptances.take(self._now()):
            self._outbox.try_once(partial(self._records.put_accepted, fingerprint))
