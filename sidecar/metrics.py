"""What is counted: plain integers on the hot path (`sidecar.web.exposition` renders them).

A counter whose label values are known begins at zero, so that its first increase is seen
(`rate()` needs two values). Those of a policy are made by `Metrics.begin`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable
from itertools import product
from time import time
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.core.actions import Action
from sidecar.core.credential import Result
from sidecar.core.errors import ProxyError, UpstreamCause
from sidecar.core.histogram import BUCKETS, Histogram, total
from sidecar.core.observed_route import Would
from sidecar.core.route_table import UNROUTED
from sidecar.net.store.measured import StoreCounts
from sidecar.tls import authorities_end_at, ends_at
from sidecar.tls_failure import HandshakeFailure

if TYPE_CHECKING:
    from sidecar.access_log import Access, Served
    from sidecar.log_writer import Output
    from sidecar.policy import Policy

Key = TypeVar("Key", bound=Hashable)

STATUSES: Final = (200, 401, 500, 502, 503, 504)
"""Statuses that each route's requests are counted by from the start; others once they come."""
PROXY_HEADER_REFUSALS: Final = ("untrusted", "malformed", "timeout")
DECISIONS: Final = (
    *(action.value for action in Action if action is not Action.INSPECT),
    *("broken", "refused", "braked", "tunnel"),
)
"""The same for what is done with a route's requests."""
OPENED: Final = tuple(one for one in Result if one is not Result.NO_SESSION)
LOGINS: Final = (
    *("done", "refused", "unavailable"),
    *("expired", "misconfigured", "loop", "bad_answer", "too_large", "not_allowed"),
)
LOGOUTS: Final = ("user", "unauthorized", "too_many_cookies")
ENDS: Final = (
    *("logout", "token_rejected", "signed_out", "refresh_refused"),
    *("new_login", "backchannel", "frontchannel", "admin"),
)
"""Reasons for which live sessions end."""
STEPS: Final = (
    *product(("refresh_token", "access_token", "hook"), ("done", "failed", "none")),
    ("all", "dropped"),
)
"""What follows a logout, and its outcomes."""


class RouteCounts(Histogram):
    """What is counted for one route, and how long its requests took.

    `upstream` is how long its upstream takes, which it may share with other routes.
    """

    __slots__ = ("bytes_in", "bytes_out", "decisions", "requests", "upstream")

    def __init__(self, statuses: Iterable[int] = (), decisions: Iterable[str] = ()) -> None:
        """`statuses` and `decisions` are counted from the start, others once they come."""
        super().__init__()
        self.upstream = Histogram()
        self.requests: dict[int, int] = dict.fromkeys(statuses, 0)
        self.decisions: dict[str, int] = dict.fromkeys(decisions, 0)
        self.bytes_in = 0
        self.bytes_out = 0


class UpstreamCounts:
    """What is counted for one upstream: failed requests by cause, how long requests waited for a
    connection, and how long it took from then to the response's head.
    """

    __slots__ = ("by_route", "errors", "retries", "waits")

    def __init__(self) -> None:
        self.errors: Counter[UpstreamCause] = _zeros(UpstreamCause)
        self.waits = Histogram()
        self.by_route: dict[str, Histogram] = {}
        """How long it took, by route."""
        self.retries = 0

    @property
    def took(self) -> Histogram:
        """How long it took for all routes together."""
        return total(self.by_route.values())


class SessionCounts:
    """Session cookies that were read: what came of them by source, and those that did not open.

    `missing` is how many requests that need a session had cookies that hold none, by result.
    """

    __slots__ = ("missing", "opened", "unreadable")

    def __init__(self) -> None:
        self.missing: Counter[str] = Counter()
        self.opened: Counter[tuple[str, Result]] = Counter()
        self.unreadable: Counter[str] = Counter()


class RefreshCounts:
    """Exchanges of refresh tokens: outcomes, and how long the provider took.

    Of requests `waiting` wait for one now, `waited` have waited for one, and `late` ones came with
    an old token and were given its successor.
    """

    __slots__ = ("last_error", "last_error_at", "late", "outcomes", "took", "waited", "waiting")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter(renewed=0, refused=0, unavailable=0)
        self.took = Histogram()
        self.waiting = 0
        self.waited = 0
        self.late = 0
        self.last_error: str | None = None
        self.last_error_at: float | None = None

    def failed(self, why: str) -> None:
        """Remembers why a token was not renewed."""
        self.last_error, self.last_error_at = why, time()


class Metrics:
    """Counters of one process. Labels come from the configuration, never from requests.

    They go on over a reload: what is counted belongs here, not to the parts that count.
    """

    __slots__ = (
        "_access",
        "_output",
        "backchannel_logouts",
        "certificates",
        "connections",
        "connections_limited",
        "cookies_dropped",
        "ejections",
        "handshakes_failed",
        "lasting",
        "logins",
        "logout_steps",
        "logouts",
        "observed",
        "proxy_headers_refused",
        "rate_limited",
        "refreshes",
        "responses",
        "retries",
        "routes",
        "sessions",
        "sessions_ended",
        "store",
        "unread_bytes",
        "unread_cut",
        "upstreams",
    )

    def __init__(self, access: Access | None, output: Output) -> None:
        self._access = access
        self._output = output
        self.routes: dict[str, RouteCounts] = {}
        self.responses: Counter[str] = _zeros(_codes(ProxyError))
        self.upstreams: dict[str, UpstreamCounts] = {}
        self.ejections: Counter[tuple[str, str]] = Counter()  # by upstream and address
        self.observed: Counter[tuple[str, str]] = Counter()
        self.retries = 0
        self.connections = 0
        self.unread_bytes = self.unread_cut = 0  # of all connections; connections that were cut
        self.connections_limited: Counter[str] = _zeros(("idle_closed", "refused", "per_client"))
        self.proxy_headers_refused: Counter[str] = _zeros(PROXY_HEADER_REFUSALS)
        self.handshakes_failed: Counter[str] = _zeros(HandshakeFailure)
        self.rate_limited: Counter[str] = _zeros(("login", "logout", "refresh"))
        self.lasting: Counter[str] = _zeros(("websocket", "event_stream"))
        self.sessions = SessionCounts()
        self.cookies_dropped = 0
        self.sessions_ended: Counter[str] = _zeros(ENDS)
        self.logouts: Counter[str] = _zeros(LOGOUTS)
        self.logout_steps: Counter[tuple[str, str]] = _zeros(STEPS)
        self.logins: Counter[str] = _zeros(LOGINS)
        self.backchannel_logouts: Counter[str] = _zeros(
            ("done", "nothing", "refused", "unavailable")
        )
        self.refreshes = RefreshCounts()
        self.store = StoreCounts()
        self.certificates: dict[tuple[str, str], float] = {}  # by file and use

    def begin(self, policy: Policy) -> None:
        """Counts for another policy from now on: what it can count begins at zero."""
        for name in policy.upstreams:
            self.upstreams.setdefault(name, UpstreamCounts())
        for one in policy.config.routes:
            counts = self.routes.setdefault(one.path, RouteCounts(STATUSES, DECISIONS))
            counts.upstream = self.upstreams[one.upstream].by_route.setdefault(
                one.path, counts.upstream
            )
            for would in Would if one.observe else ():
                self.observed.setdefault((one.path, would), 0)
        for route in (UNROUTED, *(one.route for one in policy.endpoints.values())):
            self.routes.setdefault(route.path, RouteCounts())
        for source in policy.source_names:
            self.sessions.unreadable.setdefault(source, 0)
            for result in OPENED:
                self.sessions.opened.setdefault((source, result), 0)
        ends = {
            **{(file, "own"): ends_at(file) for file in policy.certificates},
            **{(file, "client_ca"): authorities_end_at(file) for file in policy.client_authorities},
        }
        self.certificates = {one: end.timestamp() for one, end in ends.items() if end is not None}

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
        try:
            counts = self.routes[route]
        except KeyError:
            counts = self.routes[route] = RouteCounts()
        status, decision = flow.status, flow.decision
        try:
            counts.requests[status] += 1
        except KeyError:
            counts.requests[status] = 1
        try:
            counts.decisions[decision] += 1
        except KeyError:
            counts.decisions[decision] = 1
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
        counts.seconds += seconds
        took = flow.upstream_seconds
        if took:
            upstream = counts.upstream
            upstream.buckets[bisect_left(BUCKETS, took)] += 1
            upstream.seconds += took
        counts.bytes_in += flow.bytes_in
        counts.bytes_out += flow.bytes_out
        if self._access is not None:
            self._access(flow, seconds)


def _zeros(keys: Iterable[Key]) -> Counter[Key]:
    return Counter(dict.fromkeys(keys, 0))


def _codes(kind: type[ProxyError]) -> set[str]:
    """The codes of an error and of all that are made of it."""
    return {kind.code}.union(*(_codes(one) for one in kind.__subclasses__()))
