"""What is remembered of texts that clients and servers choose: bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

LONGEST: Final = 256  # bytes of a text that is worth remembering; real ones are shorter

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memo(dict[Key, Value], Generic[Key, Value]):
    """Remembers what a pure function made of short texts; long ones are worked out each time.

    `size` gives the length of what a key holds, by default its own. Once there are `most`, all are
    forgotten. A dictionary, since nothing is faster on a hit: `Memo(function, most).__getitem__` is
    the function with its memory.
    """

    __slots__ = ("_function", "_most", "_size")

    def __init__(
        self,
        function: Callable[[Key], Value],
        most: int,
        size: Callable[[Key], int] = len,  # type: ignore[assignment] # for texts
    ) -> None:
        super().__init__()
        self._function: Callable[[Key], Value] = function
        self._most = most
        self._size = size

    def __missing__(self, key: Key) -> Value:
        value = self._function(key)
        if self._size(key) <= LONGEST:
            if len(self) >= self._most:
                self.clear()
            self[key] = value
        return value
