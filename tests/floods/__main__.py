"""Each flood beside users who work: `python -m tests.floods --seconds 60 --users 50`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import uvloop

from tests.floods.people import Seen, users, work
from tests.floods.strangers import FLOODS, flood, raise_descriptors
from tests.floods.world import ROOT, Site, running_site

MIB: Final = 1 << 20
NOTHING: Final = "nothing"
CALM_SECONDS: Final = 5.0  # before and after a flood
LOOK_SECONDS: Final = 0.5  # between two looks at the memories
HEAD: Final = (
    *("flood", "sent a second", "errors", "p50 before", "during", "after"),
    *("p99 before", "during", "after", "MiB before", "peak", "after", "fullest memory"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One flood: what was sent, what users saw, and the sidecar's memory in bytes.

    `calm` is what they saw before and after. `fills` are what each memory held at most, and
    its bound.
    """

    name: str
    seconds: float
    sent: int
    seen: Seen
    before: int
    peak: int
    after: int
    fills: Mapping[str, tuple[float, float]]
    calm: tuple[Seen, Seen] = (Seen(), Seen())

    @property
    def errors(self) -> int:
        """What users saw go wrong, in all."""
        return sum(one.errors.total() for one in (self.seen, *self.calm))

    def row(self) -> str:
        """A line of the table."""
        phases = (self.calm[0], self.seen, self.calm[1])
        name, (holds, bound) = max(self.fills.items(), key=lambda one: one[1][0] / one[1][1])
        cells = (
            self.name,
            f"{self.sent / self.seconds:,.0f}",
            str(self.errors),
            *(f"{one.percentile(0.5):.0f}" for one in phases),
            *(f"{one.percentile(0.99):.0f}" for one in phases),
            *(f"{one / MIB:.0f}" for one in (self.before, self.peak, self.after)),
            f"{name}: {100 * holds / bound:.0f} %",
        )
        return f"| {' | '.join(cells)} |"


async def play(site: Site, name: str, seconds: float, number: int, calm: float = 0.0) -> Result:
    """Plays one flood, or `nothing`. With `calm` (seconds), users work before and after, too.

    The stranger is a process of his own then, so that users do not wait for his own work.
    """
    earlier = await work(site.url, users(number), calm) if calm else Seen()
    before, peak = site.resident_bytes(), 0
    fills: dict[str, tuple[float, float]] = {}

    async def look() -> None:
        for memory, (holds, bound) in (await site.fills()).items():
            fills[memory] = (max(holds, fills.get(memory, (0.0,))[0]), bound)

    async def watch() -> None:
        nonlocal peak
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            peak = max(peak, site.resident_bytes())
            await look()

    watching = asyncio.create_task(watch())
    working = asyncio.create_task(work(site.url, users(number), seconds))
    if name == NOTHING:
        sent = 0
    elif calm:
        sent = await _apart(name, site, seconds)
    else:
        sent = await flood(name, site.port, site.balanced, seconds)
    seen = await working
    watching.cancel()
    await look()
    later = await work(site.url, users(number), calm) if calm else Seen()
    after = site.resident_bytes()
    return Result(
        name, seconds, sent, seen, before, max(peak, after), after, fills, (earlier, later)
    )


async def _apart(name: str, site: Site, seconds: float) -> int:
    """Floods from another process."""
    how = map(str, (site.port, site.balanced, seconds))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.floods.stranger", name, *how),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    return int(told)


def memories(results: Iterable[Result]) -> Iterable[str]:
    """A table: how full each memory was at most, and by which flood."""
    yield "| memory | at most | of | by |\n|---|---|---|---|"
    fullest: dict[str, tuple[float, float, str]] = {}
    for result in results:
        for name, (holds, bound) in result.fills.items():
            if holds > fullest.get(name, (-1.0,))[0]:
                fullest[name] = (holds, bound, result.name)
    for name, (holds, bound, by) in fullest.items():
        yield f"| {name} | {holds:,.0f} | {bound:,.0f} | {by if holds else ''} |"


async def main(names: list[str], seconds: float, number: int) -> int:
    """Plays the floods, prints the tables, and returns how many errors users saw."""
    raise_descriptors()
    results: list[Result] = []
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    async with running_site() as site:
        for name in [NOTHING, *names]:
            result = await play(site, name, seconds, number, CALM_SECONDS)
            results.append(result)
            print(result.row(), flush=True)
            for one in (result.seen, *result.calm):
                for what, count in one.errors.items():
                    print(f"  {name}: {count} of {what}", file=sys.stderr, flush=True)
        print("\n" + "\n".join(memories(results)))
        said = site.log.read_text()
    errors = sum(result.errors for result in results)
    above = [
        (result.name, name)
        for result in results
        for name, (holds, bound) in result.fills.items()
        if holds > bound
    ]
    for fullest in above:
        print(f"above its bound: {fullest}", file=sys.stderr)
    if "Traceback" in said or '"defect"' in said:
        print(said[-3000:], file=sys.stderr)
        errors += 1
    return errors + len(above)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.floods", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FLOODS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each flood")
    parser.add_argument("--users", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    unknown = set(options.names) - set(FLOODS)
    if unknown:
        sys.exit(f"no such flood: {', '.join(sorted(unknown))}")
    chosen = options.names or list(FLOODS)
    sys.exit(uvloop.run(main(chosen, options.seconds, options.users)) > 0)
