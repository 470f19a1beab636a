"""The least severe level that is logged, which may be another one for a while.

An override is one cell of eight bytes: until when, and which level. Processes that were forked of
one have the same cell, so each of them logs by it at once, and those to come as well. It ends by
itself: whoever asks for the level looks at the clock.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Final

SEVERITIES: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""The levels by name, with `logging`'s numbers."""
LONGEST_OVERRIDE: Final = 86_400.0  # seconds

_NAMES: Final = tuple(SEVERITIES)
_BYTES: Final = 8  # of the cell, which is so written at once


class LogLevel:
    """The level of all processes that share this value."""

    __slots__ = ("_cell", "_now", "_severity", "_usual")

    def __init__(self, usual: str, now: Callable[[], float] = time.monotonic) -> None:
        """`usual` is the level of the configuration; `now` a clock that all processes share."""
        self._now: Final = now
        self._cell: Final = memoryview(mmap.mmap(-1, _BYTES)).cast("Q")
        self.follow(usual)

    def follow(self, usual: str) -> None:
        """Takes another level of the configuration, in this process alone; an override stays."""
        self._usual = usual
        self._severity = SEVERITIES[usual]

    def override(self, level: str, seconds: float) -> None:
        """Has all processes log from `level` on, for so many seconds. Raises `ValueError`."""
        if level not in SEVERITIES:
            raise ValueError(f"unknown level {level!r}; use {', '.join(_NAMES)}")
        if not 0 < seconds <= LONGEST_OVERRIDE:
            raise ValueError(f"the time must be above 0 and at most {LONGEST_OVERRIDE:g} s")
        until = int((self._now() + seconds) * 1000)
        self._cell[0] = until << 8 | _NAMES.index(level)

    def reset(self) -> None:
        """Ends an override: the configuration's level holds again."""
        self._cell[0] = 0

    @property
    def usual(self) -> str:
        """The level of the configuration."""
        return self._usual

    @property
    def remaining(self) -> float:
        """How many seconds an override still holds; 0.0 if there is none."""
        until = (self._cell[0] >> 8) / 1000
        return max(0.0, until - self._now()) if until else 0.0

    @property
    def current(self) -> str:
        """The level that holds now."""
        cell = self._cell[0]
        if not cell or self._now() * 1000 >= cell >> 8:
            return self._usual
        return _NAMES[cell & 0xFF]

    def admits(self, severity: int) -> bool:
        """Whether an event of this severity is logged now."""
        if not self._cell[0]:
            return severity >= self._severity
        return severity >= SEVERITIES[self.current]
