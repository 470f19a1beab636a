"""The counters of one process in Prometheus's words, rendered at the scrape."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from sidecar.metrics import BUCKETS

if TYPE_CHECKING:
    from sidecar.runtime import Runtime


class Exposition:
    """Renders the counters for a scrape (prometheus_client collector protocol)."""

    def __init__(self, runtime: Runtime, in_flight: dict[str, int]) -> None:
        self._runtime = runtime
        self._in_flight = in_flight

    def collect(self) -> Iterable[Metric]:
        """The metric families of this process."""
        yield from self._traffic()
        yield from self._load()
        yield from self._logins()
        yield from self._sessions()
        yield from self._store()
        yield from self._pools()
        yield from self._servers()

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
        yield _counter(
            "sidecar_observed",
            "What observed routes would have done, by route.",
            ("route", "would"),
            {(route, would): n for (route, would), n in metrics.observed.items()},
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

    def _load(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
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
            "Client connections closed or refused above limits.connections, or refused above "
            "limits.per_client.connections.",
            ("outcome",),
            {(outcome,): count for outcome, count in metrics.connections_limited.items()},
        )
        yield _counter(
            "sidecar_rate_limited",
            "What was refused above a rate of limits.per_client.",
            ("limit",),
            {(limit,): count for limit, count in metrics.rate_limited.items()},
        )
        yield _counter(
            "sidecar_log_lines_lost",
            "Log lines dropped, as nobody took them.",
            (),
            {(): metrics.log_lines_lost},
        )

    def _logins(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
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
        yield _gauge(
            "sidecar_brake_engaged",
            "Whether a storm of 401 ends no sessions, by route; of several workers, of how many.",
            ("route",),
            self._brakes(),
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

    def _brakes(self) -> dict[tuple[str, ...], float]:
        """Of the routes whose 401 ends sessions."""
        brakes, routes = self._runtime.brakes, self._runtime.policy.config.routes
        return {
            (route.path,): float(brakes.is_engaged(route.path))
            for route in routes
            if brakes.rule is not None and route.inject and route.on_unauthorized != "pass"
        }

    def _sessions(self) -> Iterable[Metric]:
        metrics, runtime = self._runtime.metrics, self._runtime
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

    def _store(self) -> Iterable[Metric]:
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
        dead = len(self._runtime.revocations.tombstones)
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

    def _servers(self) -> Iterable[Metric]:
        """Which servers of upstreams are left out, and how often they were."""
        pools, ejections = self._runtime.pools, self._runtime.metrics.ejections
        rows = [(name, one) for name, pool in pools.items() for one in pool.servers()]
        yield _gauge(
            "sidecar_upstream_ejected",
            "Whether a server is left out while others serve.",
            ("upstream", "address"),
            {(name, one.address): float(one.out_until is not None) for name, one in rows},
        )
        yield _counter(
            "sidecar_upstream_ejections",
            "How often a server was left out.",
            ("upstream", "address"),
            {(name, one.address): ejections[name, one.address] for name, one in rows},
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
