"""One name of a token among processes, while a secret is rotated from one to the next.

A name is a keyed hash, and each process makes it with the first of its secrets. During a rotation
that is another one here and there, so that two processes would each exchange the same refresh
token. Therefore an entry stands under the names that all listed secrets give it: two lists of one
rotation have a secret in common, and so a key at which they meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.core.tickets import Signer
from sidecar.net.store import Cancel, MessageListener, Receive, Store
from sidecar.sessions.bounds import Latest

KNOWN: Final = 10_000  # tokens whose other names are remembered; a name is made just before its use


class RotatingStore:
    """Another store, with each entry of a token under all its names. Raises what that one raises.

    With a single secret there is no other name, and every operation passes as it is.
    """

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store: Final = store
        self._signer: Final = signer
        self._others: Final = Latest[tuple[str, ...]](KNOWN)

    def name_of(self, token: str) -> str:
        """Returns the name of a token, to make keys of."""
        name = self._signer.fingerprint(token)
        others = self._signer.former_fingerprints(token)
        if others:
            self._others.put(name, tuple(others))
        return name

    def _keys(self, key: str) -> list[str]:
        """The keys that an entry stands under, in the order that all processes take them in."""
        if not self._others:
            return [key]
        parts = key.split(":")
        known = [(at, self._others.get(part)) for at, part in enumerate(parts)]
        at, others = next(((at, found) for at, found in known if found), (0, ()))
        return sorted([key, *(":".join([*parts[:at], one, *parts[at + 1 :]]) for one in others)])

    async def get(self, key: str) -> bytes | None:
        for one in self._keys(key):
            value = await self._store.get(one)
            if value is not None:
                return value
        return None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        for one in self._keys(key):
            await self._store.put(one, value, seconds)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Writes under all names, or under none: who comes second finds one of them taken."""
        written: list[str] = []
        for one in self._keys(key):
            if not await self._store.add(one, value, seconds):
                for again in written:
                    await self._store.remove(again, value)
                return False
            written.append(one)
        return True

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Returns whether it stood under all names."""
        made = [await self._store.replace(one, old, new, seconds) for one in self._keys(key)]
        return all(made)

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        made = [await self._store.remove(one, value) for one in self._keys(key)]
        return any(made)

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        whole = {one: value for key, value in entries.items() for one in self._keys(key)}
        await self._store.put_all(whole, seconds, message)

    async def publish(self, message: bytes) -> None:
        await self._store.publish(message)

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        return await self._store.subscribe(receive, listener)

    async def ping(self) -> None:
        await self._store.ping()

    async def close(self) -> None:
        """The other store is its owner's to close."""
