"""What supervisor, workers and the admin process know of each other: a table in shared memory."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Final

_GENERATION: Final = 0  # how many processes have had this place, this one included
_SERVES: Final = 1  # 1 or 0
_CONNECTIONS: Final = 2  # -1 unless it accepts
_COLUMNS: Final = 3
_BYTES: Final = 8  # of a cell, which is so written at once
_MARGIN: Final = 8  # to be ahead by one, or by one in so many, does not count


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A worker that serves: its place, and which of its processes, counted from 1."""

    number: int
    generation: int


class Scoreboard:
    """A row for each worker, numbered from 1. Each cell has one writer at a time.

    Made before the first fork, so that all have the same one.
    """

    def __init__(self, workers: int) -> None:
        self.workers: Final = workers
        self._cells: Final = memoryview(mmap.mmap(-1, workers * _COLUMNS * _BYTES)).cast("q")
        for number in range(1, workers + 1):
            self.vacate(number)

    # -- the supervisor's -----------------------------------------------------------------------

    def assign(self, number: int) -> WorkerId:
        """A place has a new process, which does not serve yet."""
        self.vacate(number)
        generation = self._get(number, _GENERATION) + 1
        self._set(number, _GENERATION, generation)
        return WorkerId(number, generation)

    def vacate(self, number: int) -> None:
        """The process at this place has ended."""
        self._set(number, _SERVES, 0)
        self._set(number, _CONNECTIONS, -1)

    # -- the worker's ---------------------------------------------------------------------------

    def serving(self, number: int) -> None:
        """Says that this process serves at that place."""
        self._set(number, _SERVES, 1)

    def connections(self, number: int, count: int) -> None:
        """Says how many connections a worker has; -1: it accepts none."""
        self._set(number, _CONNECTIONS, count)

    def is_ahead(self, number: int) -> bool:
        """Whether a worker has clearly more connections than another one that accepts.

        Clearly, since connections that come and go make everybody a little ahead all the time.
        """
        others = [
            count
            for other in range(1, self.workers + 1)
            if other != number and (count := self._get(other, _CONNECTIONS)) >= 0
        ]
        if not others:
            return False
        least = min(others)
        return self._get(number, _CONNECTIONS) > least + 1 + least // _MARGIN

    # -- everybody's ----------------------------------------------------------------------------

    def members(self) -> list[WorkerId]:
        """Who serves."""
        return [
            WorkerId(number, self._get(number, _GENERATION))
            for number in range(1, self.workers + 1)
            if self._get(number, _SERVES)
        ]

    def open_connections(self, number: int) -> int:
        """How many connections a worker has."""
        return max(0, self._get(number, _CONNECTIONS))

    def replaced(self) -> int:
        """How many workers have been replaced so far."""
        return sum(
            max(0, self._get(number, _GENERATION) - 1) for number in range(1, self.workers + 1)
        )

    def _get(self, number: int, column: int) -> int:
        return self._cells[(number - 1) * _COLUMNS + column]

    def _set(self, number: int, column: int, value: int) -> None:
        self._cells[(number - 1) * _COLUMNS + column] = value


class BoardShares:
    """The connections of this worker, told to the others (`web.accepting.Shares`)."""

    __slots__ = ("_board", "_count", "_is_joined", "_number")

    def __init__(self, board: Scoreboard, number: int) -> None:
        self._board = board
        self._number = number
        self._count = 0
        self._is_joined = False

    def join(self) -> None:
        self._is_joined = True
        self._tell()

    def leave(self) -> None:
        self._is_joined = False
        self._tell()

    def opened(self) -> None:
        self._count += 1
        self._tell()

    def closed(self) -> None:
        self._count -= 1
        self._tell()

    def is_ahead(self) -> bool:
        return self._board.is_ahead(self._number)

    def _tell(self) -> None:
        self._board.connections(self._number, self._count if self._is_joined else -1)
