"""The last requests that failed or were refused, and what upstreams were last blamed for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import merge
from types import MappingProxyType
from typing import Final

import msgspec

from sidecar.core.errors import ProxyError
from sidecar.core.record import replace
from sidecar.observation.session_log import bounded, cut
from sidecar.observation.status_model import RefusedRow, TroubleRow

TROUBLE: Final = 100
REFUSED: Final = 20
"""The last of each status that are remembered."""
REFUSALS: Final = frozenset((403, 429, 431, 503))
"""Statuses of refused requests."""
_DOWN: Final = frozenset(("store_unavailable", "refresh_unavailable", "login_unavailable"))
"""Codes of 503 that blame a part that is down, and refuse nobody."""


def _codes(kind: type[ProxyError]) -> Iterator[str]:
    """The codes of refusals among an error and all that are made of it."""
    if kind.status in REFUSALS and kind.code not in _DOWN:
        yield kind.code
    for one in kind.__subclasses__():
        yield from _codes(one)


REFUSAL_CODES: Final = frozenset(_codes(ProxyError))
"""Codes of refused requests."""
COOKIES: Final = 20
"""Names of cookies that are told of a header that is too large."""


class Blame(msgspec.Struct, frozen=True):
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
        self._trouble.append(cut(row))

    def refused(self, row: RefusedRow) -> None:
        """Remembers a request that was refused."""
        cookies = tuple((bounded(name), size) for name, size in row.cookies[:COOKIES])
        self._refused[row.status].append(replace(cut(row), cookies=cookies))

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
