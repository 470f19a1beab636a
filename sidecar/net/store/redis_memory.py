"""How full a Redis is, and whether it may drop sessions to make room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, Final

from sidecar.net.store.base import Report
from sidecar.net.store.measured import StoreFill

LOOK: Final = 30.0  # seconds between two looks; no request waits for one

_KEEPS: Final = "noeviction"


class MemoryState:
    """What `INFO memory` of the servers said last. `fill` is None while that is not known."""

    __slots__ = ("_looked_at", "_may_evict", "_report", "fill")

    def __init__(self, report: Report) -> None:
        self.fill: StoreFill | None = None
        self._report: Final = report
        self._may_evict = False
        self._looked_at: float | None = None

    def is_due(self, seconds: float) -> bool:
        """Returns whether the last look is older than this."""
        return self._looked_at is None or monotonic() - self._looked_at >= seconds

    def note(self, servers: Iterable[Mapping[str, Any]]) -> None:
        """Notes what each server says. Of a cluster the fullest master counts: it fails first.

        Reports a server that may drop sessions; a dropped one looks logged out.
        """
        self._looked_at = monotonic()
        read = [one for one in map(_read, servers) if one is not None]
        fullest = max((fill for fill, _ in read), key=_share, default=None)
        if fullest is None:
            self.fill = None  # nobody says; whether it evicts will not have changed
            return
        policies = [policy for _, policy in read if policy is not None]
        if policies and not self._may_evict:
            self._report(
                f"redis: maxmemory-policy is {policies[0]}, so sessions may be evicted, which logs"
                " their users out; set it to noeviction"
            )
        self._may_evict = bool(policies)
        self.fill = fullest._replace(may_evict=self._may_evict)


def _read(memory: Mapping[str, Any]) -> tuple[StoreFill, str | None] | None:
    """What one server holds, and the policy by which it may evict. None if it does not say."""
    try:
        used, limit = int(memory["used_memory"]), int(memory["maxmemory"])
        policy = str(memory["maxmemory_policy"])
    except (KeyError, TypeError, ValueError):
        return None
    may_evict = limit > 0 and policy != _KEEPS
    return StoreFill(used, limit or None), policy if may_evict else None


def _share(fill: StoreFill) -> tuple[float, int]:
    return (fill.size / fill.max_bytes if fill.max_bytes else 0.0, fill.size)
