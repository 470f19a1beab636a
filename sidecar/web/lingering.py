"""A connection that ends while its client may still be sending.

Closing with unread bytes resets the connection, and the client could lose the response. So what it
still sends is read for a moment and thrown away (as nginx's lingering_close).
"""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.net.deadline import Deadline

SECONDS: Final = 30.0  # in all
SILENCE: Final = 2.0  # seconds without a byte


class Lingering:
    """Bounds how long, and how much, is read from a client that is to leave."""

    __slots__ = ("_deadline", "_left", "_loop", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: Deadline, max_bytes: int) -> None:
        self._loop: Final = loop
        self._deadline: Final = deadline
        self._left = max_bytes
        self._until: Final = loop.time() + SECONDS
        deadline.set(SILENCE)

    def may_go_on(self, data: bytes) -> bool:
        """Returns whether the client may send on behind `data`."""
        self._left -= len(data)
        remaining = self._until - self._loop.time()
        if self._left < 0 or remaining <= 0:
            return False
        self._deadline.set(min(SILENCE, remaining))
        return True
