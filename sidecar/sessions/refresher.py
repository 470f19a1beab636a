"""The newest tokens of a session: one exchange at a time, wherever its requests arrive.

A request with an old refresh token is given its successor (`sidecar.sessions.succession`). If
there is no good one, one exchange is made for all (`sidecar.sessions.locked_refresh`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec

from sidecar.core.errors import RefreshUnavailable
from sidecar.core.token_set import TokenSet
from sidecar.metrics import RefreshCounts
from sidecar.net.deadline import Within
from sidecar.net.store import Store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.locked_refresh import WRITTEN, LockedRefresh
from sidecar.sessions.refresh_attempts import RefreshAttempts
from sidecar.sessions.refresh_grants import RefreshGrant
from sidecar.sessions.succession import Succession

WAIT: Final = 8.0  # seconds that a request waits for a renewal
SHORT_WAIT: Final = 2.0  # the same if its token is still good afterwards
EXCHANGES: Final = 3  # that a request waits for: one may give it what it cannot use

Permit: TypeAlias = Callable[[], None]
"""Is called before an exchange begins. Raises `RefreshUnavailable` if it must not."""


def without_limit() -> None:
    """Permits every exchange."""


class RefreshTimes(msgspec.Struct, frozen=True):
    """Seconds: when tokens are renewed before their expiry, and how long old ones lead on."""

    leeway: float
    grace: float


class Renewed(msgspec.Struct, frozen=True):
    """The newest tokens of a session. `is_fresh`: from an exchange that was waited for."""

    tokens: TokenSet
    is_fresh: bool


class Refresher:
    """Renews tokens. Belongs to one event loop; other processes are met in the store."""

    def __init__(
        self,
        grant: RefreshGrant,
        times: RefreshTimes,
        store: Store,
        *,
        hash_of: Callable[[str], str],
        now: Callable[[], float],
        outbox: Outbox,
        watch: StoreWatch | None = None,
        report: Callable[[str, str], None],
        counts: RefreshCounts | None = None,
    ) -> None:
        self._times: Final = times
        self._now: Final = now
        self._attempts: Final = RefreshAttempts(grant, now, report, counts)
        self._succession: Final = Succession(store, hash_of=hash_of, now=now, grace=times.grace)
        self._locked: Final = LockedRefresh(
            store,
            self._succession,
            self._attempts,
            outbox=outbox,
            watch=watch,
            now=now,
            is_good=self._is_good,
            report=report,
        )
        self._running: Final[dict[str, asyncio.Task[TokenSet]]] = {}

    @property
    def counts(self) -> Counter[str]:
        """How many exchanges had which outcome: renewed, refused, unavailable."""
        return self._attempts.counts.outcomes

    @property
    def under_way(self) -> int:
        """How many exchanges are under way here."""
        return len(self._running)

    @property
    def is_paused(self) -> bool:
        """Whether tokens are tried one at a time, since several in a row got no response."""
        return self._attempts.is_paused

    # -- when -------------------------------------------------------------------------------------

    def due_at(self, tokens: TokenSet) -> float:
        """Returns from when on (Unix seconds) tokens are renewed before they are used."""
        return tokens.renews_at(self._times.leeway)

    def is_due(self, tokens: TokenSet, now: float) -> bool:
        """Returns whether that is so now."""
        return now >= self.due_at(tokens)

    def _is_good(self, tokens: TokenSet, rejected: str | None) -> bool:
        return tokens.access_token != rejected and not self.is_due(tokens, self._now())

    # -- renewal ----------------------------------------------------------------------------------

    async def renewed(
        self,
        tokens: TokenSet,
        rejected: str | None = None,
        *,
        is_sealed: bool = False,
        permit: Permit = without_limit,
    ) -> Renewed:
        """Returns the newest tokens of a session; by an exchange if none is good enough yet.

        `rejected` is an access token that an upstream has refused; `is_sealed`: the tokens came in
        a session that no stranger can make up; `permit` is called before an exchange begins.
        Raises `RefreshRefused`, `RefreshSuperseded`,
        `RefreshUnavailable` and `StoreUnavailable`; the exchange itself goes on even if nobody
        waits for it.
        """
        try:
            return await self._in_time(tokens, rejected, is_sealed=is_sealed, permit=permit)
        except RefreshUnavailable:
            newest = await self.newest(tokens)
            is_new = newest != tokens and newest.access_token != rejected
            if is_new and newest.is_valid(self._now()):
                return Renewed(newest, is_fresh=False)  # due itself, but good enough for now
            raise

    async def _in_time(
        self, tokens: TokenSet, rejected: str | None, *, is_sealed: bool, permit: Permit
    ) -> Renewed:
        """Raises what `renewed` raises."""
        wait = WAIT
        if rejected is None and tokens.is_valid(self._now()):
            wait = SHORT_WAIT
        try:
            return await self._within(wait, tokens, rejected, is_sealed=is_sealed, permit=permit)
        except TimeoutError:
            has_expired = wait < WAIT and not tokens.is_valid(self._now())
        if has_expired:  # meanwhile, so that it waits as long as if it had been so from the first
            with suppress(TimeoutError):
                return await self._within(
                    WAIT - wait, tokens, rejected, is_sealed=is_sealed, permit=permit
                )
        raise RefreshUnavailable("the provider has not answered yet")

    async def _within(
        self,
        seconds: float,
        tokens: TokenSet,
        rejected: str | None,
        *,
        is_sealed: bool,
        permit: Permit,
    ) -> Renewed:
        """Raises `TimeoutError`, and what `renewed` raises."""
        counts = self._attempts.counts
        async with Within(seconds):
            for _ in range(EXCHANGES):
                newest = await self.newest(tokens)
                if self._is_good(newest, rejected):
                    counts.late += newest != tokens
                    return Renewed(newest, is_fresh=False)
                if is_sealed:
                    self._attempts.prove(self._succession.name_of(newest))
                counts.waiting += 1
                counts.waited += 1
                try:
                    tokens = await asyncio.shield(self._under_way(newest, rejected, permit))
                finally:
                    counts.waiting -= 1
                if tokens.access_token != rejected and tokens.is_valid(self._now()):
                    return Renewed(tokens, is_fresh=True)
        raise RefreshUnavailable("the provider hands out tokens that have expired or were rejected")

    def _under_way(
        self, tokens: TokenSet, rejected: str | None, permit: Permit
    ) -> asyncio.Task[TokenSet]:
        """The one exchange of these tokens here. It outlives the request that began it.

        Raises what `permit` raises.
        """
        name = self._succession.name_of(tokens)
        task = self._running.get(name)
        if task is None:
            permit()
            exchange = self._locked.run(name, tokens, rejected)
            task = asyncio.get_running_loop().create_task(exchange)
            self._running[name] = task
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: str, task: asyncio.Task[TokenSet]) -> None:
        self._running.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen, though every caller may have left

    async def finish(self, seconds: float) -> None:
        """Waits until what is under way has ended and is written, for at most `seconds`."""
        concluding = self._locked.concluding
        under_way = {*self._running.values(), *concluding}
        if not under_way:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        await asyncio.wait(under_way, timeout=seconds)
        if concluding:
            await asyncio.wait(set(concluding), timeout=max(0.0, until - loop.time()))
        left = {*self._running.values(), *concluding}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2 * WRITTEN)

    # -- what there is ----------------------------------------------------------------------------

    async def newest(self, tokens: TokenSet) -> TokenSet:
        """Returns the last tokens that these were exchanged for. Raises `StoreUnavailable`."""
        return await self._succession.newest(tokens)

    async def presented(self, tokens: TokenSet) -> None:
        """Notes that tokens were presented: those before them lead on for `grace` from now only.

        Raises `StoreUnavailable`.
        """
        if await self._succession.presented(tokens):
            self._attempts.prove(self._succession.name_of(tokens))

    async def leads(self, tokens: TokenSet) -> bool:
        """Returns whether an upstream has rejected the access token, and it has a successor.

        Raises `StoreUnavailable`.
        """
        return await self._succession.leads(tokens)

    async def restore(self) -> None:
        """Writes once more what is known of exchanged tokens. Raises `StoreUnavailable`."""
        await self._succession.restore()

    def lost_data(self) -> None:
        """The store may have lost data just now: nothing is exchanged for a moment."""
        self._locked.lost_data()
