"""Which requests get a line: those that fail always, others by status, by time and by chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.access_filter import AccessFilter, access_filter


def unlucky() -> float:
    return 1.0 - 2**-53


def lucky() -> float:
    return 0.0


def takes(rule: AccessFilter, status: int, seconds: float = 0.01) -> bool:
    return rule.takes(status, seconds, is_broken=False, draw=unlucky)


def test_without_keys_every_request_gets_a_line() -> None:
    rule = access_filter(None, None, None)
    assert rule.takes_all
    assert takes(rule, 200)


@pytest.mark.parametrize(
    ("status", "seconds", "is_taken"),
    [(200, 0.1, False), (399, 0.9, False), (400, 0.1, True), (200, 1.0, True), (404, 2.0, True)],
)
def test_either_minimum_is_enough(status: int, seconds: float, *, is_taken: bool) -> None:
    """A slow request is worth a line whatever its status."""
    rule = access_filter(400, 1.0, None)
    assert not rule.takes_all
    assert takes(rule, status, seconds) is is_taken


@given(
    st.none() | st.integers(100, 599),
    st.none() | st.floats(0.001, 1e6),
    st.floats(0, 1),
    st.integers(500, 599),
)
def test_failures_always_get_a_line(
    min_status: int | None, min_duration: float | None, sample: float, status: int
) -> None:
    """Whatever the keys say; and so does a response that ended before its end."""
    rule = access_filter(min_status, min_duration, sample)
    assert rule.takes(status, 0.0, is_broken=False, draw=unlucky)
    assert rule.takes(200, 0.0, is_broken=True, draw=unlucky)


def test_a_fraction_of_the_others_gets_a_line() -> None:
    """Alone, or beside a minimum."""
    for rule in (access_filter(None, None, 0.25), access_filter(400, None, 0.25)):
        assert rule.takes(200, 0.0, is_broken=False, draw=lambda: 0.2499)
        assert not rule.takes(200, 0.0, is_broken=False, draw=lambda: 0.25)
    assert access_filter(None, None, 1.0).takes(200, 0.0, is_broken=False, draw=unlucky)
    assert not access_filter(None, None, 0.0).takes(200, 0.0, is_broken=False, draw=lucky)
