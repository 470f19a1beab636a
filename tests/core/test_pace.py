"""The pace that a client must keep: judged by plain arithmetic over every window."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.pace import MARKS, Pace

RATE = 500
WINDOW = 30.0
STEP = WINDOW / MARKS


def judge(pieces: list[int]) -> list[bool]:
    """What is judged once a step, with so many bytes received in each."""
    pace, received, verdicts = Pace(RATE, WINDOW), 0, []
    for number, size in enumerate(pieces, 1):
        received += size
        verdicts.append(pace.is_too_slow(number * STEP, received))
    return verdicts


def test_steady_pace_at_the_rate_is_fine() -> None:
    assert not any(judge([int(RATE * STEP)] * 100))


def test_pace_just_below_the_rate_is_too_slow_after_one_window() -> None:
    assert judge([int(RATE * STEP) - 1] * MARKS) == [False] * (MARKS - 1) + [True]


def test_early_haste_buys_no_later_idleness() -> None:
    """A megabyte at the beginning is worth one window, and no more."""
    verdicts = judge([1 << 20] + [0] * 20)
    assert verdicts.index(True) <= 2 * MARKS


def test_one_piece_in_each_window_is_enough() -> None:
    whole = int(RATE * (WINDOW + STEP))
    assert not any(judge(([0] * (MARKS - 1) + [whole]) * 10))


@given(st.lists(st.integers(0, 8000), min_size=MARKS, max_size=60))
def test_verdict_is_that_of_the_last_window(pieces: list[int]) -> None:
    """Steps are exact here, so the window is too."""
    for at, verdict in enumerate(judge(pieces), 1):
        window = pieces[max(at - MARKS, 0) : at]
        assert verdict is (len(window) == MARKS and sum(window) < RATE * WINDOW)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 20.0), st.integers(0, 100_000)),
        min_size=1,
        max_size=60,
    )
)
def test_client_that_keeps_the_rate_everywhere_is_never_cut(steps: list[tuple[float, int]]) -> None:
    """Whatever the moments are at which it is looked at."""
    pace, waited, received = Pace(RATE, WINDOW), 0.0, 0
    for seconds, more in steps:
        waited += seconds
        received += int(seconds * RATE) + 1 + more
        assert not pace.is_too_slow(waited, received)


def test_memory_is_a_few_marks() -> None:
    pace = Pace(RATE, WINDOW)
    for tenth in range(100_000):
        pace.is_too_slow(tenth / 10, tenth * 1000)
    assert len(pace._marks) <= MARKS + 2
    assert all(a < b for (a, _), (b, _) in pairwise(pace._marks))


def paced(pieces: list[int]) -> float:
    """The rate behind so many bytes in each step."""
    pace, received = Pace(RATE, WINDOW), 0
    for number, size in enumerate(pieces, 1):
        received += size
        pace.is_too_slow(number * STEP, received)
    return pace.rate(len(pieces) * STEP, received)


def test_rate_tells_who_sends_from_who_crawls() -> None:
    """Whatever was sent at first counts no more; who has just begun is not taken for slow."""
    crawling = paced([70_000] + [int(RATE * STEP)] * 2 * MARKS)
    assert Pace(RATE, WINDOW).rate(1.0, 0) > 5 * crawling
    assert paced([0] * MARKS) < crawling < paced([10_000 * int(STEP)] * MARKS)
    assert paced([70_000] + [10_000 * int(STEP)] * 100) > 3 * crawling


@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=40), st.integers(1, 1 << 20))
def test_whoever_sends_more_is_never_the_slower_one(pieces: list[int], more: int) -> None:
    assert paced([*pieces[:-1], pieces[-1] + more]) > paced(pieces)
