"""The counters of one process in Prometheus's words, rendered at the scrape."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.core import families
from sidecar.core.families import MetricFamily, MetricKind
from sidecar.core.histogram import BUCKETS, Histogram
from sidecar.web.unread import BYTES

if TYPE_CHECKING:
    from sidecar.core.reload_result import ReloadHistory
    from sidecar.net.store.measured import StoreFill
    from sidecar.runtime import Runtime
    from sidecar.web.budgets import Budgets

Labels = TypeVar("Labels", bound=tuple[str, ...])
"""The values of a metric's labels, in their order."""

_BUILD: Final = (__version__, platform.python_version(), aiohttp.__version__)


class Exposition:
    """Renders the counters for a scrape (prometheus_client collector protocol).

    `budgets` are that of the configuration that holds, and those of former ones with requests that
    go on.

    `is_ready`, `lag` (seconds) and `tasks` are what the caller has found last.
    """

    def __init__(
        self,
        runtime: Runtime,
        budgets: Sequence[Budgets],
        history: Callable[[], ReloadHistory],
        *,
        is_ready: bool,
    ) -> None:
        self._runtime: Final = runtime
        self._budgets: Final = budgets
        self._history: Final = history
        self._process: Final = ProcessCollector(registry=None)
        self.is_ready = is_ready
        self.lag = 0.0
        self.tasks = 0

    def collect(self) -> Iterable[Metric]:
        """The metric families of this process."""
        yield from self._traffic()
        yield from self._load()
        yield from self._upstreams()
        yield from self._servers()
        yield from self._sessions()
        yield from self._logins()
        yield from self._provider()
        yield from self._store()
        yield from self._configuration()
        yield from self._process.collect()

    def _traffic(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
        routes = metrics.routes.items()
        yield values(
            families.REQUESTS,
            {
                (route, str(status)): count
                for route, counts in routes
                for status, count in counts.requests.items()
            },
        )
        yield values(
            families.DECISIONS,
            {
                (route, decision or "none"): count
                for route, counts in routes
                for decision, count in counts.decisions.items()
            },
        )
        yield values(families.OBSERVED, metrics.observed)
        yield times(families.REQUEST_SECONDS, {(route,): counts for route, counts in routes})
        yield values(families.REQUEST_BYTES, {(route,): one.bytes_in for route, one in routes})
        yield values(families.RESPONSE_BYTES, {(route,): one.bytes_out for route, one in routes})
        yield values(families.RESPONSES, _by_name(metrics.responses))

    def _load(self) -> Iterable[Metric]:
        metrics, limits = self._runtime.metrics, self._runtime.policy.config.limits
        limits_in_flight = self._budgets[0].limits
        in_flight = {
            kind: sum(one.in_flight[kind] for one in self._budgets) for kind in limits_in_flight
        }
        yield values(families.IN_FLIGHT, _by_name(in_flight))
        yield values(families.IN_FLIGHT_LIMIT, _by_name(limits_in_flight))
        yield values(families.LASTING, _by_name(metrics.lasting))
        yield value(families.CONNECTIONS, metrics.connections)
        yield value(families.CONNECTIONS_LIMIT, limits.connections)
        yield values(families.LIMITED_CONNECTIONS, _by_name(metrics.connections_limited))
        yield value(families.UNREAD_BYTES, metrics.unread_bytes)
        yield value(families.UNREAD_BYTES_LIMIT, BYTES)
        yield value(families.UNREAD_CUT, metrics.unread_cut)
        yield values(families.PROXY_HEADERS_REFUSED, _by_name(metrics.proxy_headers_refused))
        yield values(families.HANDSHAKES_FAILED, _by_name(metrics.handshakes_failed))
        yield values(families.RATE_LIMITED, _by_name(metrics.rate_limited))

    def _upstreams(self) -> Iterable[Metric]:
        metrics, pools = self._runtime.metrics, self._runtime.pools
        yield values(
            families.UPSTREAM_ERRORS,
            {
                (name, cause): count
                for name, counts in metrics.upstreams.items()
                for cause, count in counts.errors.items()
            },
        )
        yield value(families.UPSTREAM_RETRIES, metrics.retries)
        yield values(
            families.UPSTREAM_CONNECTIONS,
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
        yield values(
            families.UPSTREAM_WAITING, {(name,): pool.waiting for name, pool in pools.items()}
        )
        yield times(
            families.UPSTREAM_SECONDS,
            {(name,): counts.took for name, counts in metrics.upstreams.items()},
        )
        yield times(
            families.UPSTREAM_WAIT_SECONDS,
            {(name,): counts.waits for name, counts in metrics.upstreams.items()},
        )

    def _servers(self) -> Iterable[Metric]:
        """Which servers of upstreams are left out, and how often they were."""
        pools, ejections = self._runtime.pools, self._runtime.metrics.ejections
        rows = [(name, one) for name, pool in pools.items() for one in pool.servers()]
        yield values(
            families.UPSTREAM_EJECTED,
            {(name, one.address): float(one.out_until is not None) for name, one in rows},
        )
        yield values(
            families.UPSTREAM_UNREACHABLE,
            {(name,): float(pool.unreachable_since is not None) for name, pool in pools.items()},
        )
        yield values(
            families.UPSTREAM_EJECTIONS,
            {(name, one.address): ejections[name, one.address] for name, one in rows},
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
        yield values(families.SESSIONS_OPENED, metrics.sessions.opened)
        yield values(families.SESSIONS_UNREADABLE, _by_name(metrics.sessions.unreadable))
        yield value(families.SESSIONS_CACHED, runtime.directory.cached)
        yield values(families.SESSIONS_ENDED, _by_name(metrics.sessions_ended))
        yield values(families.BRAKE_ENGAGED, self._brakes())
        yield value(families.TOMBSTONES, len(runtime.revocations.tombstones))
        yield value(families.COOKIES_DROPPED, metrics.cookies_dropped)

    def _logins(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
        yield values(families.LOGOUTS, _by_name(metrics.logouts))
        yield values(families.LOGOUT_STEPS, metrics.logout_steps)
        yield values(families.LOGINS, _by_name(metrics.logins))
        yield values(families.BACKCHANNEL_LOGOUTS, _by_name(metrics.backchannel_logouts))
        yield values(families.REFRESHES, _by_name(metrics.refreshes.outcomes))
        yield times(families.REFRESH_SECONDS, {(): metrics.refreshes.took})

    def _provider(self) -> Iterable[Metric]:
        provider = self._runtime.provider
        published = {} if provider is None else provider.published
        yield values(
            families.PROVIDER_UP,
            {(name,): float(not one.has_failed) for name, one in published.items()},
        )
        yield values(
            families.PROVIDER_FETCHED, {(name,): one.at for name, one in published.items()}
        )

    def _store(self) -> Iterable[Metric]:
        counts, pending = self._runtime.metrics.store, self._runtime.outbox.pending
        yield value(families.STORE_UP, counts.is_up)
        yield times(families.STORE_SECONDS, {(name,): one for name, one in counts.seconds.items()})
        yield values(families.STORE_ERRORS, _by_name(counts.errors))
        yield value(families.STORE_UNOPENED, counts.unopened)
        yield value(families.STORE_LOSSES, counts.losses)
        yield values(families.STORE_PENDING, _by_name(pending))
        yield from _fill(counts.fill())

    def _configuration(self) -> Iterable[Metric]:
        metrics = self._runtime.metrics
        yield values(families.BUILD, {_BUILD: 1})
        yield from reloads(self._history())
        yield values(families.CERTIFICATES, metrics.certificates)
        yield value(families.READY, self.is_ready)
        yield value(families.LOG_LINES_LOST, metrics.log_lines_lost)
        yield value(families.LAG, self.lag)
        yield value(families.TASKS, self.tasks)


class Collected(Collector):
    """Metrics that have been collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics: Final = metrics

    def collect(self) -> Iterable[Metric]:
        """They themselves."""
        return self._metrics


def reloads(history: ReloadHistory) -> Iterable[Metric]:
    """Which configuration holds, and what became of reloads."""
    yield values(families.CONFIG, {(history.holds.hash,): 1})
    yield values(families.RELOADS, {(name,): count for name, count in history.counts.items()})
    yield value(families.RELOADED, history.last is None or history.last.is_good)
    yield value(families.RELOADED_AT, history.holds.when)


def _by_name(counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def value(family: MetricFamily, number: float) -> Metric:
    """A metric without labels."""
    return values(family, {(): number})


def values(family: MetricFamily, numbers: Mapping[Labels, float]) -> Metric:
    """A counter or gauge, by the values of its labels."""
    counts = family.kind is MetricKind.COUNTER
    kind = CounterMetricFamily if counts else GaugeMetricFamily
    made = kind(family.name, family.text, labels=family.labels)
    for labels, number in numbers.items():
        made.add_metric(labels, number)
    return made


def times(family: MetricFamily, found: Mapping[Labels, Histogram]) -> Metric:
    """A histogram, by the values of its labels."""
    made = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    for labels, one in found.items():
        rows = [
            (str(bound), total)
            for bound, total in zip(BUCKETS, accumulate(one.buckets), strict=False)
        ]
        rows.append(("+Inf", sum(one.buckets)))
        made.add_metric(labels, rows, sum_value=one.seconds)
    return made


def _fill(fill: StoreFill | None) -> Iterable[Metric]:
    """How full the store is, as far as that is known."""
    if fill is None:
        return
    known = {
        families.STORE_BYTES: fill.size,
        families.STORE_BYTES_LIMIT: fill.max_bytes,
        families.STORE_ENTRIES: fill.entries,
        families.STORE_MAY_EVICT: fill.may_evict,
    }
    yield from (value(family, number) for family, number in known.items() if number is not None)
