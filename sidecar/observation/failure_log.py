"""The last requests that failed or were refused, and what upstreams were last blamed for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from heapq import merge
from types import MappingProxyType
from typing import Final

from sidecar.observation.session_log import bounded
from sidecar.observation.status_model import RefusedRow, TroubleRow

TROUBLE: Final = 100
REFUSED: Final = 20
"""The last of each status that are remembered."""
REFUSALS: Final = frozenset((403, 429, 431, 503))
"""Statuses of refused requests. Among 503 those alone of budgets, not of parts that are down."""
COOKIES: Final = 20
"""Names of cookies that are told of a header that is too large."""


@dataclass(frozen=True, slots=True)
class Blame:
    """What an upstream was last blamed for. `since`: the first failure with no success between.

    `successes` is how many requests it had answered by then.
    """

    since: float
    at: float
    detail: str
    successes: int
    address: str


class FailureLog:
    """Belongs to one process. At most 180 rows of less than 8 KiB each, and one per upstream."""

    __slots__ = ("_blames", "_refused", "_trouble")

    def __init__(self) -> None:
        self._trouble: Final[deque[TroubleRow]] = deque(maxlen=TROUBLE)
        self._refused: Final = {status: deque[RefusedRow](maxlen=REFUSED) for status in REFUSALS}
        self._blames: Final[dict[str, Blame]] = {}

    def trouble(self, row: TroubleRow) -> None:
        """Remembers a request that failed."""
        path = None if row.path is None else bounded(row.path)
        self._trouble.append(replace(row, path=path, cause=bounded(row.cause)))

    def refused(self, row: RefusedRow) -> None:
        """Remembers a request that was refused."""
        path = None if row.path is None else bounded(row.path)
        origin = None if row.origin is None else bounded(row.origin)
        cookies = tuple((bounded(name), size) for name, size in row.cookies[:COOKIES])
        kept = replace(row, path=path, origin=origin, cookies=cookies, detail=bounded(row.detail))
        self._refused[row.status].append(kept)

    def blame(self, upstream: str, detail: str, address: str, successes: int, now: float) -> None:
        """Notes why an upstream failed a request; `successes`: of how many that it has answered."""
        before = self._blames.get(upstream)
        goes_on = before is not None and before.successes == successes
        since = before.since if before is not None and goes_on else now
        self._blames[upstream] = Blame(since, now, bounded(detail), successes, address)

    @property
    def blames(self) -> Mapping[str, Blame]:
        """What each upstream that has failed was blamed for last."""
        return MappingProxyType(self._blames)

    @property
    def last_trouble(self) -> tuple[TroubleRow, ...]:
        """The last requests that failed."""
        return tuple(self._trouble)

    @property
    def last_refused(self) -> tuple[RefusedRow, ...]:
        """The last requests of each status that were refused."""
        return tuple(merge(*self._refused.values(), key=lambda row: row.at))
