"""The documents of several workers as one: counts are summed, and the last of each list stay."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

from sidecar.core.record import replace
from sidecar.observation.failure_log import REFUSED, TROUBLE
from sidecar.observation.quantiles import added, latency, quantile
from sidecar.observation.session_log import SHOWN
from sidecar.observation.status_model import (
    AddressRow,
    Ended,
    FetchedRow,
    InFlightRow,
    Latency,
    Process,
    ProviderRow,
    Refused,
    RefusedRow,
    Renewals,
    RouteRow,
    Series,
    Sessions,
    SourceRow,
    Status,
    StoreRow,
    Story,
    Traffic,
    UpstreamRow,
    WarningRow,
    WorkerRow,
)
from sidecar.observation.story import begun
from sidecar.observation.verdict import verdict_of

Row = TypeVar("Row")

_at: Final[Callable[[Any], float]] = attrgetter("at")


def merged(
    told: Sequence[Status], silent: Sequence[WorkerRow] = (), *, replaced: int = 0
) -> Status:
    """One document out of those of workers; `silent` are workers that did not answer, and
    `replaced` is how many have ended early.

    Raises `ValueError` if there is none.
    """
    if not told:
        raise ValueError("no worker answers")
    now = max(one.now for one in told)
    until = max(one.traffic.until for one in told)
    whole = replace(
        told[0],
        now=now,
        process=replace(_process(told, silent), workers_replaced=replaced),
        warnings=_warnings(row for one in told for row in one.warnings),
        traffic=_traffic([one.traffic for one in told]),
        upstreams=_upstreams([row for one in told for row in one.upstreams]),
        ended=_ended(told, until),
        sessions=_sessions([one.sessions for one in told]),
        renewals=_renewals(told, until),
        provider=_provider([one.provider for one in told if one.provider is not None]),
        store=_store([one.store for one in told]),
        refused=_refused([one.refused for one in told]),
        trouble=_last((row for one in told for row in one.trouble), TROUBLE),
    )
    return replace(whole, verdict=verdict_of(whole))


def one_story(told: Sequence[Story]) -> Story:
    """What several workers know of one session."""
    whole = Story(
        session=next((one.session for one in told if one.session is not None), None),
        events=tuple(sorted((event for one in told for event in one.events), key=_at)),
        trouble=tuple(sorted((row for one in told for row in one.trouble), key=_at)),
        refused=tuple(sorted((row for one in told for row in one.refused), key=_at)),
    )
    return begun(whole, None)


# -- process and traffic -------------------------------------------------------------------------


def _process(told: Sequence[Status], silent: Sequence[WorkerRow]) -> Process:
    processes = [one.process for one in told]
    workers = [row for one in processes for row in one.workers] + list(silent)
    return replace(
        processes[0],
        started_at=min(one.started_at for one in processes),
        is_draining=any(one.is_draining for one in processes),
        log_lines_lost=sum(one.log_lines_lost for one in processes),
        workers=tuple(sorted(workers, key=attrgetter("number"))),
    )


def _warnings(rows: Iterable[WarningRow]) -> tuple[WarningRow, ...]:
    found: dict[str, WarningRow] = {}
    for row in rows:
        before = found.get(row.event)
        if before is not None:
            newer = max(before, row, key=_at)
            row = replace(newer, count=before.count + row.count)  # noqa: PLW2901 - the sum of both
        found[row.event] = row
    return tuple(sorted(found.values(), key=_at))


def _traffic(told: Sequence[Traffic]) -> Traffic:
    first = told[0]
    until = max(one.until for one in told)
    second = max(one.until_second for one in told)
    steps = _by_step([(one.until, one.latency_by_step) for one in told], until, first.step)
    upstream = _by_step(
        [(one.until, one.upstream_latency_by_step) for one in told], until, first.step
    )
    whole = _latency([one.latency for one in told])
    theirs = _latency([one.upstream_latency for one in told])
    routes = _grouped((row.route, (one.until, row)) for one in told for row in one.routes)
    return Traffic(
        until=until,
        until_second=second,
        step=first.step,
        bounds_ms=first.bounds_ms,
        per_second=round(sum(one.per_second for one in told), 2),
        requests_by_second=_seconds(told, second, "requests_by_second"),
        errors_by_second=_seconds(told, second, "errors_by_second"),
        p50=tuple(quantile(0.5, one) for one in steps),
        p95=tuple(quantile(0.95, one) for one in steps),
        p99=tuple(quantile(0.99, one) for one in steps),
        upstream_p95=tuple(quantile(0.95, one) for one in upstream),
        latency_by_step=steps,
        upstream_latency_by_step=upstream,
        latency=whole,
        upstream_latency=theirs,
        upstream_share=share(whole, theirs),
        own_codes=_sum(one.own_codes for one in told),
        in_flight=tuple(
            map(_in_flight, _grouped((r.kind, r) for one in told for r in one.in_flight).values())
        ),
        connections=_in_flight([one.connections for one in told]),
        routes=tuple(_route(rows, until, first.step) for rows in routes.values()),
    )


def share(whole: Latency, upstream: Latency) -> float | None:
    """Which part of the time of all requests their upstreams took: 0 to 1; None without any."""
    return round(min(1.0, upstream.seconds / whole.seconds), 3) if whole.seconds else None


def _seconds(told: Sequence[Traffic], until: float, name: str) -> Series:
    return added(*(_shifted(getattr(one, name), until - one.until_second) for one in told))


def _shifted(series: Sequence[Any], places: float, empty: Any = 0) -> tuple[Any, ...]:
    """A series that ends so many places later: the oldest ones go."""
    late = min(len(series), max(0, round(places)))
    return (*series[late:], *([empty] * late))


def _by_step(
    told: Sequence[tuple[float, Sequence[Series]]], until: float, step: int
) -> tuple[Series, ...]:
    """The sums of distributions, step by step."""
    moved = [
        _shifted(steps, (until - ends) / step, (0,) * len(steps[0]))
        for ends, steps in told
        if steps
    ]
    return tuple(added(*ones) for ones in zip(*moved, strict=True))


def _latency(told: Sequence[Latency]) -> Latency:
    counts = added(*(one.counts for one in told))
    return latency(counts, sum(one.seconds for one in told))


def _in_flight(rows: Sequence[InFlightRow]) -> InFlightRow:
    """Each process has limits of its own."""
    return InFlightRow(rows[0].kind, sum(row.now for row in rows), sum(row.limit for row in rows))


def _route(told: Sequence[tuple[float, RouteRow]], until: float, step: int) -> RouteRow:
    rows = [row for _, row in told]
    return RouteRow(
        route=rows[0].route,
        upstream=rows[0].upstream,
        requests=added(*(_shifted(row.requests, (until - end) / step) for end, row in told)),
        errors=added(*(_shifted(row.errors, (until - end) / step) for end, row in told)),
        total=sum(row.total for row in rows),
        statuses=_sum(row.statuses for row in rows),
        decisions=_sum(row.decisions for row in rows),
        latency=_latency([row.latency for row in rows]),
        upstream_latency=_latency([row.upstream_latency for row in rows]),
    )


# -- upstreams -----------------------------------------------------------------------------------


def _upstreams(rows: Sequence[UpstreamRow]) -> tuple[UpstreamRow, ...]:
    return tuple(map(_upstream, _grouped((row.name, row) for row in rows).values()))


def _upstream(rows: Sequence[UpstreamRow]) -> UpstreamRow:
    """It fails if it does for all workers that have asked it."""
    blamed = max(rows, key=lambda row: row.last_error_at or 0.0)
    asked = [row for row in rows if sum(row.latency.counts) or row.requests_failed]
    since = [row.failing_since for row in asked if row.failing_since is not None]
    days = [row.certificate_days_left for row in rows if row.certificate_days_left is not None]
    addresses = _grouped((one.address, one) for row in rows for one in row.addresses)
    return replace(
        rows[0],
        addresses=tuple(map(_address, addresses.values())),
        **{
            name: sum(getattr(row, name) for row in rows)
            for name in ("idle", "busy", "lent", "waiting", "limit", "retries", "requests_failed")
        },
        errors=_sum(row.errors for row in rows),
        failing_since=min(since) if since and len(since) == len(asked) else None,
        last_error=blamed.last_error,
        last_error_at=blamed.last_error_at,
        certificate_days_left=min(days, default=None),
        latency=_latency([row.latency for row in rows]),
        is_missing=any(row.is_missing for row in rows),
    )


def _address(rows: Sequence[AddressRow]) -> AddressRow:
    blamed = max(rows, key=lambda row: row.last_error_at or 0.0)
    return AddressRow(
        address=rows[0].address,
        resolved=tuple(dict.fromkeys(one for row in rows for one in row.resolved)),
        resolved_at=_latest(row.resolved_at for row in rows),
        ejected_until=_latest(row.ejected_until for row in rows),
        ejections=sum(row.ejections for row in rows),
        failures=sum(row.failures for row in rows),
        check=next((row.check for row in rows if row.check not in (None, "ok")), rows[0].check),
        last_error=blamed.last_error,
        last_error_at=blamed.last_error_at,
    )


# -- sessions, renewals and the store ------------------------------------------------------------


def _ended(told: Sequence[Status], until: float) -> Ended:
    series = _grouped(
        (reason, _shifted(one, (until - status.traffic.until) / status.traffic.step))
        for status in told
        for reason, one in status.ended.by_reason.items()
    )
    return Ended(
        by_reason={reason: added(*ones) for reason, ones in series.items()},
        totals=_sum(one.ended.totals for one in told),
        last=_last((event for one in told for event in one.ended.last), SHOWN),
    )


def _sessions(told: Sequence[Sessions]) -> Sessions:
    sources = _grouped((row.source, row) for one in told for row in one.sources)
    return Sessions(
        sources=tuple(map(_source, sources.values())),
        cached=sum(one.cached for one in told),
        tombstones=max(one.tombstones for one in told),
        websockets=sum(one.websockets for one in told),
        event_streams=sum(one.event_streams for one in told),
        logins=_sum(one.logins for one in told),
        backchannel_logouts=_sum(one.backchannel_logouts for one in told),
        logouts=_sum(one.logouts for one in told),
    )


def _source(rows: Sequence[SourceRow]) -> SourceRow:
    examples = [row.example for row in rows if row.example is not None]
    return SourceRow(
        source=rows[0].source,
        type=rows[0].type,
        results=_sum(row.results for row in rows),
        has_opened=any(row.has_opened for row in rows),
        example=min(examples, key=_at, default=None),
    )


def _renewals(told: Sequence[Status], until: float) -> Renewals | None:
    rows = [(one.traffic, one.renewals) for one in told if one.renewals is not None]
    if not rows:
        return None
    series = _grouped(
        (outcome, _shifted(one, (until - traffic.until) / traffic.step))
        for traffic, row in rows
        for outcome, one in row.by_outcome.items()
    )
    ones = [row for _, row in rows]
    blamed = max(ones, key=lambda row: row.last_error_at or 0.0)
    return Renewals(
        by_outcome={outcome: added(*each) for outcome, each in series.items()},
        totals=_sum(row.totals for row in ones),
        latency=_latency([row.latency for row in ones]),
        under_way=sum(row.under_way for row in ones),
        waiting=sum(row.waiting for row in ones),
        waited=sum(row.waited for row in ones),
        late_served=sum(row.late_served for row in ones),
        is_paused=any(row.is_paused for row in ones),
        last_error=blamed.last_error,
        last_error_at=blamed.last_error_at,
    )


def _provider(rows: Sequence[ProviderRow]) -> ProviderRow | None:
    if not rows:
        return None
    return ProviderRow(
        issuer=rows[0].issuer,
        metadata=_fetched([row.metadata for row in rows]),
        keys=_fetched([row.keys for row in rows]),
    )


def _fetched(rows: Sequence[FetchedRow]) -> FetchedRow:
    """Each process fetches for itself: what failed last in one is told."""
    blamed = max(rows, key=lambda row: row.last_error_at or 0.0)
    return FetchedRow(
        _latest(row.fetched_at for row in rows), blamed.last_error, blamed.last_error_at
    )


def _store(rows: Sequence[StoreRow]) -> StoreRow:
    blamed = max(rows, key=lambda row: row.last_error_at or 0.0)
    return replace(
        rows[0],
        is_up=all(row.is_up for row in rows),
        round_trip=_latest(row.round_trip for row in rows),
        operations=sum(row.operations for row in rows),
        errors=sum(row.errors for row in rows),
        last_error=blamed.last_error,
        last_error_at=blamed.last_error_at,
        entries=_latest(row.entries for row in rows),
        size=_latest(row.size for row in rows),
        fill=_latest(row.fill for row in rows),
        may_evict=any(row.may_evict for row in rows),
        pending=_sum(row.pending for row in rows),
        losses=sum(row.losses for row in rows),
    )


# -- refused -------------------------------------------------------------------------------------


def _refused(told: Sequence[Refused]) -> Refused:
    rows = _grouped((row.status, row) for one in told for row in one.last)
    kept: list[RefusedRow] = [row for each in rows.values() for row in _last(each, REFUSED)]
    return Refused(_sum(one.totals for one in told), tuple(sorted(kept, key=_at)))


# -- lists and counts ----------------------------------------------------------------------------


def _last(rows: Iterable[Row], most: int) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=_at)[-most:])


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            whole[name] = whole.get(name, 0) + count
    return whole


Key = TypeVar("Key", bound=Hashable)


def _grouped(pairs: Iterable[tuple[Key, Row]]) -> dict[Key, list[Row]]:
    """In the order in which each was told of first."""
    found: dict[Key, list[Row]] = {}
    for key, row in pairs:
        found.setdefault(key, []).append(row)
    return found


Number = TypeVar("Number", int, float)


def _latest(values: Iterable[Number | None]) -> Number | None:
    """The largest that is known."""
    return max((one for one in values if one is not None), default=None)
