"""What the timeline follows: the counters of `sidecar.metrics`, each by its family and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from sidecar.observation.timeline import Name

if TYPE_CHECKING:
    from sidecar.core.histogram import Histogram
    from sidecar.metrics import Metrics

ROUTE: Final = "route"
"""A route's requests by class of status (`CLASSES`), then its latency."""
UPSTREAM: Final = "upstream"
"""The latency of an upstream's part, by upstream."""
ROUTE_UPSTREAM: Final = "route_upstream"
"""The same by route."""
DECISION: Final = "decision"
CAUSE: Final = "cause"
RESPONSE: Final = "response"
ENDED: Final = "ended"
"""By reason; and requests that needed a session and had cookies that hold none, by result."""
REFRESH: Final = "refresh"
REFRESH_TOOK: Final = "refresh_took"
REFRESH_WAITED: Final = "refresh_waited"
REFRESH_LATE: Final = "refresh_late"
RETRIES: Final = "retries"
"""By upstream."""

CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")


def totals(metrics: Metrics) -> tuple[int, int]:
    """How many requests there were so far, and how many of them were answered with 5xx."""
    requests = errors = 0
    for counts in metrics.routes.values():
        for status, count in counts.requests.items():
            requests += count
            if status >= 500:
                errors += count
    return requests, errors


def read(metrics: Metrics) -> dict[Name, list[float]]:
    """All counters as they are now."""
    return dict(_read(metrics))


def _read(metrics: Metrics) -> Iterator[tuple[Name, list[float]]]:
    for route, counts in metrics.routes.items():
        classes = [0.0] * len(CLASSES)
        for status, count in counts.requests.items():
            classes[min(max(status // 100, 1), 5) - 1] += count
        yield (ROUTE, route), [*classes, *vector(counts)]
        yield (ROUTE_UPSTREAM, route), vector(counts.upstream)
        for decision, count in counts.decisions.items():
            yield (DECISION, route, decision or "none"), [count]
    for upstream, one in metrics.upstreams.items():
        yield (UPSTREAM, upstream), vector(one.took)
        yield (RETRIES, upstream), [one.retries]
        for cause, count in one.errors.items():
            yield (CAUSE, upstream, cause.value), [count]
    for code, count in metrics.responses.items():
        yield (RESPONSE, code), [count]
    for reason, count in (*metrics.sessions_ended.items(), *metrics.sessions.missing.items()):
        yield (ENDED, reason), [count]
    for outcome, count in metrics.refreshes.outcomes.items():
        yield (REFRESH, outcome), [count]
    yield (REFRESH_TOOK,), vector(metrics.refreshes.took)
    yield (REFRESH_WAITED,), [metrics.refreshes.waited]
    yield (REFRESH_LATE,), [metrics.refreshes.late]


_ANSWERED: Final = ("relay", "inspect", "wrap", "wrap_empty", "wrap_error", "tunnel")
"""Decisions on what an upstream has answered."""


def answered(metrics: Metrics, routes: Iterable[str]) -> int:
    """How many requests of these routes their upstreams have answered so far."""
    found = (metrics.routes[one].decisions for one in routes if one in metrics.routes)
    return sum(decisions.get(name, 0) for decisions in found for name in _ANSWERED)


def vector(one: Histogram) -> list[float]:
    """A distribution: its buckets, then the seconds of all together."""
    return [*one.buckets, one.seconds]
