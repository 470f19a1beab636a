"""Plays histories of sessions for as long as one likes, or one of them again.

    python -m tests.oracle.sessions --minutes 10 --seed 1
    python -m tests.oracle.sessions --again '[["login",0,0,0,[[],0]]]'

What it does and what it found: `sessions.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, seed, settings

from tests.oracle.sessions_history import STEPS_OF_A_HISTORY, Step
from tests.oracle.sessions_model import Fault
from tests.oracle.sessions_play import PHASES, Player

AT_ONCE: Final = 200  # histories of one seed


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where every promise was kept, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.oracle.sessions")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="where to begin")
    parser.add_argument("--again", type=json.loads, help="a history, as a fault prints it")
    given_ = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, Player(Path(directory)) as player:
        try:
            if given_.again is not None:
                player.play(given_.again)
            number = given_.seed
            while given_.again is None and time.monotonic() - began < given_.minutes * 60:
                _play_many(player, number)
                number += 1
        except Fault as fault:
            sys.stdout.write(f"{fault}\n")
            return 1
        finally:
            seconds = time.monotonic() - began
            sys.stdout.write(
                f"{player.histories} histories, {player.steps} steps, {player.checks} checks"
                f" in {seconds:.0f} s, on {player.store}\n"
            )
    return 0


def _play_many(player: Player, number: int) -> None:
    @settings(
        max_examples=AT_ONCE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
        report_multiple_bugs=False,
    )
    @seed(number)
    @given(STEPS_OF_A_HISTORY)
    def play(steps: list[Step]) -> None:
        player.play(steps)

    play()


if __name__ == "__main__":
    sys.exit(main())
