"""A deadline fires once, when it is due, however often it was moved; what the loop missed is not
counted; and it costs few timers.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.deadline import LOOKS, TURN, Deadline, Within, wait_within
from tests.loops import FakeLoop


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
    assert fired == [5 + TURN]


@pytest.mark.parametrize(("first", "second", "due"), [(5, 10, 13), (10, 5, 8)])
def test_the_time_set_last_counts(loop: FakeLoop, first: float, second: float, due: float) -> None:
    """Moved later or earlier."""
    deadline, fired = make(loop)
    deadline.set(first)
    loop.advance(3)
    deadline.set(second)
    loop.advance(100)
    assert fired == [due + TURN]


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
    assert fired == [55 + TURN]


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
    assert fired == pytest.approx([1, 3, 5], abs=4 * TURN)


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


def test_a_busy_connection_pays_for_one_timer_a_look(loop: FakeLoop) -> None:
    """Not for one a message."""
    deadline, fired = make(loop)
    for _ in range(1000):
        deadline.set(10)
        loop.advance(0.01)
    assert fired == []
    assert loop.made <= LOOKS + 1  # in as long as one interval


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
    """The lazy timer fires when the plain one would, and a turn later."""
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
            if due is not None and due + TURN <= loop.now + seconds:
                wanted.append(due + TURN)
                due = None
            loop.advance(seconds)
    assert fired == wanted


# -- a loop that is late --------------------------------------------------------------------------


def test_time_that_the_loop_missed_is_not_counted(loop: FakeLoop) -> None:
    """It was busy for an hour: whoever is waited for has as long left as before."""
    deadline, fired = make(loop)
    deadline.set(8)
    loop.advance(2.5)
    loop.be_busy(3600)
    assert fired == []
    loop.advance(5)
    assert fired == []
    loop.advance(1)
    assert len(fired) == 1


def test_time_before_it_was_set_is_not_given_on_top(loop: FakeLoop) -> None:
    """A look of an earlier limit that comes late says nothing of the time before this one."""
    deadline, fired = make(loop)
    deadline.set(8)
    loop.now += 5  # busy; then, still in that turn:
    deadline.set(8)
    loop.be_busy(0)
    loop.advance(7.9)
    assert fired == []
    loop.advance(0.2)
    assert fired == [13 + TURN]


@pytest.mark.parametrize("turn", [0.1, 1.0, 2.0, 60.0])
def test_turns_that_are_late_all_the_time_delay_it_by_a_bounded_number(
    loop: FakeLoop, turn: float
) -> None:
    """However long each is: nobody stretches a limit without an end."""
    deadline, fired = make(loop)
    deadline.set(8)
    turns = 0
    while not fired:
        loop.be_busy(turn)
        turns += 1
    assert turns * turn <= 8 + (LOOKS + 2) * turn
    assert turns >= LOOKS


def test_what_has_come_when_it_is_due_is_read_first(loop: FakeLoop) -> None:
    """The loop reads sockets behind its timers: the last look leaves it one more turn."""
    deadline, fired = make(loop)
    deadline.set(8)
    for _ in range(LOOKS):
        loop.be_busy(5)
    assert fired == []
    deadline.clear()  # as by what was read just now
    loop.advance(100)
    assert fired == []


@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=60), st.floats(0.05, 60))
def test_it_never_ends_early_and_its_delay_is_that_of_its_looks(
    turns: list[float], seconds: float
) -> None:
    """On any loop: not before it is due, and not after as many of the longest turns as looks."""
    loop = FakeLoop()
    deadline, fired = make(loop)
    deadline.set(seconds)
    for turn in turns:
        loop.be_busy(turn)
    spent = loop.now
    if fired:
        assert fired[0] >= seconds
    else:
        assert spent <= seconds + (LOOKS + 2) * max(turns)


async def test_it_works_on_a_real_loop() -> None:
    """The loop's own clock and timers."""
    done = asyncio.Event()
    deadline: Any = Deadline(asyncio.get_running_loop(), done.set)
    deadline.set(0.01)
    async with asyncio.timeout(5):
        await done.wait()


# -- around what a task waits for -----------------------------------------------------------------


class Server:
    """Answers at once, in a thread, so that it does so while the loop of the test is busy."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.answers = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            connection.recv(1)
            connection.sendall(b"here")
            self.answers.set()
            connection.recv(1)

    def close(self) -> None:
        self.socket.close()
        self._thread.join()


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new_loop", _loops())
def test_answer_that_came_while_the_loop_was_busy_is_in_time(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """All of the time limit passes within one turn, in which the answer comes."""
    server = Server()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            async with Within(0.2):
                writer.write(b"?")
                await asyncio.sleep(0)
                assert server.answers.wait(30)
                time.sleep(0.5)  # noqa: ASYNC251 - the loop is busy
                return await reader.readexactly(4)
        finally:
            writer.transport.abort()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ask()) == b"here"
    server.close()


@pytest.mark.parametrize("new_loop", _loops())
def test_silence_is_found_on_a_loop_that_is_late_all_the_time(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Within a bounded number of turns."""

    async def wait() -> int:
        loop, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            time.sleep(0.05)
            loop.call_later(0, turn)

        turn()
        with pytest.raises(TimeoutError):
            async with Within(0.1):
                await asyncio.Event().wait()
        return turns

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert 2 <= runner.run(wait()) <= 4 * LOOKS


async def test_it_is_a_time_limit_of_its_task_alone() -> None:
    """A cancellation from outside is none of it; and what is done in time is not disturbed."""
    async with Within(60):
        await asyncio.sleep(0)
    async with Within(None):
        await asyncio.sleep(0)

    async def forever() -> None:
        async with Within(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_that_is_lifted_ends_nothing() -> None:
    """Not even if its time was up in the same turn."""
    async with Within(0.001) as limit:
        while (timeout := limit._timeout) is not None and timeout.when() is None:
            await asyncio.sleep(0)
        limit.lift()
        await asyncio.sleep(0.01)
    async with Within(0.001) as limit:
        limit.lift()
        await asyncio.sleep(0.01)


async def test_waiting_ends_and_the_tasks_go_on() -> None:
    """And it ends at once if they do."""
    go = asyncio.Event()
    task = asyncio.create_task(go.wait())
    assert await wait_within({task}, 0.01) == (set(), {task})
    assert not task.done()
    go.set()
    assert await wait_within({task}, 60) == ({task}, set())
