"""Histories of replicas on one Redis that breaks: see `replicas.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.oracle.replicas_history import History, history
from tests.oracle.replicas_known import KNOWN
from tests.oracle.replicas_play import (
    SLOW,
    UNAVAILABLE,
    Late,
    Player,
    Wrong,
    again_if_late,
    is_late,
    play,
)
from tests.oracle.replicas_shorten import shortened
from tests.oracle.replicas_world import fake_clock

AT_ONCE: Final = 2  # histories, most of whose time is waiting
SEEDS: Final = ((14, 53), (29, 382))


def _together(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


@pytest.fixture
def plays(
    require_program: Callable[[str], str], do_without: Callable[[str], NoReturn], tmp_path: Path
) -> Callable[[Sequence[History]], None]:
    """Plays histories side by side; fails with what is wrong with any of them."""
    require_program("redis-server")

    def one(number: int, history: History) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        play(directory, history)

    def all_of_them(histories: Sequence[History]) -> None:
        if fake_clock() is None and any(any(one.clocks) for one in histories):
            do_without("libfaketime is not installed")
        with ThreadPoolExecutor(len(histories)) as pool:
            list(pool.map(one, range(len(histories)), histories))

    return all_of_them


@pytest.mark.parametrize("names", _together(tuple(KNOWN), AT_ONCE), ids=" · ".join)
def test_what_went_wrong_once(
    plays: Callable[[Sequence[History]], None], names: Sequence[str]
) -> None:
    plays([KNOWN[name] for name in names])


@pytest.mark.parametrize("seeds", SEEDS)
def test_some_histories(plays: Callable[[Sequence[History]], None], seeds: tuple[int, ...]) -> None:
    """More, and others: `python -m tests.oracle.replicas`."""
    plays([history(seed) for seed in seeds])


def test_replicas_that_share_nothing_are_found_wrong(
    require_program: Callable[[str], str], tmp_path: Path
) -> None:
    require_program("redis-server")
    alone = History(0, ("authjs",), (0.0, 0.0, 0.0), KNOWN["rejected again"].steps)
    with pytest.raises(Wrong, match="sends a spent refresh token"):
        play(tmp_path, alone, is_shared=False)


@pytest.mark.parametrize(
    ("comes", "plays"),
    [([None], 1), ([Late, None], 2), ([Late, Late], 2), ([Late, Wrong], 2), ([Wrong, None], 1)],
)
def test_what_was_late_is_played_once_more_and_what_was_wrong_is_not(
    tmp_path: Path, comes: list[type[Wrong] | None], plays: int
) -> None:
    """Late twice is a failure, and anything else that is wrong is one at once."""
    places: list[Path] = []

    def played(place: Path) -> int:
        assert list(place.iterdir()) == []
        error = comes[len(places)]
        places.append(place)
        if error is not None:
            raise error
        return len(places)

    if comes[plays - 1] is None:
        assert again_if_late(tmp_path, played) == plays
    else:
        with pytest.raises(Wrong):
            again_if_late(tmp_path, played)
    assert len(places) == plays


@pytest.mark.parametrize(
    ("why", "code", "late"),
    [
        (SLOW, "", True),
        (UNAVAILABLE, "refresh_unavailable", True),
        (UNAVAILABLE, "store_unavailable", True),
        (UNAVAILABLE, "overloaded", False),
        ("the answer of user1, n7", "", False),
        ("the session of somebody who has not logged out", "session_expired", False),
        ("a broken connection", "ServerDisconnectedError", False),
    ],
)
def test_only_the_clock_makes_an_answer_late(why: str, code: str, late: bool) -> None:
    assert is_late(why, code) is late


def test_what_is_wrong_and_late_is_wrong(tmp_path: Path) -> None:
    player = Player(tmp_path, history(1), is_shared=True)
    player._fault("after 9 s", is_late=True)
    with pytest.raises(Late, match="after 9 s"):
        player._judge()
    player._fault("the answer of somebody else")
    with pytest.raises(Wrong, match="the answer of somebody else") as raised:
        player._judge()
    assert not isinstance(raised.value, Late)


def test_a_history_can_be_read_again() -> None:
    for seed in range(200):
        assert History.read(str(history(seed))) == history(seed)


def test_a_history_is_made_shorter() -> None:
    """All that is left are the steps without which nothing fails, at the time they had."""
    whole = KNOWN["cut off from Redis while it renews"]

    def fails(one: History) -> bool:
        names = [step[1] for step in one.steps]
        return "reject" in names and "link" in names

    short = shortened(whole, fails, 10.0)
    assert fails(whole)
    assert sorted(step[1] for step in short.steps) == ["link", "reject"]
    assert short.clocks == (0.0, 0.0, 0.0)
