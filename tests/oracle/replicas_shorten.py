"""Makes a failing history of replicas shorter, as long as it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sidecar.core.record import replace
from tests.oracle.replicas_history import History


def shortened(history: History, fails: Callable[[History], bool], seconds: float) -> History:
    """The shortest history that was found in so many seconds, and that fails."""
    end = time.monotonic() + seconds
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for candidate in _candidates(history):
            if time.monotonic() > end:
                return history
            if fails(candidate):
                history, is_shorter = candidate, True
                break
    return history


def _candidates(history: History) -> Iterator[History]:
    """Shorter histories, the boldest first. Their pauses stay, since others may wait for them."""
    if any(history.clocks):
        yield replace(history, clocks=tuple(0.0 for _ in history.clocks))
    count, size = len(history.steps), len(history.steps) // 2
    while size:
        for start in range(count - size, -1, -size):
            yield replace(history, steps=_without(history, start, start + size))
        size //= 2


def _without(history: History, start: int, end: int) -> tuple[list[object], ...]:
    pause = round(sum(step[0] for step in history.steps[start:end]), 2)
    after = [list(step) for step in history.steps[end:]]
    if after:
        after[0][0] = round(after[0][0] + pause, 2)
    return (*history.steps[:start], *after)
