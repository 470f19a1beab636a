"""WebSockets and event streams that are open: each is ended in good order with the server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from sidecar.web.turn import Turns


class Lasting:
    """What is open, by the callback that ends it in good order.

    `counts` is how much is open of each kind, here and with other configurations. What ends with
    its session does so in `turns`: one user may have thousands open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, counts: Counter[str]) -> None:
        self.turns: Final = Turns(loop)
        self._counts: Final = counts
        self._kinds: Final[dict[Callable[[], None], str]] = {}
        self._is_over = False

    def add(self, close: Callable[[], None], kind: str) -> None:
        """Has `close` called at the end; at once, if that has come."""
        if self._is_over:
            close()
        else:
            self._kinds[close] = kind
            self._counts[kind] += 1

    def discard(self, close: Callable[[], None]) -> None:
        """Forgets one that has ended by itself."""
        kind = self._kinds.pop(close, None)
        if kind is not None:
            self._counts[kind] -= 1

    def end(self) -> None:
        """Ends all, and whatever is added from now on."""
        self._is_over = True
        for close in list(self._kinds):
            close()
