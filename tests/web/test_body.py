"""The pace of a request's body: time that this process missed is none of its client's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.web.body import WINDOW, RequestBody
from tests.loops import FakeLoop

RATE = 100


class Read:
    """A read of a body that is waited for until bytes come; the body; who is given up."""

    def __init__(self, loop: FakeLoop) -> None:
        self.total_bytes = 0
        self._buffer = b""
        self._protocol = SimpleNamespace(_reading_paused=False)
        self.given_up: list[float] = []
        self._loop = loop
        connection = SimpleNamespace(
            expect_client=lambda: None, expect_nothing=lambda: None, give_up=self._give_up
        )
        limits = SimpleNamespace(client_rate=RATE)
        policy = SimpleNamespace(config=SimpleNamespace(limits=limits))
        runtime = SimpleNamespace(loop=loop, policy=policy)
        budgets = SimpleNamespace(comes=lambda _: None, comes_no_more=lambda _: None)
        handler = SimpleNamespace(budgets=budgets)
        flow: Any = SimpleNamespace(
            runtime=runtime,
            connection=connection,
            payload=self,
            handler=handler,
            over=False,
            leave_budget=lambda: None,
        )
        self._body = RequestBody(flow)
        self._body.__enter__()
        self._reading: Any = None
        self._begin()

    def _give_up(self, _: str) -> None:
        self.given_up.append(self._loop.now)

    def _begin(self) -> None:
        self._reading = self._body.read()
        self._reading.send(None)

    # What `net.pieces` asks of a body.

    def exception(self) -> None:
        return None

    def is_eof(self) -> bool:
        return False

    async def _wait(self, _: str) -> None:
        await _Arrival()
        self._buffer = b"x"

    def _read_nowait(self, _: int) -> bytes:
        data, self._buffer = self._buffer, b""
        return data

    def comes(self, size: int) -> None:
        """Bytes are read, and more are waited for."""
        self.total_bytes += size
        with pytest.raises(StopIteration):
            self._reading.send(None)
        self._begin()

    def close(self) -> None:
        self._reading.close()
        self._body.__exit__()


class _Arrival:
    def __await__(self) -> Any:
        yield


def test_slow_client_is_given_up() -> None:
    """After the window, whatever the turns of the loop are."""
    for turn in (0.0, 2.0):
        loop = FakeLoop()
        read = Read(loop)
        while not read.given_up and loop.now < 10 * WINDOW:
            loop.advance(1)
            loop.be_busy(turn)
            read.comes(RATE // 2 if turn == 0.0 else RATE // 4)
        assert WINDOW <= read.given_up[0] <= 2.5 * WINDOW
        read.close()


@pytest.mark.parametrize("seconds", [WINDOW, 10 * WINDOW, 3600.0])
def test_time_that_was_missed_is_none_of_the_clients(seconds: float) -> None:
    """The process was stopped; the client's bytes are in the socket, and are read next."""
    loop = FakeLoop()
    read = Read(loop)
    for _ in range(7):
        loop.advance(1)
        read.comes(2 * RATE)
    loop.be_busy(seconds)
    assert read.given_up == []
    for _ in range(int(2 * WINDOW)):
        read.comes(2 * RATE)
        loop.advance(1)
    assert read.given_up == []
    read.close()
