"""Bounds hold, in bytes and in time."""

from __future__ import annotations

import os
import tracemalloc

from sidecar.core.tickets import encode
from sidecar.sessions.bounds import NAME_COST, Budget, Names


def test_a_name_takes_no_more_than_is_said() -> None:
    """So the bound in bytes is one."""
    tracemalloc.start()
    try:
        names, before = Names(10_000_000), tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            names.add(encode(os.urandom(16)))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 10_000 * NAME_COST / 4 < taken <= 10_000 * NAME_COST


def test_the_first_name_makes_way() -> None:
    """Unless it was remembered anew."""
    names = Names(3 * NAME_COST)
    for name in ("a", "b", "c", "a", "d"):
        names.add(name)
    assert len(names) == 3
    assert [name in names for name in "abcd"] == [True, False, True, True]


def test_a_budget_is_spent_and_comes_back() -> None:
    """At the rate that is said, up to the burst; a clock that is set back gives nothing."""
    budget = Budget(5, 2)
    assert [budget.take(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [budget.take(101.0) for _ in range(3)] == [True, True, False]
    assert not budget.take(50.0)
    assert [budget.take(1000.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert budget.refused == 6
