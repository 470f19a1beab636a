"""What a logout does besides its response: tokens are revoked and hooks are called.

These tasks neither delay nor fail the response. They are retried, counted and recorded. They run
once for each session, however many requests end it.

Anyone can log out with an invented cookie. So the tasks run in lanes, by the proof of their
session, and no lane delays another one. For a session without proof, each step is tried once,
within a small budget, and nothing is written to the store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.login_session import TYPE as OWN
from sidecar.core.proof import Proof
from sidecar.net.outbound import Outbound
from sidecar.net.outbound_answer import Unreachable
from sidecar.net.provider import Provider
from sidecar.sessions.bounds import Budget, Latest

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config.renewal import Hook
    from sidecar.core.token_set import TokenSet
    from sidecar.core.view import OpenedSession
    from sidecar.net.store import Store
    from sidecar.sessions.local import LocalSessions
    from sidecar.sessions.refresher import Refresher

PAUSES: Final = (1.0, 3.0, 10.0, 30.0)  # seconds before each further attempt
HOOK_SECONDS: Final = 10.0
REMEMBERED: Final = 10_000  # sessions of each lane whose tasks have begun
HOUR: Final = 3600.0
DAY: Final = 86400.0
MiB: Final = 1024 * 1024
COST: Final = 12 * 1024  # bytes of a logout's tasks besides their tokens

_TOLD: Final = {True: "done", False: "failed", None: "none"}


class Room(msgspec.Struct, frozen=True):
    """What a lane has room for.

    `at_once` requests, so that a wave of logouts leaves room for everything else; `max_bytes` of
    logouts that are under way or wait; `burst` and `rate` (a second) of those that may begin.
    `pauses` are the seconds before each further attempt of a step, `noted` those for which the
    store remembers that a session's tasks have begun.
    """

    at_once: int
    max_bytes: int
    burst: float = inf
    rate: float = 0.0
    pauses: tuple[float, ...] = PAUSES
    noted: float = DAY


ROOMS: Final[Mapping[Proof, Room]] = MappingProxyType(
    {
        Proof.VOUCHED: Room(16, 64 * MiB),
        Proof.ACCEPTED: Room(8, 16 * MiB, burst=1_000, rate=20, noted=HOUR),
        Proof.NONE: Room(2, MiB, burst=8, rate=0.2, pauses=(), noted=0),
    }
)

Step = Callable[[], Awaitable[bool | None]]
"""True: done. False: failed, may be tried again. None: there was nothing to do."""


class _Lane:
    """The tasks of sessions that the same speaks for."""

    __slots__ = ("_budget", "begun", "held", "places", "room")

    def __init__(self, room: Room) -> None:
        self.room: Final = room
        self.places: Final = asyncio.Semaphore(room.at_once)
        self._budget: Final = Budget(room.burst, room.rate)
        self.held = 0  # bytes
        # By fingerprint and time of death: whether the session's tokens were known.
        self.begun: Final = Latest[bool](REMEMBERED)

    def enter(self, cost: int) -> bool:
        """Takes what one more needs, if there is room for it; `leave` follows then."""
        now = asyncio.get_running_loop().time()
        if self.held + cost > self.room.max_bytes or not self._budget.take(now):
            return False
        self.held += cost
        return True

    def leave(self, cost: int) -> None:
        self.held -= cost

    async def carry_out(self, step: Step) -> bool | None:
        """Takes a step, more than once if it fails."""
        for pause in (*self.room.pauses, None):
            async with self.places:
                outcome = await step()
            if outcome is not False or pause is None:
                return outcome
            await asyncio.sleep(pause)
        return False


class LogoutTasks:
    """Carries out what follows the end of a session."""

    def __init__(
        self,
        provider: Provider | None,
        refresher: Refresher | None,
        local: LocalSessions,
        store: Store,
        *,
        hooks: Sequence[Hook],
        revokes_all: bool,
        outbound: Outbound,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: FilteringBoundLogger,
        counts: Counter[tuple[str, str]] | None = None,
    ) -> None:
        """`counts` are the steps and their outcomes."""
        self._provider: Final = provider
        self._refresher: Final = refresher
        self._local: Final = local
        self._store: Final = store
        self._revokes_all: Final = revokes_all
        self._hooks: Final = tuple(hooks)
        self._outbound: Final = outbound
        self._spawn: Final = spawn
        self._log: Final = log
        self._lanes: Final = {proof: _Lane(room) for proof, room in ROOMS.items()}
        self.counts: Final = Counter[tuple[str, str]]() if counts is None else counts

    def begin(self, session: OpenedSession, reason: str, *, revokes: bool = True) -> None:
        """Begins what follows the end of a session, if it has not begun.

        A session that was ended by its name alone has its tokens revoked once they are presented.
        `revokes` is false if its tokens must not be revoked.
        """
        fingerprint, reading = session.fingerprint, session.reading
        tombstone = self._local.revocations.tombstones.by_fingerprint.get(fingerprint)
        death = f"{fingerprint}:{tombstone.since if tombstone is not None else 0.0:.3f}"
        proof = self._local.evidence.of(session) if tombstone is None else tombstone.proof
        lane = self._lanes[proof]
        has_tokens = not revokes or reading.token is not None or reading.tokens is not None
        before = lane.begun.get(death)
        if before or before is has_tokens:
            return
        cost = _cost(session)
        if not lane.enter(cost):
            self.counts["all", "dropped"] += 1
            return
        lane.begun.put(death, has_tokens)
        hooks = self._hooks if before is None else ()
        key = f"departed:{death}:{has_tokens:d}"
        work = partial(self._carry_out, lane, session, reason, hooks, revokes=revokes)
        self._spawn(self._once(key, lane, cost, work))

    async def _once(
        self, key: str, lane: _Lane, cost: int, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Of all processes on one store the first does the work; if none can know, each of them."""
        try:
            if await self._is_first(lane, key):
                await work()
        finally:
            lane.leave(cost)

    async def _is_first(self, lane: _Lane, key: str) -> bool:
        """Whether no other process does what this key stands for, as far as can be known."""
        with suppress(StoreUnavailable):
            return not lane.room.noted or await self._store.add(key, b"1", lane.room.noted)
        return True

    async def _carry_out(
        self,
        lane: _Lane,
        session: OpenedSession,
        reason: str,
        hooks: Sequence[Hook],
        *,
        revokes: bool,
    ) -> None:
        fingerprint, reading = session.fingerprint, session.reading
        access, refresh = await self._newest(session)
        # If only the own login has a provider, other sessions' tokens must not be sent there.
        is_its = self._revokes_all or reading.tokens is not None or reading.source == OWN
        revoked = (refresh, access) if revokes and is_its else (None, None)
        steps: dict[str, Step] = {
            "refresh_token": self._revocation(lane, revoked[0], "refresh_token"),
            "access_token": self._revocation(lane, revoked[1], "access_token"),
            **{
                f"hook {number}": partial(self._tell, hook, fingerprint, reason, access)
                for number, hook in enumerate(hooks)
            },
        }
        receipt = await self._receipt(lane, steps)
        level = self._log.warning if "failed" in receipt.values() else self._log.info
        level("session ended", session=fingerprint, reason=reason, **receipt)

    def revoke(self, tokens: TokenSet) -> None:
        """Revokes tokens that came to be when their session had ended already."""
        lane = self._lanes[Proof.VOUCHED]
        steps: dict[str, Step] = {
            "refresh_token": self._revocation(lane, tokens.refresh_token, "refresh_token"),
            "access_token": self._revocation(lane, tokens.access_token, "access_token"),
        }

        async def carry_out() -> None:
            await self._receipt(lane, steps)

        self._spawn(carry_out())

    async def _receipt(self, lane: _Lane, steps: Mapping[str, Step]) -> dict[str, str]:
        """Carries the steps out, and says what became of each."""
        outcomes = await asyncio.gather(*map(lane.carry_out, steps.values()))
        receipt = {name: _TOLD[outcome] for name, outcome in zip(steps, outcomes, strict=True)}
        for name, outcome in receipt.items():
            self.counts[name.partition(" ")[0], outcome] += 1
        return receipt

    async def _newest(self, session: OpenedSession) -> tuple[str | None, str | None]:
        """The access and refresh token of the session as it is now, which are dead as well."""
        tokens: TokenSet | None = session.reading.tokens
        if tokens is None:
            return session.reading.token, None
        if self._refresher is not None:
            with suppress(StoreUnavailable):
                tokens = await self._refresher.newest(tokens)
        self._local.revocations.revoke_tokens(session.fingerprint, tokens)
        return tokens.access_token or None, tokens.refresh_token

    def _revocation(self, lane: _Lane, token: str | None, hint: str) -> Step:
        provider, store = self._provider, self._store

        async def revoke() -> bool | None:
            if provider is None or not token:
                return None
            key = f"revoked:{self._local.names.name_of(token)}"
            if not await self._is_first(lane, key):
                return None  # another process has, or does
            outcome = await provider.revoke(token, hint)
            if outcome is False and lane.room.noted:
                with suppress(StoreUnavailable):
                    await store.remove(key)
            return outcome

        return revoke

    async def _tell(
        self, hook: Hook, fingerprint: str, reason: str, token: str | None
    ) -> bool | None:
        """One hook: 2xx is taken for done."""
        fields = dict(hook.headers)
        if hook.token and token is not None:
            fields["Authorization"] = f"Bearer {token}"
        body = None
        if hook.method != "GET":
            fields.setdefault("Content-Type", "application/json")
            body = msgspec.json.encode({"session": fingerprint, "reason": reason})
        try:
            answer = await self._outbound.ask(hook.method, hook.url, HOOK_SECONDS, fields, body)
        except Unreachable:
            return False
        return 200 <= answer.status < 300


def _cost(session: OpenedSession) -> int:
    """About the bytes that a session's tasks take."""
    tokens = session.reading.tokens
    refresh = "" if tokens is None else tokens.refresh_token or ""
    return COST + 2 * len(session.reading.token or "") + 2 * len(refresh)
