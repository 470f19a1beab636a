"""Encrypts what a store keeps, so that an attacker who reads or writes the store gains nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.core.errors import StoreUnavailable
from sidecar.core.keys import derive_key
from sidecar.net.store.base import LIMIT, Cancel, MessageListener, Receive, Report, Store, guarded

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12  # random: fine for 2^32 values a secret (NIST SP 800-38D 8.3)
_ATTEMPTS: Final = 20
_MESSAGE: Final = b"message"


class SealedStore:
    """Values and messages in AES-256-GCM; the first secret seals, all of them open.

    A value is bound to its key, so none passes for another one's. (An older value of the same key
    can be put back by who may write to the store; nothing here can notice that.)

    A value that does not open was written with another secret, or was tampered with. Taken for
    absent it would log a user out, or free a lock, without a word; so reading and comparing it
    raise `StoreUnavailable`. `put` and `remove` without a value work, so that a logout and a new
    login are the way out, and an entry ends when its time is over. A message that does not open
    is dropped and reported.
    """

    def __init__(
        self,
        store: Store,
        secrets: Sequence[bytes],
        report: Report,
        *,
        limit: float = LIMIT,
        not_opened: Callable[[], None] = lambda: None,
    ) -> None:
        """`not_opened` is called for each value or message that does not open."""
        self._store = store
        self._report = report
        self._limit = limit
        self._ciphers: Final = tuple(AESGCM(derive_key(secret, "store")) for secret in secrets)
        self._not_opened = not_opened
        self._told = False

    async def get(self, key: str) -> bytes | None:
        sealed = await self._store.get(key)
        return None if sealed is None else self._open_value(key, sealed)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        await self._store.put(key, self._seal_value(key, value), seconds)

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        sealed = None if message is None else self._seal(message, _MESSAGE)
        values = {key: self._seal_value(key, value) for key, value in entries.items()}
        await self._store.put_all(values, seconds, sealed)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        return await self._store.add(key, self._seal_value(key, value), seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        async with guarded(self._limit, _explain):
            for _ in range(_ATTEMPTS):
                sealed = await self._sealed_as(key, old)
                if sealed is None:
                    return False
                if await self._store.replace(key, sealed, self._seal_value(key, new), seconds):
                    return True
        raise StoreUnavailable("an entry changes too often to be replaced")

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        if value is None:
            return await self._store.remove(key)
        async with guarded(self._limit, _explain):
            for _ in range(_ATTEMPTS):
                sealed = await self._sealed_as(key, value)
                if sealed is None:
                    return False
                if await self._store.remove(key, sealed):
                    return True
        raise StoreUnavailable("an entry changes too often to be removed")

    async def publish(self, message: bytes) -> None:
        await self._store.publish(self._seal(message, _MESSAGE))

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        def receive_sealed(sealed: bytes) -> None:
            message = self._open(sealed, _MESSAGE)
            if message is not None:
                self._told = False
                receive(message)
            elif not self._told:
                self._told = True
                self._report(
                    "messages in the store do not open: another secret is in use there, or they"
                    " were tampered with"
                )

        return await self._store.subscribe(receive_sealed, listener)

    async def ping(self) -> None:
        await self._store.ping()

    async def close(self) -> None:
        await self._store.close()

    async def _sealed_as(self, key: str, value: bytes) -> bytes | None:
        """What is stored, if that is `value`.

        The same value sealed twice differs, so what others wrote meanwhile makes a comparison in
        the store fail even if the value is the same; then it is tried again.
        """
        sealed = await self._store.get(key)
        if sealed is None or self._open_value(key, sealed) != value:
            return None
        return sealed

    def _seal_value(self, key: str, value: bytes) -> bytes:
        return self._seal(value, _bound_to(key))

    def _open_value(self, key: str, sealed: bytes) -> bytes:
        value = self._open(sealed, _bound_to(key))
        if value is None:
            raise StoreUnavailable(
                "an entry does not open: it was written with another secret, or tampered with"
            )
        return value

    def _seal(self, value: bytes, bound_to: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._ciphers[0].encrypt(nonce, value, bound_to)

    def _open(self, sealed: bytes, bound_to: bytes) -> bytes | None:
        head = len(_FORMAT) + _NONCE_BYTES
        if sealed.startswith(_FORMAT) and len(sealed) > head:
            nonce = sealed[len(_FORMAT) : head]
            for cipher in self._ciphers:
                with suppress(InvalidTag):
                    return cipher.decrypt(nonce, sealed[head:], bound_to)
        self._not_opened()
        return None


def _bound_to(key: str) -> bytes:
    return b"value " + key.encode()


def _explain(error: Exception) -> str:
    return f"sealing: {type(error).__name__}"
