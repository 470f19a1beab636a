"""Quantiles of distributions."""

from __future__ import annotations

import pytest

from sidecar.observation.quantiles import BOUNDS_MS, added, latency, quantile

NOTHING = [0] * (len(BOUNDS_MS) + 1)


def counts(**at: int) -> list[int]:
    found = list(NOTHING)
    for place, number in at.items():
        found[int(place[1:])] = number
    return found


def test_nothing_has_no_quantile() -> None:
    assert quantile(0.5, NOTHING) is None
    assert latency(NOTHING, 0.0).mean is None


def test_values_are_spread_evenly_within_a_bucket() -> None:
    """Half of what is between 5 and 10 ms is below 7.5 ms, and all of it below 10 ms."""
    found = counts(_3=10)
    assert BOUNDS_MS[2:4] == (5.0, 10.0)
    assert quantile(0.5, found) == 7.5
    assert quantile(1.0, found) == 10.0
    assert quantile(0.5, counts(_0=4)) == 0.5


def test_rank_that_falls_on_a_border_is_the_border() -> None:
    assert quantile(0.5, counts(_0=5, _3=5)) == BOUNDS_MS[0]


def test_of_what_is_above_all_bounds_the_last_one_is_known() -> None:
    assert quantile(0.99, counts(_0=1, _14=99)) == BOUNDS_MS[-1]


def test_latency_has_the_mean_of_what_was_measured() -> None:
    found = latency(counts(_3=4), 0.03)
    assert (found.mean, found.p50, found.seconds) == (7.5, 7.5, 0.03)


def test_series_are_added_place_by_place() -> None:
    assert added((1, 2), (3, 4), (5, 6)) == (9, 12)
    with pytest.raises(ValueError, match="lengths"):
        added((1,), (1, 2))
