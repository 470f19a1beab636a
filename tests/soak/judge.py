"""What must hold of a soak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import linear_regression
from typing import TYPE_CHECKING, Any, Final

from tests.soak.load import BRAKED

if TYPE_CHECKING:
    from tests.soak.load import Seen
    from tests.soak.site import Point

MIB: Final = 1 << 20
WARM: Final = 2 / 3  # the share of the time after which memory must be flat
FLAT: Final = 8 * MIB  # that memory may grow from then on, by the slope of what was measured
REFUSED_MOST: Final = 0.002  # share of the requests that may be 503 with a code
BRAKED_MOST: Final = 0.5  # share of the rejected that the brake may spare: stalls look like storms
TASKS_MOST: Final = 100  # that there may be more at the end: those of requests under way
DESCRIPTORS_MOST: Final = 20
CACHED_BYTES: Final = 16 * MIB
TOMBSTONE_BYTES: Final = (64 + 48 + 8) * MIB
SMALLEST_TOMBSTONE: Final = 600  # bytes (docs/security.md: 64 MiB are some 100,000)
SMALLEST_VIEW: Final = 1000  # bytes of a Cookie header with its session


def _warm(points: Sequence[Point]) -> list[Point]:
    """What was measured after the warm-up."""
    if not points:
        return []
    began, ended = points[0].at, points[-1].at
    return [one for one in points if one.at >= began + (ended - began) * WARM]


def growth(points: Sequence[Point]) -> float:
    """By how many bytes resident memory grows from its warm-up to the end, by least squares."""
    warm = _warm(points)
    if len(warm) < 3:
        return 0.0
    slope, _ = linear_regression(
        [one.at for one in warm], [float(one.sample.resident) for one in warm]
    )
    return slope * (warm[-1].at - warm[0].at)


def _limits(point: Point) -> Iterator[tuple[str, float, float]]:
    """What is bounded: its name, its value, its bound."""
    metrics = point.metrics
    for name in ("sidecar_client_connections", "sidecar_store_bytes"):
        yield name, metrics[name], metrics[f"{name}_limit"]
    for name, value in metrics.items():
        if name.startswith("sidecar_requests_in_flight{"):
            limit = name.replace("in_flight{", "in_flight_limit{")
            yield name, value, metrics[limit]
        elif name.startswith("sidecar_lasting_responses{"):
            yield name, value, metrics['sidecar_requests_in_flight_limit{kind="stream"}']
    pooled = [
        value
        for name, value in metrics.items()
        if name.startswith("sidecar_upstream_connections{") and 'state="lent"' not in name
    ]
    yield "connections to the upstream", sum(pooled), 256.0
    yield "sessions cached", metrics["sidecar_sessions_cached"], 2 * CACHED_BYTES / SMALLEST_VIEW
    yield "tombstones", metrics["sidecar_tombstones"], TOMBSTONE_BYTES / SMALLEST_TOMBSTONE
    yield "log lines lost", metrics["sidecar_log_lines_lost_total"], 0.0
    yield "writes that wait for the store", _sum(metrics, "sidecar_store_pending"), 2000.0


def _sum(metrics: Any, name: str) -> float:
    return float(sum(value for one, value in metrics.items() if one.partition("{")[0] == name))


def violations(
    seen: Seen,
    points: Sequence[Point],
    before: Point,
    after: Point,
    *,
    flat: float = FLAT,
    trends: bool = True,
    brakes: int = 0,
) -> list[str]:
    """What did not hold. `trends` of tasks and descriptors take a while to show.

    `brakes`: how often the brake on storms of 401 was engaged, by the log.
    """
    found = [f"wrong: {one}" for one in seen.wrong]
    found += [f"{count} of {what}" for what, count in sorted(seen.errors.items())]
    braked = seen.refused[BRAKED]
    if seen.refused.total() - braked > REFUSED_MOST * seen.requests:
        found.append(f"too many were refused: {dict(seen.refused)}")
    if braked and not brakes:
        found.append(f"{braked} rejected sessions were spared, and no brake was engaged")
    if braked > BRAKED_MOST * seen.ended["rejected"]:
        found.append(f"the brake spared {braked} of {seen.ended['rejected']} rejected sessions")
    done = {"requests": seen.right, "events": seen.events, "ends of streams": seen.streams_ended}
    found += [f"there were no {name}" for name, count in done.items() if not count]
    above = {
        f"{name}: {value:g} above {limit:g}"
        for point in points
        for name, value, limit in _limits(point)
        if value > limit
    }
    found += sorted(above)
    grown = growth(points)
    if grown > flat:
        found.append(f"memory grows by {grown / MIB:.1f} MiB after its warm-up")
    left = (
        ("tasks", before.sample.tasks, after.sample.tasks, 0),
        ("descriptors", before.sample.descriptors, after.sample.descriptors, 0),
        ("client connections", 0, int(after.metrics["sidecar_client_connections"]), 0),
    )
    found += [
        f"{is_now - was} {what} are left behind"
        for what, was, is_now, more in left
        if is_now > was + more
    ]
    found += [f"{what} beyond all bounds" for what in _beyond(points) if trends]
    return found


def _beyond(points: Sequence[Point]) -> Iterator[str]:
    """Tasks and descriptors that become more and more after the warm-up."""
    warm = _warm(points)
    half = len(warm) // 2
    if not half:
        return
    for what, most, values in (
        ("tasks", TASKS_MOST, [one.sample.tasks for one in warm]),
        ("descriptors", DESCRIPTORS_MOST, [one.sample.descriptors for one in warm]),
    ):
        if sum(values[half:]) / len(values[half:]) > sum(values[:half]) / half + most:
            yield what
