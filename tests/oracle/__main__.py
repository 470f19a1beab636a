"""The long run: `python -m tests.oracle --minutes 10 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count
from random import Random

import uvloop

from tests.oracle import history as words
from tests.oracle.history import History, generate, serial
from tests.oracle.known import FIXED, KNOWN, cut_once, cut_twice
from tests.oracle.shrink import shrunk
from tests.oracle.world import World, running_world


def main() -> int:
    options = _options()
    if options.replay is not None:
        names = {name: getattr(words, name) for name in ("History", "Talk", "Ask", "Cut")}
        given = eval(options.replay, names)  # noqa: S307 - what this program printed
        return uvloop.run(_play([("replay", given)], options))
    return uvloop.run(_play(_all(options.seed), options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, 1 by default")
    parser.add_argument("--seed", type=int, default=0, help="of the first random history")
    parser.add_argument("--serial", action="store_true", help="no pipelining")
    parser.add_argument("--cuts", action="store_true", help="first those that are cut everywhere")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds for one connection")
    parser.add_argument("--most", type=int, default=5, help="failures after which it ends")
    parser.add_argument("--replay", help="a history as it is printed: History(users=…)")
    return parser.parse_args()


def _all(seed: int) -> Iterator[tuple[str, History]]:
    """Histories by name: random ones without an end."""
    for number in count(seed):
        yield f"seed {number}", generate(Random(number))


def _cut() -> Iterator[tuple[str, History]]:
    yield from KNOWN.items()
    for name, asks in FIXED.items():
        yield from ((name, one) for many in (cut_once, cut_twice) for one in many(asks))


async def _play(named: Iterable[tuple[str, History]], options: argparse.Namespace) -> int:
    failures = 0
    begun = time.monotonic()
    async with running_world() as world:
        world.limit = options.limit
        for name, history in _cut() if options.cuts else ():
            failures += await _is_wrong(world, name, history)
        for name, history in named:
            if time.monotonic() - begun > 60 * options.minutes or failures >= options.most:
                break
            played = serial(history) if options.serial else history
            failures += await _is_wrong(world, name, played)
        seconds = time.monotonic() - begun
        _say(f"{world.count} in {seconds:.0f} s, {failures} failures")
    return 1 if failures else 0


async def _is_wrong(world: World, name: str, history: History) -> bool:
    """Plays a history; one that fails is made small and printed."""
    faults = await world.faults(history)
    if not faults:
        return False

    async def fails(candidate: History) -> bool:
        return bool(await world.faults(candidate))

    patience, world.limit = world.limit, min(world.limit, 1.0)
    small = await shrunk(history, fails)
    world.limit = patience
    _say(f"{name}:", *faults)
    _say(f"small: {small}", *await world.faults(small))
    return True


def _say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
