"""Counters that only grow, as what they grew by in each second and step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.observation.status_model import STEP, STEPS, WINDOW
from sidecar.observation.timeline import Timeline

START = 1_764_437_400.0  # a step begins here


class Counted:
    """What a process counts: requests, those that failed, and a vector."""

    def __init__(self) -> None:
        self.requests = self.errors = self.reads = 0
        self.vector = [0.0, 0.0]

    def totals(self) -> tuple[int, int]:
        return self.requests, self.errors

    def read(self) -> dict[tuple[str, ...], list[float]]:
        self.reads += 1
        return {("route", "/api"): list(self.vector)}

    def request(self, line: Timeline, now: float, *, failed: bool = False) -> None:
        """As the pipeline does: time passes first, then it is counted."""
        if now >= line.turns_at:
            line.turn(now)
        self.requests += 1
        self.errors += failed
        self.vector[failed] += 1


def made() -> tuple[Counted, Timeline]:
    counted = Counted()
    return counted, Timeline(counted.totals, counted.read, START)


def test_requests_stand_in_the_second_they_ended_in() -> None:
    counted, line = made()
    for at in (0.1, 0.9, 1.0, 3.5):
        counted.request(line, START + at)
    past = line.past(START + 3.6)
    assert past.until_second == START + 4
    assert past.requests[-4:] == (2, 1, 0, 1)
    assert past.series(("route", "/api"))[-1] == 4


def test_what_came_before_a_silence_stands_before_it() -> None:
    counted, line = made()
    counted.request(line, START + 0.5, failed=True)
    counted.request(line, START + 100.0)
    past = line.past(START + 100.2)
    assert (past.requests[-101], past.requests[-1]) == (1, 1)
    assert (past.errors[-101], past.errors[-1]) == (1, 0)
    steps = past.series(("route", "/api"), 1)
    assert steps[-1 - 100 // STEP] == 1
    assert sum(steps) == 1


def test_window_forgets() -> None:
    counted, line = made()
    counted.request(line, START)
    assert sum(line.past(START + WINDOW - 1).requests) == 1
    assert sum(line.past(START + WINDOW).requests) == 0
    assert line.past(START + WINDOW).names("route") == []


def test_clock_that_is_set_back_begins_anew() -> None:
    """Else nothing would be told until it is where it was."""
    counted, line = made()
    counted.request(line, START + 50)
    past = line.past(START - 5000)
    assert past.until_second == START - 5000 + 1
    counted.request(line, START - 4999)
    assert sum(line.past(START - 4998).requests) == 1


def test_reading_changes_nothing() -> None:
    counted, line = made()
    counted.request(line, START + 1)
    once = line.past(START + 1.5)
    assert line.past(START + 1.5) == once
    counted.request(line, START + 1.6)
    assert line.past(START + 1.7).requests[-1] == 2


def test_counters_are_read_once_a_step_however_many_requests_come() -> None:
    counted, line = made()
    before = counted.reads
    for at in range(STEP * 100):
        counted.request(line, START + at / 100)
    assert counted.reads == before


@given(
    st.lists(
        st.tuples(st.floats(0.0, 40.0, allow_nan=False), st.booleans(), st.booleans()), max_size=60
    )
)
def test_any_traffic_is_counted_as_it_came(given: list[tuple[float, bool, bool]]) -> None:
    """Whatever the gaps, and whoever reads meanwhile: each request stands in its second."""
    counted, line = made()
    now, seconds, failed = START, [], []
    for gap, fails, reads in given:
        now += gap
        counted.request(line, now, failed=fails)
        seconds.append(int(now))
        failed += [int(now)] if fails else []
        if reads:
            line.past(now)
    past = line.past(now)
    last = int(now)
    assert past.requests == tuple(seconds.count(last - back) for back in reversed(range(WINDOW)))
    assert past.errors == tuple(failed.count(last - back) for back in reversed(range(WINDOW)))
    by_step = [second // STEP for second in seconds]
    step = last // STEP
    told = [past.series(("route", "/api"), at) for at in (0, 1)]
    assert [sum(pair) for pair in zip(*told, strict=True)] == [
        by_step.count(step - back) for back in reversed(range(STEPS))
    ]
