"""What follows a logout, in lanes by what speaks for the session."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from sidecar.core.config.renewal import Hook
from sidecar.core.cookies import NameMatcher
from sidecar.core.formats.raw import raw_source
from sidecar.core.proof import Proof
from sidecar.core.record import replace
from sidecar.core.tickets import Signer
from sidecar.core.view import OpenedSession, ViewReader
from sidecar.net.outbound_answer import OutboundAnswer, Unreachable
from sidecar.net.store.memory import MemoryStore
from sidecar.sessions import logout_tasks as module
from sidecar.sessions.local import local_sessions
from sidecar.sessions.logout_tasks import ROOMS, LogoutTasks

NOW = 1_800_000_000.0
URL = "http://hook.test/"


class Hooks:
    """Where hooks are called: it answers, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.under_way = 0
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(
        self, method: str, url: str, limit: float, fields: dict[str, str], body: bytes | None
    ) -> OutboundAnswer:
        del method, url, limit, body
        self.asked.append(fields.get("Authorization", "").removeprefix("Bearer "))
        self.under_way += 1
        await self.may_answer.wait()
        self.under_way -= 1
        if self.status == 0:
            raise Unreachable("down", sent=False)
        return OutboundAnswer(self.status, "", b"")


class World:
    def __init__(self) -> None:
        matcher = NameMatcher(["access_token"])
        reader = ViewReader((raw_source(cookie="access_token"),), matcher, matcher)
        self.sessions = local_sessions(reader, Signer([b"s" * 32]))
        self.store = MemoryStore(lambda _: None)
        self.hooks = Hooks()
        self.tasks: set[asyncio.Task[None]] = set()
        outbound: Any = self.hooks
        log: Any = structlog.get_logger()
        self.logout_tasks = LogoutTasks(
            None,
            None,
            self.sessions,
            self.store,
            hooks=[Hook(url=URL, token=True)],
            revokes_all=True,
            outbound=outbound,
            spawn=self.spawn,
            log=log,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def log_out(self, token: str, proof: Proof) -> OpenedSession:
        view = self.sessions.directory.present(b"access_token=" + token.encode(), NOW)
        session = view.session(view.fingerprint)
        assert session is not None
        if proof is Proof.ACCEPTED:
            self.sessions.evidence.accept(session.fingerprint)
        elif proof is Proof.VOUCHED:
            self.sessions.evidence.vouch(session.fingerprint)
        self.sessions.revocations.revoke(session, NOW)
        self.logout_tasks.begin(session, "logout")
        return session

    async def settled(self) -> None:
        while self.tasks:
            await asyncio.gather(*self.tasks)
            await asyncio.sleep(0)  # for their callbacks: from Python 3.12 on, gather may not wait


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    quicker = {
        proof: replace(room, pauses=(0.01,) * len(room.pauses)) for proof, room in ROOMS.items()
    }
    monkeypatch.setattr(module, "ROOMS", quicker)
    return World()


@pytest.mark.parametrize(("proof", "attempts"), [(0, 1), (1, 5), (2, 5)])
async def test_what_fails_is_tried_again_if_something_speaks_for_the_session(
    world: World, proof: int, attempts: int
) -> None:
    world.hooks.status = 503
    world.log_out("t", Proof(proof))
    await world.settled()
    assert world.hooks.asked == ["t"] * attempts
    assert world.logout_tasks.counts["hook", "failed"] == 1


async def test_logouts_of_nobody_ask_little_and_are_counted(world: World) -> None:
    """However many there are; and they leave nothing in the store."""
    for number in range(500):
        world.log_out(f"made-up-{number}", Proof.NONE)
        await asyncio.sleep(0)
    await world.settled()
    asked = len(world.hooks.asked)
    assert 1 <= asked <= 12
    assert world.logout_tasks.counts["all", "dropped"] == 500 - asked
    assert not world.store._space("departed:").entries


@pytest.mark.parametrize("flood", [Proof.NONE, Proof.ACCEPTED])
async def test_what_hangs_for_nobody_delays_nobody_else(world: World, flood: Proof) -> None:
    """Each lane has places of its own, and an end to what waits in it."""
    world.hooks.may_answer.clear()
    for number in range(3000):
        world.log_out(f"made-up-{number}" + "x" * 4000, flood)
    await asyncio.sleep(0.05)
    assert world.hooks.under_way == ROOMS[flood].at_once
    assert len(world.tasks) <= ROOMS[flood].max_bytes / (module.COST + 8000) < 3000
    world.log_out("real", Proof(flood + 1))
    await asyncio.sleep(0.05)
    assert "real" in world.hooks.asked
    world.hooks.may_answer.set()
    await world.settled()


async def test_sessions_depart_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests end them; floods of others do not make it forgotten."""
    monkeypatch.setattr(module, "REMEMBERED", 10)
    session = world.log_out("real", Proof.VOUCHED)
    await world.settled()
    for number in range(3 * module.REMEMBERED):
        world.log_out(f"made-up-{number}", Proof.NONE)
    await world.settled()
    world.hooks.asked.clear()
    world.logout_tasks.begin(session, "logout")
    await world.settled()
    assert world.hooks.asked == []
