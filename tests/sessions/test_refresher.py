"""One exchange a session, whatever happens: several processes on one store, and trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar.core.errors import (
    RefreshRefused,
    RefreshSuperseded,
    RefreshUnavailable,
    StoreUnavailable,
)
from sidecar.core.token_response import Outcome, Renewal
from sidecar.core.token_set import TokenSet, to_bytes
from sidecar.net.outbound_answer import Unreachable
from sidecar.net.store import lease
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions import breaker, succession
from sidecar.sessions import refresher as module
from sidecar.sessions.refresh_grants import ANSWER
from sidecar.sessions.refresher import Refresher, RefreshTimes

HOUR = 3600.0


class Provider:
    """Rotates, and kills the family at a second use. `trouble` is raised in place of an answer."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.good = "r0"
        self.exchanges: list[str] = []
        self.reuses = 0
        self.rotates = True
        self.delay = 0.0
        self.lifetime = HOUR
        self.trouble: Exception | None = None
        self.refuses = False

    async def __call__(self, tokens: TokenSet) -> Renewal:
        assert tokens.refresh_token is not None
        self.exchanges.append(tokens.refresh_token)
        await asyncio.sleep(self.delay)
        if self.trouble is not None:
            raise self.trouble
        if tokens.refresh_token != self.good or self.refuses:
            self.reuses += tokens.refresh_token != self.good
            return Renewal(Outcome.REFUSED, why="invalid_grant")
        number = len(self.exchanges)
        self.good = f"r{number}" if self.rotates else self.good
        now = self.now()
        return Renewal(Outcome.RENEWED, TokenSet(f"a{number}", self.good, now + self.lifetime, now))


class Flaky(MemoryStore):
    """A store that is down for some of its operations."""

    down: frozenset[str] = frozenset()

    def _check(self, name: str) -> None:
        if name in self.down:
            raise StoreUnavailable("down")

    async def get(self, key: str) -> bytes | None:
        self._check("get")
        return await super().get(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        self._check("put")
        if key.startswith("next:"):
            self._check("put next")
        await super().put(key, value, seconds)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        self._check("replace")
        return await super().replace(key, old, new, seconds)

    def snapshot(self) -> list[dict[str, Any]]:
        return [dict(space.entries) for space in (self._kept, *self._spaces.values())]

    def go_back(self, snapshot: list[dict[str, Any]]) -> None:
        self.lose_everything()
        for space, entries in zip((self._kept, *self._spaces.values()), snapshot, strict=True):
            space.entries.update(entries)

    def lose_everything(self) -> None:
        for space in (self._kept, *self._spaces.values()):
            space.entries.clear()

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        self._check("add")
        added = await super().add(key, value, seconds)
        self._check("add, though it is done")
        return added


class Process(Refresher):
    """One process."""

    async def renew(
        self, tokens: TokenSet, rejected: str | None = None, *, is_sealed: bool = False
    ) -> TokenSet:
        """The newest tokens."""
        return (await self.renewed(tokens, rejected, is_sealed=is_sealed)).tokens


class World:
    """Processes that share a store and a provider, with a clock that can be moved."""

    def __init__(self) -> None:
        self.offset = 1_800_000_000.0
        self.store = Flaky(lambda _: None)
        self.provider = Provider(self.now)
        self.tasks: set[asyncio.Task[None]] = set()
        self.said: list[str] = []

    def now(self) -> float:
        return self.offset + asyncio.get_running_loop().time()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def process(self, *, is_watching: bool = False) -> Process:
        return Process(
            self.provider,
            RefreshTimes(leeway=30, grace=0.2),
            self.store,
            hash_of=lambda token: f"h-{token}",
            now=self.now,
            outbox=Outbox(self.spawn),
            watch=StoreWatch(self.store, self.said.append) if is_watching else None,
            report=lambda event, why: self.said.append(f"{event}: {why}"),
        )

    def tokens(self, expires_in: float = -5.0) -> TokenSet:
        """The session's first tokens."""
        return TokenSet("a0", "r0", self.now() + expires_in, self.now() + expires_in - HOUR)


@pytest.fixture
async def world() -> World:
    return World()


async def test_one_exchange_for_callers_in_several_processes(world: World) -> None:
    world.provider.delay = 0.2
    one, two, tokens = world.process(), world.process(), world.tokens()
    got = await asyncio.gather(*(p.renew(tokens) for p in (one, two) for _ in range(20)))
    assert {new.access_token for new in got} == {"a1"}
    assert world.provider.exchanges == ["r0"]


async def test_late_caller_follows_the_generations(world: World) -> None:
    """However many it is behind, within what has not been presented."""
    one, tokens = world.process(), world.tokens()
    for number in range(1, 4):
        tokens_now = await one.renew(tokens, rejected=f"a{number - 1}")
        assert tokens_now.access_token == f"a{number}"
    assert (await world.process().renew(tokens)).access_token == "a3"
    assert world.provider.exchanges == ["r0", "r1", "r2"]
    assert world.provider.reuses == 0


async def test_newer_generation_is_used_without_an_exchange(world: World) -> None:
    """A 401 for an old token (behaviour: 401, rule 1)."""
    one, tokens = world.process(), world.tokens()
    await one.renew(tokens)
    assert (await one.renew(tokens, rejected="a0")).access_token == "a1"
    assert len(world.provider.exchanges) == 1


@pytest.mark.parametrize("rotates", [True, False])
async def test_rejected_token_leads_on(world: World, rotates: bool) -> None:
    """Through later renewals, in each process, also if the store takes it late or loses it; one
    that was renewed before its expiry leads nobody on while it is good.
    """
    world.provider.rotates = rotates
    one, tokens = world.process(), world.tokens(expires_in=HOUR)
    assert not await one.leads(tokens)
    new = await one.renew(tokens, rejected="a0")
    later = await one.renew(new, rejected="a1")
    for process in (one, world.process()):
        assert [await process.leads(each) for each in (tokens, new, later)] == [True, True, False]
    world.store.lose_everything()
    await one.restore()
    assert [await world.process().leads(each) for each in (tokens, new)] == [True, True]
    world.store.down = frozenset(("put next",))
    last = await one.renew(later, rejected="a2")
    assert [await one.leads(each) for each in (later, last)] == [True, False]
    world.store.down = frozenset()
    due = TokenSet(last.access_token, last.refresh_token, world.now() + 5, world.now() - HOUR)
    await asyncio.sleep(0.5)
    await one.renew(due)
    assert not await one.leads(due)


async def test_entry_of_another_version_is_read(world: World) -> None:
    """Without `follows`, and with what a later version may add."""
    one, tokens = world.process(), world.tokens()
    await world.store.put("next:h-r0", to_bytes(TokenSet("a1", "r1")), HOUR)
    assert not await one.leads(tokens)
    await world.store.put(
        "next:h-r0", b'{"access_token":"a1","refresh_token":"r1","follows":[],"more":1}', HOUR
    )
    assert not await one.leads(tokens)
    assert (await one.newest(TokenSet("a0", "r0"))).access_token == "a1"


async def test_presented_successor_ends_the_old_tokens_grace(world: World) -> None:
    """In any process; then the old token is out of date, and never sent to the provider again."""
    one, two, tokens = world.process(), world.process(), world.tokens()
    new = await one.renew(tokens)
    await two.presented(new)
    assert await one.renew(tokens) == new
    await asyncio.sleep(0.3)
    for process in (one, two):
        with pytest.raises(RefreshSuperseded):
            await process.renew(tokens)
    assert world.provider.exchanges == ["r0"]


async def test_successor_that_nobody_presented_is_kept(world: World) -> None:
    """A server-side call may have got it and lost the Set-Cookie."""
    one, tokens = world.process(), world.tokens()
    new = await one.renew(tokens)
    await asyncio.sleep(0.3)
    assert await world.process().renew(tokens) == new


async def test_provider_that_does_not_rotate(world: World) -> None:
    """The same refresh token again and again, still one exchange at a time."""
    world.provider.rotates = False
    one, two, tokens = world.process(), world.process(), world.tokens()
    first = await asyncio.gather(one.renew(tokens), two.renew(tokens))
    assert {new.access_token for new in first} == {"a1"}
    await one.presented(first[0])
    again = await asyncio.gather(one.renew(first[0], "a1"), two.renew(first[0], "a1"))
    assert {new.access_token for new in again} == {"a2"}
    assert (await two.renew(tokens)).access_token == "a2"
    assert world.provider.exchanges == ["r0", "r0"]


# -- the provider's trouble ------------------------------------------------------------------------


async def test_refusal_ends_the_session(world: World) -> None:
    world.provider.refuses = True
    with pytest.raises(RefreshRefused):
        await world.process().renew(world.tokens())


async def test_lost_answer_is_not_asked_for_again_while_the_token_is_good(world: World) -> None:
    """T42: what became of the exchange is not known, and a second one could kill the session.

    Once the token has expired there is nothing left to lose.
    """
    world.provider.trouble = Unreachable("lost", sent=True)
    tokens = world.tokens(expires_in=20)
    for process in (world.process(), world.process()):
        for _ in range(3):
            with pytest.raises(RefreshUnavailable):
                await process.renew(tokens)
    assert world.provider.exchanges == ["r0"]
    world.provider.trouble = None
    world.offset += 60
    assert (await world.process().renew(tokens)).access_token == "a2"


async def test_late_caller_gets_a_successor_that_is_due_itself_while_the_provider_is_down(
    world: World,
) -> None:
    """A token that is good serves, whoever asks."""
    world.provider.lifetime = 20.0
    one, tokens = world.process(), world.tokens()
    new = await one.renew(tokens)
    world.offset += 12
    assert one.is_due(new, world.now())
    world.provider.trouble = Unreachable("down", sent=False)
    for process in (one, world.process()):
        assert await process.renew(tokens) == new
        with pytest.raises(RefreshUnavailable):
            await process.renew(tokens, rejected=new.access_token)
    world.offset += 10
    with pytest.raises(RefreshUnavailable):
        await one.renew(tokens)


async def test_provider_that_was_not_reached_is_asked_again(world: World) -> None:
    """After a pause, in which nobody asks it: no storm."""
    world.provider.trouble = Unreachable("refused", sent=False)
    one, tokens = world.process(), world.tokens(expires_in=20)
    for _ in range(5):
        with pytest.raises(RefreshUnavailable):
            await one.renew(tokens)
    assert len(world.provider.exchanges) == 1
    world.provider.trouble = None
    world.offset += breaker.PAUSES[0]
    assert (await one.renew(tokens)).access_token == "a2"


async def test_pauses_are_short_enough_for_its_return_to_be_noticed() -> None:
    """Within 10 s (behaviour: refresh)."""
    assert max(*breaker.PAUSES, *breaker.GAPS, ANSWER + breaker.GAPS[0]) < 10


async def test_waiting_is_bounded_and_the_exchange_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.1)
    world.provider.delay = 0.4
    one, tokens = world.process(), world.tokens()
    with pytest.raises(RefreshUnavailable):
        await one.renew(tokens)
    await asyncio.sleep(0.5)
    assert (await one.renew(tokens)).access_token == "a1"
    assert world.provider.exchanges == ["r0"]


async def test_caller_that_leaves_does_not_end_the_exchange(world: World) -> None:
    world.provider.delay = 0.2
    one, tokens = world.process(), world.tokens()
    task = asyncio.create_task(one.renew(tokens))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await one.renew(tokens)).access_token == "a1"
    assert world.provider.exchanges == ["r0"]


async def test_tokens_that_are_born_expired_are_not_renewed_for_ever(world: World) -> None:
    world.provider.lifetime = -1.0
    with pytest.raises(RefreshUnavailable):
        await world.process().renew(world.tokens())
    assert len(world.provider.exchanges) <= succession.STEPS


async def test_process_that_died_holds_the_lock_for_a_moment_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor is not known, but its lock ends by itself."""
    tokens = world.tokens()
    await world.store.add("lock:h-r0", b"dead process", 0.3)
    assert (await world.process().renew(tokens)).access_token == "a1"


# -- the store's trouble ---------------------------------------------------------------------------


@pytest.mark.parametrize("down", ["get", "add", "put"])
async def test_without_the_store_nothing_is_exchanged(world: World, down: str) -> None:
    """No lock, or no record that the token is about to be used (behaviour: refresh)."""
    world.store.down = frozenset({down})
    with pytest.raises(StoreUnavailable):
        await world.process().renew(world.tokens())
    assert world.provider.exchanges == []
    world.store.down = frozenset()
    assert (await world.process().renew(world.tokens())).access_token == "a1"


async def test_lock_that_was_taken_in_trouble_is_let_go(world: World) -> None:
    """A write that fails may have happened: its lock must not outlast the trouble."""
    world.store.down = frozenset({"add, though it is done"})
    with pytest.raises(StoreUnavailable):
        await world.process().renew(world.tokens())
    world.store.down = frozenset()
    await asyncio.gather(*world.tasks)
    assert await world.store.get("lock:h-r0") is None


async def test_renewed_tokens_are_not_lost_where_the_store_fails_behind_the_exchange(
    world: World,
) -> None:
    """They serve in this process at once, and everywhere as soon as the store takes them."""
    world.store.down = frozenset({"put next"})
    one, tokens = world.process(), world.tokens()
    assert (await one.renew(tokens)).access_token == "a1"
    assert (await one.renew(tokens)).access_token == "a1"
    world.store.down = frozenset()
    await asyncio.gather(*world.tasks)
    assert (await world.process().renew(tokens)).access_token == "a1"
    assert world.provider.exchanges == ["r0"]


async def test_lock_is_let_go_behind_the_successor(world: World) -> None:
    """It is held as long as it takes the store, or another process would send the spent token."""
    world.store.down = frozenset({"put next"})
    one, two, tokens = world.process(), world.process(), world.tokens()
    assert (await one.renew(tokens)).access_token == "a1"
    waiting = asyncio.create_task(two.renew(tokens))
    await asyncio.sleep(1.2 * lease.LEASE)
    assert not waiting.done()
    assert await world.store.get("lock:h-r0") is not None
    world.store.down = frozenset()
    assert (await waiting).access_token == "a1"
    await asyncio.gather(*world.tasks)
    assert world.provider.exchanges == ["r0"]
    assert await world.store.get("lock:h-r0") is None
    assert await world.store.get("lock:h-r0:sent") is None


async def test_process_that_is_cut_off_comes_back_with_the_answer(world: World) -> None:
    """Its lock has ended meanwhile. What it has sent is not sent again."""
    world.provider.delay = 1.0
    one, two, tokens = world.process(), world.process(), world.tokens()
    first = asyncio.create_task(one.renew(tokens))
    await asyncio.sleep(0.2)
    world.store.down = frozenset({"put next", "replace"})
    await world.store.remove("lock:h-r0")
    second = asyncio.create_task(two.renew(tokens))
    assert (await first).access_token == "a1"
    await asyncio.sleep(0.5)
    assert not second.done()
    world.store.down = frozenset()
    assert (await second).access_token == "a1"
    assert world.provider.exchanges == ["r0"]


@pytest.mark.parametrize("look", range(12))
async def test_successor_is_found_whenever_it_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    """The process that has sent the token writes what it got between any two looks of another."""
    tokens, store, looks = world.tokens(), world.store, 0
    await store.put("lock:h-r0:sent", b"of another process", HOUR)
    await store.put("used:h-r0", b"sent", HOUR)
    read = store.get

    async def get(key: str) -> bytes | None:
        nonlocal looks
        value = await read(key)
        if looks == look:
            now = world.now()
            await store.put("next:h-r0", to_bytes(TokenSet("a1", "r1", now + HOUR, now)), HOUR)
            await store.put("used:h-r0", b"done", HOUR)
            await store.remove("lock:h-r0:sent")
        looks += 1
        return value

    monkeypatch.setattr(store, "get", get)
    assert (await world.process().renew(tokens)).access_token == "a1"
    assert world.provider.exchanges == []


async def test_lock_that_a_store_gone_back_has_lost_is_nobody_elses(world: World) -> None:
    """Who waited for it finds it free, and the store without what this process has counted."""
    world.provider.delay = 1.0
    one, two = (world.process(is_watching=True) for _ in range(2))
    tokens, snapshot = world.tokens(), world.store.snapshot()
    first = asyncio.create_task(one.renew(tokens))
    await asyncio.sleep(0.2)
    second = asyncio.create_task(two.renew(tokens))
    await asyncio.sleep(0.2)
    world.store.go_back(snapshot)
    assert [(await task).access_token for task in (first, second)] == ["a1", "a1"]
    assert world.provider.exchanges == ["r0"]


async def test_process_that_died_while_renewing_holds_nobody_up(world: World) -> None:
    """Whose token is good is served at once, as soon as the lock has ended."""
    tokens = world.tokens(expires_in=20)
    dead = lease.Lease(world.store, "h-r0")
    assert await dead.take()
    assert await dead.claim()
    await world.store.put("used:h-r0", b"sent", HOUR)
    dead.abandon()
    one, loop = world.process(), asyncio.get_running_loop()
    began = loop.time()
    while True:
        asked = loop.time()
        with pytest.raises(RefreshUnavailable):
            await one.renew(tokens)
        if loop.time() - asked < 0.5:
            break
    assert loop.time() - began < lease.LEASE + 3
    assert world.provider.exchanges == []


async def test_token_before_the_last_is_not_sent_to_a_provider_when_the_store_is_empty(
    world: World,
) -> None:
    """Though its successor has been presented; by who exchanged it, and by who was shown that."""
    one, two, tokens = world.process(), world.process(), world.tokens()
    new = await one.renew(tokens)
    for process in (two, one):
        await world.store.put("prev:h-r1", b"h-r0", HOUR)
        await process.presented(new)
    for process in (one, two):
        world.store.lose_everything()
        assert (await process.renew(tokens)).access_token == "a1"
    await asyncio.sleep(0.3)
    for process in (one, two):
        world.store.lose_everything()
        with pytest.raises(RefreshSuperseded):
            await process.renew(tokens)
    assert world.provider.exchanges == ["r0"]


async def test_restored_tokens_are_those_of_the_last_exchange(world: World) -> None:
    """Of a provider that does not rotate, by their generation: clocks of processes differ."""
    world.provider.rotates = False
    one, two, tokens = world.process(), world.process(), world.tokens()
    first = await one.renew(tokens)
    world.offset -= HOUR
    second = await two.renew(first, rejected="a1")
    assert (first.generation, second.generation) == (1, 2)
    await one.restore()
    assert (await world.process().renew(tokens, rejected="a0")).access_token == "a2"


async def test_end_of_the_process_waits_for_what_was_sent(world: World) -> None:
    """And for its writing."""
    world.provider.delay = 0.5
    one, tokens = world.process(), world.tokens()
    task = asyncio.create_task(one.renew(tokens))
    await asyncio.sleep(0.1)
    task.cancel()
    world.store.down = frozenset({"put next"})
    asyncio.get_running_loop().call_later(1.0, setattr, world.store, "down", frozenset())
    await one.finish(10.0)
    assert (await world.process().renew(tokens)).access_token == "a1"
    assert world.provider.exchanges == ["r0"]


async def test_nothing_that_is_reported_holds_a_token(world: World) -> None:
    world.provider.refuses = True
    with pytest.raises(RefreshRefused):
        await world.process().renew(TokenSet("secret-a", "secret-r", 1.0, 0.0))
    assert world.said
    assert "secret" not in "".join(world.said)


def lifetimes(store: MemoryStore) -> dict[str, float]:
    """How long each entry of a session's renewals lives from now, in seconds."""
    now = store._clock()
    return {
        key: entry.ends - now
        for kind in ("next", "used", "lock")  # and `prev`, which has the room of `next`
        for key, entry in store._space(f"{kind}:").entries.items()
        if entry.ends > now
    }


async def test_a_spent_token_is_known_as_long_as_it_could_be_presented(world: World) -> None:
    """Once a later one is in use, for an hour: a session used for weeks leaves no more behind."""
    one, tokens = world.process(), world.tokens()
    for _ in range(40):
        tokens = await one.renew(tokens, rejected=tokens.access_token)
        await one.presented(tokens)
    kept = lifetimes(world.store)
    long_lived = {key for key, seconds in kept.items() if seconds > succession.RETIRED + 1}
    assert not long_lived
    assert all(f"used:h-r{number}" in kept for number in range(40))
    await asyncio.sleep(0.3)  # beyond `grace`
    with pytest.raises(RefreshSuperseded):
        await world.process().renew(world.tokens())
    assert world.provider.reuses == 0


async def test_what_nobody_presents_is_known_for_some_generations(world: World) -> None:
    """Also one that a client has been handed, and has not come back with yet."""
    one, tokens = world.process(), world.tokens()
    for _ in range(40):
        tokens = await one.renew(tokens, rejected=tokens.access_token)
    assert world.provider.exchanges == [f"r{number}" for number in range(40)]
    kept = lifetimes(world.store)
    long_lived = [key for key, seconds in kept.items() if seconds > succession.RETIRED + 1]
    assert 2 * succession.STEPS <= len(long_lived) <= 3 * succession.STEPS + 1
    assert kept["used:h-r39"] > 29 * succession.DAY
    await one.presented(tokens)
    assert max(lifetimes(world.store).values()) <= succession.RETIRED + 1


async def test_a_made_up_token_without_an_answer_is_known_for_an_hour(world: World) -> None:
    """One that the provider handed out, or that came sealed, as long as its cookie lives."""
    one = world.process()
    world.provider.trouble = Unreachable("gone", sent=True)
    for sealed in (False, True):
        tokens = TokenSet("a", f"token-{sealed}", world.now() - 5)
        with pytest.raises(RefreshUnavailable):
            await one.renew(tokens, is_sealed=sealed)
    kept = lifetimes(world.store)
    assert kept["used:h-token-False"] <= succession.RETIRED
    assert kept["used:h-token-True"] > 29 * succession.DAY


async def test_a_refused_token_leaves_nothing_behind(world: World) -> None:
    """Anybody can make tokens up."""
    one = world.process()
    for number in range(5):
        with pytest.raises(RefreshRefused):
            await one.renew(TokenSet("a", f"made-up-{number}", world.now() - 5))
    assert not lifetimes(world.store)


async def test_renewals_go_on_and_are_retired_in_a_store_that_is_full_of_them(world: World) -> None:
    """What leads from one generation to the next is not pushed out by what older ones left."""
    world.store = Flaky(
        lambda _: None, max_bytes=54_000
    )  # some forty entries of `used` and `alias`
    one, tokens = world.process(), world.tokens()
    for number in range(100):
        tokens = await one.renew(tokens, rejected=tokens.access_token)
        # Of somebody else, who comes back in a month.
        await world.store.put(f"alias:{number}", b"", 2 * succession.USED)
        await one.presented(tokens)
    assert world.provider.reuses == 0
    kept = lifetimes(world.store)
    assert not [key for key, seconds in kept.items() if key[:5] == "next:" and seconds > 1]
