"""Renewal of tokens: one exchange a session at a time, wherever its requests arrive.

A refresh token that rotates may be used once (RFC 9700 4.14.2): a second use kills the session for
everybody. So an exchange is made under a lock that all processes share, its successor is written
before the lock is let go, and whoever comes later with the old token is given that successor. What
became of an exchange whose answer was lost is not known, so it is not repeated while the session
can live without.

In the store, each under the keyed hash of a refresh token:

- `next:` the tokens that it was exchanged for, until `grace` after somebody has presented them;
- `prev:` those that it succeeds, the last one first, as far as nobody has presented a later one;
- `used:` that it was sent to the provider (`sent`), or exchanged for another one (`done`), as long
  as it could still be presented: for good until somebody has presented a later one, and for
  `RETIRED` seconds from then on, since cookies of one browser are replaced together;
- `lock:` who is exchanging it (`net.store.lease`).

What became of an exchange is written through the outbox, and the lock is let go behind that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.refresh import Outcome, Renewal, Trouble
from sidecar.core.tokens import TokenSet, from_bytes, to_bytes
from sidecar.net.breaker import Breaker
from sidecar.net.outbox import Outbox, Write
from sidecar.net.provider import ProviderUnavailable
from sidecar.net.store import Store
from sidecar.net.store.lease import Lease
from sidecar.net.store_watch import StoreWatch

WAIT: Final = 8.0  # seconds that a request waits for a renewal
SHORT_WAIT: Final = 2.0  # the same if its token is still good afterwards
EXCHANGE: Final = 8.0  # seconds after which an answer is given up
WRITTEN: Final = 1.0  # seconds that requests wait for their successor to be written
SETTLED: Final = 1.5  # seconds after a store's loss in which nothing is exchanged: see `lost_data`
RECENT: Final = 10_000  # exchanges that are remembered here for a store that loses its data
SPENT: Final = 50_000  # spent refresh tokens that are remembered besides
PROVEN: Final = 10_000  # refresh tokens that are remembered as nobody's invention
POLL: Final = 0.05  # seconds between two looks for what another process exchanges
DAY: Final = 86400.0
USED: Final = 30 * DAY  # how long it is remembered that a refresh token is spent
RETIRED: Final = 3600.0  # the same of one of which a successor has been presented
STEPS: Final = 16  # generations that a late caller may be behind
TRIES: Final = 3  # to begin an exchange while the store loses what it has taken

_SENT: Final = b"sent"
_DONE: Final = b"done"


class Exchange(Protocol):
    """How tokens are exchanged."""

    async def __call__(self, tokens: TokenSet) -> Renewal:
        """What the provider says to a refresh token. Raises `ProviderUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class RefreshTimes:
    """Seconds: when tokens are renewed before their expiry, and how long old ones lead on."""

    leeway: float
    grace: float


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """Tokens, and what they were exchanged for: `old` is None if another process did.

    They lead on until then (Unix seconds), if their successor has been presented.
    """

    old: TokenSet | None
    new: TokenSet
    until: float | None = None

    @property
    def rotates(self) -> bool:
        """Whether the old refresh token is spent."""
        return self.old is None or self.old.refresh_token != self.new.refresh_token

    def leads(self, now: float) -> bool:
        """Whether who comes with the old tokens is given the new ones."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Renewed:
    """The newest tokens of a session. `is_fresh`: from an exchange that was waited for."""

    tokens: TokenSet
    is_fresh: bool


class _Failed(Exception):
    """There are no new tokens. `detail` is for the log."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class _AnswerLost(_Failed):
    """The token was sent, and there is no answer: it may be spent."""


class _NotRenewed(_Failed):
    """The token was not sent, or the answer was not about it."""


async def _nothing() -> None:
    """There is nothing to write."""


class Refresher:
    """Renews tokens. Belongs to one event loop; other processes are met in the store."""

    def __init__(
        self,
        exchange: Exchange,
        times: RefreshTimes,
        store: Store,
        *,
        hash_of: Callable[[str], str],
        now: Callable[[], float],
        outbox: Outbox,
        watch: StoreWatch | None = None,
        report: Callable[[str, str], None],
    ) -> None:
        self._exchange = exchange
        self._times: Final = times
        self._store: Final = store
        self._hash_of: Final = hash_of
        self._now: Final = now
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._report: Final = report
        self._running: dict[str, asyncio.Task[TokenSet]] = {}
        self._concluding: set[asyncio.Task[None]] = set()
        self._unsaved: dict[str, TokenSet] = {}  # successors that the store did not take yet
        self._recent: dict[str, _Exchanged] = {}  # what this process exchanged, for a store's loss
        self._breaker: Final = Breaker()
        self._proven: dict[str, None] = {}  # refresh tokens that no stranger has made up
        self._spent: dict[str, None] = {}  # refresh tokens that are known here to be spent
        self._settled_at = 0.0
        self.counts: Counter[str] = Counter()

    # -- for requests ---------------------------------------------------------------------------

    def is_due(self, tokens: TokenSet, now: float) -> bool:
        """Whether the tokens are to be renewed before they are used."""
        return now >= self.due_at(tokens)

    def due_at(self, tokens: TokenSet) -> float:
        """From when on that is so."""
        return tokens.renews_at(self._times.leeway)

    async def renew(
        self, tokens: TokenSet, rejected: str | None = None, *, is_sealed: bool = False
    ) -> TokenSet:
        """The tokens of `renewed`. Raises what it raises."""
        return (await self.renewed(tokens, rejected, is_sealed=is_sealed)).tokens

    async def renewed(
        self, tokens: TokenSet, rejected: str | None = None, *, is_sealed: bool = False
    ) -> Renewed:
        """The newest tokens of a session; by an exchange where none is good enough yet.

        `rejected` is an access token that an upstream did not take; `is_sealed`: the tokens came in
        a session that no stranger can make up. Raises `RefreshRefused`, `RefreshSuperseded`,
        `RefreshUnavailable` and `StoreUnavailable`; the exchange itself goes on, whoever waits for
        it.
        """
        try:
            return await self._in_time(tokens, rejected, is_sealed=is_sealed)
        except RefreshUnavailable:
            newest = await self.newest(tokens)
            is_new = newest != tokens and newest.access_token != rejected
            if is_new and newest.is_valid(self._now()):
                return Renewed(newest, is_fresh=False)  # due itself, but good enough for now
            raise

    async def _in_time(self, tokens: TokenSet, rejected: str | None, *, is_sealed: bool) -> Renewed:
        """Raises what `renewed` raises."""
        wait = WAIT
        if rejected is None and tokens.is_valid(self._now()):
            wait = SHORT_WAIT
        try:
            return await self._within(wait, tokens, rejected, is_sealed=is_sealed)
        except TimeoutError:
            has_expired = wait < WAIT and not tokens.is_valid(self._now())
        if has_expired:  # meanwhile, so that it waits as long as if it had been so from the first
            with suppress(TimeoutError):
                return await self._within(WAIT - wait, tokens, rejected, is_sealed=is_sealed)
        raise RefreshUnavailable("the provider has not answered yet")

    async def _within(
        self, seconds: float, tokens: TokenSet, rejected: str | None, *, is_sealed: bool
    ) -> Renewed:
        """Raises `TimeoutError`, and what `renewed` raises."""
        async with asyncio.timeout(seconds):
            for _ in range(STEPS):
                newest = await self.newest(tokens)
                if newest.access_token != rejected and not self.is_due(newest, self._now()):
                    return Renewed(newest, is_fresh=False)
                if is_sealed:
                    self._prove(newest)
                tokens = await asyncio.shield(self._under_way(newest, rejected))
                if tokens.access_token != rejected and tokens.is_valid(self._now()):
                    return Renewed(tokens, is_fresh=True)
        raise RefreshUnavailable("the provider hands out tokens that have expired")

    async def presented(self, tokens: TokenSet) -> None:
        """Tokens were presented: those before them lead on for `grace` seconds from now only.

        Raises `StoreUnavailable`.
        """
        assert tokens.refresh_token is not None
        own = self._hash_of(tokens.refresh_token)
        before = await self._store.get(f"prev:{own}")
        if before is None:
            return
        self._prove(tokens)
        for number, old in enumerate(before.decode().split()):
            if number == 0 and old not in self._recent:
                self._remember(old, _Exchanged(None, tokens))
            await self._retire(old)
        await self._store.remove(f"prev:{own}")

    async def _retire(self, old: str) -> None:
        """A token whose successor is in use leads on for `grace`, and is soon presented no more.

        Raises `StoreUnavailable`.
        """
        exchanged = self._recent.get(old)
        if exchanged is not None and exchanged.until is None:
            self._recent[old] = replace(exchanged, until=self._now() + self._times.grace)
        successor = await self._store.get(f"next:{old}")
        if successor is not None:
            await self._store.put(f"next:{old}", successor, self._times.grace)
        await self._store.replace(f"used:{old}", _DONE, _DONE, self._times.grace + RETIRED)
        await self._store.remove(f"prev:{old}")

    def _remember(self, own: str, exchanged: _Exchanged) -> None:
        """What this process knows, for a store that loses its data; bounded in number."""
        self._recent[own] = exchanged
        first = next(iter(self._recent))
        if len(self._recent) > RECENT or not self._recent[first].leads(self._now()):
            self._forget(first)

    def _forget(self, own: str) -> None:
        """The successor of a spent token is needed no longer, but it stays spent."""
        exchanged = self._recent.pop(own)
        if exchanged.rotates:
            self._spent[own] = None
            if len(self._spent) > SPENT:
                del self._spent[next(iter(self._spent))]

    # -- what there is --------------------------------------------------------------------------

    async def newest(self, tokens: TokenSet) -> TokenSet:
        """The last tokens that these were exchanged for. Raises `StoreUnavailable`."""
        for _ in range(STEPS):
            assert tokens.refresh_token is not None
            successor = await self._successor(self._hash_of(tokens.refresh_token))
            if successor is None:
                return tokens
            if successor.refresh_token == tokens.refresh_token:
                return successor  # the provider does not rotate
            tokens = successor
        return tokens

    async def _successor(self, own: str) -> TokenSet | None:
        unsaved = self._unsaved.get(own)
        if unsaved is not None:
            return unsaved
        stored = await self._store.get(f"next:{own}")
        if stored is None:
            return await self._forgotten(own)
        try:
            return from_bytes(stored)
        except ValueError:
            raise StoreUnavailable("an entry is not what was written") from None

    async def _forgotten(self, own: str) -> TokenSet | None:
        """A successor that this process knows of, where the store has lost its data."""
        exchanged = self._recent.get(own)
        if exchanged is None or await self._store.get(f"used:{own}") is not None:
            return None
        await self._restore(own, exchanged)
        return exchanged.new if exchanged.leads(self._now()) else None

    async def restore(self) -> None:
        """Writes once more what is known of exchanged tokens. Raises `StoreUnavailable`."""
        for own, exchanged in tuple(self._recent.items()):
            await self._restore(own, exchanged)

    async def _restore(self, own: str, exchanged: _Exchanged) -> None:
        """Raises `StoreUnavailable`."""
        now, new = self._now(), exchanged.new
        if not exchanged.rotates:
            stored = await self._store.get(f"next:{own}")
            if stored is None or from_bytes(stored).generation < new.generation:
                await self._store.put(f"next:{own}", to_bytes(new), DAY)
        elif exchanged.until is None and exchanged.old is not None:
            await self._write(own, exchanged.old, new)
        else:
            if exchanged.until is not None and now < exchanged.until:
                await self._store.put(f"next:{own}", to_bytes(new), exchanged.until - now)
            await self._store.put(f"used:{own}", _DONE, self._times.grace + RETIRED)

    # -- one exchange ---------------------------------------------------------------------------

    def _under_way(self, tokens: TokenSet, rejected: str | None) -> asyncio.Task[TokenSet]:
        """The one exchange of these tokens in this process; it outlives whoever began it."""
        assert tokens.refresh_token is not None
        own = self._hash_of(tokens.refresh_token)
        task = self._running.get(own)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._renew_once(own, tokens, rejected))
            self._running[own] = task
            task.add_done_callback(lambda done: self._ended(own, done))
        return task

    def _ended(self, own: str, task: asyncio.Task[TokenSet]) -> None:
        self._running.pop(own, None)
        if not task.cancelled():
            task.exception()  # seen, though every caller may have left

    async def _renew_once(self, own: str, tokens: TokenSet, rejected: str | None) -> TokenSet:
        """The tokens' successor, by an exchange if it is this process's turn.

        Raises what `renewed` raises.
        """
        for _ in range(TRIES):
            found = await self._settle()
            lease = await self._lease(own)
            if lease is None:
                successor = await self._good_successor(own, tokens, rejected)
                if successor is None:
                    raise RefreshUnavailable("another process is still waiting for the provider")
                return successor
            is_mine = False
            try:
                successor = await self._claimed(own, lease, tokens, rejected)
                # A store that has gone back meanwhile may have lost the lock of somebody else.
                is_mine = successor is None and await self._has_all(found)
            finally:
                if not is_mine:
                    await self._give_back(own, lease)
            if is_mine:
                return await self._exchanged(own, lease, tokens)
            if successor is not None:
                return successor
        raise RefreshUnavailable("the store has lost what it had taken")

    async def _claimed(
        self, own: str, lease: Lease, tokens: TokenSet, rejected: str | None
    ) -> TokenSet | None:
        """Returns a successor that makes an exchange needless, or None: it may begin.

        A process that sent the token and cannot reach the store may come back with the answer, so
        it is waited for. Raises what `renewed` raises.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + EXCHANGE
        while True:
            # Once more behind the claim: the one before may have ended in between.
            has_claim = lease.has_claim
            successor = await self._good_successor(own, tokens, rejected)
            if successor is not None:
                return successor
            await self._check_use(own, tokens, rejected)
            if has_claim:
                return None
            why = self._breaker.refuses(own, self._now(), is_proven=own in self._proven)
            if why is not None:
                raise RefreshUnavailable(why)
            if not await lease.claim():
                if loop.time() > until:
                    raise RefreshUnavailable("the process that has sent the token does not answer")
                await asyncio.sleep(POLL)

    async def _give_back(self, own: str, lease: Lease) -> None:
        """Lets go of a lock under which nothing was exchanged."""
        if lease.may_claim:
            try:
                await lease.unclaim()
            except StoreUnavailable:
                self._free_later(own, lease.unclaim)
        await lease.release()

    async def _good_successor(
        self, own: str, tokens: TokenSet, rejected: str | None
    ) -> TokenSet | None:
        """A successor that makes an exchange needless. Raises `StoreUnavailable`."""
        successor = await self._successor(own)
        if successor is None or successor.refresh_token != tokens.refresh_token:
            return successor
        is_good = successor.access_token != rejected and not self.is_due(successor, self._now())
        return successor if is_good else None

    async def _exchanged(self, own: str, lease: Lease, tokens: TokenSet) -> TokenSet:
        """Exchanges the tokens, and lets the lock go behind what has become of them.

        Raises what `renewed` raises.
        """
        unmark = partial(self._unmark, own)
        outcome: Write = _nothing  # what has become of a token that was sent is not known
        try:
            with self._turn(own):
                outcome = unmark
                # Anybody can make tokens up, and a provider may leave those without an answer.
                known_for = USED if own in self._proven else RETIRED
                await self._store.put(f"used:{own}", _SENT, known_for)
                outcome = _nothing
                renewal = await self._ask(own, tokens)
            outcome = unmark
            if renewal.outcome is Outcome.RENEWED and renewal.tokens is not None:
                new = replace(renewal.tokens, generation=tokens.generation + 1)
                outcome = self._renewed_to(own, tokens, new)
                return new
            return await self._failed(own, renewal)
        except _AnswerLost as lost:
            raise RefreshUnavailable(lost.detail) from None
        except _NotRenewed as trouble:
            outcome = unmark
            raise RefreshUnavailable(trouble.detail) from None
        finally:
            await self._conclude(own, lease, outcome)

    async def _conclude(self, own: str, lease: Lease, outcome: Write) -> None:
        """Writes what has become of an exchange, and then lets the lock go: one task.

        Requests wait for it for a moment only.
        """

        async def write() -> None:
            await outcome()
            await lease.unclaim()

        async def conclude() -> None:
            try:
                await self._outbox.put(f"renewal:{own}", "renewal", write, is_urgent=True)
                self._unsaved.pop(own, None)
                await lease.release()
            finally:
                lease.abandon()

        task = asyncio.get_running_loop().create_task(conclude())
        self._concluding.add(task)
        task.add_done_callback(self._concluding.discard)
        await asyncio.wait({task}, timeout=WRITTEN)
        if own in self._unsaved:
            self._report("renewed tokens are not stored yet", "the store does not take them")

    async def finish(self, seconds: float) -> None:
        """Waits until what is under way has ended and is written, at most so long."""
        under_way = {*self._running.values(), *self._concluding}
        if not under_way:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        await asyncio.wait(under_way, timeout=seconds)
        if self._concluding:
            await asyncio.wait(set(self._concluding), timeout=max(0.0, until - loop.time()))
        left = {*self._running.values(), *self._concluding}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2 * WRITTEN)

    async def _settle(self) -> int:
        """Waits where the store may have lost its data, locks among them.

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

    def lost_data(self) -> None:
        """The store may have lost data just now."""
        self._settled_at = self._now() + SETTLED

    async def _lease(self, own: str) -> Lease | None:
        """The lock, taken; None if another process has written a successor, or takes too long.

        Raises `StoreUnavailable`: without the lock nothing is exchanged.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + EXCHANGE
        before = await self._store.get(f"next:{own}")
        while True:
            lease = Lease(self._store, own)
            try:
                if await lease.take():
                    return lease
            except StoreUnavailable:
                self._free_later(own, lease.free)  # it may be taken
                raise
            await asyncio.sleep(POLL)
            if await self._store.get(f"next:{own}") != before or loop.time() > until:
                return None

    def _free_later(self, own: str, free: Write) -> None:
        """What may have been taken in trouble must not outlast it."""
        self._outbox.put(f"renewal:{own}", "unlock", free, is_urgent=True)

    async def _check_use(self, own: str, tokens: TokenSet, rejected: str | None) -> None:
        """Raises `RefreshSuperseded` or `RefreshUnavailable` if the token must not be used."""
        state = await self._store.get(f"used:{own}")
        exchanged = self._recent.get(own)
        is_spent = own in self._spent or (exchanged is not None and exchanged.rotates)
        if state == _DONE or is_spent:
            raise RefreshSuperseded
        is_good = rejected is None and tokens.is_valid(self._now())
        if state == _SENT and is_good:
            raise RefreshUnavailable("an answer was lost, and the token is still good")

    @contextmanager
    def _turn(self, own: str) -> Iterator[None]:
        """Raises `RefreshUnavailable` if the token, or the provider, is left alone for now."""
        why = self._breaker.begin(own, self._now(), is_proven=own in self._proven)
        if why is not None:
            raise RefreshUnavailable(why)
        try:
            yield
        finally:
            self._breaker.left(own)

    async def _ask(self, own: str, tokens: TokenSet) -> Renewal:
        """What the provider says to the token, told to the breaker and to the log.

        Raises `_AnswerLost` and `_NotRenewed`.
        """
        began = self._now()
        try:
            renewal = await self._exchange(tokens)
        except ProviderUnavailable as trouble:
            self._fail(own, began, Trouble.AWAY, trouble.detail)
            raise (_AnswerLost if trouble.sent else _NotRenewed)(trouble.detail) from None
        if renewal.outcome is not Outcome.TROUBLE:
            with self._noticed():
                is_renewed = renewal.outcome is Outcome.RENEWED
                self._breaker.answered(own, is_renewed=is_renewed)
            return renewal
        is_refused = self._fail(own, began, renewal.trouble, renewal.why)
        if is_refused:
            return Renewal(Outcome.REFUSED, why=f"{renewal.why}, while others are renewed")
        raise _NotRenewed(renewal.why)

    def _fail(self, own: str, began: float, trouble: Trouble, why: str) -> bool:
        """Leaves this token alone for a moment; whether it counts as refused by now."""
        self.counts["unavailable"] += 1
        is_ours = trouble is Trouble.MISCONFIGURED
        self._report("refresh misconfigured" if is_ours else "refresh failed", why)
        with self._noticed():
            now, is_proven = self._now(), own in self._proven
            return self._breaker.failed(own, began, now, trouble, is_proven=is_proven)

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Reports that the provider turns out to be down, or to be back."""
        was_open = self._breaker.is_open(is_proven=False)
        yield
        is_open = self._breaker.is_open(is_proven=False)
        if is_open and not was_open:
            why = "several sessions in a row got no answer: the provider is tried by one at a time"
            self._report("refreshes paused", why)
        elif was_open and not is_open:
            self._report("refreshes resumed", "the provider answers again")

    def _prove(self, tokens: TokenSet) -> None:
        """Notes a refresh token that was handed out by the provider, or came sealed."""
        if tokens.refresh_token is None:
            return
        own = self._hash_of(tokens.refresh_token)
        self._proven.pop(own, None)
        self._proven[own] = None
        if len(self._proven) > PROVEN:
            del self._proven[next(iter(self._proven))]

    async def _unmark(self, own: str) -> None:
        """The token was not sent, or has been answered without a renewal.

        Raises `StoreUnavailable`.
        """
        await self._store.remove(f"used:{own}", _SENT)

    async def _failed(self, own: str, renewal: Renewal) -> TokenSet:
        """The provider refuses the token: unless its successor has turned up, that is the end.

        Raises `RefreshRefused`.
        """
        with suppress(StoreUnavailable):
            successor = await self._successor(own)
            if successor is not None:
                return successor
        self.counts["refused"] += 1
        self._report("refresh refused", renewal.why)
        raise RefreshRefused(renewal.why)

    # -- what was got ---------------------------------------------------------------------------

    def _renewed_to(self, own: str, old: TokenSet, new: TokenSet) -> Write:
        """Notes the successor here, and says how it is written. Here it serves at once."""
        self.counts["renewed"] += 1
        self._prove(new)
        self._unsaved[own] = new
        self._remember(own, _Exchanged(old, new))
        return partial(self._write, own, old, new)

    async def _write(self, own: str, old: TokenSet, new: TokenSet) -> None:
        assert new.refresh_token is not None
        if new.refresh_token == old.refresh_token:
            await self._store.put(f"next:{own}", to_bytes(new), DAY)
            await self._store.remove(f"used:{own}")
            return
        before = (await self._store.get(f"prev:{own}") or b"").decode().split()
        await self._store.put(f"next:{own}", to_bytes(new), DAY)
        await self._store.put(f"used:{own}", _DONE, USED)
        line = " ".join((own, *before[: STEPS - 1]))
        await self._store.put(f"prev:{self._hash_of(new.refresh_token)}", line.encode(), DAY)
        for one in before[STEPS - 1 :]:
            await self._retire(one)  # nobody is led on from there
