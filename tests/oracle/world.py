"""A sidecar, its recording upstream, and the plays between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from sidecar.app import Sidecar
from sidecar.core.config import Listen, load
from sidecar.core.config.listen_section import listeners_at
from sidecar.core.record import replace
from tests.oracle.api import Api
from tests.oracle.history import Ask, History, Talk
from tests.oracle.judge import Normal, Step, faults_of, normal, steps
from tests.oracle.player import Played, Player
from tests.oracle.users import SECRET, User, user
from tests.oracle.wording import Worded, worded

if TYPE_CHECKING:
    from tests.conftest import Upstream

LIMIT: Final = 5.0  # seconds within which a connection is to be served


def site(url: str) -> dict[str, Any]:
    """The sidecar's configuration, but for its listeners."""
    return {
        "secret": "a secret of the tests, 32 bytes or more",
        "upstreams": {"main": {"url": url}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "main"},
            {
                "path": "/open",
                "kind": "api",
                "upstream": "main",
                "session": "optional",
                "on_unauthorized": "pass",
                "envelope": False,
            },
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
        "session": {
            "sources": [
                {
                    "type": "authjs",
                    "secret": SECRET,
                    "token": "accessToken",
                    "refresh_token": "refreshToken",
                    "expires_at": "exp2",
                },
                {"type": "cookie", "cookie": "access_token"},
            ]
        },
        "refresh": {
            "type": "http",
            "request": {"url": f"{url}/token", "json": {"t": "{refresh_token}"}},
        },
        "logout": {"path": "/api/logout", "redirect_to": "/login"},
    }


@dataclass(slots=True)
class Count:
    """How much was played."""

    histories: int = 0
    connections: int = 0
    requests: int = 0
    answers: int = 0
    segments: int = 0

    def __str__(self) -> str:
        return (
            f"{self.histories} histories, {self.connections} connections, {self.requests} "
            f"requests, {self.answers} answers, {self.segments} segments"
        )


class World:
    """Plays histories against the sidecar at `port`, one after the other or at the same time."""

    def __init__(self, port: int, api: Api, connections: Callable[[], int]) -> None:
        """`connections` says how many client connections the sidecar has."""
        self.api = api
        self.count = Count()
        self.limit = LIMIT
        self.port = port
        self._connections = connections
        self._left = 0
        self._serial = 0
        self._alone: dict[tuple[Any, ...], Normal] = {}

    async def faults(self, history: History) -> list[str]:
        """Plays a history. Returns what went wrong, in words."""
        serial = self._fresh()
        users = [user(kind, f"{serial}u{number:03d}") for number, kind in enumerate(history.users)]
        self.count.histories += 1
        said = await asyncio.gather(
            *(
                self._talk(talk, users, f"{serial}c{number:02d}")
                for number, talk in enumerate(history.talks)
            )
        )
        strangers, self.api.strangers = self.api.strangers, []
        faults = [f"talk {number}: {one}" for number, many in enumerate(said) for one in many]
        faults += [f"upstream: {one}" for one in strangers]
        return faults + await self._left_behind()

    async def _left_behind(self) -> list[str]:
        """Whether the sidecar has connections whose clients have left."""
        for delay in (*[0.0] * 20, *[0.02] * 50):
            if self._connections() <= self._left:
                self._left = self._connections()
                return []
            await asyncio.sleep(delay)
        self._left, before = self._connections(), self._left
        return [f"{self._left - before} connections are left behind"]

    async def _talk(self, talk: Talk, users: Sequence[User], name: str) -> list[str]:
        words = [
            worded(ask, users[ask.user], f"{name}r{number:03d}")
            for number, ask in enumerate(talk.asks)
        ]
        wanted = steps(talk.asks, users, words)
        plain = [await self._plain(step) for step in wanted]
        played = await self._play(talk, words)
        nonces = [one.nonce for one in words]
        sights = [list(self.api.sights.get(one, ())) for one in nonces]
        self.api.forget(nonces)
        self.count.connections += 1
        self.count.requests += len(talk.asks)
        self.count.answers += len(played.answers)
        self.count.segments += played.segments
        return faults_of(played, wanted, plain, sights)

    async def _play(self, talk: Talk, words: Sequence[Worded]) -> Played:
        return await Player(talk, words, self.api).play(self.port, self.limit)

    def _fresh(self) -> str:
        self._serial += 1
        return f"n{self._serial:07d}"

    # -- the same request alone -------------------------------------------------------------------

    async def _plain(self, step: Step) -> Normal:
        """The answer that such a request of such a user gets alone, in one segment."""
        ask = replace(step.ask, blank=0, held=0, user=0)
        key = (ask, step.whose.kind, step.is_alive)
        known = self._alone.get(key)
        if known is None:
            known = self._alone[key] = await self._ask_alone(ask, step)
        return known

    async def _ask_alone(self, ask: Ask, step: Step) -> Normal:
        name = self._fresh()
        twin = user(step.whose.kind, f"{name}u000")
        if not step.is_alive and twin.kind != "nobody":
            logout = Ask("logout")
            words = worded(logout, twin, f"{name}c00r000")
            await self._one(Step(logout, twin, words, is_alive=True))
        words = worded(ask, twin, f"{name}c00r001")
        return await self._one(Step(ask, twin, words, is_alive=step.is_alive))

    async def _one(self, step: Step) -> Normal:
        played = await self._play(Talk((step.ask,)), [step.words])
        sights = [self.api.sights.get(step.words.nonce, [])]
        faults = faults_of(played, [step], [None], sights)
        assert not faults, f"alone: {faults}"
        self.api.forget([step.words.nonce])
        return normal(step, played.answers[0])


@asynccontextmanager
async def running_world() -> AsyncIterator[World]:
    """A world of its own, in this event loop, without pytest."""
    from tests.conftest import Upstream
    from tests.ports import free_port

    upstream = Upstream(free_port())
    await upstream.start()
    port = free_port()
    listeners = {
        "listen": listeners_at(Listen("127.0.0.1", port)),
        "admin": Listen("127.0.0.1", free_port()),
    }
    log = StringIO()
    with redirect_stderr(log):
        config = load(
            json.dumps(site(upstream.url)), source="oracle", environ={}, read_file=_no_file
        )
        sidecar = Sidecar(config.model_copy(update=listeners))
    await sidecar.start()
    try:
        yield world_of(upstream, port, sidecar)
    finally:
        await sidecar.stop(1.0)
        await upstream.stop()


def world_of(upstream: Upstream, port: int, sidecar: Sidecar) -> World:
    """The world of an upstream, which is taken over, and of a sidecar that serves at `port`."""
    api = Api()
    upstream.serve = api.serve
    return World(port, api, lambda: sidecar.runtime.metrics.connections)


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)
