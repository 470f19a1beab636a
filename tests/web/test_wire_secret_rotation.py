"""A secret is rotated while two replicas serve: nobody is logged out, and the dead stay dead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.web.test_wire_allow import Scene, clock, directory, people, scene  # noqa: F401
from tests.web.test_wire_login import FETCH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Answer, Clients, Embedded
    from tests.web.test_wire_login import Browser, Browsers

OLD, NEW = "the old secret, of 32 bytes or more", "the new secret, of 32 bytes or more"
ROLLING: Final = [
    ([OLD], [OLD]),
    ([OLD, NEW], [OLD]),
    ([OLD, NEW], [OLD, NEW]),
    ([NEW, OLD], [OLD, NEW]),
    ([NEW, OLD], [NEW, OLD]),
]
"""What the two replicas have, from one deployment to the next (docs/alerts.md)."""
DIFFERENT: Final = [ROLLING[1], ROLLING[3], ([NEW], [NEW, OLD])]
PATIENCE: Final = 20.0
KINDS: Final = ("login", "raw")

_SERIAL: Final = count(1)


@dataclass
class User:
    """A session, by the Cookie field that its browser sends."""

    cookie: str
    kind: str
    began: int


class Site:
    """Two replicas on one store, of which one after the other is exchanged."""

    def __init__(self, scene: Scene, people: Browsers, client: Clients, shared: Any) -> None:  # noqa: F811
        self.scene = scene
        self.people = people
        self.client = client
        self.shared = shared
        self.replicas: list[Embedded] = []

    async def deploy(self, secrets: tuple[list[str], list[str]], keep: str) -> None:
        """Begins both replicas with these secrets; those of before end when the test does."""
        whole = {**self.scene.with_login(keep=keep), **self.shared}
        whole["session"] = {"sources": [{"type": "cookie", "cookie": "access_token"}]}
        self.replicas = [await self.scene.start({**whole, "secret": one}) for one in secrets]

    async def log_in(self, replica: int, number: int, kind: str) -> User:
        if kind == "raw":
            user = User(f"access_token=raw-{next(_SERIAL)}", kind, number)
            assert (await self.ask(user, replica)).status == 200, "so that the API vouches for it"
            return user
        browser: Browser = await self.people(self.replicas[replica])
        await browser.log_in()
        return User(browser.cookie, kind, number)

    async def ask(
        self, user: User, replica: int, method: str = "GET", target: str = "/api/x"
    ) -> Answer:
        one = await self.client(self.replicas[replica])
        answer = await one.ask(method, target, f"Cookie: {user.cookie}", *FETCH)
        await one.gone()
        return answer

    async def log_out(self, user: User, replica: int) -> None:
        assert (await self.ask(user, replica, "POST", "/auth/logout")).status == 200

    async def is_refused(self, user: User, replica: int) -> None:
        """The other replica hears of a logout within a moment, and never forgets it."""
        async with asyncio.timeout(PATIENCE):
            while (await self.ask(user, replica)).status == 200:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("keep", ["cookie", "store"])
async def test_rolling_rotation(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    client: Clients,
    tmp_path: Path,
    keep: str,
) -> None:
    """At each step somebody logs in and out at either replica, and both agree on all before."""
    site = Site(scene, people, client, {"store": {"url": f"sqlite://{tmp_path}/store.db"}})
    answer = scene.upstream.default
    assert callable(answer)
    ok = scene.upstream.reply(b"{}")
    scene.upstream.default = lambda asked: (
        ok if (asked.get("Authorization") or "").startswith("Bearer raw") else answer(asked)
    )
    living: list[User] = []
    dead: list[User] = []
    for number, secrets in enumerate(ROLLING):
        await site.deploy(secrets, keep)
        for user in dead:
            for replica in (0, 1):
                await site.is_refused(user, replica)
        begun = [
            await site.log_in(replica, number, kind)
            for kind in KINDS
            for replica in (0, 1)
            for _ in (0, 1)
        ]
        for user in [*living, *begun]:
            for replica in (0, 1):
                told = await site.ask(user, replica)
                assert told.status == 200, f"{user} at {replica} in step {number}"
        ending = [*begun[::2], *living[:2]]
        for at, user in enumerate(ending):
            await site.log_out(user, at % 2)
        for user in ending:
            for replica in (0, 1):
                await site.is_refused(user, replica)
        dead += ending
        living = [user for user in [*living, *begun] if user not in ending]
    assert len(dead) > len(ROLLING) * 4
    for user in dead:
        for replica in (0, 1):
            assert (await site.ask(user, replica)).status != 200, f"{user} lives again"


@pytest.mark.parametrize("keep", ["cookie", "store"])
@pytest.mark.parametrize("secrets", DIFFERENT, ids=["added", "first", "dropped"])
@pytest.mark.parametrize("is_at_once", [True, False])
async def test_renewal_happens_once_whatever_secret_is_the_first(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    client: Clients,
    tmp_path: Path,
    secrets: tuple[list[str], list[str]],
    *,
    keep: str,
    is_at_once: bool,
) -> None:
    """A refresh token that is sent twice ends its session at the provider (T42)."""
    site = Site(scene, people, client, {"store": {"url": f"sqlite://{tmp_path}/store.db"}})
    await site.deploy(secrets, keep)
    users = [await site.log_in(replica, 0, "login") for replica in (0, 1, 0, 1)]
    for _ in range(2):
        scene.clock.ahead += 28  # the tokens of all are about to expire, or have
        asks = [
            site.ask(user, (replica + at) % 2)
            for at, user in enumerate(users)
            for replica in (0, 1)
        ]
        if is_at_once:
            answers = await asyncio.gather(*asks)
        else:
            answers = [await ask for ask in asks]
        assert [answer.status for answer in answers] == [200] * len(answers)
    stats = scene.provider.stats
    assert (stats.refresh_reuses, stats.refused_exchanges) == (0, 0)
    assert stats.refresh_exchanges == 2 * len(users)
