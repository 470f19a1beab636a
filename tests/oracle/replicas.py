"""Plays histories of replicas for as long as one likes, or one of them again.

    python -m tests.oracle.replicas --minutes 10 --seed 1 --at-once 2
    python -m tests.oracle.replicas --again '{"seed": …}' --times 3 --shorten 5

What it asks: `replicas.md`.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Final

from tests.oracle.replicas_history import History, history
from tests.oracle.replicas_play import Wrong, play
from tests.oracle.replicas_shorten import shortened
from tests.oracle.replicas_world import fake_clock

RIGHT: Final = "right"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where all went right, else 1; 2 where there is no redis-server."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.oracle.replicas")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="where to begin")
    parser.add_argument("--at-once", type=int, default=1, help="how many are played side by side")
    parser.add_argument("--again", help="a history, as a failure prints it")
    parser.add_argument("--times", type=int, default=1, help="how often that is played")
    parser.add_argument("--shorten", type=float, default=0.0, help="minutes to make it shorter in")
    given = parser.parse_args(arguments)
    if shutil.which("redis-server") is None:
        _say("redis-server is not installed")
        return 2
    if fake_clock() is None:
        _say("left out: clocks apart, since libfaketime is not installed")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    wrong = 0
    for one, why in _all_played(_histories(given, over), given.at_once):
        _say(f"seed {one.seed}: {why}")
        if not why.startswith(RIGHT):
            wrong += 1
            if given.shorten:
                _say(f"shorter: {shortened(one, _fails, given.shorten * 60)}")
    _say(f"{wrong} wrong")
    return 1 if wrong else 0


def _histories(given: argparse.Namespace, over: threading.Event) -> Iterator[History]:
    """What is to be played; a signal ends it behind what is being played."""
    end = time.monotonic() + given.minutes * 60
    many: Iterator[History] = map(history, count(given.seed))
    if given.again is not None:
        many, end = iter([History.read(given.again)] * given.times), math.inf
    for one in many:
        if over.is_set() or time.monotonic() > end:
            return
        yield one


def _all_played(histories: Iterator[History], at_once: int) -> Iterator[tuple[History, str]]:
    """Each history, and what was wrong with it, as soon as that is known."""
    running: set[Future[tuple[History, str]]] = set()
    with ThreadPoolExecutor(at_once) as pool:
        for one in histories:
            running.add(pool.submit(_played, one))
            if len(running) >= at_once:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in running)


def _played(one: History) -> tuple[History, str]:
    """A history, and what is to be said of it."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            player = play(Path(directory), one)
        except Wrong as wrong:
            return one, f"WRONG\n{wrong}"
    return one, f"{RIGHT}, {player.checks} checks, {player.excused} excused"


def _fails(one: History) -> bool:
    return not _played(one)[1].startswith(RIGHT)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
