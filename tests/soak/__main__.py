"""A soak at saturation: `python -m tests.soak --seconds 600`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from tests.faults.__main__ import ends_in_order
from tests.faults.wire import Broken
from tests.floods.strangers import raise_descriptors
from tests.soak.judge import MIB, growth, violations
from tests.soak.load import Load, Seen
from tests.soak.site import Point, Site, running

SHOWN = 20  # lines of the table
STEADY = 30.0  # seconds in which what is full has not grown
GROWN = 1.01  # times what it was, by which it has
FILLED = ("sidecar_tombstones", "sidecar_store_bytes")


@dataclass(frozen=True, slots=True)
class Soak:
    """What was played, and what came of it. `filled` was measured before the time began."""

    seconds: float
    connections: int
    seen: Seen
    filled: list[Point]
    points: list[Point]
    violations: list[str]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        seen = self.seen
        return {
            "seconds": self.seconds,
            "connections": self.connections,
            "requests": seen.requests,
            "right": seen.right,
            "sessions": seen.sessions,
            "renewed": seen.renewed,
            "ended": dict(seen.ended),
            "events": seen.events,
            "streams_opened": seen.streams_opened,
            "streams_ended": seen.streams_ended,
            "p50_ms": seen.percentile(0.5),
            "p99_ms": seen.percentile(0.99),
            "filled_seconds": self.filled[-1].at if self.filled else 0.0,
            "growth_mib": growth(self.points) / MIB,
            "points": [one.row() for one in (*self.filled, *self.points)],
            "refused": dict(seen.refused),
            "errors": dict(seen.errors),
            "violations": self.violations,
        }


async def soak(
    directory: Path,
    *,
    seconds: float,
    connections: int,
    sessions: int,
    seed: int,
    fill: float = 0.0,
    **bounds: Any,
) -> Soak:
    """Plays it. A fifth of the connections are WebSockets and event streams.

    Before its time begins, what is bounded is filled for at most `fill` seconds.
    """
    streams = connections // 5
    askers = connections - streams
    life = (askers + streams) * seconds / sessions
    async with running(directory, connections) as site:
        before = await _settled(site)
        load = Load(site.sidecar.port, life, seed, is_filling=fill > 0)
        for number in range(streams):
            load.stream(("events", "socket")[number % 2])
        for _ in range(askers):
            load.asker()
        ending = asyncio.create_task(load.log_out_streams())
        filled = await _measured(site, fill, _is_full)
        load.is_filling = False
        points = await _measured(site, seconds)
        ending.cancel()
        load.leave()
        after = await _settled(site, before)
        brakes = len(site.sidecar.lines("brake engaged"))
        defects = [f"defect: {one[:2000]}" for one in site.sidecar.defects()]
    found = violations(load.seen, points, before, after, brakes=brakes, **bounds)
    if filled and not _is_full(filled):
        found.append(f"what is bounded was not full within {fill:g} s")
    return Soak(seconds, connections, load.seen, filled, points, [*found, *defects])


def _is_full(points: Sequence[Point]) -> bool:
    """Whether what is bounded has not grown for a while."""
    former = [one for one in points if one.at <= points[-1].at - STEADY]
    return bool(former) and all(
        points[-1].metrics[name] <= GROWN * former[-1].metrics[name] for name in FILLED
    )


async def _measured(
    site: Site, seconds: float, is_done: Callable[[Sequence[Point]], bool] = lambda _: False
) -> list[Point]:
    """Measures over and over for so long, or until it `is_done`."""
    until = time.monotonic() + seconds
    points: list[Point] = []
    while (now := time.monotonic()) < until and not (points and is_done(points)):
        points.append(await site.point())
        await asyncio.sleep(min(max(0.5, min(seconds / 120, 5.0)), max(0.0, until - now)))
    return points


async def _settled(site: Site, former: Point | None = None) -> Point:
    """What it takes while nobody asks; what goes away gets half a minute."""
    end = time.monotonic() + 30
    await asyncio.sleep(0.5)
    while True:
        try:
            point = await site.point()
        except (Broken, OSError):
            if time.monotonic() > end:
                raise
        else:
            wanted = point.sample if former is None else former.sample
            is_there = (
                point.sample.tasks <= wanted.tasks
                and point.sample.descriptors <= wanted.descriptors
            )
            if is_there or time.monotonic() > end:
                return point
        await asyncio.sleep(0.2)


def show(done: Soak) -> None:
    """Prints it."""
    rows = [one.row() for one in (*done.filled, *done.points)]
    step = max(1, len(rows) // SHOWN)
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in [*rows[::step], rows[-1]]:
        print(f"| {' | '.join(f'{value:g}' for value in row.values())} |")
    for name, value in done.as_json().items():
        if name not in ("points", "violations"):
            print(f"{name:16} {value}")
    for violation in done.violations:
        print(f"VIOLATION {violation}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--fill", type=float, default=1200.0, help="seconds to fill it, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the report goes")
    return parser.parse_args()


async def main(given: argparse.Namespace) -> Soak:
    """Plays it in a directory of its own."""
    ends_in_order()
    with tempfile.TemporaryDirectory() as directory:
        return await soak(
            Path(directory),
            seconds=given.seconds,
            connections=given.connections,
            sessions=given.sessions,
            seed=given.seed,
            fill=given.fill,
        )


if __name__ == "__main__":
    options = _options()
    raise_descriptors()
    result = uvloop.run(main(options))
    show(result)
    if options.json is not None:
        options.json.write_text(json.dumps(result.as_json(), indent=1))
    sys.exit(bool(result.violations))
