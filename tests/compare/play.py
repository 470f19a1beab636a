"""Plays every scene with every contender."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.compare.report import Seen
from tests.compare.scenes import SCENES
from tests.compare.site import Contender, oauth2_proxy, running_site, sidecar


def contenders(binary: Path) -> list[Contender]:
    """All of them; the one that needs Redis only where Redis is installed."""
    found = [sidecar(), oauth2_proxy(binary)]
    redis_server = shutil.which("redis-server")
    return found if redis_server is None else [*found, oauth2_proxy(binary, redis_server)]


async def seen_of(contender: Contender, folder: Path) -> Sequence[str]:
    """What is seen of one contender, scene by scene."""
    async with running_site(contender, folder) as site:
        return [await scene.play(site) for scene in SCENES]


def seen_of_all(those: Sequence[Contender], folder: Path) -> Seen:
    """The same of all, side by side: each has a provider and an API of its own."""
    folders = [folder / str(number) for number in range(len(those))]
    for one in folders:
        one.mkdir()
    return asyncio.run(_side_by_side(those, folders))


async def _side_by_side(those: Sequence[Contender], folders: Sequence[Path]) -> Seen:
    found = await asyncio.gather(*map(seen_of, those, folders))
    return {one.name: column for one, column in zip(those, found, strict=True)}
