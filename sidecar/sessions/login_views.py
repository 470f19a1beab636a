"""Login sessions as requests see them: kept in the store, or sealed in cookies."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sidecar.core.attributes import Scope
from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.login_session import Handle, LoginReading, LoginSession
from sidecar.core.token_set import TokenSet
from sidecar.core.view import SessionView
from sidecar.net.store.outbox import Outbox
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.local import LocalSessions
from sidecar.sessions.refresher import Refresher
from sidecar.sessions.stored import StoredLogins


class LoginViews:
    """Views of login sessions: loaded from the store, and written there as they change.

    `is_doubtful` says whether the store may have lost writes just now, so that what it does not
    have proves nothing.
    """

    def __init__(
        self,
        local: LocalSessions,
        stored: StoredLogins,
        refresher: Refresher | None,
        *,
        outbox: Outbox,
        is_doubtful: Callable[[], bool],
        now: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._local: Final = local
        self._stored: Final = stored
        self._refresher: Final = refresher
        self._outbox: Final = outbox
        self._is_doubtful: Final = is_doubtful
        self._now: Final = now
        self._spawn: Final = spawn

    def has_stored(self, view: SessionView) -> bool:
        """Returns whether the request's session is one that is kept in the store."""
        return self._stored.is_stored and isinstance(view.reading, LoginReading)

    async def load(
        self, view: SessionView, directory: SessionDirectory | None = None
    ) -> SessionView:
        """Returns the view with the login session that the store holds, if it holds any.

        `directory` is where it is remembered, if not in this process. Raises `StoreUnavailable`.
        """
        directory = directory or self._local.directory
        for handle in view.handles:
            session = await self._stored.get(handle.fingerprint)
            if session is not None:
                found = directory.adopt(view, handle, session, self._now())
                if found is not None:
                    return found
        if not all(self._is_dead(one.fingerprint) for one in view.handles):
            self._check_doubt()
        return directory.not_found(view, self._now())

    async def reload(self, view: SessionView) -> SessionView:
        """Returns a session as the store has it now; expired if it has ended there.

        Raises `StoreUnavailable`.
        """
        assert view.fingerprint is not None
        session = await self._stored.get(view.fingerprint)
        if session is None and not self._is_dead(view.fingerprint):
            self._check_doubt()
        return self._adopted(view, session)

    async def rewrite(self, view: SessionView, tokens: TokenSet) -> SessionView:
        """Returns a session with new tokens, which are written to the store.

        If it is down, they are written later; until then they are found by the old ones
        (`sidecar.sessions.succession`).
        """
        reading = view.reading
        assert isinstance(reading, LoginReading)
        assert reading.session is not None
        name = reading.session.fingerprint
        write = partial(self._stored.change, name, partial(_with_newer, tokens))
        try:
            session = await write()
        except StoreUnavailable:
            self._outbox.put(f"own:{name}", "session", write)
            session = reading.session.renewed(tokens)
        return self._adopted(view, session)

    def note_email(self, view: SessionView, tokens: TokenSet) -> None:
        """Has a login session found by the email that these tokens bring, if it is another one."""
        reading = view.reading
        if not isinstance(reading, LoginReading) or reading.session is None:
            return
        session = reading.session.renewed(tokens)
        if session.email not in (None, reading.session.email):
            write = partial(self._stored.note_email, session)
            self._outbox.put(f"email:{session.fingerprint}", "name", write)

    def touch(self, view: SessionView, scope: Scope, now: float) -> SessionView:
        """Notes the use of a login session: in the store behind the request, or by a cookie."""
        stored, reading = self._stored, view.reading
        assert isinstance(reading, LoginReading)
        assert reading.session is not None
        if not stored.is_stored:
            return self._local.directory.touched(view, scope, now)
        renews_at = reading.session.touched(now).touch_due_at(stored.source.lifetimes)
        if reading.tokens is not None and self._refresher is not None:
            renews_at = min(renews_at, self._refresher.due_at(reading.tokens))
        self._spawn(self._write_use(reading.session.fingerprint, now))
        return self._local.directory.postponed(view, renews_at)

    async def _write_use(self, fingerprint: str, now: float) -> None:
        with suppress(StoreUnavailable):  # then the next use is noted
            await self._stored.change(fingerprint, lambda session: session.touched(now))
            self._local.directory.invalidate(fingerprint)

    def _adopted(self, view: SessionView, session: LoginSession | None) -> SessionView:
        reading = view.reading
        assert isinstance(reading, LoginReading)
        assert reading.session is not None
        assert reading.cookie is not None
        adopted = None
        if session is not None:
            handle = Handle(reading.cookie, reading.session.id, session.fingerprint)
            adopted = self._local.directory.adopt(view, handle, session, self._now())
        return adopted or self._local.directory.supersede(view)

    def _is_dead(self, fingerprint: str) -> bool:
        return self._local.revocations.is_dead(fingerprint, self._now())

    def _check_doubt(self) -> None:
        """Raises `StoreUnavailable` if what the store does not have may be written once more."""
        if self._is_doubtful():
            raise StoreUnavailable("the store may have lost what is looked for")


def _with_newer(tokens: TokenSet, session: LoginSession) -> LoginSession:
    """The session with these tokens, unless it has newer ones already."""
    is_older = tokens.generation < session.tokens.generation
    return session if is_older else session.renewed(tokens)
