"""Durations, sizes and rates as people write them.

The units are those of Go's `time.ParseDuration` (plus days) and IEC 80000-13 (KiB is 1024 bytes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sidecar.core.config.faults import BadValue, one_of

DURATION_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)$"
SIZE_PATTERN: Final = r"^[0-9]{1,15}(B|KiB|MiB|GiB)?$"
RATE_PATTERN: Final = r"^[0-9]{1,9}/(s|m|h)$"

_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final[Mapping[str, int]] = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)", re.ASCII)
_UNIT: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})? ?([A-Za-z]{1,3})", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)?", re.ASCII)
_RATE: Final = re.compile(r"([0-9]{1,9})/([A-Za-z]{1,9})", re.ASCII)
_PER: Final = ("s", "m", "h")


class Rate(msgspec.Struct, frozen=True):
    """So many times in a unit of time (s, m or h)."""

    count: int
    unit: str

    @property
    def seconds(self) -> float:
        """The length of the unit."""
        return _SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def parse_duration(value: object) -> float:
    """`250ms`, `1.5s`, `30s`, `5m`, `12h`, `30d` in seconds; zero and a missing unit are refused.

    Raises BadValue.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise _wrong(
            value, "a duration above zero, such as 30s or 250ms", _SECONDS, tuple(_SECONDS)
        )
    return seconds


def parse_wait(value: object) -> float:
    """A duration as above, or zero in any unit (also `0`) for none at all, in seconds.

    Raises BadValue.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    is_none = float(match[1]) == 0 if match else value in ("0", 0) and not isinstance(value, bool)
    return 0.0 if is_none else parse_duration(value)


def parse_grace(value: object) -> float:
    """A duration of a day at most, in seconds. Raises BadValue."""
    seconds = parse_duration(value)
    if seconds > _SECONDS["d"]:
        raise BadValue("must be at most a day", "use 24h, or less")
    return seconds


def parse_size(value: object) -> int:
    """`512`, `64KiB`, `1MiB`, `1GiB` in bytes; zero and units of 1000 are refused.

    Raises BadValue.
    """
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _BYTES[match[2] or ""] if match else 0
    if size <= 0:
        units = ("bytes", "KiB", "MiB", "GiB")
        raise _wrong(value, "a size above zero, such as 512, 64KiB or 1MiB", _BYTES, units)
    return size


def parse_head_size(value: object) -> int:
    """A size of 1 GiB at most: heads are held in memory. Raises BadValue."""
    size = parse_size(value)
    if size > _BYTES["GiB"]:  # beyond some 2^64, the parser of heads fails at each request
        raise BadValue("must be at most 1GiB", "use 64KiB, for example")
    return size


def parse_rate(value: object) -> Rate:
    """`5/s`, `30/m`, `1000/h`; zero and other units are refused. Raises BadValue."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match and match[2] not in _PER:
        raise BadValue(f'unknown unit "{match[2]}"', f"use {one_of(_PER)}")
    if match is None or int(match[1]) == 0:
        raise BadValue("must be a rate above zero, such as 5/s, 30/m or 1000/h")
    return Rate(int(match[1]), match[2])


def parse_share(value: object) -> float:
    """A number above 0 and at most 1; from the environment as text. Raises BadValue."""
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    with suppress(ValueError):
        share = float(value) if is_number else 0.0  # type: ignore[arg-type]
        if 0 < share <= 1:
            return share
    raise BadValue("must be a number above 0 and at most 1, such as 0.5")


def _wrong(
    value: object, wanted: str, known: Mapping[str, float], shown: Sequence[str]
) -> BadValue:
    """What is wrong: the unit, if there is a number before it, or all of it."""
    match = _UNIT.fullmatch(value) if isinstance(value, str) else None
    if match and match[1] not in known:
        return BadValue(f'unknown unit "{match[1]}"', f"use {one_of(shown)}")
    return BadValue(f"must be {wanted}")
