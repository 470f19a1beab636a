"""Paths as logs may show them: the segments that hold a secret, or a person's number, are `*`.

So is the value of each parameter in a path, such as `;jsessionid=` (RFC 3986 3.3): a session's name
stands there, or what else might stand in a query, which no log shows.

A pattern such as `/users/*/cards/*` stands for every path that begins so, segment by segment. What
follows it stays as it is. No other spelling hides a segment: a pattern stands for whatever some
server reads so (`core.target.readings`, `folded`). Where segments cannot say it, such as with `%2F`
for a slash, the whole path is `/*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final
from urllib.parse import unquote

from sidecar.core.memo import Memo
from sidecar.core.target import folded, is_odd, readings

STAR: Final = "*"
_VALUE: Final = re.compile(r"(;[^;/=]*=)[^;/]*")  # of a parameter in a segment
_MOST: Final = 512  # paths whose masked form is remembered
_LONGEST_ODD: Final = 1024  # characters; to try all readings of a longer one would take long
_MOST_READ: Final = 16_384  # the same of all its readings together


class PathMask:
    """Masks paths by all of its patterns that match, and the values of parameters."""

    __slots__ = ("_depth", "_memo", "_patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: Final = tuple(_segments(pattern) for pattern in patterns)
        self._depth: Final = max(map(len, self._patterns), default=0)
        self._memo: Final = Memo(self._mask, _MOST)

    def __call__(self, path: str) -> str:
        """Returns the path with `*` for each value, and for what a `*` of a pattern stands for."""
        if self._patterns:
            return self._memo[path]
        return _without_values(path) if ";" in path else path

    def _mask(self, path: str) -> str:
        segments = path.split("/")
        hidden = self._hidden(segments)
        masked = "/".join(STAR if at in hidden else one for at, one in enumerate(segments))
        if is_odd(path) and (len(path) > _LONGEST_ODD or self._shows(masked, path)):
            return f"/{STAR}"
        return _without_values(masked)

    def _shows(self, masked: str, path: str) -> bool:
        """Whether some reading of a masked path shows a segment that one of the path hides.

        Of a path with too many readings that is not known, and so it is taken for granted.
        """
        of_masked, of_path = readings(masked, limit=_MOST_READ), readings(path, limit=_MOST_READ)
        if not (of_masked and of_path):
            return True
        shown = {one for reading in of_masked for one in reading.split("/")} - {STAR}
        for reading in of_path:
            segments = reading.split("/")
            if any(segments[at] in shown for at in self._hidden(segments)):
                return True
        return False

    def _hidden(self, segments: Sequence[str]) -> frozenset[int]:
        """Where the segments are that a `*` of a pattern stands for."""
        filled = [*islice((at for at, one in enumerate(segments) if one), self._depth)]
        names = [_name(segments[at]) for at in filled]
        return frozenset(
            at
            for pattern in self._patterns
            if _matches(pattern, names)
            for at, part in zip(filled, pattern, strict=False)
            if part == STAR
        )


def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(_name(segment) for segment in pattern.split("/") if segment)


def _name(segment: str) -> str:
    return folded(unquote(segment.partition(";")[0], "latin-1"))


def _matches(pattern: Sequence[str], names: Sequence[str]) -> bool:
    return len(names) >= len(pattern) and all(
        part in (STAR, name) for part, name in zip(pattern, names, strict=False)
    )


def _without_values(path: str) -> str:
    return _VALUE.sub(rf"\1{STAR}", path)
