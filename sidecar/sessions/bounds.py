"""Bounds for what outside text can fill: in number, in bytes, and in time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

NAME_COST: Final = 256  # bytes of a fingerprint that is remembered

Value = TypeVar("Value")


class Latest(OrderedDict[str, Value]):
    """The entries that were put last, at most `most`; the oldest one makes room.

    That takes the same time however many went before: a plain dictionary looks through all of them.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most: Final = most

    def put(self, key: str, value: Value) -> None:
        """Adds or replaces an entry, which counts as the newest then."""
        self.pop(key, None)
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)


class Names(Latest[None]):
    """Fingerprints, bounded in bytes; the oldest one makes room."""

    __slots__ = ()

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes // NAME_COST)

    def add(self, name: str) -> None:
        """Remembers a name, which counts as the newest then."""
        self.put(name, None)


class Budget:
    """A token bucket: `burst` times at once, and `rate` times a second in the long run.

    `refused` counts how often it was empty.
    """

    __slots__ = ("_burst", "_left", "_rate", "_seen", "refused")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst: Final = burst
        self._rate: Final = rate
        self._left = burst
        self._seen = 0.0
        self.refused = 0

    def take(self, now: float) -> bool:
        """Takes one. Returns whether there was one at `now` (seconds of a clock)."""
        passed = max(0.0, now - self._seen)
        self._left = min(self._burst, self._left + passed * self._rate)
        self._seen = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True
