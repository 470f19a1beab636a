"""Which Set-Cookie values of an upstream may pass, and which sessions they end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sidecar.core.cookies import (
    CookieJar,
    is_expiring,
    set_cookie_name,
    takes_away,
    with_set_cookies,
)
from sidecar.core.view import OpenedSession, SessionView, ViewReader
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.listener import NOBODY, SessionListener
from sidecar.sessions.names import SessionNames
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.tombstones import Tombstone

MOST_HANDED_OUT: Final = 8  # tokens of dead sessions in one response; an API gives one or two


class SetCookies:
    """Judges the session cookies that upstreams set and expire."""

    __slots__ = ("_directory", "_names", "_reader", "_revocations", "listener")

    def __init__(
        self,
        reader: ViewReader,
        names: SessionNames,
        directory: SessionDirectory,
        revocations: Revocations,
    ) -> None:
        self._reader: Final = reader
        self._names: Final = names
        self._directory: Final = directory
        self._revocations: Final = revocations
        self.listener: SessionListener = NOBODY

    def is_session_cookie(self, set_cookie: bytes) -> bool:
        """Returns whether a Set-Cookie value names a session cookie.

        Names are compared as those of a Cookie header are (`CookieJar.named`): what an application
        would find by trimming more than RFC 6265 allows must not be set either.
        """
        return self._reader.names.matches(set_cookie_name(set_cookie).strip())

    # -- sessions that begin ----------------------------------------------------------------------

    def admit(
        self, cookies: Sequence[bytes], view: SessionView, began: float, now: float
    ) -> list[bytes]:
        """Returns the Set-Cookie values that may pass if an upstream may set session cookies.

        No response to a request that presented a session and began before its logout sets a session
        cookie, whatever is in it: it may be the same session with rotated tokens, which are revoked
        then as well. A dead credential stays dead, unless the request began after the logout and
        did not present it: then it was handed out again. A session whose tokens were renewed
        meanwhile does not pass either: a late response would put old ones back.
        """
        if not any(map(self.is_session_cookie, cookies)):
            return list(cookies)
        died = self._revocations.died_since(view, began, now)
        if died is not None:
            for session in self._handed_out(cookies, now):
                names = (session.fingerprint, *self._names.credentials(session.reading))
                self._revocations.revoke_names(died, names)
            return [
                one for one in cookies if not self.is_session_cookie(one) or is_expiring(one, now)
            ]
        refused: set[str] = set()
        for session in self._handed_out(cookies, now):
            if self._may_pass(session, view, began, now):
                self._note_generation(session, view, now)
                if not session.is_sealed:
                    self._revocations.evidence.accept(session.fingerprint)  # an upstream sets it
            else:
                refused.update(session.reading.names)
        return [cookie for cookie in cookies if set_cookie_name(cookie) not in refused]

    def hand_out(
        self,
        credentials: Iterable[str],
        view: SessionView,
        began: float,
        now: float,
        *,
        is_repeated: Callable[[str], bool],
    ) -> None:
        """Notes the credentials that a response hands out in its body.

        An API may give the token again that a logout has ended, and a page may set its cookie with
        it. It lives again then, as if the response had set the cookie. But not if the request held
        it (`is_repeated`).
        """
        for credential, fingerprint, tombstone in islice(
            self._handed_out_again(credentials, view, began, now), MOST_HANDED_OUT
        ):
            if not is_repeated(credential):
                self._revocations.reinstate(fingerprint, tombstone)

    def _handed_out_again(
        self, credentials: Iterable[str], view: SessionView, began: float, now: float
    ) -> Iterator[tuple[str, str, Tombstone]]:
        """The credentials of sessions that had died before the request, which presents none."""
        tombstones = self._revocations.tombstones
        for credential in credentials:
            fingerprint = self._names.dead_session(credential)
            tombstone = None if fingerprint is None else tombstones.of(fingerprint, now)
            if fingerprint is None or tombstone is None or view.presents(fingerprint):
                continue
            if began > tombstone.since:
                yield credential, fingerprint, tombstone

    def _may_pass(
        self, session: OpenedSession, view: SessionView, began: float, now: float
    ) -> bool:
        """Whether a session that a response sets is alive, or may live again."""
        if self._directory.is_spent(session.reading):
            return False
        fingerprint = session.fingerprint
        tombstone = self._revocations.tombstones.of(fingerprint, now)
        if tombstone is None:
            if not view.presents(fingerprint):
                names = (fingerprint, *self._names.credentials(session.reading))
                self.listener.handed_out(tuple(dict.fromkeys(names)), began)
            return True
        if began <= tombstone.since or view.presents(fingerprint):
            return False
        self._revocations.reinstate(fingerprint, tombstone)
        return True

    def _note_generation(self, session: OpenedSession, view: SessionView, now: float) -> None:
        """Notes what a session was before that its application has sealed again.

        Without a token it goes on under its name. With rotated tokens it is a later generation: its
        logout ends the earlier ones, but a 401 for an earlier one does not end it.
        """
        name, after = session.fingerprint, session.reading
        for before in view.sessions:
            if before.source != session.source or before.fingerprint == name:
                continue
            if self._revocations.is_dead(before.fingerprint, now) or after.identity is not None:
                continue
            if after.is_resealed_from(before.reading):
                self._directory.succeed(name, before.fingerprint)
                self.listener.succeeded(name, before.fingerprint)
            elif after.has_rotated_from(before.reading):
                earlier = self._names.rotated_from(before.fingerprint)
                self._revocations.rotate(name, earlier)
                self.listener.rotated(name, earlier)

    def _handed_out(self, cookies: Sequence[bytes], now: float) -> Iterator[OpenedSession]:
        """The sessions in Set-Cookie values: in each one, and in the chunks together."""
        texts = [_pair(cookie) for cookie in cookies if self.is_session_cookie(cookie)]
        if len(texts) > 1:
            texts.append("; ".join(texts))
        for text in texts:
            yield from self._reader.opened(CookieJar.parse(text), now, self._names.fingerprint_of)

    # -- sessions that end ------------------------------------------------------------------------

    def ended_by(
        self,
        cookies: Sequence[bytes],
        view: SessionView,
        now: float,
        *,
        domains: Collection[str] = (),
        paths: Collection[str] = (),
    ) -> list[OpenedSession]:
        """Returns the living sessions presented that a response's Set-Cookie values take away.

        Expiring a piece is not enough: a session that grows or shrinks changes its chunks. What
        the browser presents next must hold no session of that source any more, and the response
        must not set another one. `domains` and `paths` are where the cookies may have been set.
        """
        gone = {set_cookie_name(one) for one in cookies if takes_away(one, now, domains, paths)}
        candidates = [
            one
            for one in self._revocations.living(view, now)
            if not gone.isdisjoint(one.reading.names)
        ]
        if not candidates or view.key is None:
            return []
        set_anew = {set_cookie_name(one) for one in cookies if not is_expiring(one, now)} - gone
        header = view.key[0].decode("latin-1")
        after = CookieJar.parse(with_set_cookies(header, cookies, now))
        left = {one.source for one in self._reader.opened(after, now, self._names.fingerprint_of)}
        handles = {one.fingerprint for one in self._reader.handles(after)}
        return [
            one
            for one in candidates
            if one.source not in left
            and one.fingerprint not in handles
            and not any(map(self._reader.matchers[one.source].matches, set_anew))
        ]


def _pair(set_cookie: bytes) -> str:
    """The name and value that a browser presents, without the `=` that hides a name."""
    return set_cookie.partition(b";")[0].lstrip(b" \t=").decode("latin-1")
