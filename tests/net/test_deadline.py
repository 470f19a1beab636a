"""A deadline fires once, when it is due, however often it was moved; and costs few timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.deadline import Deadline


class Timer:
    def __init__(self, at: float, fire: Callable[[], None]) -> None:
        self.at = at
        self.fire = fire
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop whose clock the test moves; `made` counts timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, fire: Callable[[], None]) -> Timer:
        self.made += 1
        self.timers.append(Timer(at, fire))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = min(self.timers, key=lambda timer: timer.at, default=None)
            if due is None or due.at > end:
                break
            self.timers.remove(due)
            self.now = max(self.now, due.at)
            due.fire()
        self.now = end


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


def make(loop: FakeLoop) -> tuple[Deadline, list[float]]:
    fired: list[float] = []
    deadline = Deadline(cast(asyncio.AbstractEventLoop, loop), lambda: fired.append(loop.now))
    return deadline, fired


def test_it_fires_once_when_due(loop: FakeLoop) -> None:
    """And not again by itself."""
    deadline, fired = make(loop)
    deadline.set(5)
    loop.advance(100)
    assert fired == [5]


@pytest.mark.parametrize(("first", "second", "due"), [(5, 10, 13), (10, 5, 8)])
def test_the_time_set_last_counts(loop: FakeLoop, first: float, second: float, due: float) -> None:
    """Moved later or earlier."""
    deadline, fired = make(loop)
    deadline.set(first)
    loop.advance(3)
    deadline.set(second)
    loop.advance(100)
    assert fired == [due]


def test_cleared_it_does_not_fire_until_set_again(loop: FakeLoop) -> None:
    """Whether set again before or after the timer underneath has gone off."""
    deadline, fired = make(loop)
    deadline.set(5)
    deadline.clear()
    deadline.set(7)
    deadline.clear()
    loop.advance(50)
    assert fired == []
    deadline.set(5)
    loop.advance(50)
    assert fired == [55]


def test_it_can_be_set_from_within(loop: FakeLoop) -> None:
    """A time-out that gives more time."""
    fired: list[float] = []

    def expired() -> None:
        fired.append(loop.now)
        if len(fired) < 3:
            deadline.set(2)

    deadline = Deadline(cast(asyncio.AbstractEventLoop, loop), expired)
    deadline.set(1)
    loop.advance(100)
    assert fired == [1, 3, 5]


def test_closed_it_is_off_for_good(loop: FakeLoop) -> None:
    """A connection that is gone leaves no timer behind, whatever is still set on it."""
    deadline, fired = make(loop)
    deadline.set(5)
    deadline.close()
    for seconds in (1, 5, 50):
        deadline.set(seconds)
    deadline.clear()
    deadline.close()
    loop.advance(100)
    assert fired == []
    assert loop.made == 1


def test_a_busy_connection_pays_for_one_timer_an_interval(loop: FakeLoop) -> None:
    """Not for one a message."""
    deadline, fired = make(loop)
    for _ in range(1000):
        deadline.set(10)
        loop.advance(0.01)
    assert fired == []
    assert loop.made <= 2


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(1, 20)),
            st.tuples(st.just("clear"), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 20)),
        ),
        max_size=30,
    )
)
def test_it_is_like_a_timer_that_is_made_anew_each_time(steps: list[tuple[str, int]]) -> None:
    """The lazy timer fires exactly when the plain one would."""
    loop = FakeLoop()
    deadline, fired = make(loop)
    wanted: list[float] = []
    due: float | None = None
    for step, seconds in [*steps, ("wait", 50)]:
        if step == "set":
            due = loop.now + seconds
            deadline.set(seconds)
        elif step == "clear":
            due = None
            deadline.clear()
        else:
            if due is not None and due <= loop.now + seconds:
                wanted.append(due)
                due = None
            loop.advance(seconds)
    assert fired == wanted


async def test_it_works_on_a_real_loop() -> None:
    """The loop's own clock and timers."""
    done = asyncio.Event()
    deadline: Any = Deadline(asyncio.get_running_loop(), done.set)
    deadline.set(0.01)
    async with asyncio.timeout(5):
        await done.wait()
