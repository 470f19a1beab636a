"""Nobody does more than the rate and its burst, and what is remembered of clients is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config.units import Rate
from sidecar.core.rate_limit import MOST, NEWS, RateLimit, rate_limits, take

RATES = st.builds(Rate, st.integers(1, 200), st.sampled_from(["s", "m", "h"]))
PAUSES = st.lists(st.floats(0.0, 2.0) | st.just(0.0), max_size=300)


def admitted(rate: Rate, pauses: list[float], start: float) -> tuple[list[float], list[float]]:
    """When something was tried, and when it was let."""
    limit, now = RateLimit(rate), start
    tried, let = [], []
    for pause in pauses:
        now += pause * rate.seconds / rate.count
        tried.append(now)
        if not limit.take(b"a", now):
            let.append(now)
    return tried, let


@given(RATES, PAUSES, st.floats(0.0, 1e9))
def test_no_span_of_time_sees_more_than_the_rate_and_its_burst(
    rate: Rate, pauses: list[float], start: float
) -> None:
    _, let = admitted(rate, pauses, start)
    for first, since in enumerate(let):
        for count, until in enumerate(let[first:], 1):
            assert count <= rate.count + (until - since) * rate.count / rate.seconds + 0.01


@given(RATES, PAUSES, st.floats(0.0, 1e9))
def test_whoever_keeps_to_the_rate_is_never_refused(
    rate: Rate, pauses: list[float], start: float
) -> None:
    tried, let = admitted(rate, [1.001 + pause for pause in pauses], start)
    assert tried == let


@given(RATES, st.integers(1, 400))
def test_so_many_come_at_once_and_then_one_after_the_wait(rate: Rate, count: int) -> None:
    """Not a moment sooner than it was told."""
    limit = RateLimit(rate)
    waits = [limit.take(b"a", 1000.0) for _ in range(count)]
    assert [wait == 0 for wait in waits] == [at < rate.count for at in range(count)]
    if count > rate.count:
        assert waits[-1] == pytest.approx(rate.seconds / rate.count)
        assert limit.take(b"a", 1000.0 + waits[-1] * 0.9) > 0
        assert limit.take(b"a", 1000.0 + waits[-1]) == 0


def test_clients_do_not_count_for_each_other() -> None:
    limit = RateLimit(Rate(1, "m"))
    assert [limit.take(client, 0.0) for client in (b"a", b"b", b"a")] == [0.0, 0.0, 60.0]


@given(st.floats(-1e6, 1e6))
def test_a_clock_that_is_set_back_costs_no_more_than_a_unit(jump: float) -> None:
    rate = Rate(3, "m")
    whole_at = 0.0
    for _ in range(3):
        whole_at, _ = take(whole_at, rate, 0.0)
    _, wait = take(whole_at, rate, jump)
    assert 0 <= wait <= rate.seconds


# -- memory ----------------------------------------------------------------------------------------


def name(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_so_many_clients_are_remembered_at_most() -> None:
    """Of each kind: those near the limit, and all others."""
    limit = RateLimit(Rate(4, "h"))
    for number in range(MOST + 100):
        limit.take(name(number), 0.0)
    assert len(limit) == MOST
    for number in range(MOST + 100):
        for _ in range(4):
            limit.take(name(number), 0.0)
    assert len(limit) <= 2 * MOST


def test_clients_whose_allowance_is_whole_are_forgotten() -> None:
    limit = RateLimit(Rate(4, "m"))
    for number in range(100):
        limit.take(name(number), number * 0.01)
    limit.take(b"late", 1000.0)
    assert len(limit) == 1


def test_addresses_that_are_used_once_make_nobody_forgotten_who_is_near_the_limit() -> None:
    """A stranger has as many as he likes of IPv6; they make room for each other."""
    limit = RateLimit(Rate(4, "h"))
    assert [limit.take(b"a", 0.0) == 0 for _ in range(5)] == [True] * 4 + [False]
    for number in range(3 * MOST):
        limit.take(name(number), 1.0)
    assert limit.take(b"a", 2.0) > 0


def test_what_is_remembered_outlasts_a_reload_with_another_rate() -> None:
    before = rate_limits({"login": Rate(2, "h"), "logout": None}, {})
    assert set(before) == {"login"}
    assert [before["login"].take(b"a", 0.0) == 0 for _ in range(3)] == [True, True, False]
    after = rate_limits({"login": Rate(60, "m"), "logout": Rate(1, "s")}, before)
    assert after["login"].take(b"a", 0.0) == pytest.approx(1.0)  # a unit of the new rate at most
    assert after["logout"].take(b"a", 0.0) == 0


def test_it_is_told_once_a_minute() -> None:
    limit = RateLimit(Rate(1, "h"))
    assert [limit.is_news(at) for at in (0.0, 1.0, NEWS - 1, NEWS, NEWS + 1)] == [
        *(True, False, False),
        *(True, False),
    ]
