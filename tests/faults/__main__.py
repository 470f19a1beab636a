"""Faults under load: `python -m tests.faults --seconds 300 --seed 1`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.faults.play import MIB, Result, play_site
from tests.faults.site import PLANS
from tests.faults.troubles import FAULTS, fits
from tests.floods.strangers import raise_descriptors

HEAD = (
    *("site", "fault", "s", "requests", "right", "errors", "breaks", "wrong", "first s", "all s"),
    *("MiB", "tasks", "fds", "verdict"),
)


def ends_in_order() -> None:
    """SIGTERM ends what was started, too."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def row(result: Result) -> str:
    """A line of the table."""
    tally, growth = result.tally, result.growth
    cells = (
        result.site,
        result.fault,
        f"{result.seconds:.1f}",
        str(tally.requests),
        str(tally.right),
        ", ".join(f"{count} {code}" for code, count in tally.codes.items()) or "0",
        str(tally.breaks.total() + tally.cut),
        str(len(tally.wrong)),
        _seconds(result.recovery),
        _seconds(result.all_served),
        f"{growth['resident'] / MIB:+.1f}" if growth else "",
        f"{growth['tasks']:+d}" if growth else "",
        f"{growth['descriptors']:+d}" if growth else "",
        "ok" if not result.violations else f"{len(result.violations)} VIOLATIONS",
    )
    return f"| {' | '.join(cells)} |"


def tell(result: Result) -> None:
    """Prints what came of a fault."""
    print(row(result), flush=True)
    for violation in result.violations:
        print(f"    {violation}", flush=True)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


async def main(options: argparse.Namespace, names: Sequence[str]) -> list[Result]:
    """Plays all sites one after the other, each for as long as it has faults."""
    ends_in_order()
    results: list[Result] = []
    chosen = options.fault or tuple(FAULTS)
    count = {name: sum(fits(one, PLANS[name]) for one in chosen) for name in names}
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            results += await play_site(
                name,
                Path(directory),
                options.seed,
                seconds=options.seconds * count[name] / sum(count.values()),
                chosen=chosen,
                patience=options.patience,
                tell=tell,
            )
    return results


def report(options: argparse.Namespace, results: Sequence[Result]) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "faults": [one.as_json() for one in results],
        "violations": sum(len(one.violations) for one in results),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of all sites together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--site", action="append", choices=list(PLANS), help="all by default")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="all by default")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds added to each bound")
    parser.add_argument("--json", type=Path, help="where the report goes")
    return parser.parse_args()


if __name__ == "__main__":
    given = _options()
    raise_descriptors()
    done = uvloop.run(main(given, given.site or list(PLANS)))
    whole = report(given, done)
    if given.json is not None:
        given.json.write_text(json.dumps(whole, indent=1))
    print(f"{len(done)} faults, {whole['violations']} violations, seed {given.seed}")
    sys.exit(whole["violations"] > 0)
