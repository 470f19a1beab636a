"""What one process learns of a session, another on the same store knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from sidecar.core.attributes import Scope
from sidecar.core.cookies import NameMatcher
from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.raw import raw_source
from sidecar.core.proof import Proof
from sidecar.core.tickets import Signer
from sidecar.core.token_response import Outcome, Renewal
from sidecar.core.token_set import TokenSet
from sidecar.core.view import SessionView, ViewReader
from sidecar.net.store import outbox as outboxes
from sidecar.net.store import watch as watches
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions import tombstones
from sidecar.sessions.broadcast import SHARED
from sidecar.sessions.coordinator import SessionCoordinator
from sidecar.sessions.local import local_sessions
from sidecar.sessions.refresher import Refresher, RefreshTimes
from sidecar.sessions.session_records import FORMER, SessionRecords
from sidecar.sessions.shared import open_shared
from sidecar.sessions.succession import RETIRED

NOW = 1_800_000_000.0
SIGNER = Signer([b"s" * 32])
PAIR = b"access_token=a1; refresh_token=r1"


class Flaky(MemoryStore):
    """A store that can be down, and can lose its data."""

    down = False

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise StoreUnavailable("down")
        return await super().get(key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        if self.down:
            raise StoreUnavailable("down")
        await super().put(key, value, seconds)


class Process:
    """One process, as far as sessions go."""

    def __init__(self, store: MemoryStore) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.said: list[str] = []
        matcher = NameMatcher(["access_token", "refresh_token"])
        source = raw_source(cookie="access_token", refresh_cookie="refresh_token")
        self.sessions = local_sessions(
            ViewReader((source,), matcher, matcher), SIGNER, leeway=30.0, is_shared=True
        )
        self.outbox = outbox = Outbox(self.spawn)
        self.watch = watch = StoreWatch(store, self.said.append)
        refresher = Refresher(
            self._exchange,
            RefreshTimes(30.0, 30.0),
            store,
            hash_of=SIGNER.fingerprint,
            now=self.now,
            outbox=outbox,
            watch=watch,
            report=lambda *_: None,
        )
        records = SessionRecords(store, self.now)
        self.shared = open_shared(
            self.sessions,
            records,
            refresher=refresher,
            stored=None,
            store=store,
            outbox=outbox,
            watch=watch,
            now=self.now,
            spawn=self.spawn,
        )
        self.coordinator = SessionCoordinator(
            self.sessions,
            records,
            refresher,
            None,
            self.shared.broadcast,
            now=self.now,
            orphaned=lambda _: None,
        )

    async def renew(self, view: SessionView, rejected: str) -> SessionView:
        """The session after an upstream has rejected a token."""
        return (await self.coordinator.recover(view, Scope(), rejected))[0]

    async def close(self) -> None:
        self.shared.feed.stop()
        await self.watch.close()

    @staticmethod
    def now() -> float:
        return NOW + asyncio.get_running_loop().time()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _exchange(self, tokens: TokenSet) -> Renewal:
        assert tokens.refresh_token is not None
        number = int(tokens.refresh_token[1:]) + 1
        new = TokenSet(f"a{number}", f"r{number}", self.now() + 600, self.now())
        return Renewal(Outcome.RENEWED, new)

    async def present(self, cookie: bytes = PAIR) -> SessionView:
        """A session that is ready for a request."""
        presented = self.sessions.directory.present(cookie, self.now())
        return await self.coordinator.ready(presented, Scope(), renews=True, by_cookie=True)

    def end(self, view: SessionView, *, is_accepted: bool = True) -> None:
        """Ends the session that requests with this view are served with.

        `is_accepted`: an upstream has accepted its token before.
        """
        session = view.session(view.fingerprint)
        assert session is not None
        if is_accepted:
            self.sessions.evidence.accept(session.fingerprint)
        self.sessions.revocations.revoke(session, self.now())

    async def is_live(self, cookie: bytes = PAIR) -> bool:
        presented = await self.present(cookie)
        return self.sessions.revocations.live_fingerprint(presented, self.now()) is not None

    async def settled(self) -> None:
        """What was begun in the background is done."""
        while self.tasks:
            await asyncio.gather(*self.tasks)
            await asyncio.sleep(0)  # for their callbacks: from Python 3.12 on, gather may not wait


@pytest.fixture
async def store() -> Flaky:
    return Flaky(lambda _: None)


@pytest.fixture
async def processes(store: Flaky) -> AsyncIterator[tuple[Process, Process]]:
    one, two = Process(store), Process(store)
    for process in (one, two):
        await process.shared.feed.start()
    yield one, two
    for process in (one, two):
        await process.settled()
        await process.close()


async def test_death_is_known_everywhere(processes: tuple[Process, Process], store: Flaky) -> None:
    """To who listens at once, and to who begins later when the session is presented."""
    one, two = processes
    assert await two.is_live()
    one.end(await one.present())
    await one.settled()
    assert not await two.is_live()
    assert not await Process(store).is_live()
    for piece in (b"access_token=a1", b"refresh_token=r1", b"access_token=x; refresh_token=r1"):
        assert not await two.is_live(piece)


async def test_credential_that_is_handed_out_again_lives_everywhere(
    processes: tuple[Process, Process],
) -> None:
    one, two = processes
    one.end(await one.present())
    await one.settled()
    nobody = one.sessions.directory.present(b"", one.now())
    lines = [b"access_token=a1; Path=/", b"refresh_token=r1; Path=/"]
    began = one.now() + 1
    assert one.sessions.set_cookies.admit(lines, nobody, began, one.now()) == lines
    await one.settled()
    assert await two.is_live()


async def test_renewed_session_keeps_its_name(processes: tuple[Process, Process]) -> None:
    """In the process that renewed it, and in others by what the store says."""
    one, two = processes
    old = await one.present()
    new = await one.renew(old, rejected="a1")
    assert new.reading.token == "a2"
    assert new.fingerprint == old.fingerprint
    later = await two.present(b"access_token=a2; refresh_token=r2")
    assert later.fingerprint == old.fingerprint


async def test_rejected_token_leads_on_in_each_process(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """In those that have it open, and in others by what the store says; without another exchange.

    Each renewal is sent once, however many requests find it.
    """
    heard: list[bytes] = []
    await store.subscribe(heard.append)
    one, two = processes
    views = [await one.present(), await one.present(PAIR + b"; a=b")]
    assert (await two.present()).reading.token == "a1"
    await asyncio.gather(*(one.renew(view, rejected="a1") for view in views * 10))
    await one.settled()
    assert sum(b"renewed" in message for message in heard) == 1
    for process in (one, two, Process(store)):
        for cookie in (PAIR, PAIR + b"; a=b", PAIR + b"; c=d"):
            assert (await process.present(cookie)).reading.token == "a2"
    newest = await two.present(b"access_token=a2; refresh_token=r2")
    assert (newest.reading.token, newest.sets) == ("a2", ())


async def test_bearer_of_a_rejected_token_is_still_its_sessions(
    processes: tuple[Process, Process],
) -> None:
    """A frontend's server may hold it while its page is made: it is told, and nobody else is."""
    bearer = b"Bearer a1"
    for process in processes:
        await process.present()
    one, two = processes
    await one.renew(await one.present(), rejected="a1")
    await one.settled()
    for process in processes:
        known = process.sessions.directory.recognise(bearer, process.now())
        assert known is not None
        assert known.fingerprint == (await two.present()).fingerprint


async def test_unknown_session_cannot_be_used_without_the_store(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """One that is known can: 503 at the worst, never a logout (T61)."""
    one, two = processes
    assert await one.is_live()
    store.down = True
    assert await one.is_live()
    with pytest.raises(StoreUnavailable):
        await two.present()
    store.down = False
    assert await two.is_live()


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_logout_of_a_renewed_session_counts_where_the_store_could_not_be_asked(
    processes: tuple[Process, Process], store: Flaky, is_accepted: bool
) -> None:
    """The process that ends it has not seen the renewal, and cannot ask for the first name."""
    one, two = processes
    await one.renew(await one.present(), rejected="a1")
    one.sessions.evidence.accept((await one.present()).fingerprint or "")
    await one.settled()
    newest = b"access_token=a2; refresh_token=r2"
    assert await one.is_live(newest)
    store.down = True
    two.end(two.sessions.directory.present(newest, two.now()), is_accepted=is_accepted)
    await asyncio.sleep(0.05)
    store.down = False
    await two.settled()
    await one.settled()
    for cookie in (PAIR, newest, b"access_token=a2", b"access_token=a1"):
        assert not await one.is_live(cookie)
        assert not await two.is_live(cookie)
        assert not await Process(store).is_live(cookie)


async def test_death_that_the_store_did_not_take_is_told_later(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    one, two = processes
    presented = await one.present()
    store.down = True
    one.end(presented)
    await asyncio.sleep(0.05)
    store.down = False
    await one.settled()
    assert not await two.is_live()


async def test_what_a_store_has_lost_is_written_once_more(
    processes: tuple[Process, Process], store: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead sessions, and what tokens were exchanged for: by whoever knows of them."""
    monkeypatch.setattr(watches, "WATCH", 0.02)
    one, _ = processes
    one.end(await one.present())
    other = b"access_token=b1; refresh_token=r7"
    await one.renew(await one.present(other), rejected="b1")
    await one.settled()
    await asyncio.sleep(watches.WATCH + 0.6)
    store._clear()
    async with asyncio.timeout(5):
        while await Process(store).is_live():
            await asyncio.sleep(0.02)
    late = await Process(store).renew(await Process(store).present(other), rejected="b1")
    assert late.reading.token == "a8"


async def ended(process: Process, cookie: bytes, *, is_accepted: bool) -> str:
    """The fingerprint of a session that has ended, which the store has been told of."""
    view = await process.present(cookie)
    process.end(view, is_accepted=is_accepted)
    await process.settled()
    assert view.fingerprint is not None
    return view.fingerprint


def seconds_left(store: Flaky, key: str) -> float | None:
    """How long an entry lives from now; None where there is none."""
    entry = store._space(key).entries.get(key)
    return None if entry is None else entry.ends - store._clock()


async def test_death_of_what_nobody_accepted_is_known_elsewhere_for_a_minute(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """Anybody can log out with a cookie that he made up; nothing of it stays in the store."""
    one, two = processes
    assert await two.is_live(b"access_token=made-up")
    fingerprint = await ended(one, b"access_token=made-up", is_accepted=False)
    left = seconds_left(store, f"dead:{fingerprint}")
    assert left is not None
    assert 50 < left <= SHARED
    assert not await two.is_live(b"access_token=made-up")
    assert not await one.is_live(b"access_token=made-up")


async def test_deaths_of_nobody_are_told_within_a_budget(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """They take no place in the store, or among the messages, that those of somebody need."""
    one, two = processes
    real = await ended(one, b"access_token=real", is_accepted=True)
    told: list[bytes] = []
    await store.subscribe(told.append)
    for number in range(1000):
        view = await one.present(b"access_token=made-up-%d" % number)
        one.end(view, is_accepted=False)
    await one.settled()
    assert len(told) <= 210
    dead = [key for key in store._kept.entries if key.startswith("dead:")]
    assert len(dead) <= 211
    assert one.shared.broadcast.unproven.refused >= 790
    left = seconds_left(store, f"dead:{real}")
    assert left is not None
    assert left > 29 * 86400
    assert not await two.is_live(b"access_token=real")


async def test_death_of_a_session_that_was_accepted_elsewhere_counts_in_full(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """A logout may come to a process that has not served its session before."""
    one, two = processes
    view = await one.present(b"access_token=real")
    assert view.fingerprint is not None
    one.sessions.evidence.accept(view.fingerprint)
    await one.settled()
    elsewhere = await two.present(b"access_token=real")
    assert two.coordinator.doubts(elsewhere)
    await two.coordinator.vouch_for(elsewhere)
    assert not two.coordinator.doubts(elsewhere)
    two.end(elsewhere, is_accepted=False)
    await two.settled()
    left = seconds_left(store, f"dead:{view.fingerprint}")
    assert left is not None
    assert left > 29 * 86400


async def test_who_knows_more_in_favour_of_a_session_tells_its_death_in_full(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """If whoever ended it did not know, and was not told."""
    one, two = processes
    view = await one.present(b"access_token=real")
    assert view.fingerprint is not None
    one.sessions.evidence.accepted.add(view.fingerprint)  # and the store was not told
    await ended(two, b"access_token=real", is_accepted=False)
    await one.settled()
    left = seconds_left(store, f"dead:{view.fingerprint}")
    assert left is not None
    assert left > 29 * 86400
    assert (
        one.sessions.revocations.tombstones.by_fingerprint[view.fingerprint].proof is Proof.ACCEPTED
    )
    assert (
        two.sessions.revocations.tombstones.by_fingerprint[view.fingerprint].proof is Proof.ACCEPTED
    )


async def test_death_of_what_nobody_accepted_shortens_none_that_is_told(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """Where both end one session at once."""
    one, two = processes
    cookie = b"access_token=real"
    first, second = await one.present(cookie), await two.present(cookie)
    one.end(first)
    two.end(second, is_accepted=False)
    await one.settled()
    await two.settled()
    left = seconds_left(store, f"dead:{first.fingerprint}")
    assert left is not None
    assert left > 29 * 86400


async def test_a_logout_does_not_wait_for_a_store_that_hangs(
    processes: tuple[Process, Process], store: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = processes
    view = await one.present(b"access_token=real")

    async def hang(_: str) -> bytes | None:
        await asyncio.sleep(30)
        return None

    monkeypatch.setattr(store, "get", hang)
    began = asyncio.get_running_loop().time()
    await one.coordinator.vouch_for(view)
    assert asyncio.get_running_loop().time() - began < 5
    monkeypatch.undo()


async def test_tombstones_that_make_room_leave_the_store_as_well(
    processes: tuple[Process, Process], store: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream may answer 2xx to everybody on some path: so it is no bound for a store."""
    one, _ = processes
    monkeypatch.setattr(tombstones, "ROOM", {**tombstones.ROOM, Proof.ACCEPTED: 5000})
    for number in range(30):
        await ended(one, b"access_token=t%d" % number, is_accepted=True)
    dead = [key for key in store._kept.entries if key.startswith("dead:")]
    assert (
        len(dead) == len(one.sessions.revocations.tombstones) == 5000 // tombstones.TOMBSTONE_COST
    )
    assert await one.is_live(b"access_token=t0")
    assert not await one.is_live(b"access_token=t29")


async def test_a_renewed_session_is_vouched_for(processes: tuple[Process, Process]) -> None:
    """By the provider; other processes know it by the name that it keeps."""
    one, two = processes
    view = await one.renew(await one.present(), rejected="a1")
    await one.settled()
    session = view.session(view.fingerprint)
    assert session is not None
    assert one.sessions.evidence.of(session) is Proof.VOUCHED
    elsewhere = await two.present(b"access_token=a2; refresh_token=r2")
    found = elsewhere.session(elsewhere.fingerprint)
    assert found is not None
    assert found.fingerprint == session.fingerprint
    assert two.sessions.evidence.of(found) is Proof.VOUCHED


async def test_former_tokens_of_a_session_are_known_for_a_day(
    processes: tuple[Process, Process], store: Flaky
) -> None:
    """The newest refresh token for as long as its cookie lives; so a busy session stays small."""
    one, _ = processes
    cookie = PAIR
    for number in range(2, 12):
        await one.renew(await one.present(cookie), rejected=f"a{number - 1}")
        cookie = b"access_token=a%d; refresh_token=r%d" % (number, number)
    await one.settled()
    left = {
        token: seconds_left(store, f"alias:{SIGNER.fingerprint(token)}") or 0.0
        for number in range(1, 12)
        for token in (f"a{number}", f"r{number}")
    }
    long_lived = [token for token, seconds in left.items() if seconds > FORMER]
    assert long_lived == ["r11"]
    assert all(left[f"a{number}"] <= 600 + RETIRED for number in range(2, 12))
    assert left["r11"] > 29 * 86400
    assert all(left[f"r{number}"] > 80_000 for number in range(1, 12))


async def test_what_waits_for_a_store_that_is_down_is_bounded(
    processes: tuple[Process, Process], store: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as strangers can have it wait."""
    one, _ = processes
    monkeypatch.setattr(outboxes, "WAITING", 5)
    views = [await one.present(b"access_token=t%d" % number) for number in range(20)]
    await one.settled()
    store.down = True
    for view in views:
        one.end(view)
    await asyncio.sleep(0.05)
    assert one.outbox.pending.total() == 5
    store.down = False
    await one.settled()
    assert len([key for key in store._kept.entries if key.startswith("dead:")]) == 5


async def test_credentials_added_to_a_dead_session_are_bounded(
    processes: tuple[Process, Process],
) -> None:
    """Whoever holds a dead token can present it beside any other."""
    one, _ = processes
    fingerprint = await ended(one, PAIR, is_accepted=True)
    for number in range(100):
        assert not await one.is_live(b"access_token=x%d; refresh_token=r1" % number)
    dead = one.sessions.revocations.tombstones.by_fingerprint[fingerprint]
    assert len(dead.credentials) <= tombstones.MAX_NAMES
    assert not await one.is_live(PAIR)
