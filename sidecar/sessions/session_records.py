"""What processes keep of sessions in the store, and the messages that they send each other.

Keys under a session's fingerprint, or under the name of one of its credentials: `dead:` its
tombstone. Under the fingerprint alone: `accepted:` an upstream has accepted the credential of a
plain session. Under the name of a credential: `alias:` the fingerprint of its session. Login
sessions have entries of their own (`sidecar.sessions.stored`), and so have refresh tokens
(`sidecar.sessions.succession`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from sidecar.core.formats.ended import EndedNames
from sidecar.core.proof import Proof
from sidecar.net.store import Store
from sidecar.sessions.bounds import Latest
from sidecar.sessions.entries import read_entry, text_of
from sidecar.sessions.tombstones import Tombstone

ALIAS: Final = 30 * 86400.0  # seconds that a renewed credential is known as its session's
FORMER: Final = 86400.0  # the same of one that has been renewed
ALIASES: Final = 10_000  # that are remembered here for a store that loses its data
ACCEPTED: Final = 86400.0  # seconds for which others know that a session was accepted
AT_ONCE: Final = 32  # writes under way while lost entries are written again


class Message(msgspec.Struct):
    """A message from one process to the others.

    `what`: dead, alive, refused, renewed, rotated, restored or ended. `gate` is of a refusal, empty
    if it is not about one route; `names` are of what has ended.
    """

    what: str
    fingerprint: str
    tombstone: Tombstone | None = msgspec.field(default=None, name="tomb")  # as it is stored
    earlier: tuple[str, ...] = ()
    gate: str = ""
    names: EndedNames | None = None

    def to_bytes(self) -> bytes:
        """Returns the message as it is stored and sent."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> Message | None:
        """Returns a message that was read, or None if it is of another version."""
        try:
            return _read_message(data)
        except (ValueError, RecursionError):
            return None


def _read_message(data: bytes) -> Message:
    return msgspec.json.decode(data, type=Message)


def _read_death(data: bytes) -> tuple[str, Tombstone]:
    message = _read_message(data)
    if message.tombstone is None:
        raise ValueError("it has no tombstone")
    return message.fingerprint, message.tombstone


class SessionRecords:
    """The entries of sessions in the store. Every `async` method raises `StoreUnavailable`."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store: Final = store
        self._now: Final = now
        self._aliases: Final = Latest[str](ALIASES)

    # -- revocations ------------------------------------------------------------------------------

    async def death(self, name: str) -> tuple[str, Tombstone] | None:
        """Returns the dead session that a name is of, with its tombstone."""
        stored = await self._store.get(f"dead:{name}")
        return None if stored is None else read_entry(stored, _read_death)

    async def put_death(self, fingerprint: str, tombstone: Tombstone, *, is_told: bool) -> None:
        """Writes a tombstone. `is_told`: the other processes are notified at once."""
        seconds = tombstone.until - self._now()
        entry = Message("dead", fingerprint, tombstone).to_bytes()
        keys = [f"dead:{name}" for name in (fingerprint, *tombstone.credentials)]
        if tombstone.proof is Proof.NONE:  # what others have written of it for longer stays
            for key in keys:
                await self._store.add(key, entry, seconds)
            keys = []
        await self._store.put_all(dict.fromkeys(keys, entry), seconds, entry if is_told else None)

    async def remove_death(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Removes a tombstone."""
        for name in (fingerprint, *tombstone.credentials):
            await self._store.remove(f"dead:{name}")

    # -- names ------------------------------------------------------------------------------------

    async def alias(self, name: str) -> str | None:
        """Returns the fingerprint of the session that a credential is a later one of."""
        stored = await self._store.get(f"alias:{name}")
        return None if stored is None else read_entry(stored, text_of)

    def note_alias(self, name: str, fingerprint: str) -> None:
        """Remembers an alias here, for a store that loses its data; bounded in number."""
        self._aliases.put(name, fingerprint)

    async def put_alias(self, name: str, fingerprint: str, seconds: float) -> None:
        """Writes an alias."""
        await self._store.put(f"alias:{name}", fingerprint.encode(), seconds)

    async def restore_aliases(self) -> None:
        """Writes all aliases that are remembered here."""
        await in_turn(
            partial(self.put_alias, name, fingerprint, FORMER)
            for name, fingerprint in tuple(self._aliases.items())
        )

    # -- evidence ---------------------------------------------------------------------------------

    async def is_accepted(self, fingerprint: str) -> bool:
        """Returns whether an upstream has accepted a session's credential elsewhere."""
        return await self._store.get(f"accepted:{fingerprint}") is not None

    async def put_accepted(self, fingerprint: str) -> None:
        """Writes that an upstream has accepted a session's credential."""
        await self._store.put(f"accepted:{fingerprint}", b"", ACCEPTED)

    # -- messages ---------------------------------------------------------------------------------

    async def publish(self, message: Message) -> None:
        """Sends a message to all processes."""
        await self._store.publish(message.to_bytes())


async def in_turn(writes: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Makes many writes, some at a time. Raises `StoreUnavailable`."""
    left = iter(writes)
    while batch := tuple(islice(left, AT_ONCE)):
        await asyncio.gather(*(write() for write in batch))
