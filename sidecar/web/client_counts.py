"""How many connections each client address has open (`limits.per_client.connections`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidecar.core.client_address import client_network

if TYPE_CHECKING:
    from sidecar.core.forwarding import Peer

REPORT_SECONDS: Final = 60.0  # between two lines of the log


class ClientCounts:
    """Counts connections by their peers. Trusted proxies and Unix sockets have no limit."""

    def __init__(self, limit: int | None, peers: Iterable[Peer] = ()) -> None:
        """`limit` is None if there is none, and then nothing is counted. `peers` are there."""
        self.limit: Final = limit
        self._open: Final[Counter[bytes]] = Counter()
        self._silent_until = float("-inf")
        for peer in peers:
            self.opened(peer)

    def opened(self, peer: Peer) -> bool:
        """Counts a connection. Returns whether its client may have it."""
        client = self._client(peer)
        if client is None or self.limit is None:
            return True
        self._open[client] += 1
        return self._open[client] <= self.limit

    def closed(self, peer: Peer) -> None:
        """Counts a connection out."""
        client = self._client(peer)
        if client is not None:
            self._open[client] -= 1
            if self._open[client] <= 0:
                del self._open[client]

    def is_news(self, now: float) -> bool:
        """Whether it is time for a line of the log about a connection that was refused."""
        if now < self._silent_until:
            return False
        self._silent_until = now + REPORT_SECONDS
        return True

    def _client(self, peer: Peer) -> bytes | None:
        if self.limit is None or peer.trusted:
            return None
        return client_network(peer.address)
