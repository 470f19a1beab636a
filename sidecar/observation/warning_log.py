"""The last warnings and errors of the log, one for each event, for who has no log at hand."""

from __future__ import annotations

from typing import Final

from sidecar.observation.session_log import bounded
from sidecar.observation.status_model import WarningRow

EVENTS: Final = 50
"""Events that are remembered; the one that is oldest makes room."""


class WarningLog:
    """Belongs to one process. Its lines have been logged, so they hold no secret."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: Final[dict[str, WarningRow]] = {}

    def add(self, event: str, level: str, detail: str, now: float) -> None:
        """Remembers a line in place of the last one of the same event."""
        before = self._rows.pop(event, None)
        count = 1 if before is None else before.count + 1
        self._rows[event] = WarningRow(event, level, bounded(detail), now, count)
        if len(self._rows) > EVENTS:
            del self._rows[next(iter(self._rows))]

    @property
    def rows(self) -> tuple[WarningRow, ...]:
        """The last of each event, the oldest first."""
        return tuple(self._rows.values())
