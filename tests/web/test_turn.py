"""Connections that pipeline go on in turns: in order, together for one share of each turn."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.web.turn import PutOff, Turns


class Pipelining:
    """One on which so many requests wait."""

    def __init__(self, turns: Turns, served: list[str], name: str, number: int) -> None:
        self._turns, self._served, self._name, self._left = turns, served, name, number

    def go_on(self) -> None:
        self._served.append(self._name)
        self._left -= 1
        if self._left > 0:
            self._turns.put_off(self)
        if self._left < 0:
            raise ValueError("a defect")


async def test_each_has_one_request_before_any_has_another() -> None:
    turns, served = Turns(asyncio.get_running_loop()), list[str]()
    for name, number in (("a", 3), ("b", 1), ("c", 2)):
        turns.put_off(Pipelining(turns, served, name, number))
    assert served == []
    while len(served) < 6:
        await asyncio.sleep(0)
    assert "".join(served) == "abcaca"


async def test_all_together_have_one_share_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is used up, whatever else is ready comes first."""
    monkeypatch.setattr("sidecar.web.turn.PIPELINED", 0.0)
    turns, served = Turns(asyncio.get_running_loop()), list[str]()
    for name in "abc":
        turns.put_off(Pipelining(turns, served, name, 2))
    for number in range(1, 7):
        await asyncio.sleep(0)
        assert len(served) == number
    assert "".join(served) == "abcabc"


async def test_one_that_has_ended_is_forgotten() -> None:
    turns, served = Turns(asyncio.get_running_loop()), list[str]()
    ended: PutOff = Pipelining(turns, served, "a", 5)
    turns.put_off(ended)
    turns.put_off(Pipelining(turns, served, "b", 1))
    turns.forget(ended)
    turns.forget(ended)
    for _ in range(5):
        await asyncio.sleep(0)
    assert served == ["b"]


async def test_defect_of_one_keeps_no_other_from_its_turn() -> None:
    loop = asyncio.get_running_loop()
    seen = list[object]()
    loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    turns, served = Turns(loop), list[str]()
    turns.put_off(Pipelining(turns, served, "a", 0))
    turns.put_off(Pipelining(turns, served, "b", 1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert served == ["a", "b"]
    assert len(seen) == 1
