"""Paths as logs may show them: the segments that hold a secret, or a person's number, are `*`.

A pattern such as `/users/*/cards/*` stands for every path that begins so, segment by segment. What
follows it stays as it is. Escapes, parameters, empty segments and the case of letters hide no
segment from a pattern, since upstreams read these paths alike (`core.target.readings`, `folded`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote

from sidecar.core.memo import Memo
from sidecar.core.target import folded

STAR: Final = "*"
_MOST: Final = 512  # paths whose masked form is remembered


class PathMask:
    """Masks paths by all of its patterns that match. True if it has any."""

    __slots__ = ("_memo", "_patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: Final = tuple(_segments(pattern) for pattern in patterns)
        self._memo: Final = Memo(self._mask, _MOST)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __call__(self, path: str) -> str:
        """Returns the path with `*` for each segment that a `*` of a pattern stands for."""
        return self._memo[path] if self._patterns else path

    def _mask(self, path: str) -> str:
        segments = path.split("/")
        filled = [at for at, segment in enumerate(segments) if segment]
        names = [_name(segments[at]) for at in filled]
        for pattern in self._patterns:
            if _matches(pattern, names):
                for at, part in zip(filled, pattern, strict=False):
                    if part == STAR:
                        segments[at] = STAR
        return "/".join(segments)


def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(_name(segment) for segment in pattern.split("/") if segment)


def _name(segment: str) -> str:
    return folded(unquote(segment.partition(";")[0], "latin-1"))


def _matches(pattern: Sequence[str], names: Sequence[str]) -> bool:
    return len(names) >= len(pattern) and all(
        part in (STAR, name) for part, name in zip(pattern, names, strict=False)
    )
