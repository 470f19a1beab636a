"""The date of a cookie's Expires, as browsers read it (RFC 6265 section 5.1.1)."""

from __future__ import annotations

import re
from calendar import monthrange, timegm
from typing import Final

LONGEST: Final = 1024
"""Bytes of an attribute's value that is looked at; browsers ignore longer ones (RFC 6265bis)."""

_TOKENS: Final = re.compile(rb"[^\t -/;-@\[-`{-~]+")
# Each token is the first of these parts that is not known yet and that it can be. What stands
# behind its digits does not count, unless it is another digit.
_PARTS: Final = {
    "time": re.compile(rb"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])"),
    "day": re.compile(rb"([0-9]{1,2})(?![0-9])"),
    "month": re.compile(rb"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE),
    "year": re.compile(rb"([0-9]{2,4})(?![0-9])"),
}
_MONTHS: Final = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_FIRST_YEAR: Final = 1601


def cookie_date(text: bytes) -> float | None:
    """The Unix time in seconds that an Expires value names; None for one that browsers ignore."""
    found: dict[str, re.Match[bytes]] = {}
    for token in _TOKENS.findall(text) if len(text) <= LONGEST else ():
        for part, pattern in _PARTS.items():
            if part not in found and (match := pattern.match(token)) is not None:
                found[part] = match
                break
    return None if len(found) < len(_PARTS) else _instant(found)


def _instant(found: dict[str, re.Match[bytes]]) -> float | None:
    year = _full_year(int(found["year"][1]))
    month = _MONTHS.index(found["month"][1].lower()) + 1
    day = int(found["day"][1])
    hour, minute, second = (int(digits) for digits in found["time"].groups())
    is_time = hour < 24 and minute < 60 and second < 60
    if year < _FIRST_YEAR or not is_time or not 0 < day <= monthrange(year, month)[1]:
        return None
    return float(timegm((year, month, day, hour, minute, second)))


def _full_year(year: int) -> int:
    """A year of two digits is one of this century or the last one."""
    if 70 <= year <= 99:
        return year + 1900
    return year + 2000 if year < 70 else year
