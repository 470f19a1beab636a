"""What is counted: plain integers on the hot path (`sidecar.web.exposition` renders them)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.access_log import Access, Served
    from sidecar.log_writer import Output

BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class RouteCounts:
    """What is counted for one route. `buckets` are not cumulative, unlike Prometheus's."""

    __slots__ = ("buckets", "decisions", "requests", "seconds")

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.decisions: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class Metrics:
    """Counters of one process. Labels come from the configuration, never from requests."""

    __slots__ = (
        "_access",
        "_output",
        "backchannel_logouts",
        "connections",
        "connections_limited",
        "cookies_dropped",
        "ejections",
        "logins",
        "logouts",
        "observed",
        "rate_limited",
        "retries",
        "routes",
        "sessions_ended",
    )

    def __init__(self, access: Access | None, output: Output) -> None:
        self._access = access
        self._output = output
        self.routes: dict[str, RouteCounts] = {}
        self.logins: Counter[str] = Counter()
        self.logouts: Counter[str] = Counter()
        self.backchannel_logouts: Counter[str] = Counter()
        self.sessions_ended: Counter[str] = Counter()
        self.ejections: Counter[tuple[str, str]] = Counter()  # by upstream and address
        self.observed: Counter[tuple[str, str]] = Counter()
        self.retries = 0
        self.cookies_dropped = 0
        self.connections = 0
        self.connections_limited: Counter[str] = Counter(idle_closed=0, refused=0, per_client=0)
        self.rate_limited: Counter[str] = Counter(login=0, logout=0, refresh=0)

    def log_to(self, access: Access | None) -> None:
        """Has requests logged so from now on."""
        self._access = access

    @property
    def log_lines_lost(self) -> int:
        """How many lines of the log were dropped, since nobody took them."""
        return self._output.lost

    def successes(self, route: str) -> int:
        """How many requests of a route have succeeded; the way to the logout is a redirect."""
        counts = self.routes.get(route)
        requests = {} if counts is None else counts.requests
        return sum(count for status, count in requests.items() if status < 300)

    def observe(self, flow: Served, seconds: float) -> None:
        """Counts a request that has ended, and logs it where the access log is on."""
        route = flow.route.path
        counts = self.routes.get(route)
        if counts is None:
            counts = self.routes[route] = RouteCounts()
        status, decision = flow.status, flow.decision
        counts.requests[status] = counts.requests.get(status, 0) + 1
        counts.decisions[decision] = counts.decisions.get(decision, 0) + 1
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
        counts.seconds += seconds
        if self._access is not None:
            self._access(flow, seconds)
