"""The last 15 minutes of counters that only grow, as what they grew by in each second and step.

A request costs one comparison here. Once the time has passed into another second, what the counters
have grown by since the last look is written down as the time before: nothing was counted in
between, or there would have been a look. So nothing runs while nobody sends or reads.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from sidecar.observation.status_model import STEP, STEPS, WINDOW

Name: TypeAlias = tuple[str, ...]
"""What is counted: a family and its labels, which come from the configuration."""

Growth: TypeAlias = "Mapping[Name, Sequence[float]]"
"""By how much each counter has grown; those that have not are left out."""

_AHEAD: Final = 2.0  # seconds that the clock may be set back without notice


class Past(msgspec.Struct, frozen=True):
    """What was counted until now. `steps` are the last `STEPS`, `seconds` the last `WINDOW`.

    Each second has the number of requests, and of those that failed.
    """

    until: float
    until_second: float
    requests: tuple[int, ...]
    errors: tuple[int, ...]
    steps: tuple[Growth, ...]

    def series(self, name: Name, at: int = 0) -> tuple[int, ...]:
        """One counter's growth in each step."""
        return tuple(int(step[name][at]) if name in step else 0 for step in self.steps)

    def total(self, name: Name, length: int) -> list[float]:
        """The growth of a counter of that length, in all steps together."""
        found = [step[name] for step in self.steps if name in step]
        return [sum(values) for values in zip(*found, strict=True)] if found else [0.0] * length

    def names(self, family: str) -> list[Name]:
        """Whatever has grown of one family, in order."""
        return sorted({name for step in self.steps for name in step if name[0] == family})


class Timeline:
    """Belongs to one process. Bounded by what is configured: labels never come from requests.

    `totals` returns how many requests there were so far, and how many of them failed; `read` all
    counters. Both are called at most once a second, and once in `STEP` seconds.
    """

    __slots__ = (
        "_errors",
        "_last",
        "_read",
        "_requests",
        "_second",
        "_step",
        "_steps",
        "_told",
        "_totals",
        "turns_at",
    )

    def __init__(
        self,
        totals: Callable[[], tuple[int, int]],
        read: Callable[[], dict[Name, list[float]]],
        now: float,
    ) -> None:
        self._totals: Final = totals
        self._read: Final = read
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._requests = array("L", bytes(8 * WINDOW))  # by second modulo WINDOW
        self._errors = array("L", bytes(8 * WINDOW))
        self._steps: deque[Growth] = deque([{}] * STEPS, STEPS)
        self._last = self._read()
        self._told = self._totals()
        self._second = int(now)
        self._step = int(now) // STEP
        self.turns_at = float(self._second + 1)
        """From when on `turn` must be called before anything is counted (Unix seconds)."""

    def turn(self, now: float) -> None:
        """Passes on to the second of `now`."""
        if now < self._second - _AHEAD:  # the clock was set back: what was told is of no time
            self._begin(now)
            return
        second = max(self._second, int(now))
        self._note_second()
        for one in range(self._second + 1, min(second, self._second + WINDOW) + 1):
            self._requests[one % WINDOW] = self._errors[one % WINDOW] = 0
        if second // STEP != self._step:
            self._note_step()
            passed = second // STEP - self._step
            self._steps.extend([{}] * min(passed, STEPS))
            self._step = second // STEP
        self._second = second
        self.turns_at = float(second + 1)

    def past(self, now: float) -> Past:
        """What was counted until now."""
        self.turn(now)
        self._note_step()
        order = [(self._second + 1 + at) % WINDOW for at in range(WINDOW)]
        return Past(
            until=float((self._step + 1) * STEP),
            until_second=float(self._second + 1),
            requests=tuple(self._requests[at] for at in order),
            errors=tuple(self._errors[at] for at in order),
            steps=tuple(self._steps),
        )

    def _note_second(self) -> None:
        requests, errors = self._totals()
        at = self._second % WINDOW
        self._requests[at] += max(0, requests - self._told[0])
        self._errors[at] += max(0, errors - self._told[1])
        self._told = requests, errors

    def _note_step(self) -> None:
        """Adds what the counters grew by to the step that is being filled."""
        read, last = self._read(), self._last
        step = dict(self._steps[-1])
        for name, values in read.items():
            before = last.get(name)
            if values != before:
                grown = array("d", values)
                for at, value in enumerate(before or ()):
                    grown[at] -= value
                if name in step:
                    for at, value in enumerate(step[name]):
                        grown[at] += value
                step[name] = grown
        self._steps[-1] = step
        self._last = read
