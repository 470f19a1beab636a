"""Each flood beside users who work: `python -m tests.floods --seconds 60`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass

import uvloop

from tests.floods.people import Seen, users, work
from tests.floods.strangers import FLOODS, Stranger, raise_descriptors
from tests.floods.world import Site, running_site

MIB = 1 << 20
HEAD = ("flood", "sent", "requests", "errors", "p50 ms", "p99 ms", "before MiB", "peak", "after")


@dataclass(frozen=True, slots=True)
class Result:
    """One flood: what was sent, what users saw, and the sidecar's memory in bytes."""

    name: str
    sent: int
    seen: Seen
    before: int
    peak: int
    after: int

    def row(self) -> str:
        """A line of the table."""
        cells = (
            self.name,
            f"{self.sent:,}",
            f"{len(self.seen.seconds):,}",
            str(self.seen.errors.total()),
            f"{self.seen.percentile(0.5):.1f}",
            f"{self.seen.percentile(0.99):.1f}",
            *(f"{one / MIB:.0f}" for one in (self.before, self.peak, self.after)),
        )
        return f"| {' | '.join(cells)} |"


async def play(site: Site, name: str, seconds: float, number: int) -> Result:
    """Plays one flood, or `nothing`."""
    before, peak = site.resident_bytes(), 0
    stranger = Stranger(site.port, time.monotonic() + seconds)

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, site.resident_bytes())
            await asyncio.sleep(0.25)

    watching = asyncio.create_task(watch())
    working = asyncio.create_task(work(site.url, users(number), seconds))
    sent = await FLOODS[name](stranger) if name in FLOODS else 0
    seen = await working
    watching.cancel()
    await asyncio.sleep(1)
    after = site.resident_bytes()
    return Result(name, sent, seen, before, max(peak, after), after)


async def main(names: list[str], seconds: float, number: int) -> int:
    """Plays the floods, prints the table, and returns how many errors users saw."""
    raise_descriptors()
    errors = 0
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    async with running_site() as site:
        for name in ["nothing", *names]:
            result = await play(site, name, seconds, number)
            print(result.row(), flush=True)
            for what, count in result.seen.errors.items():
                print(f"  {name}: {count} of {what}", file=sys.stderr, flush=True)
            errors += result.seen.errors.total()
        said = site.log.read_text()
        if "Traceback" in said or '"defect"' in said:
            print(said[-3000:], file=sys.stderr)
            errors += 1
    return errors


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.floods", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FLOODS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each flood")
    parser.add_argument("--users", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    unknown = set(options.names) - set(FLOODS)
    if unknown:
        sys.exit(f"no such flood: {', '.join(sorted(unknown))}")
    chosen = options.names or list(FLOODS)
    sys.exit(uvloop.run(main(chosen, options.seconds, options.users)) > 0)
