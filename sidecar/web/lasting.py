"""WebSockets and event streams that are open: each is ended in good order with the server."""

from __future__ import annotations

from collections.abc import Callable


class Lasting:
    """What is open, by the callback that ends it in good order."""

    def __init__(self) -> None:
        self._closes: set[Callable[[], None]] = set()
        self._is_over = False

    def add(self, close: Callable[[], None]) -> None:
        """Has `close` called at the end; at once, if that has come."""
        if self._is_over:
            close()
        else:
            self._closes.add(close)

    def discard(self, close: Callable[[], None]) -> None:
        """Forgets one that has ended by itself."""
        self._closes.discard(close)

    def end(self) -> None:
        """Ends all, and whatever is added from now on."""
        self._is_over = True
        for close in list(self._closes):
            close()
