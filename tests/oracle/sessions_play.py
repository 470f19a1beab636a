"""Plays histories of sessions, each in a world of its own, and counts them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from hypothesis import Phase

from tests.oracle.sessions_history import History, Step
from tests.oracle.sessions_model import SOURCES
from tests.oracle.sessions_world import Site, World, a_store, config, runner
from tests.ports import free_port

HOW_MANY: Final = int(os.environ.get("ORACLE_TIMES", "1"))
"""How many times as many examples the tests try; more than one: others every time."""

PHASES: Final = (Phase.explicit, Phase.generate)  # shrinking takes minutes; a history replays
"""Not `explain`, which plays as many again to say what the history says already."""

LONGEST: Final = 60.0  # seconds that a history may take


class Player:
    """What histories are played with: an event loop, and a store that outlasts replicas."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._port = free_port()
        self.store = ""
        self.histories = 0
        self.steps = 0
        self.checks = 0

    def __enter__(self) -> Player:
        self._runner = self._stack.enter_context(runner())
        self.store = self._stack.enter_context(a_store(self._directory))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def play(self, steps: Sequence[Step]) -> None:
        """Plays one. Raises `Fault`."""
        self._runner.run(self._play(steps))

    async def _play(self, steps: Sequence[Step]) -> None:
        site = Site(self._port)
        world = World(site, config(site, self.store, SOURCES))
        history = History(world)
        await world.start()
        try:
            async with asyncio.timeout(LONGEST):
                await history.run(steps)
        finally:
            self.histories += 1
            self.steps += len(steps)
            self.checks += history.checks
            await history.leave()
            await world.stop()
