"""Histories of sessions against a model: the dead stay dead, and the living live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracle.sessions_history import (
    HELD,
    KINDS,
    REPLAYS,
    STEPS_OF_A_HISTORY,
    Spelling,
    Step,
)
from tests.oracle.sessions_model import SOURCES
from tests.oracle.sessions_play import HOW_MANY, PHASES, Player
from tests.oracle.sessions_world import PATIENCE, Site, World, a_store, config, runner
from tests.ports import free_port

PLAINLY: Final[Spelling] = ([], 0)


def spelled(change: str, how: int) -> Spelling:
    """One change to the first cookie."""
    return ([(change, 0, how)], 0)


LOGIN: Final = {kind: ("login", 0, at, 4, PLAINLY) for at, kind in enumerate(KINDS[:8])}
OF_ANOTHER: Final = ("login", 1, KINDS.index("forged"), 4, PLAINLY)
CALL, CALL_OF_ANOTHER = [("call", browser, 0, 0, PLAINLY) for browser in (0, 1)]
LOGOUT, LOGOUT_OF_ANOTHER = [("logout", browser, 0, 0, PLAINLY) for browser in (0, 1)]
LATE: Final = {what: ("hold", 0, 0, at, PLAINLY) for at, what in enumerate(HELD)}
AGAIN: Final = ("again", 0, 0, 1, PLAINLY)  # at the other replica
RESTART: Final = ("restart", 1, 0, 0, PLAINLY)
RESEAL: Final = ("reseal", 0, 0, 0, PLAINLY)
ANEW: Final = ("reseal", 0, 0, 2, PLAINLY)
RELEASE: Final = ("release", 0, 0, 0, PLAINLY)
NONE: Final = 2 * [target for _, target, _ in REPLAYS].index("/open/page")


# One replica saw the application rotate the tokens, the other one the logout.
ROTATED_ELSEWHERE: Final[list[Step]] = [
    ("login", 2, 6, 4, PLAINLY),
    ("hold", 12, 4, 15, PLAINLY),
    ("hold", 6, 8, 3, PLAINLY),
    ("hold", 6, 3, 9, PLAINLY),
    ("release", 4, 9, 2, PLAINLY),
    ("release", 3, 3, 14, PLAINLY),
    ("logout", 14, 14, 8, PLAINLY),
]


# A late login leaves a whole cookie beside another session's chunks, and no library reads either.
WHOLE_BESIDE_CHUNKS: Final[list[Step]] = [
    ("login", 1, 5, 4, PLAINLY),
    ("hold", 7, 5, 4, PLAINLY),
    ("release", 13, 13, 3, PLAINLY),
    ("login", 11, 1, 0, PLAINLY),
    ("call", 1, 1, 0, PLAINLY),
    ("call", 1, 1, 2, PLAINLY),
    ("page", 1, 1, 0, PLAINLY),
]


def replay(spelling: Spelling = PLAINLY, where: int = 0) -> Step:
    """The first cookie ever seen, at a page."""
    return ("replay", 0, 0, where + (spelling != PLAINLY), spelling)


@pytest.mark.parametrize(
    "steps",
    [
        [LOGIN["sealed"], LOGOUT, replay(spelled("rename", 0))],
        [LOGIN["sealed"], LOGOUT, replay(spelled("rename", 1))],
        [LOGIN["sealed"], LOGOUT, replay(spelled("percent", 0))],
        [LOGIN["large"], LOGOUT, replay(spelled("percent", 0))],
        [LOGIN["raw"], LOGOUT, replay(spelled("percent", 0))],
        [LOGIN["sealed"], LOGOUT, replay(where=NONE)],
        [LOGIN["raw"], LOGOUT, replay(where=NONE)],
        [LOGIN["page"], LOGOUT, replay()],
        [LOGIN["due"], CALL, OF_ANOTHER, LOGOUT_OF_ANOTHER, CALL],
        [LOGIN["due"], CALL, OF_ANOTHER, LOGOUT, CALL_OF_ANOTHER],
        [LOGIN["raw"], LOGIN["page"], LOGOUT, ("replay", 1, 0, 0, PLAINLY)],
        *([LOGIN[kind], LATE["reseal"], LOGOUT, RELEASE] for kind in ("sealed", "page", "plain")),
        *([LOGIN[kind], LATE["rotate"], LOGOUT, RELEASE] for kind in ("sealed", "large", "due")),
        *([LOGIN[kind], LATE["login"], LOGOUT, RELEASE] for kind in ("sealed", "raw", "page")),
        [LOGIN["raw"], LATE["again"], LOGOUT, ("again", 0, 1, 0, PLAINLY), RELEASE],
        [LOGIN["raw"], LATE["login"], LOGOUT, ("again", 0, 1, 0, PLAINLY), RELEASE],
        [LOGIN["raw"], LOGOUT, AGAIN, CALL],
        [LOGIN["raw"], LOGOUT, RESTART, AGAIN, CALL],
        [LOGIN["raw"], LOGOUT, RESTART, AGAIN, ("call", 0, 1, 0, PLAINLY)],
        *([LOGIN["due"], CALL, RESEAL, LOGOUT, ("replay", 0, at, 2, PLAINLY)] for at in (0, 1)),
        *([LOGIN["due"], CALL, ANEW, LOGOUT, ("replay", 0, at, 2, PLAINLY)] for at in (0, 1)),
        [LOGIN["due"], CALL, ANEW, ("logout", 0, 1, 0, PLAINLY), ("replay", 0, 0, 2, PLAINLY)],
        [LOGIN["page"], RESEAL, LOGOUT, ("replay", 0, 1, 0, PLAINLY)],
        [LOGIN["page"], RESEAL, LOGOUT, ("replay", 1, 1, 0, PLAINLY)],
        [LOGIN["page"], RESEAL, ("logout", 0, 1, 0, PLAINLY), replay()],
        [LOGIN["sealed"], LOGIN["raw"], ("doomed", 0, 0, 0, PLAINLY), CALL, CALL],
        ROTATED_ELSEWHERE,
        WHOLE_BESIDE_CHUNKS,
    ],
    ids=lambda steps: "-".join(step[0] for step in steps),
)
def test_short_history_keeps_every_promise(tmp_path: Path, steps: list[Step]) -> None:
    """Those of which the longer ones are made; most of them were broken once."""
    with Player(tmp_path) as player:
        player.play(steps)


def test_no_history_loses_a_living_session_or_brings_a_dead_one_back(tmp_path: Path) -> None:
    """Told again at the end where one does, as short as it can be."""
    with Player(tmp_path) as player:

        @settings(
            max_examples=150 * HOW_MANY,
            derandomize=HOW_MANY == 1,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
            report_multiple_bugs=False,
        )
        @given(STEPS_OF_A_HISTORY)
        def play(steps: list[Step]) -> None:
            player.play(steps)

        play()


def test_replica_stops_at_any_moment_after_its_start(tmp_path: Path) -> None:
    """Whatever it is asking its store just then."""

    async def stops(store: str, pause: float) -> bool:
        site = Site(free_port())
        one = await World(site, config(site, store, SOURCES)).serve()
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(PATIENCE):
                await one.sidecar.stop(0.1)
        except TimeoutError:
            await one.sidecar.stop(0.1)  # what was left open would hold up the end of the test
            return False
        return True

    with a_store(tmp_path) as store, runner() as loop:
        for number in range(20):
            pause = number * 0.0001
            assert loop.run(stops(store, pause)), f"{pause:g} s after its start it does not stop"
