"""What supervisor, workers and the admin process know of each other: a table in shared memory."""

from __future__ import annotations

import mmap
from typing import Final

import msgspec

_GENERATION: Final = 0  # how many processes have had this place, this one included
_SERVES: Final = 1  # 1 or 0
_CONNECTIONS: Final = 2  # -1 unless it accepts
_RELOADED: Final = 3  # the last reload that this process is through with
_COLUMNS: Final = 4
_ASKED: Final = 0  # cells of all: how many reloads the admin process has asked for,
_ANSWERED: Final = 1  # up to which of those the supervisor is through,
_RELOAD: Final = 2  # and how many configurations it had its workers take
_COMMON: Final = 3
_BYTES: Final = 8  # of a cell, which is so written at once
_MARGIN: Final = 8  # to be ahead by one, or by one in so many, does not count


class WorkerId(msgspec.Struct, frozen=True):
    """A worker that serves: its place, and which of its processes, counted from 1."""

    number: int
    generation: int


class Scoreboard:
    """A row for each worker, numbered from 1. Each cell has one writer at a time.

    Made before the first fork, so that all have the same one.
    """

    def __init__(self, workers: int) -> None:
        self.workers: Final = workers
        cells = _COMMON + workers * _COLUMNS
        self._cells: Final = memoryview(mmap.mmap(-1, cells * _BYTES)).cast("q")
        for number in range(1, workers + 1):
            self.vacate(number)

    # -- the supervisor's -----------------------------------------------------------------------

    def assign(self, number: int) -> WorkerId:
        """A place has a new process, which does not serve yet."""
        self.vacate(number)
        generation = self._get(number, _GENERATION) + 1
        self._set(number, _GENERATION, generation)
        self._set(number, _RELOADED, self._cells[_RELOAD])
        return WorkerId(number, generation)

    def vacate(self, number: int) -> None:
        """The process at this place has ended."""
        self._set(number, _SERVES, 0)
        self._set(number, _CONNECTIONS, -1)

    @property
    def asked(self) -> int:
        """The last reload that was asked for here."""
        return self._cells[_ASKED]

    def answered(self, asked: int) -> None:
        """All reloads up to this one have been tried."""
        self._cells[_ANSWERED] = asked

    def next_reload(self) -> None:
        """Workers are about to be told of another configuration."""
        self._cells[_RELOAD] += 1

    # -- the admin process's --------------------------------------------------------------------

    def ask_reload(self) -> int:
        """The number of a reload that is asked for."""
        self._cells[_ASKED] += 1
        return self._cells[_ASKED]

    def is_answered(self, asked: int) -> bool:
        """Whether the supervisor has tried that reload."""
        return self._cells[_ANSWERED] >= asked

    def has_reloaded(self, worker: WorkerId) -> bool:
        """Whether a worker is through with the last reload, or is gone."""
        is_gone = self._get(worker.number, _GENERATION) != worker.generation
        return is_gone or self._get(worker.number, _RELOADED) >= self._cells[_RELOAD]

    # -- the worker's ---------------------------------------------------------------------------

    def serving(self, number: int) -> None:
        """Says that this process serves at that place."""
        self._set(number, _SERVES, 1)

    @property
    def reload(self) -> int:
        """The last reload that workers were told of."""
        return self._cells[_RELOAD]

    def reloaded(self, number: int, reload: int) -> None:
        """Says that this process is through with a reload, whatever came of it."""
        self._set(number, _RELOADED, reload)

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
        return self._cells[_COMMON + (number - 1) * _COLUMNS + column]

    def _set(self, number: int, column: int, value: int) -> None:
        self._cells[_COMMON + (number - 1) * _COLUMNS + column] = value


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
