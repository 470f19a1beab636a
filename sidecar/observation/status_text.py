"""The document as a screen of text, and a request that has ended as a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec

from sidecar.observation.status_model import (
    Latency,
    RefusedRow,
    SessionEvent,
    Status,
    Story,
    TroubleRow,
    UpstreamRow,
)
from sidecar.observation.verdict import clock, span

SHOWN: Final = 5
"""Rows of what has failed last."""


def screen(status: Status) -> Iterator[str]:
    """The lines of a screen: the verdict first, then what there is to say of each panel."""
    yield f"{status.verdict.state.upper()}: {status.verdict.text}"
    yield _process(status)
    yield ""
    yield from _table(
        ("ROUTE", "REQUESTS", "5XX", "P50 MS", "P95 MS", "P99 MS", "UPSTREAM P95"),
        [
            (
                row.route,
                str(row.total),
                str(row.statuses.get("5xx", 0)),
                *_quantiles(row.latency),
                _number(row.upstream_latency.p95),
            )
            for row in status.traffic.routes
        ],
    )
    yield ""
    yield from _table(
        ("UPSTREAM", "IDLE", "BUSY", "LENT", "WAITING", "FAILED", "STATE"),
        [_upstream(row, status.now) for row in status.upstreams],
    )
    yield ""
    yield from _pairs(status)
    trouble = status.trouble[-SHOWN:]
    if trouble:
        yield ""
        yield from (_trouble(row) for row in trouble)


def _process(status: Status) -> str:
    process, traffic = status.process, status.traffic
    held = span(status.now - process.config_loaded_at)
    theirs = _number(traffic.upstream_latency.p95)
    parts = [
        f"sidecar {process.version}",
        f"configuration {process.config_hash} for {held}",
        f"{len(process.workers)} worker{'' if len(process.workers) == 1 else 's'}",
        f"{traffic.per_second:g} requests/s",
        f"p95 {_number(traffic.latency.p95)} ms (upstreams {theirs})",
    ]
    return ", ".join(parts)


def _upstream(row: UpstreamRow, now: float) -> tuple[str, ...]:
    state = "serves"
    if row.failing_since is not None:
        state = f"fails since {clock(row.failing_since, now)}: {row.last_error}"
    elif row.is_missing:
        state = "cannot be reached"
    elif row.last_error is not None:
        state = f"serves; last error {clock(row.last_error_at or now, now)}: {row.last_error}"
    counts = (row.idle, row.busy, row.lent, row.waiting, row.requests_failed)
    return (row.name, *map(str, counts), state)


def _pairs(status: Status) -> Iterator[str]:
    """One line for each of the panels that are a few numbers."""
    rows = {
        "sessions ended": _counts(status.ended.totals),
        "refused": _counts(status.refused.totals),
        "own errors": _counts(status.traffic.own_codes),
        "logins": _counts(status.sessions.logins),
        "renewals": "" if status.renewals is None else _counts(status.renewals.totals),
        "streams": f"{status.sessions.websockets} WebSockets, "
        f"{status.sessions.event_streams} event streams",
        "store": _store(status),
    }
    for source in status.sessions.sources:
        rows[f"source {source.source}"] = _counts(source.results)
    width = max(map(len, rows)) + 2
    for name, text in rows.items():
        yield f"{name:<{width}}{text or '-'}"


def _store(status: Status) -> str:
    store = status.store
    state = "up" if store.is_up else f"down: {store.last_error or 'no answer'}"
    took = "" if store.round_trip is None else f", {store.round_trip:g} ms"
    waiting = sum(store.pending.values())
    full = "" if store.fill is None else f", {store.fill:.0%} full"
    return f"{store.kind} {state}{took}{full}{f', {waiting} writes wait' if waiting else ''}"


def _trouble(row: TroubleRow) -> str:
    return line(
        {
            "at": row.at,
            "status": row.status,
            "method": row.method,
            "path": row.path,
            "duration_ms": row.milliseconds,
            "upstream": row.upstream,
            "detail": row.cause,
            "request_id": row.request_id,
        }
    )


def line(facts: Mapping[str, Any]) -> str:
    """A request that has ended: `22:31:07 502 GET /api/a 1.2ms api connection refused [id]`."""
    if "lost" in facts:
        return f"({facts['lost']} requests were not shown)"
    parts = (
        _time(facts["at"]),
        facts.get("status"),
        facts.get("method"),
        facts.get("path"),
        f"{facts['duration_ms']:.1f}ms" if "duration_ms" in facts else None,
        facts.get("upstream"),
        facts.get("upstream_address"),
        facts.get("detail") or facts.get("reason"),
        f"[{facts.get('request_id')}]",
    )
    return " ".join(str(part) for part in parts if part)


_ENDPOINT: Final = "none"
"""The route of the sidecar's own endpoints."""

_Row: TypeAlias = SessionEvent | TroubleRow | RefusedRow

_KINDS: Final = {
    "login": "logged in",
    "opened": "first seen here",
    "renewed": "token renewed",
    "renewal_failed": "renewal failed",
    "rejected": "token rejected",
    "ended": "ended",
    "missing": "no session",
}


def story_lines(story: Story, *, as_json: bool = False) -> Iterator[str]:
    """The story of a session in order of time, an event or a failed request on each line."""
    rows: list[_Row] = [*story.events, *story.trouble, *story.refused]
    for row in sorted(rows, key=attrgetter("at")):
        if as_json:
            yield msgspec.json.encode(row).decode()
        else:
            yield _told(row) if isinstance(row, SessionEvent) else _failed(row)


def _told(event: SessionEvent) -> str:
    """`22:31:07 ended token_rejected GET /api/a 401 route /api/ [id]`."""
    parts = (
        _time(event.at),
        _KINDS.get(event.kind, event.kind),
        event.reason,
        event.method,
        event.path,
        event.status,
        f"route {event.route}" if event.route not in (None, _ENDPOINT) else None,
        event.detail,
        f"[{event.request_id}]" if event.request_id else None,
    )
    return " ".join(str(part) for part in parts if part)


def _failed(row: TroubleRow | RefusedRow) -> str:
    if isinstance(row, TroubleRow):
        return _trouble(row)
    facts = {"at": row.at, "status": row.status, "method": row.method, "path": row.path}
    return line({**facts, "detail": row.detail or row.code, "request_id": row.request_id})


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as what they hold; the first is text, the last may be."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([*cells, row[-1]]).rstrip()


def _quantiles(found: Latency) -> tuple[str, str, str]:
    return _number(found.p50), _number(found.p95), _number(found.p99)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
