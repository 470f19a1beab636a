"""Which sessions are dead, and what ends with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakSet

from sidecar.core.credential import Reading, Result
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.token_set import TokenSet
from sidecar.core.view import OpenedSession, SessionView
from sidecar.sessions.evidence import Evidence
from sidecar.sessions.listener import NOBODY, SessionListener
from sidecar.sessions.names import SessionNames
from sidecar.sessions.tombstones import Tombstone, Tombstones
from sidecar.sessions.view_cache import ViewCache

UNKNOWN_LIFETIME: Final = 30 * 86400.0  # a credential that does not say when it ends


class _Common:
    """What is one for all configurations that requests are still served with.

    `caches` are those of their views, `closers` what ends with a session.
    """

    __slots__ = ("caches", "closers", "revision")

    def __init__(self) -> None:
        self.caches: Final[WeakSet[ViewCache]] = WeakSet()  # a cache goes with its configuration
        self.closers: Final[dict[tuple[str, str], set[Callable[[], None]]]] = {}
        self.revision = 0


class Revocations:
    """The dead sessions of one process. Times are Unix seconds, given by the caller.

    `revision` grows with each revocation and reinstatement: a plan with another one is out of date.
    """

    __slots__ = (
        "_common",
        "evidence",
        "listener",
        "names",
        "tombstones",
    )

    def __init__(
        self,
        tombstones: Tombstones,
        names: SessionNames,
        cache: ViewCache,
        evidence: Evidence,
        before: Revocations | None = None,
    ) -> None:
        """`before` are those of the configuration that held until now.

        What is attached to a session there ends with it here too, and what dies here or there is
        forgotten by both.
        """
        self.tombstones: Final = tombstones
        self.evidence: Final = evidence
        self.listener: SessionListener = NOBODY
        self.names: Final = names
        self._common: Final[_Common] = _Common() if before is None else before._common
        self._common.caches.add(cache)

    @property
    def revision(self) -> int:
        """How often sessions were revoked and reinstated."""
        return self._common.revision

    # -- questions --------------------------------------------------------------------------------

    def is_dead(self, fingerprint: str | None, now: float) -> bool:
        """Returns whether a session has ended here; its replayed cookie is refused."""
        if fingerprint is None:
            return False
        dead = self.tombstones.dead_session(fingerprint)  # it may have another name by now
        return dead is not None and self.tombstones.of(dead, now) is not None

    def live_fingerprint(self, view: SessionView, now: float) -> str | None:
        """Returns the fingerprint of a view's session if it lives and has a credential."""
        if not view.has_credential or self.is_dead(view.fingerprint, now):
            return None
        return view.fingerprint

    def living(self, view: SessionView, now: float) -> list[OpenedSession]:
        """Returns the sessions presented that are alive."""
        return [one for one in view.sessions if not self.is_dead(one.fingerprint, now)]

    def has_lost(self, view: SessionView, now: float) -> bool:
        """Returns whether a session has died since the view was made."""
        return any(self.is_dead(fingerprint, now) for fingerprint in view.living)

    def died_since(self, view: SessionView, began: float, now: float) -> str | None:
        """Returns the fingerprint of a session presented that has ended since `began`."""
        for one in view.sessions:
            fingerprint = self.names.fingerprint_of(one.reading) or one.fingerprint
            died_at = self.tombstones.died_at(fingerprint, now)
            if died_at is not None and died_at >= began:
                return fingerprint
        return None

    # -- revocation -------------------------------------------------------------------------------

    def revoke(self, session: OpenedSession, now: float) -> None:
        """Revokes a session for as long as its credential could be presented.

        That is no less than `UNKNOWN_LIFETIME`, since a frontend re-seals one credential into
        cookies that end later; only a login session says when it ends. A second revocation does not
        move the first: a login that began in between would count as a response from before the
        logout.
        """
        fingerprint, reading = session.fingerprint, session.reading
        before = self.tombstones.of(fingerprint, now)
        names = {
            fingerprint,
            *self.names.credentials(reading),
            *self.names.content(reading),
        }
        names |= {earlier for name in names for earlier in self.names.earlier(name)}
        names.remove(fingerprint)
        proof = self.evidence.of(session)
        since = now if before is None else before.since
        until = _presentable_until(reading, now)
        tombstone = Tombstone(since, until, tuple(sorted(names)), proof)
        is_news = (
            before is None
            or proof > before.proof
            or self.tombstones.with_names(fingerprint, names) is not None
        )
        if is_news:
            self.listener.revoked(fingerprint, tombstone)
        self.mark_revoked(fingerprint, tombstone)

    def revoke_tokens(self, fingerprint: str, tokens: TokenSet) -> None:
        """Revokes tokens that turn out to be a dead session's."""
        reading = Reading(Result.OK, token=tokens.access_token, tokens=tokens)
        self.revoke_names(fingerprint, self.names.credentials(reading))

    def revoke_names(self, fingerprint: str, names: Iterable[str]) -> None:
        """Revokes further names of a dead session."""
        tombstone = self.tombstones.with_names(fingerprint, names)
        if tombstone is None:
            return
        self.listener.revoked(fingerprint, tombstone)
        self.mark_revoked(fingerprint, tombstone)

    def learn(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Marks a session that another process has revoked, with its earlier names known here."""
        self.mark_revoked(fingerprint, tombstone)
        names = (fingerprint, *tombstone.credentials)
        self.revoke_names(fingerprint, [one for name in names for one in self.names.earlier(name)])

    def mark_revoked(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Marks a session as dead in this process alone, and closes what lives with it."""
        tombstone = self.tombstones.put(fingerprint, tombstone)
        self._invalidate((fingerprint, *tombstone.credentials))
        for name in (fingerprint, *tombstone.credentials):
            self.close_attached(name)

    def reinstate(self, fingerprint: str, tombstone: Tombstone) -> None:
        """Takes the tombstone of a session away, whose credential was handed out again."""
        self.mark_reinstated(fingerprint)
        self.listener.reinstated(fingerprint, tombstone)

    def mark_reinstated(self, fingerprint: str) -> None:
        """Takes a tombstone away in this process alone."""
        tombstone = self.tombstones.lift(fingerprint)
        self._invalidate(() if tombstone is None else (fingerprint, *tombstone.credentials))

    def _invalidate(self, names: tuple[str, ...]) -> None:
        """Forgets what is remembered of sessions, with every configuration."""
        self._common.revision += 1
        for cache in self._common.caches:
            cache.invalidate_all(names)

    def rotate(self, name: str, earlier: tuple[str, ...]) -> None:
        """Notes the names that a session had before its tokens were rotated, the oldest first."""
        self.names.rotate(name, earlier)
        dead = self.tombstones.dead_session(name)
        if dead is not None:
            self.revoke_names(dead, earlier)

    # -- what ends with a session -----------------------------------------------------------------

    @property
    def attached(self) -> tuple[str, ...]:
        """The sessions that something is attached to."""
        return tuple(fingerprint for fingerprint, gate in self._common.closers if not gate)

    def refuse(self, fingerprint: str, gate: str = "") -> None:
        """Closes what is attached to a session that lives on, here and in other processes.

        Its user is not allowed any more, behind a `gate` (`RouteGate.name`) or, without one, at
        all.
        """
        self.close_attached(fingerprint, gate)
        self.listener.refused(fingerprint, gate)

    def close_attached(self, fingerprint: str, gate: str = "") -> None:
        """Closes what is attached to a session in this process alone."""
        for close in tuple(self._common.closers.get((fingerprint, gate), ())):
            close()

    def attach(self, fingerprint: str, close: Callable[[], None], gate: str = "") -> None:
        """Has `close` called when the session ends, or its user may no longer pass a `gate`.

        WebSockets and event streams are attached so.
        """
        self._common.closers.setdefault((fingerprint, gate), set()).add(close)

    def detach(self, fingerprint: str, close: Callable[[], None], gate: str = "") -> None:
        """Takes back what `attach` did."""
        closers = self._common.closers.get((fingerprint, gate))
        if closers is not None:
            closers.discard(close)
            if not closers:
                del self._common.closers[fingerprint, gate]


def _presentable_until(reading: Reading, now: float) -> float:
    if isinstance(reading, LoginReading) and reading.ends_at is not None:
        return reading.ends_at
    return max(now + UNKNOWN_LIFETIME, reading.valid_until or 0.0)
