"""What is counted: plain integers on the hot path, Prometheus's words at the scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from sidecar.access_log import Access
    from sidecar.log_writer import Output
    from sidecar.runtime import Runtime
    from sidecar.web.flow import Flow

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
        "logins",
        "logouts",
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
        self.retries = 0
        self.cookies_dropped = 0
        self.connections = 0
        self.connections_limited: Counter[str] = Counter(idle_closed=0, refused=0)

    @property
    def log_lines_lost(self) -> int:
        """How many lines of the log were dropped, since nobody took them."""
        return self._output.lost

    def successes(self, route: str) -> int:
        """How many requests of a route have succeeded; the way to the logout is a redirect."""
        counts = self.routes.get(route)
        requests = {} if counts is None else counts.requests
        return sum(count for status, count in requests.items() if status < 300)

    def observe(self, flow: Flow, seconds: float) -> None:
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


class Exposition:
    """Renders the counters for a scrape (prometheus_client collector protocol)."""

    def __init__(self, runtime: Runtime, in_flight: dict[str, int]) -> None:
        self._runtime = runtime
        self._in_flight = in_flight

    def collect(self) -> Iterable[Metric]:
        """The metric families of this process."""
        yield from self._traffic()
        yield from self._sessions()
        yield from self._pools()

    def _traffic(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
        yield _counter(
            "sidecar_requests",
            "Requests by route and status.",
            ("route", "status"),
            {
                (route, str(status)): count
                for route, counts in metrics.routes.items()
                for status, count in counts.requests.items()
            },
        )
        yield _counter(
            "sidecar_decisions",
            "Requests by route and what was done.",
            ("route", "decision"),
            {
                (route, decision or "none"): count
                for route, counts in metrics.routes.items()
                for decision, count in counts.decisions.items()
            },
        )
        latency = HistogramMetricFamily(
            "sidecar_request_duration_seconds", "Time from head to end.", labels=("route",)
        )
        for route, counts in metrics.routes.items():
            rows = [
                (str(bound), total)
                for bound, total in zip(BUCKETS, accumulate(counts.buckets), strict=False)
            ]
            rows.append(("+Inf", sum(counts.buckets)))
            latency.add_metric((route,), rows, sum_value=counts.seconds)
        yield latency
        yield _gauge(
            "sidecar_requests_in_flight",
            "Requests under way.",
            ("kind",),
            {(kind,): count for kind, count in self._in_flight.items()},
        )
        yield _gauge(
            "sidecar_client_connections", "Open client connections.", (), {(): metrics.connections}
        )
        yield _counter(
            "sidecar_limited_connections",
            "Client connections closed or refused above limits.connections.",
            ("outcome",),
            {(outcome,): count for outcome, count in metrics.connections_limited.items()},
        )
        yield _counter(
            "sidecar_log_lines_lost",
            "Log lines dropped, as nobody took them.",
            (),
            {(): metrics.log_lines_lost},
        )

    def _sessions(self) -> Iterable[Metric]:
        metrics, runtime = self._runtime.metrics, self._runtime
        yield _counter(
            "sidecar_logins",
            "Logins here that came back from the provider, by outcome.",
            ("outcome",),
            {(outcome,): count for outcome, count in metrics.logins.items()},
        )
        yield _counter(
            "sidecar_backchannel_logouts",
            "Logout tokens of the provider, by outcome.",
            ("outcome",),
            {(outcome,): count for outcome, count in metrics.backchannel_logouts.items()},
        )
        yield _counter(
            "sidecar_logouts",
            "Logouts answered, by reason.",
            ("reason",),
            {(reason,): count for reason, count in metrics.logouts.items()},
        )
        yield _counter(
            "sidecar_sessions_ended",
            "Live sessions ended, by reason.",
            ("reason",),
            {(reason,): count for reason, count in metrics.sessions_ended.items()},
        )
        yield _counter(
            "sidecar_logout_steps",
            "What follows a logout, by outcome.",
            ("step", "outcome"),
            {
                (step, outcome): n
                for (step, outcome), n in self._runtime.logout_tasks.counts.items()
            },
        )
        refresher = runtime.refresher
        yield _counter(
            "sidecar_refreshes",
            "Exchanges of refresh tokens, by outcome.",
            ("outcome",),
            {} if refresher is None else {(one,): n for one, n in refresher.counts.items()},
        )
        yield _counter(
            "sidecar_sessions_unreadable",
            "Session cookies that did not open, by source.",
            ("source",),
            {(source,): n for source, n in self._runtime.openings.counts.items()},
        )
        yield _counter(
            "sidecar_cookies_dropped",
            "Session cookies of upstreams dropped.",
            (),
            {(): metrics.cookies_dropped},
        )
        yield _gauge(
            "sidecar_sessions_cached",
            "Cookie headers remembered.",
            (),
            {(): runtime.directory.cached},
        )
        yield _gauge(
            "sidecar_store_pending",
            "What the store has not taken yet, so that no other process knows it.",
            ("kind",),
            {(kind,): count for kind, count in self._runtime.outbox.pending.items()},
        )
        yield _counter(
            "sidecar_store_losses",
            "How often the store had lost what it had taken.",
            (),
            {(): self._runtime.watch.losses},
        )
        dead = len(runtime.revocations.tombstones)
        yield _gauge("sidecar_tombstones", "Dead sessions remembered.", (), {(): dead})

    def _pools(self) -> Iterable[Metric]:
        pools = self._runtime.pools
        yield _counter(
            "sidecar_upstream_retries",
            "Requests repeated on a new connection.",
            (),
            {(): self._runtime.metrics.retries},
        )
        yield _gauge(
            "sidecar_upstream_connections",
            "Open connections.",
            ("upstream", "state"),
            {
                (name, state): count
                for name, pool in pools.items()
                for state, count in (
                    ("idle", pool.idle),
                    ("busy", pool.open - pool.idle - pool.lent),
                    ("lent", pool.lent),
                )
            },
        )
        yield _gauge(
            "sidecar_upstream_waiting",
            "Requests that wait for a connection.",
            ("upstream",),
            {(name,): pool.waiting for name, pool in pools.items()},
        )


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
