"""Random bytes through sidecar, nginx and HAProxy: `python -m tests.differential --seconds 60`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random

import uvloop

from tests.differential.answers import ANSWERS, Asked, asked
from tests.differential.comparing import Compared, compare
from tests.differential.judging import compare_answers
from tests.differential.playing import QUIET, hear, play
from tests.differential.servers import INJECTING, Lane, lanes, missing
from tests.differential.streams import ALL, Stream, single, stream

PATIENT = (0.5, 2.0)  # seconds that a case is waited for, if it differs at first


def cases(seed: int) -> Iterator[Stream | Asked]:
    """Each oddity alone, then random ones without an end; each sixth is a response."""
    numbers = count(1)
    for tag in ALL:
        yield single(tag, next(numbers))
    for tag in ANSWERS:
        number = next(numbers)
        yield asked(Random(f"{seed} {number}"), number, tag)
    for number in numbers:
        random = Random(f"{seed} {number}")
        if number % 6:
            yield stream(random, number)
        else:
            yield asked(random, number, random.choice(list(ANSWERS)))


async def check(found: Sequence[Lane], one: Stream | Asked) -> Compared:
    """Plays a case through all of them. What differs is played again, with more patience."""
    for quiet in (QUIET, *PATIENT):
        if isinstance(one, Stream):
            seen = await asyncio.gather(*(play(lane, one, quiet) for lane in found))
            names = (lane.name for lane in found)
            compared = compare(one, dict(zip(names, seen, strict=True)))
        else:
            plain = [lane for lane in found if lane.name != INJECTING]
            told = await asyncio.gather(*(hear(lane, one, quiet) for lane in plain))
            names = (lane.name for lane in plain)
            compared = compare_answers(one, dict(zip(names, told, strict=True)))
        if not compared.faults:
            break
    return compared


async def run(seconds: float, seed: int, most: int) -> int:
    """Plays for so long, and returns how many cases differ without a rule."""
    differences: Counter[tuple[str, str]] = Counter()
    failed = played = 0
    async with lanes() as found:
        until = time.monotonic() + seconds
        for one in cases(seed):
            if time.monotonic() > until or failed >= most:
                break
            compared = await check(found, one)
            differences += compared.differences
            played += 1
            if compared.faults:
                failed += 1
                print(f"case {one.number}: {one.raw[:600]!r}")
                for fault in compared.faults:
                    print(f"  {fault}", flush=True)
    print(f"{played} cases, {failed} that no rule explains")
    for (other, what), number in sorted(differences.items()):
        print(f"  {other}: {what}: {number}")
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=20, help="failures after which it ends")
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    if missing():
        sys.exit(f"not installed: {', '.join(missing())}")
    sys.exit(uvloop.run(run(options.seconds, options.seed, options.most)) > 0)
