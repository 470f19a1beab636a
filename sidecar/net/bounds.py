"""Bounds for what outside text can fill: in bytes, and in time."""

from __future__ import annotations

from typing import Final

NAME_COST: Final = 256  # bytes of a fingerprint that is remembered


class Names:
    """Fingerprints, bounded in bytes; the one remembered first makes way."""

    __slots__ = ("_limit", "_names")

    def __init__(self, max_bytes: int) -> None:
        self._limit: Final = max_bytes // NAME_COST
        self._names: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str) -> None:
        """Remembers a name, or remembers it anew."""
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._limit:
            del self._names[next(iter(self._names))]


class Budget:
    """How often something may be done: `burst` times at once, and `rate` times a second for good.

    `refused` counts how often it was too often.
    """

    __slots__ = ("_burst", "_left", "_rate", "_seen", "refused")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst: Final = burst
        self._rate: Final = rate
        self._left = burst
        self._seen = 0.0
        self.refused = 0

    def take(self, now: float) -> bool:
        """Whether it may be done once more at `now` (seconds of a clock)."""
        passed = max(0.0, now - self._seen)
        self._left = min(self._burst, self._left + passed * self._rate)
        self._seen = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True
