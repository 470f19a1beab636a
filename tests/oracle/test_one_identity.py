"""One request, one identity: whoever shares a connection, and however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracle.history import LAST, Ask, History, Talk, generate, histories, serial
from tests.oracle.known import FIXED, KNOWN, TWO, cut_once, cut_twice

if TYPE_CHECKING:
    from tests.oracle.world import World

SEEDS: Final = [range(start, start + 150) for start in range(0, 900, 150)]


async def _holds(world: World, many: Iterable[History]) -> None:
    for history in many:
        faults = await world.faults(history)
        assert not faults, f"{history}\n" + "\n".join(faults)


@pytest.mark.parametrize("name", KNOWN)
async def test_history_that_went_wrong_once_goes_right(world: World, name: str) -> None:
    await _holds(world, [KNOWN[name]])


@pytest.mark.parametrize("name", FIXED)
async def test_each_user_gets_the_own_answers_at_every_cut(world: World, name: str) -> None:
    """Two segments, the second at once and while the first request is served."""
    await _holds(world, cut_once(FIXED[name]))


@pytest.mark.parametrize("name", FIXED)
async def test_each_user_gets_the_own_answers_in_three_segments(world: World, name: str) -> None:
    await _holds(world, cut_twice(FIXED[name]))


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_each_user_gets_the_own_answers_in_segments_of_few_bytes(
    world: World, size: int
) -> None:
    await _holds(world, (History(TWO, (Talk(asks, (), size),)) for asks in FIXED.values()))


@pytest.mark.parametrize("kind", LAST)
async def test_connections_of_many_users_end_with_the_last_answer(world: World, kind: str) -> None:
    """In one segment, and byte by byte."""
    asks = (*FIXED["known sections"], Ask(kind, 1))
    await _holds(world, (History(TWO, (Talk(asks, (), every),)) for every in (0, 1, 61)))


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
async def test_each_user_gets_the_own_answers_in_random_histories(
    world: World, seeds: range
) -> None:
    for seed in seeds:
        faults = await world.faults(generate(Random(seed)))
        assert not faults, f"seed {seed}: python -m tests.oracle --seed {seed}\n{faults}"


async def test_each_user_gets_the_own_answers_one_request_at_a_time(world: World) -> None:
    """No pipelining: the oracle itself is right."""
    await _holds(world, (serial(generate(Random(seed))) for seed in range(100)))


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(history=histories)
async def test_each_user_gets_the_own_answers_in_histories_that_shrink(
    world: World, history: History
) -> None:
    """The smallest history that fails is printed, and can be replayed."""
    world.limit = 1.0  # a history that hangs is played many times to make it smaller
    await _holds(world, [history])
