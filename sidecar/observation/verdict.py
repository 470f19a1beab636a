"""Whether it is well, and since when: one sentence out of the facts that the document has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sidecar.observation.status_model import (
    RouteRow,
    State,
    Status,
    StatusVerdict,
    Symptom,
    UpstreamRow,
)

CERTIFICATE_DAYS: Final = 14.0
"""Days before a certificate's end from which on it is told."""
REJECTED: Final = 20
"""Sessions in the window whose token was rejected, from which on they are told."""
ERRORS: Final = 3
SHARE: Final = 0.01
"""Answers with 5xx in the window, and their share of a route's, from which on they are told."""
NEARLY_FULL: Final = 0.9
"""The share of a store's room from which it is told; above it writing fails soon."""
LATELY: Final = 60.0
"""Seconds for which an error of the store explains what it has not taken."""
BRAKED: Final = "braked"
"""The decision on a 401 that a storm of them has made doubtful (behaviour: 401)."""
TOLD: Final = 3
"""Symptoms that the sentence has; the others are counted."""

_WORST: Final[tuple[State, ...]] = ("well", "degraded", "draining", "down")
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def verdict_of(status: Status) -> StatusVerdict:
    """The verdict on all else that a document says."""
    found = sorted(_symptoms(status), key=lambda one: -_WORST.index(one.state))
    state: State = found[0].state if found else "well"
    parts = [f"Serving since {span(status.now - status.process.started_at)}"]
    parts += [one.text for one in found[:TOLD]]
    if len(found) > TOLD:
        parts.append(f"and {len(found) - TOLD} more")
    begun = [one.since for one in found if one.state == state and one.since is not None]
    since = min(begun, default=status.process.started_at)
    return StatusVerdict(state, "; ".join(parts), since, tuple(found))


def span(seconds: float) -> str:
    """A duration in its largest unit, such as `3 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def clock(moment: float, now: float) -> str:
    """A time of day in UTC; of another day than `now`, with the date."""
    at, today = datetime.fromtimestamp(moment, UTC), datetime.fromtimestamp(now, UTC)
    return at.strftime("%H:%M UTC" if at.date() == today.date() else "%Y-%m-%d %H:%M UTC")


def _symptoms(status: Status) -> Iterator[Symptom]:
    yield from _of_process(status)
    for one in status.upstreams:
        yield from _of_upstream(one, status.now)
    failing = {one.name for one in status.upstreams if one.requests_failed}
    for route in status.traffic.routes:
        if route.upstream not in failing:  # else that is told already
            yield from _of_route(route)
    for route in status.traffic.routes:
        yield from _of_brake(route)
    yield from _of_sessions(status)
    yield from _of_services(status)
    yield from _of_refused(status)


def _of_process(status: Status) -> Iterator[Symptom]:
    process = status.process
    if process.is_draining:
        yield Symptom("draining", "verdict", "it drains, and ends then")
    silent = [str(one.number) for one in process.workers if not one.answers]
    if silent or not process.workers:
        text = f"worker {', '.join(silent)} does not answer" if silent else "no worker serves"
        yield Symptom("degraded" if len(silent) < len(process.workers) else "down", "verdict", text)
    last = process.last_reload
    if last is not None and last.outcome != "reloaded":
        text = f"the reload at {clock(last.at, status.now)} was refused"
        yield Symptom("degraded", "configuration", text, last.at)
    if process.log_lines_lost:
        yield Symptom("degraded", "verdict", f"{process.log_lines_lost} log lines were lost")


def _of_upstream(one: UpstreamRow, now: float) -> Iterator[Symptom]:
    name = f"upstream {one.name}"
    if one.failing_since is not None:
        text = (
            f"{name}: {one.last_error} since {clock(one.failing_since, now)}, "
            f"{_requests(one.requests_failed)} failed"
        )
        yield Symptom("down", "upstreams", text, one.failing_since)
    elif one.is_missing:
        text = f"{name}: it cannot be reached, so this is not ready (`ready: true`)"
        yield Symptom("down", "upstreams", text, now)
    elif one.requests_failed:
        text = f"{name}: {_requests(one.requests_failed)} failed, the last: {one.last_error}"
        yield Symptom("degraded", "upstreams", text, one.last_error_at)
    ejected = [row.address for row in one.addresses if row.ejected_until is not None]
    if ejected:
        yield Symptom("degraded", "upstreams", f"{name}: left alone is {', '.join(ejected)}")
    days = one.certificate_days_left
    if days is not None and days < CERTIFICATE_DAYS:
        state: State = "degraded" if days > 0 else "down"
        text = f"ends in {days:.0f} days" if days > 0 else "has ended"
        yield Symptom(state, "upstreams", f"{name}: its certificate {text}")
    if one.waiting:
        text = f"{name}: {_requests(one.waiting)} wait for one of {one.limit} connections"
        yield Symptom("degraded", "upstreams", text)


def _of_route(route: RouteRow) -> Iterator[Symptom]:
    errors = route.statuses.get("5xx", 0)
    if errors >= ERRORS and errors >= SHARE * route.total:
        text = f"route {route.route}: {errors} of {_requests(route.total)} answered with 5xx"
        yield Symptom("degraded", "traffic", text)


def _of_brake(route: RouteRow) -> Iterator[Symptom]:
    braked = route.decisions.get(BRAKED, 0)
    if braked:
        text = (
            f"route {route.route}: the brake held, {braked} 401s of its upstream ended no session"
        )
        yield Symptom("degraded", "ended", text)


def _of_sessions(status: Status) -> Iterator[Symptom]:
    for one in status.sessions.sources:
        failed = one.results.get("invalid", 0)
        if failed and not one.has_opened:
            since = None if one.example is None else one.example.at
            text = f"source {one.source}: no session opens, {failed} did not; compare its secret"
            yield Symptom("degraded", "sessions", text, since)
    rejected = status.ended.totals.get("token_rejected", 0)
    if rejected >= REJECTED:
        text = f"{rejected} sessions ended since an upstream rejected their token"
        yield Symptom("degraded", "ended", text)


def _of_services(status: Status) -> Iterator[Symptom]:
    renewals, provider, store = status.renewals, status.provider, status.store
    if renewals is not None and renewals.is_paused:
        text = f"renewals are paused: {renewals.last_error or 'the provider does not answer'}"
        yield Symptom("degraded", "renewals", text, renewals.last_error_at)
    documents = () if provider is None else (provider.metadata, provider.keys)
    for name, one in zip(("metadata", "keys"), documents, strict=False):
        if one.last_error is not None and (one.last_error_at or 0.0) > (one.fetched_at or 0.0):
            text = f"the provider's {name}: {one.last_error}"
            yield Symptom("degraded", "renewals", text, one.last_error_at)
    if not store.is_up:
        reason = store.last_error or "it does not answer"
        yield Symptom("down", "store", f"the store: {reason}", store.last_error_at)
    if store.fill is not None and store.fill > NEARLY_FULL:
        yield Symptom("degraded", "store", f"the store is {store.fill:.0%} full")
    if store.may_evict:
        text = "the store may drop sessions to make room, which logs their users out"
        yield Symptom("degraded", "store", text)
    waiting = sum(store.pending.values())
    is_failing = status.now - (store.last_error_at or 0.0) < LATELY  # else they are on their way
    if waiting and is_failing and store.is_shared:
        yield Symptom("degraded", "store", f"the store has not taken {waiting} writes yet")


def _of_refused(status: Status) -> Iterator[Symptom]:
    overloaded = status.refused.totals.get("overloaded", 0)
    if overloaded:
        text = f"{_requests(overloaded)} refused, since a budget was used up"
        yield Symptom("degraded", "refused", text)


def _requests(number: int) -> str:
    return f"{number} request{'' if number == 1 else 's'}"
