"""Durations, sizes and rates mean what they say, and nothing else is taken for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config.faults import BadValue
from sidecar.core.config.units import (
    DURATION_PATTERN,
    RATE_PATTERN,
    SIZE_PATTERN,
    parse_duration,
    parse_grace,
    parse_head_size,
    parse_rate,
    parse_share,
    parse_size,
    parse_wait,
)

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@given(st.integers(1, 999_999_999), st.sampled_from(sorted(SECONDS)))
def test_duration_is_number_times_unit(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == pytest.approx(number * SECONDS[unit])


@given(st.integers(1, 10**15 - 1), st.sampled_from(sorted(BYTES)))
def test_size_is_number_times_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * BYTES[unit]


@given(st.integers(1, 10**15 - 1))
def test_plain_number_is_a_size_in_bytes(number: int) -> None:
    assert parse_size(number) == number


def test_duration_takes_decimals() -> None:
    assert parse_duration("1.5s") == 1.5


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0s",
        "0.000s",
        "30",
        "s",
        "-1s",
        "+1s",
        "1 s",
        "1S",
        "1m30s",
        "1e3s",
        "٣s",
        "30s\n",
        30,
        0.5,
        True,
        None,
        ["1s"],
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"duration|unknown unit"):
        parse_duration(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "0KiB",
        "64KB",
        "64kib",
        "64 KiB",
        "1.5MiB",
        "-1",
        "KiB",
        "٣",
        "1\n",
        "9" * 16,
        0,
        -1,
        1.0,
        True,
        None,
    ],
)
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"size|unknown unit"):
        parse_size(value)


@given(st.integers(1, 999_999_999), st.sampled_from(["s", "m", "h"]))
def test_rate_is_so_many_in_a_unit_of_time(number: int, unit: str) -> None:
    rate = parse_rate(f"{number}/{unit}")
    assert (rate.count, rate.seconds, str(rate)) == (number, SECONDS[unit], f"{number}/{unit}")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0/m",
        "5",
        "/m",
        "5/",
        "5/d",
        "5/ms",
        "5/min",
        "5 /m",
        "-5/m",
        "1.5/s",
        "٣/s",
        5,
        True,
        None,
    ],
)
def test_what_is_no_rate_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"rate|unknown unit"):
        parse_rate(value)


@given(st.floats(0, 1, exclude_min=True))
def test_share_is_a_number_or_its_text(share: float) -> None:
    assert parse_share(share) == parse_share(repr(share)) == share


@pytest.mark.parametrize("value", [0, -0.1, 1.1, "nan", float("nan"), "half", "50%", True, None])
def test_what_is_no_share_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match="above 0"):
        parse_share(value)


@pytest.mark.parametrize("value", ["0s", "0ms", "0m", "0h", "0d", "0.000s", "0", 0])
def test_a_wait_may_be_none_in_any_unit(value: object) -> None:
    assert parse_wait(value) == 0.0


@pytest.mark.parametrize("value", ["0ss", "0 s", "00", "", False, None, "-0s"])
def test_what_is_no_wait_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"duration|unknown unit"):
        parse_wait(value)


def test_grace_is_a_day_at_most() -> None:
    assert parse_grace("24h") == parse_grace("1d") == 86400.0
    for value in ("86401s", "24.001h", "2d"):
        with pytest.raises(BadValue, match="must be at most a day"):
            parse_grace(value)
    with pytest.raises(BadValue, match="duration"):
        parse_grace("0s")


def test_size_of_a_head_is_1_gib_at_most() -> None:
    """Beyond what the parser of heads can take, each request would end its connection."""
    assert parse_head_size("1GiB") == 1 << 30
    for value in (f"{(1 << 30) + 1}", "2GiB", "999999999999999GiB"):
        with pytest.raises(BadValue, match="must be at most 1GiB"):
            parse_head_size(value)
    with pytest.raises(BadValue, match="unknown unit"):
        parse_head_size("64KB")


@given(st.text(alphabet="0123456789./msdhKMGiB ", max_size=8))
def test_the_published_patterns_accept_whatever_the_parsers_accept(text: str) -> None:
    """An editor never marks what the sidecar takes, and differs only on zero."""
    for parse, pattern in (
        (parse_duration, DURATION_PATTERN),
        (parse_size, SIZE_PATTERN),
        (parse_rate, RATE_PATTERN),
    ):
        try:
            parse(text)
        except BadValue:
            assert not re.search(pattern, text) or not re.search("[1-9]", text)
        else:
            assert re.search(pattern, text)
