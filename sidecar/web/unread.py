"""What clients have sent and nobody has read into a request yet: one bound for all connections.

Those are heads and trailers that are not whole, and requests that are pipelined. One connection may
hold a head and a segment of them; very many of them would fill memory. Above the bound those that
hold most are cut: a user's connection holds next to nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

BYTES: Final = 32 << 20  # of all connections of a process
FREED: Final = BYTES // 10  # at a time, since each look goes through all of them

Holder = TypeVar("Holder", bound=Hashable)


class Unread(Generic[Holder]):
    """Counts by connection. `bytes` is what all of them hold."""

    __slots__ = ("_sizes", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._sizes: Final[dict[Holder, int]] = {}

    def note(self, one: Holder, size: int) -> Sequence[Holder]:
        """`one` holds so many bytes. Returns those that are to be cut, which count no more."""
        self.bytes += size - self._sizes.pop(one, 0)
        if size:
            self._sizes[one] = size
        return self._most() if self.bytes > BYTES else ()

    def _most(self) -> Sequence[Holder]:
        """Takes out those that hold most, until so much is free that it lasts for a while."""
        cut: list[Holder] = []
        for one in sorted(self._sizes, key=self._sizes.__getitem__, reverse=True):
            if self.bytes <= BYTES - FREED:
                break
            self.bytes -= self._sizes.pop(one)
            cut.append(one)
        return cut
