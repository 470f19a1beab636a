"""What happened to sessions lately, so that the story of one can be told.

Anyone can log out with an invented cookie, so what happens to sessions that nothing speaks for has
a space of its own, and displaces nothing.
"""

from __future__ import annotations

from collections import deque
from heapq import merge
from typing import Any, Final, TypeVar

from sidecar.core.record import replace, values_of
from sidecar.observation.status_model import RefusedRow, SessionEvent, TroubleRow

Row = TypeVar("Row", SessionEvent, RefusedRow, TroubleRow)

PROVEN: Final = 2_000
"""Events of sessions that something speaks for: the oldest makes room."""
UNPROVEN: Final = 500
LONGEST_TEXT: Final = 200
"""Characters of each text of an event, such as a path."""
SHOWN: Final = 100
"""The last ended sessions that the document has."""


def bounded(text: str) -> str:
    """A text cut to what is remembered of it."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def cut(row: Row) -> Row:
    """A row with all its texts cut to what is remembered of them."""
    texts: dict[str, Any] = {
        name: bounded(value)
        for name, value in values_of(row).items()
        if isinstance(value, str) and len(value) > LONGEST_TEXT
    }
    return replace(row, **texts) if texts else row


_ENDS: Final = frozenset(("ended", "missing"))


class SessionLog:
    """The last events of sessions, in order. At most 2 500 of less than 4 KiB each."""

    __slots__ = ("_proven", "_unproven")

    def __init__(self) -> None:
        self._proven: Final[deque[SessionEvent]] = deque(maxlen=PROVEN)
        self._unproven: Final[deque[SessionEvent]] = deque(maxlen=UNPROVEN)

    def add(self, event: SessionEvent, *, is_proven: bool) -> None:
        """Remembers an event. `is_proven`: no stranger can have made up its session."""
        (self._proven if is_proven else self._unproven).append(cut(event))

    def events(self) -> list[SessionEvent]:
        """All that are remembered."""
        return list(merge(self._unproven, self._proven, key=_time))

    def ended(self) -> tuple[SessionEvent, ...]:
        """The last sessions that ended, and requests that needed one and had none."""
        return tuple(one for one in self.events() if one.kind in _ENDS)[-SHOWN:]


def _time(event: SessionEvent) -> float:
    return event.at
