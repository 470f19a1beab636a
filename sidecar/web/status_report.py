"""The document of one process, out of its counters and of what is remembered."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sidecar import __version__
from sidecar.core.errors import StoreUnavailable
from sidecar.core.record import replace
from sidecar.observation import counters
from sidecar.observation.failure_log import REFUSAL_CODES
from sidecar.observation.quantiles import BOUNDS_MS, latency, quantile
from sidecar.observation.status_merge import share
from sidecar.observation.status_model import (
    FORMAT,
    STEP,
    WINDOW,
    Ended,
    FetchedRow,
    InFlightRow,
    Latency,
    Process,
    ProviderRow,
    Refused,
    ReloadRow,
    Renewals,
    RouteRow,
    Series,
    Sessions,
    SourceRow,
    Status,
    StatusVerdict,
    StoreRow,
    Traffic,
    WorkerRow,
)
from sidecar.observation.verdict import verdict_of
from sidecar.web.readiness import needs_store
from sidecar.web.upstream_report import upstream_rows

if TYPE_CHECKING:
    from sidecar.core.reload_result import ReloadHistory
    from sidecar.log_level import LogLevel
    from sidecar.observation.timeline import Past
    from sidecar.runtime import Runtime
    from sidecar.web.budgets import Budgets

_BUCKETS: Final = len(BOUNDS_MS) + 1
_VECTOR: Final = _BUCKETS + 1  # with the seconds
_CLASSES: Final = len(counters.CLASSES)
_MINUTE: Final = 60
_RESULTS: Final = ("ok", "expired", "invalid", "token_missing", "bad_token")
_OPENED: Final = ("ok", "expired", "token_missing", "bad_token")


async def status_of(
    runtime: Runtime,
    budgets: Budgets,
    history: ReloadHistory,
    *,
    log_level: LogLevel,
    is_draining: bool,
    worker: int,
) -> Status:
    """What one process has to tell now. The store is asked once for it."""
    now = time.time()
    past = runtime.recorder.timeline.past(now)
    store, upstreams = await asyncio.gather(_store(runtime), upstream_rows(runtime, past, now))
    is_missing = any(one.is_missing for one in upstreams) or (
        needs_store(runtime) and not store.is_up
    )
    document = Status(
        format=FORMAT,
        now=now,
        window=WINDOW,
        verdict=StatusVerdict("well", "", now),
        process=replace(
            _process(
                runtime, history, is_draining=is_draining, is_missing=is_missing, worker=worker
            ),
            log_level=log_level.current,
            log_level_until=now + log_level.remaining if log_level.remaining else None,
        ),
        warnings=runtime.recorder.warnings.rows,
        traffic=_traffic(runtime, budgets, past),
        upstreams=upstreams,
        ended=_ended(runtime, past),
        sessions=_sessions(runtime),
        renewals=_renewals(runtime, past),
        provider=_provider(runtime),
        store=store,
        refused=_refused(runtime, past),
        trouble=runtime.recorder.failures.last_trouble,
    )
    return replace(document, verdict=verdict_of(document))


def _process(
    runtime: Runtime,
    history: ReloadHistory,
    *,
    is_draining: bool,
    is_missing: bool,
    worker: int,
) -> Process:
    config, metrics = runtime.policy.config, runtime.metrics
    last = history.last
    requests = sum(sum(one.requests.values()) for one in metrics.routes.values())
    return Process(
        version=__version__,
        started_at=runtime.recorder.started_at,
        config_hash=history.holds.hash,
        config_loaded_at=history.holds.when,
        config_warnings=config.warnings,
        is_draining=is_draining,
        log_level=config.log.level,
        log_level_until=None,
        log_lines_lost=metrics.log_lines_lost,
        last_reload=None
        if last is None
        else ReloadRow(last.when, last.result, "; ".join((*last.faults, *last.kept))),
        certificates={file: end for (file, _), end in metrics.certificates.items()},
        workers=(
            WorkerRow(
                number=worker,
                pid=os.getpid(),
                started_at=runtime.recorder.started_at,
                is_ready=not (is_draining or is_missing),
                connections=metrics.connections,
                requests=requests,
            ),
        ),
    )


# -- traffic -------------------------------------------------------------------------------------


def _traffic(runtime: Runtime, budgets: Budgets, past: Past) -> Traffic:
    metrics, config = runtime.metrics, runtime.policy.config
    routes = [name for name, *_ in _routes(past)]
    steps = [_summed(step, (counters.ROUTE, *routes), _CLASSES) for step in past.steps]
    upstream = [_summed(step, (counters.UPSTREAM, *metrics.upstreams), 0) for step in past.steps]
    whole, theirs = _all(steps), _all(upstream)
    by_step, their_steps = (
        tuple(tuple(map(int, one[:_BUCKETS])) for one in found) for found in (steps, upstream)
    )
    recent = past.requests[-_MINUTE:]
    return Traffic(
        until=past.until,
        until_second=past.until_second,
        step=STEP,
        bounds_ms=BOUNDS_MS,
        per_second=round(sum(recent) / _MINUTE, 2),
        requests_by_second=past.requests,
        errors_by_second=past.errors,
        p50=tuple(quantile(0.5, one) for one in by_step),
        p95=tuple(quantile(0.95, one) for one in by_step),
        p99=tuple(quantile(0.99, one) for one in by_step),
        upstream_p95=tuple(quantile(0.95, one) for one in their_steps),
        latency_by_step=by_step,
        upstream_latency_by_step=their_steps,
        latency=whole,
        upstream_latency=theirs,
        upstream_share=share(whole, theirs),
        own_codes=_totals(past, counters.RESPONSE),
        in_flight=tuple(
            InFlightRow(kind, count, budgets.limits[kind])
            for kind, count in budgets.in_flight.items()
        ),
        connections=InFlightRow("client", metrics.connections, config.limits.connections),
        routes=tuple(_route(runtime, past, name) for name in routes),
    )


def _routes(past: Past) -> list[tuple[str]]:
    return [(name[1],) for name in past.names(counters.ROUTE)]


def _route(runtime: Runtime, past: Past, route: str) -> RouteRow:
    name = (counters.ROUTE, route)
    total = past.total(name, _CLASSES + _VECTOR)
    classes = [int(count) for count in total[:_CLASSES]]
    requests = tuple(int(sum(step[name][:_CLASSES])) if name in step else 0 for step in past.steps)
    upstream = next((one.upstream for one in runtime.policy.config.routes if one.path == route), "")
    decisions = {
        one[2]: int(past.total(one, 1)[0])
        for one in past.names(counters.DECISION)
        if one[1] == route
    }
    return RouteRow(
        route=route,
        upstream=upstream,
        requests=requests,
        errors=past.series(name, _CLASSES - 1),
        total=sum(classes),
        statuses={
            kind: count for kind, count in zip(counters.CLASSES, classes, strict=True) if count
        },
        decisions=decisions,
        latency=_latency(total[_CLASSES:]),
        upstream_latency=_latency(past.total((counters.ROUTE_UPSTREAM, route), _VECTOR)),
    )


def _summed(
    step: Mapping[tuple[str, ...], object], family: tuple[str, ...], skip: int
) -> list[float]:
    """The distribution of all of a family in one step: its buckets, then the seconds."""
    whole = [0.0] * _VECTOR
    kind, *labels = family
    for label in labels:
        values = step.get((kind, label))
        if values is not None:
            for at, value in enumerate(values[skip:]):  # type: ignore[index]
                whole[at] += value
    return whole


def _all(steps: list[list[float]]) -> Latency:
    return _latency([sum(values) for values in zip(*steps, strict=True)])


def _latency(vector: list[float]) -> Latency:
    return latency([int(one) for one in vector[:_BUCKETS]], vector[_BUCKETS])


def _totals(past: Past, family: str) -> dict[str, int]:
    """The growth of each member of a family in the window."""
    return {name[1]: int(past.total(name, 1)[0]) for name in past.names(family)}


def _by_label(past: Past, family: str) -> dict[str, Series]:
    return {name[1]: past.series(name) for name in past.names(family)}


# -- sessions ------------------------------------------------------------------------------------


def _ended(runtime: Runtime, past: Past) -> Ended:
    return Ended(
        by_reason=_by_label(past, counters.ENDED),
        totals=_totals(past, counters.ENDED),
        last=runtime.recorder.sessions.ended(),
    )


def _sessions(runtime: Runtime) -> Sessions:
    metrics = runtime.metrics
    return Sessions(
        sources=tuple(
            _source(runtime, name, one.type)
            for name, one in zip(runtime.policy.source_names, runtime.policy.sources, strict=True)
        ),
        cached=runtime.directory.cached,
        tombstones=len(runtime.revocations.tombstones),
        websockets=metrics.lasting["websocket"],
        event_streams=metrics.lasting["event_stream"],
        logins=_some(metrics.logins),
        backchannel_logouts=_some(metrics.backchannel_logouts),
        logouts=_some(metrics.logouts),
    )


def _source(runtime: Runtime, name: str, kind: str) -> SourceRow:
    opened = runtime.metrics.sessions.opened
    results = {result.value: count for (source, result), count in opened.items() if source == name}
    return SourceRow(
        source=name,
        type=kind,
        results={result: results.get(result, 0) for result in _RESULTS},
        has_opened=any(results.get(result) for result in _OPENED),
        example=runtime.recorder.examples.get(name),
    )


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


# -- renewals, provider, store -------------------------------------------------------------------


def _renewals(runtime: Runtime, past: Past) -> Renewals | None:
    refresher = runtime.refresher
    if refresher is None:
        return None
    counts = runtime.metrics.refreshes
    return Renewals(
        by_outcome=_by_label(past, counters.REFRESH),
        totals=_totals(past, counters.REFRESH),
        latency=_latency(past.total((counters.REFRESH_TOOK,), _VECTOR)),
        under_way=refresher.under_way,
        waiting=counts.waiting,
        waited=int(past.total((counters.REFRESH_WAITED,), 1)[0]),
        late_served=int(past.total((counters.REFRESH_LATE,), 1)[0]),
        is_paused=refresher.is_paused,
        last_error=counts.last_error,
        last_error_at=counts.last_error_at,
    )


def _provider(runtime: Runtime) -> ProviderRow | None:
    provider = runtime.provider
    if provider is None:
        return None
    rows = {
        name: FetchedRow(one.at or None, one.error, one.failed_at)
        for name, one in provider.published.items()
    }
    return ProviderRow(provider.settings.issuer, rows["metadata"], rows["keys"])


async def _store(runtime: Runtime) -> StoreRow:
    counts, url = runtime.metrics.store, runtime.policy.config.store.url
    began = time.perf_counter()
    is_up = True
    try:
        await runtime.store.ping()
    except StoreUnavailable:
        is_up = False
    took = round((time.perf_counter() - began) * 1000, 3)
    fill = counts.fill()
    bound = None if fill is None else fill.max_bytes
    return StoreRow(
        kind=url.kind,
        is_shared=url.is_shared,
        is_up=is_up,
        round_trip=took if is_up else None,
        operations=sum(sum(one.buckets) for one in counts.seconds.values()),
        errors=sum(counts.errors.values()),
        last_error=counts.last_error,
        last_error_at=counts.last_error_at,
        entries=None if fill is None else fill.entries,
        size=None if fill is None else fill.size,
        may_evict=fill is not None and fill.may_evict,
        fill=round(fill.size / bound, 4) if fill is not None and bound else None,
        pending=_some(runtime.outbox.pending),
        losses=counts.losses,
    )


# -- refused -------------------------------------------------------------------------------------


def _refused(runtime: Runtime, past: Past) -> Refused:
    codes = _totals(past, counters.RESPONSE)
    return Refused(
        {code: count for code, count in codes.items() if code in REFUSAL_CODES},
        runtime.recorder.failures.last_refused,
    )
