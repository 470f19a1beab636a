"""How processes on one file learn of each other's messages at once, where something can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

Wake: TypeAlias = Callable[[], None]


class Wakeup(Protocol):
    """Wakes those who read messages from a file, since a file tells nobody."""

    def send(self) -> None:
        """Wakes all, in this process and in others. Never raises, and waits for nobody."""
        ...

    def add(self, wake: Wake) -> Callable[[], None]:
        """Has `wake` called whenever somebody sends; the result ends that."""
        ...


class LocalWakeup:
    """The readers of this process alone; those of others look by themselves."""

    def __init__(self) -> None:
        self._wakes: Final[dict[object, Wake]] = {}

    def send(self) -> None:
        self.wake()

    def wake(self) -> None:
        """Wakes the readers of this process."""
        for wake in tuple(self._wakes.values()):
            wake()

    def add(self, wake: Wake) -> Callable[[], None]:
        ticket = object()
        self._wakes[ticket] = wake

        def cancel() -> None:
            self._wakes.pop(ticket, None)

        return cancel
