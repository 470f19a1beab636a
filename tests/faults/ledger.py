"""What users have seen, by the phase in which they saw it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_EXAMPLES: Final = 20


@dataclass
class Tally:
    """What came of the requests of a phase."""

    requests: int = 0
    right: int = 0
    repeated: int = 0
    """On a new connection, since a used one was closed before the response began."""
    codes: Counter[str] = field(default_factory=Counter)
    """Errors by `STATUS code`."""
    breaks: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Sessions that ended without a reason."""
    again: int = 0
    """Logins of those whose session ended with a reason."""
    told: int = 0
    """Streams and WebSockets that were ended in order."""
    cut: int = 0
    """Streams and WebSockets that broke."""
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Keeps a few words of the first errors."""
        if len(self.examples) < _EXAMPLES:
            self.examples.append(what)


class Ledger:
    """What all users see. `now` is the tally of the current phase."""

    def __init__(self) -> None:
        self.now = Tally()
        self._since = time.monotonic()
        self._served: dict[str, float] = {}

    def turn(self) -> Tally:
        """Begins a phase; returns its tally."""
        self.now = Tally()
        return self.now

    def heal(self) -> None:
        """From now on, first right answers are counted anew."""
        self._since = time.monotonic()
        self._served = {}

    def served(self, who: str, began: float) -> None:
        """Somebody got a right answer to a request that began then."""
        self.now.right += 1
        if began >= self._since:
            self._served.setdefault(who, time.monotonic() - self._since)

    @property
    def first(self) -> float | None:
        """Seconds until the first right answer."""
        return min(self._served.values(), default=None)

    def until_all(self, names: set[str]) -> float | None:
        """Seconds until everybody had one; None: somebody has none yet."""
        if names - self._served.keys():
            return None
        return max(self._served.values())

    def waiting(self, names: set[str]) -> set[str]:
        """Who has none yet."""
        return names - self._served.keys()
