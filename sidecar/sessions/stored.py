"""Login sessions in the store, which are found there by the provider's names for them.

Keys: `own:` under its fingerprint a session that is not in its cookie; `sub:`, `sid:` and `email:`
the sessions of a user, of a provider's session and of an email, under keyed hashes; `jti:` that a
logout token has been used (`sidecar.core.oidc.session_index.SessionIndex`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.login_session import LoginSession, store_key
from sidecar.core.oidc.session_index import IndexEntry, sessions_in, with_session
from sidecar.sessions.entries import read_entry

if TYPE_CHECKING:
    from sidecar.net.store import Store
    from sidecar.policy import LoginPolicy

ATTEMPTS: Final = 20  # to change an entry that others change as well

_BEGUN: Final = b"begun"
_DONE: Final = b"done"


class StoredLogins:
    """What the store holds of login sessions. Every method raises `StoreUnavailable`."""

    def __init__(self, login: LoginPolicy, store: Store, now: Callable[[], float]) -> None:
        self._index: Final = login.index
        self.source: Final = login.source
        self.is_stored: Final = login.is_stored
        self._store: Final = store
        self._now: Final = now

    # -- sessions in the store ------------------------------------------------------------------

    async def begin(self, session: LoginSession) -> None:
        """Writes a new session: the session itself if the store keeps it, and the names it is found
        by.

        Its names are written first: a session that could not be ended must not begin.
        """
        for key in self._names(session):
            await self._enter(key, self._entry(session))
        if self.is_stored:
            seconds = self._seconds_left(session)
            await self._store.put(store_key(session.fingerprint), session.to_bytes(), seconds)

    async def restore(self, session: LoginSession) -> None:
        """Writes down a session that a store may have lost, or have with older tokens."""
        for name in self._names(session):
            await self._enter(name, self._entry(session))
        if not self.is_stored:
            return
        key, seconds = store_key(session.fingerprint), self._seconds_left(session)
        for _ in range(ATTEMPTS):
            stored = await self._store.get(key)
            if stored is None:
                is_written = await self._store.add(key, session.to_bytes(), seconds)
            elif _read(stored).tokens.generation >= session.tokens.generation:
                return
            else:
                is_written = await self._store.replace(key, stored, session.to_bytes(), seconds)
            if is_written:
                return
        raise StoreUnavailable("a session changes too often to be written")

    async def note_email(self, session: LoginSession) -> None:
        """Writes down a session under the email that it has got by a renewal."""
        for key in self._names(session)[-1:] if session.email else ():
            await self._enter(key, self._entry(session))

    def _names(self, session: LoginSession) -> tuple[str, ...]:
        """The keys that a session is found by."""
        return self._index.written(session.subject, session.sid, session.email)

    def _entry(self, session: LoginSession) -> IndexEntry:
        """What stands under these keys."""
        end = session.absolute_end(self.source.lifetimes)
        return IndexEntry(session.fingerprint, end, session.sid is not None)

    def _seconds_left(self, session: LoginSession) -> float:
        return session.idle_ends_at(self.source.lifetimes) - self._now()

    async def get(self, fingerprint: str) -> LoginSession | None:
        """The session of this name; None if it has ended."""
        stored = await self._store.get(store_key(fingerprint))
        return None if stored is None else _read(stored)

    async def change(
        self, fingerprint: str, change: Callable[[LoginSession], LoginSession]
    ) -> LoginSession | None:
        """Exchanges a session for what `change` makes of it; None if it has ended.

        So a session that is ended meanwhile does not come back.
        """
        key = store_key(fingerprint)
        for _ in range(ATTEMPTS):
            stored = await self._store.get(key)
            if stored is None:
                return None
            old = _read(stored)
            new = change(old)
            new = self.source.fitting(new) or new
            if new == old or await self._store.replace(
                key, stored, new.to_bytes(), self._seconds_left(new)
            ):
                return new
        raise StoreUnavailable("a session changes too often to be written")

    async def drop(self, fingerprint: str) -> None:
        """Removes a session."""
        await self._store.remove(store_key(fingerprint))

    # -- by the provider's names ----------------------------------------------------------------

    async def find(self, subject: str | None, sid: str | None) -> list[IndexEntry]:
        """The sessions of the provider's session if one is named, else of the user.

        With both, also those of the user that the provider has not named.
        """
        found: dict[str, IndexEntry] = {}
        for key in self._index.sought(subject, sid):
            for one in _entries(await self._store.get(key), self._now()):
                found[one.fingerprint] = one
        for key in self._index.sought_unnamed(subject, sid):
            for one in _entries(await self._store.get(key), self._now()):
                if not one.has_sid:
                    found[one.fingerprint] = one
        return list(found.values())

    async def find_email(self, email: str) -> list[IndexEntry]:
        """The sessions of everybody who has this email (`access.folded_email`), or had it here."""
        found = {
            one.fingerprint: one
            for key in self._index.sought_email(email)
            for one in _entries(await self._store.get(key), self._now())
        }
        return list(found.values())

    async def _enter(self, key: str, entry: IndexEntry) -> None:
        """The key stays for as long as one of its sessions, which need not be the newest entry."""
        for _ in range(ATTEMPTS):
            now = self._now()
            stored = await self._store.get(key)
            try:
                value = with_session(stored, entry, now)
            except (ValueError, RecursionError):
                value = with_session(None, entry, now)  # a login is the way out of a broken one
            ends = [one.ends_at for one in sessions_in(value, now)]
            seconds = max(ends, default=entry.ends_at) - now
            if stored is None:
                is_written = await self._store.add(key, value, seconds)
            else:
                is_written = await self._store.replace(key, stored, value, seconds)
            if is_written:
                return
        raise StoreUnavailable("a user's sessions change too often to be written")

    # -- logout tokens --------------------------------------------------------------------------

    async def is_used(self, jti: str, ends_at: float) -> bool:
        """Whether a logout token has been used; from now on it is being used.

        A token whose use was never finished may come again: otherwise trouble would prevent the
        logout.
        """
        key = self._index.replayed(jti)
        if await self._store.add(key, _BEGUN, ends_at - self._now()):
            return False
        return await self._store.get(key) == _DONE

    async def use_up(self, jti: str, ends_at: float) -> None:
        """A logout token has been used to its end."""
        await self._store.put(self._index.replayed(jti), _DONE, ends_at - self._now())


def _read(stored: bytes) -> LoginSession:
    return read_entry(stored, LoginSession.from_bytes)


def _entries(stored: bytes | None, now: float) -> list[IndexEntry]:
    return read_entry(stored or b"", lambda entry: sessions_in(entry, now))
