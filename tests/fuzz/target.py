"""What is fuzzed: a function that takes any bytes and raises if a promise is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

LONGEST = 4096  # bytes of one input


@dataclass(frozen=True, slots=True)
class Target:
    """One promise. `check` raises anything if it is broken; what it returns says nothing.

    `words` are what inputs are made of, `seeds` inputs to begin with; `longest` is the size of an
    input in bytes. `instrumented` are the packages whose branches lead the search.
    """

    check: Callable[[bytes], object]
    words: Sequence[bytes]
    seeds: Sequence[bytes]
    longest: int = LONGEST
    instrumented: Sequence[str] = ("sidecar",)


class Draw:
    """Reads choices off the front of an input; an input that has ended gives zeros."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next octet."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, by the next octet."""
        return options[self.byte() % len(options)]

    def rest(self) -> bytes:
        """All that has not been read."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    @property
    def left(self) -> int:
        """How many octets have not been read."""
        return max(len(self._data) - self._at, 0)
