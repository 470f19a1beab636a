"""One exchange of a refresh token, under a lock that all processes share.

A refresh token that rotates may be used once (RFC 9700 4.14.2): a second use kills the session for
everybody. So the lock is taken, a claim is made, the token is marked as sent, and what has become
of it is written through the outbox before the lock is released:

```
settle ─► lock ─► successor there? ─yes─► use it
                    │ no
                  claim ─► mark sent ─► ask the provider ─► write the outcome ─► unclaim, unlock
```

What became of an exchange whose answer was lost is not known, so the token is not sent again while
its access token still serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from sidecar.core.errors import RefreshRefused, RefreshUnavailable, StoreUnavailable
from sidecar.core.record import replace
from sidecar.core.token_response import Outcome, Renewal
from sidecar.core.token_set import TokenSet
from sidecar.net.deadline import wait_within
from sidecar.net.store import Store
from sidecar.net.store.lease import Lease
from sidecar.net.store.outbox import Outbox, Write
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.refresh_attempts import AnswerLost, NotRenewed, RefreshAttempts
from sidecar.sessions.refresh_grants import ANSWER
from sidecar.sessions.succession import Succession

WRITTEN: Final = 1.0  # seconds that requests wait for their successor to be written
SETTLED: Final = 1.5  # seconds after a store's loss in which nothing is exchanged: see `lost_data`
POLLS: Final = (0.05, 0.5)  # seconds between two looks for what another process exchanges
PATIENCE: Final = 0.25  # share of the time waited so far that the next look is away, within those
TRIES: Final = 3  # to begin an exchange while the store loses what it has taken


async def _nothing() -> None:
    """There is nothing to write."""


class LockedRefresh:
    """Exchanges tokens once among all processes. A *name* is the hash of a refresh token.

    `is_good` says whether tokens need no exchange, given the access token that was rejected.
    """

    def __init__(
        self,
        store: Store,
        succession: Succession,
        attempts: RefreshAttempts,
        *,
        outbox: Outbox,
        watch: StoreWatch | None,
        now: Callable[[], float],
        is_good: Callable[[TokenSet, str | None], bool],
        report: Callable[[str, str], None],
    ) -> None:
        self._store: Final = store
        self._succession: Final = succession
        self._attempts: Final = attempts
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._now: Final = now
        self._is_good: Final = is_good
        self._report: Final = report
        self._settled_at = 0.0
        self.concluding: Final[set[asyncio.Task[None]]] = set()

    async def run(self, name: str, tokens: TokenSet, rejected: str | None) -> TokenSet:
        """Returns the tokens' successor, by an exchange if it is this process's turn.

        Raises `RefreshRefused`, `RefreshSuperseded`, `RefreshUnavailable` and `StoreUnavailable`.
        """
        for _ in range(TRIES):
            found = await self._settle()
            lease = await self._lease(name)
            if lease is None:
                successor = await self._good_successor(name, tokens, rejected)
                if successor is None:
                    raise RefreshUnavailable("another process is still waiting for the provider")
                return successor
            is_mine = False
            try:
                successor = await self._claimed(name, lease, tokens, rejected)
                # A store that has gone back meanwhile may have lost the lock of another process.
                is_mine = successor is None and await self._has_all(found)
            finally:
                if not is_mine:
                    await self._give_back(name, lease)
            if is_mine:
                return await self._exchanged(name, lease, tokens, rejected)
            if successor is not None:
                return successor
        raise RefreshUnavailable("the store has lost what it had taken")

    # -- the lock ---------------------------------------------------------------------------------

    async def _lease(self, name: str) -> Lease | None:
        """The lock, taken; None if another process has written a successor, or takes too long.

        Raises `StoreUnavailable`: without the lock nothing is exchanged.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + ANSWER
        before = await self._succession.stored(name)
        while True:
            lease = Lease(self._store, name)
            try:
                if await lease.take():
                    return lease
            except StoreUnavailable:
                self._free_later(name, lease.free)  # it may be taken
                raise
            await asyncio.sleep(_pause(loop.time() - began))
            if await self._succession.stored(name) != before or loop.time() > until:
                return None

    async def _claimed(
        self, name: str, lease: Lease, tokens: TokenSet, rejected: str | None
    ) -> TokenSet | None:
        """A successor that makes an exchange needless; None: the exchange may begin.

        A process that sent the token and cannot reach the store may come back with the response, so
        it is waited for. Raises what `run` raises.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + ANSWER
        while True:
            # Once more behind the claim: the one before may have ended in between.
            has_claim = lease.has_claim
            use = await self._succession.use(name)
            successor = await self._good_successor(name, tokens, rejected)
            if successor is not None:
                return successor
            is_good = rejected is None and tokens.is_valid(self._now())
            self._succession.check_use(name, use, is_good=is_good)
            if has_claim:
                return None
            why = self._attempts.refuses(name)
            if why is not None:
                raise RefreshUnavailable(why)
            if not await lease.claim():
                if loop.time() > until:
                    raise RefreshUnavailable("the process that has sent the token does not answer")
                await asyncio.sleep(_pause(loop.time() - began))

    async def _good_successor(
        self, name: str, tokens: TokenSet, rejected: str | None
    ) -> TokenSet | None:
        """A successor that makes an exchange needless. Raises `StoreUnavailable`."""
        successor = await self._succession.successor(name)
        if successor is None or successor.refresh_token != tokens.refresh_token:
            return successor
        return successor if self._is_good(successor, rejected) else None

    async def _give_back(self, name: str, lease: Lease) -> None:
        """Releases a lock under which nothing was exchanged."""
        if lease.may_claim:
            try:
                await lease.unclaim()
            except StoreUnavailable:
                self._free_later(name, lease.unclaim)
        await lease.release()

    def _free_later(self, name: str, free: Write) -> None:
        """What may have been taken in trouble must not outlast it."""
        self._outbox.put(f"renewal:{name}", "unlock", free, is_urgent=True)

    # -- the exchange -----------------------------------------------------------------------------

    async def _exchanged(
        self, name: str, lease: Lease, tokens: TokenSet, rejected: str | None
    ) -> TokenSet:
        """Exchanges the tokens, and releases the lock behind what has become of them.

        Raises what `run` raises.
        """
        unmark = partial(self._succession.unmark, name)
        outcome: Write = _nothing  # what has become of a token that was sent is not known
        try:
            with self._attempts.turn(name):
                outcome = unmark
                is_proven = self._attempts.is_proven(name)
                await self._succession.mark_sent(name, is_proven=is_proven)
                outcome = _nothing
                renewal = await self._attempts.ask(name, tokens)
            outcome = unmark
            if renewal.outcome is Outcome.RENEWED and renewal.tokens is not None:
                new = replace(renewal.tokens, generation=tokens.generation + 1)
                self._attempts.renewed(self._succession.name_of(new))
                outcome = self._succession.note(name, tokens, new, rejected)
                return new
            return await self._refused(name, renewal)
        except AnswerLost as lost:
            raise RefreshUnavailable(lost.detail) from None
        except NotRenewed as trouble:
            outcome = unmark
            raise RefreshUnavailable(trouble.detail) from None
        finally:
            await self._conclude(name, lease, outcome)

    async def _refused(self, name: str, renewal: Renewal) -> TokenSet:
        """The provider refuses the token: unless its successor has turned up, that is the end.

        Raises `RefreshRefused`.
        """
        with suppress(StoreUnavailable):
            successor = await self._succession.successor(name)
            if successor is not None:
                return successor
        self._attempts.refused(renewal.why)
        raise RefreshRefused(renewal.why)

    async def _conclude(self, name: str, lease: Lease, outcome: Write) -> None:
        """Writes what has become of an exchange, and then releases the lock: in one task.

        Requests wait for a moment only, and not for the lock: each turn of a busy loop counts.
        """

        async def write() -> None:
            await outcome()
            await lease.unclaim()

        async def conclude() -> None:
            try:
                await taken
                await lease.release()
            finally:
                lease.abandon()

        def is_taken(done: asyncio.Future[bool]) -> None:
            if not done.cancelled():
                self._succession.saved(name)

        taken = self._outbox.put(f"renewal:{name}", "renewal", write, is_urgent=True)
        taken.add_done_callback(is_taken)
        task = asyncio.get_running_loop().create_task(conclude())
        self.concluding.add(task)
        task.add_done_callback(self.concluding.discard)
        await wait_within({taken}, WRITTEN)
        if self._succession.is_unsaved(name):
            self._report("renewed tokens are not stored yet", "the store does not take them")

    # -- a store that loses its data --------------------------------------------------------------

    def lost_data(self) -> None:
        """Waits for a moment before the next exchange: the store may have lost data just now."""
        self._settled_at = self._now() + SETTLED

    async def _settle(self) -> int:
        """Waits if the store may have lost its data, locks among them.

        By then the others have taken theirs again, and written what they have exchanged. Returns
        how often it has been found so far that writes were lost.
        """
        await self._has_all(self._found)
        remaining = self._settled_at - self._now()
        if remaining > 0:
            await asyncio.sleep(remaining)
        return self._found

    @property
    def _found(self) -> int:
        return 0 if self._watch is None else self._watch.found

    async def _has_all(self, found: int) -> bool:
        """Whether the store has lost nothing since. Raises `StoreUnavailable`."""
        is_whole = self._watch is None or await self._watch.has_all(found)
        if not is_whole:
            self.lost_data()
        return is_whole


def _pause(waited: float) -> float:
    """Seconds until the next look: the longer the provider takes, the less it is looked for."""
    least, most = POLLS
    return min(max(least, PATIENCE * waited), most)
