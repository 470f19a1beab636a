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
- `lock:` who is exchanging it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.refresh import Outcome, Renewal, Trouble
from sidecar.core.tokens import TokenSet, from_bytes, to_bytes
from sidecar.net.breaker import Breaker
from sidecar.net.provider import ProviderUnavailable
from sidecar.net.store import Store

WAIT: Final = 8.0  # seconds that a request waits for a renewal
SHORT_WAIT: Final = 2.0  # the same if its token is still good afterwards
EXCHANGE: Final = 8.0  # seconds after which an answer is given up
LOCK: Final = 15.0  # seconds after which the lock of a process that died is free
SETTLED: Final = 1.5  # seconds after a store's loss in which nothing is exchanged: see `epoch`
KEEP: Final = 0.5  # seconds between two looks after a lock
RECENT: Final = 10_000  # exchanges that are remembered here for a store that loses its data
PROVEN: Final = 10_000  # refresh tokens that are remembered as nobody's invention
POLL: Final = 0.05  # seconds between two looks for what another process exchanges
DAY: Final = 86400.0
USED: Final = 30 * DAY  # how long it is remembered that a refresh token is spent
RETIRED: Final = 3600.0  # the same of one of which a successor has been presented
STEPS: Final = 16  # generations that a late caller may be behind

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
    """Tokens, and what they were exchanged for."""

    old: TokenSet
    new: TokenSet


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
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        report: Callable[[str, str], None],
    ) -> None:
        self._exchange = exchange
        self._times: Final = times
        self._store: Final = store
        self._hash_of: Final = hash_of
        self._now: Final = now
        self._spawn: Final = spawn
        self._report: Final = report
        self._running: dict[str, asyncio.Task[TokenSet]] = {}
        self._unsaved: dict[str, TokenSet] = {}  # successors that the store did not take yet
        self._recent: dict[str, _Exchanged] = {}  # what this process exchanged, for a store's loss
        self._breaker: Final = Breaker()
        self._proven: dict[str, None] = {}  # refresh tokens that no stranger has made up
        self._settled_at = 0.0
        self.epoch: bytes | None = None  # of the store, as `net.keeper` saw it last
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
        """The newest tokens of a session; by an exchange where none is good enough yet.

        `rejected` is an access token that an upstream did not take; `is_sealed`: the tokens came in
        a session that no stranger can make up. Raises `RefreshRefused`, `RefreshSuperseded`,
        `RefreshUnavailable` and `StoreUnavailable`; the exchange itself goes on, whoever waits for
        it.
        """
        try:
            return await self._renewed(tokens, rejected, is_sealed=is_sealed)
        except RefreshUnavailable:
            newest = await self.newest(tokens)
            is_new = newest != tokens and newest.access_token != rejected
            if is_new and newest.is_valid(self._now()):
                return newest  # due itself, but good enough for now
            raise

    async def _renewed(
        self, tokens: TokenSet, rejected: str | None, *, is_sealed: bool
    ) -> TokenSet:
        """Raises what `renew` raises."""
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
    ) -> TokenSet:
        """Raises `TimeoutError`, and what `renew` raises."""
        async with asyncio.timeout(seconds):
            for _ in range(STEPS):
                newest = await self.newest(tokens)
                if newest.access_token != rejected and not self.is_due(newest, self._now()):
                    return newest
                if is_sealed:
                    self._prove(newest)
                tokens = await asyncio.shield(self._under_way(newest, rejected))
                if tokens.access_token != rejected and tokens.is_valid(self._now()):
                    return tokens
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
        for old in before.decode().split():
            await self._retire(old)
        await self._store.remove(f"prev:{own}")

    async def _retire(self, old: str) -> None:
        """A token whose successor is in use leads on for `grace`, and is soon presented no more.

        Raises `StoreUnavailable`.
        """
        self._recent.pop(old, None)
        successor = await self._store.get(f"next:{old}")
        if successor is not None:
            await self._store.put(f"next:{old}", successor, self._times.grace)
        await self._store.replace(f"used:{old}", _DONE, _DONE, self._times.grace + RETIRED)
        await self._store.remove(f"prev:{old}")

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
        await self._write(own, exchanged.old, exchanged.new)
        return exchanged.new

    async def restore(self) -> None:
        """Writes once more what was exchanged here lately. Raises `StoreUnavailable`."""
        for own, exchanged in tuple(self._recent.items()):
            await self._write(own, exchanged.old, exchanged.new)

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
        await self._settle()
        async with self._lock(own) as is_mine:
            successor = await self._successor(own)
            if successor is not None and (
                successor.refresh_token != tokens.refresh_token
                or (successor.access_token != rejected and not self.is_due(successor, self._now()))
            ):
                return successor
            if not is_mine:
                raise RefreshUnavailable("another process is still waiting for the provider")
            await self._check_use(own, tokens, rejected)
            with self._turn(own):
                # Anybody can make tokens up, and a provider may leave those without an answer.
                known_for = USED if own in self._proven else RETIRED
                await self._store.put(f"used:{own}", _SENT, known_for)
                renewal = await self._ask(own, tokens)
            if renewal.outcome is Outcome.RENEWED and renewal.tokens is not None:
                await self._save(own, tokens, renewal.tokens)
                return renewal.tokens
            return await self._failed(own, renewal)

    async def _settle(self) -> None:
        """Waits where the store has lost its data, locks among them.

        By then the others have taken theirs again, and written what they have exchanged.
        """
        if self.epoch is not None and await self._store.get("epoch") != self.epoch:
            self.lost_data()
        remaining = self._settled_at - self._now()
        if remaining > 0:
            await asyncio.sleep(remaining)

    def lost_data(self) -> None:
        """The store turns out to have lost its data just now."""
        self._settled_at = self._now() + SETTLED

    @asynccontextmanager
    async def _lock(self, own: str) -> AsyncIterator[bool]:
        """Holds the lock, or waits until its holder has written a successor (False).

        Raises `StoreUnavailable`: without the lock nothing is exchanged.
        """
        key, owner = f"lock:{own}", os.urandom(16).hex().encode()
        loop = asyncio.get_running_loop()
        until = loop.time() + EXCHANGE
        before = await self._store.get(f"next:{own}")
        while not await self._is_taken(key, owner):
            await asyncio.sleep(POLL)
            if await self._store.get(f"next:{own}") != before or loop.time() > until:
                yield False
                return
        keeper = loop.create_task(self._keep_lock(key, owner))
        try:
            yield True
        finally:
            keeper.cancel()
            try:
                await self._store.remove(key, owner)
            except StoreUnavailable:
                self._spawn(self._unlock_later(key, owner))

    async def _is_taken(self, key: str, owner: bytes) -> bool:
        """Takes the lock if it is free; what may have been taken in trouble is let go again.

        Raises `StoreUnavailable`.
        """
        try:
            return await self._store.add(key, owner, LOCK)
        except StoreUnavailable:
            self._spawn(self._unlock_later(key, owner))
            raise

    async def _keep_lock(self, key: str, owner: bytes) -> None:
        """Holds the lock longer; takes it once more from a store that has lost its data."""
        while True:
            await asyncio.sleep(KEEP)
            with suppress(StoreUnavailable):
                if not await self._store.replace(key, owner, owner, LOCK):
                    await self._store.add(key, owner, LOCK)

    async def _unlock_later(self, key: str, owner: bytes) -> None:
        """Lets a lock go as soon as the store can be told, or it would outlast the trouble."""
        until = self._now() + LOCK
        while self._now() < until:
            await asyncio.sleep(POLL * 5)
            with suppress(StoreUnavailable):
                await self._store.remove(key, owner)
                return

    async def _check_use(self, own: str, tokens: TokenSet, rejected: str | None) -> None:
        """Raises `RefreshSuperseded` or `RefreshUnavailable` if the token must not be used."""
        state = await self._store.get(f"used:{own}")
        if state == _DONE:
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

        Raises `RefreshUnavailable`.
        """
        began = self._now()
        try:
            renewal = await self._exchange(tokens)
        except ProviderUnavailable as trouble:
            self._fail(own, began, Trouble.AWAY, trouble.detail)
            if not trouble.sent:
                await self._unmark(own)
            raise RefreshUnavailable(trouble.detail) from None
        if renewal.outcome is not Outcome.TROUBLE:
            with self._noticed():
                is_renewed = renewal.outcome is Outcome.RENEWED
                self._breaker.answered(own, is_renewed=is_renewed)
            return renewal
        is_refused = self._fail(own, began, renewal.trouble, renewal.why)
        await self._unmark(own)  # it has answered, and it has not renewed
        if is_refused:
            return Renewal(Outcome.REFUSED, why=f"{renewal.why}, while others are renewed")
        raise RefreshUnavailable(renewal.why)

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
        with suppress(StoreUnavailable):
            await self._store.remove(f"used:{own}")

    async def _failed(self, own: str, renewal: Renewal) -> TokenSet:
        """The provider refuses the token: unless its successor has turned up, that is the end."""
        successor = await self._successor(own)
        if successor is not None:
            return successor
        await self._unmark(own)  # it is good for nothing, sent once or twice
        self.counts["refused"] += 1
        self._report("refresh refused", renewal.why)
        raise RefreshRefused(renewal.why)

    # -- what was got ---------------------------------------------------------------------------

    async def _save(self, own: str, old: TokenSet, new: TokenSet) -> None:
        """Writes the successor before anybody else may exchange. Never raises: it is all there is.

        What the store does not take is kept here, and written once it does.
        """
        self.counts["renewed"] += 1
        self._prove(new)
        self._unsaved[own] = new
        self._recent[own] = _Exchanged(old, new)
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        try:
            await self._write(own, old, new)
        except StoreUnavailable as trouble:
            self._report("renewed tokens are not stored yet", trouble.detail)
            self._spawn(self._write_later(own, old, new))
        else:
            self._unsaved.pop(own, None)

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

    async def _write_later(self, own: str, old: TokenSet, new: TokenSet) -> None:
        for attempt in range(1, 600):
            await asyncio.sleep(min(0.25 * attempt, 5.0))
            with suppress(StoreUnavailable):
                await self._write(own, old, new)
                break
        self._unsaved.pop(own, None)
