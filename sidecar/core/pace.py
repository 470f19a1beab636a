"""How slowly a client may send, judged over a window: a pause between fast pieces is fine."""

from __future__ import annotations

from collections import deque
from typing import Final

MARKS: Final = 6  # of a window; so a judgement covers at most a sixth more than one
HEAD_START: Final = 65536  # bytes that one counts as ahead who has just begun


class Pace:
    """Whether bytes come at `rate` a second at least, over any `window` seconds.

    Only time that was spent waiting for the client counts. Memory is `MARKS` pairs of numbers.
    """

    __slots__ = ("_marks", "_rate", "_window")

    def __init__(self, rate: int, window: float) -> None:
        self._rate: Final = rate
        self._window: Final = window
        self._marks: Final[deque[tuple[float, int]]] = deque([(0.0, 0)])

    def note(self, waited: float, received: int) -> None:
        """Notes the seconds waited and the bytes received so far, which both only grow."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= waited - self._window:
            marks.popleft()
        if waited - marks[-1][0] >= self._window / MARKS:
            marks.append((waited, received))

    def is_too_slow(self, waited: float, received: int) -> bool:
        """Judges by what is noted until now."""
        self.note(waited, received)
        since, before = self._marks[0]
        span = waited - since
        return span >= self._window and received - before < self._rate * span

    def rate(self, waited: float, received: int) -> float:
        """Bytes a second over the last window; of one who has just begun it is a high one."""
        since, before = self._marks[0]
        return (received - before + HEAD_START) / (waited - since + 1.0)
