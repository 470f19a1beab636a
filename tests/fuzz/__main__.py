"""Runs targets under libFuzzer: `python -m tests.fuzz [TARGET…] --seconds 60 [--keep]`."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import kept, registry
from tests.fuzz.target import Target

SLOW = 10  # seconds that one input may take
MEMORY = 1024  # MiB that a target may take
CRASH = "crash-*", "timeout-*", "oom-*", "leak-*"

_RUNS = re.compile(r"stat::number_of_executed_units: *(\d+)")
_COVER = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one target: inputs tried, features covered, and inputs that break a promise.

    `minutes` are those of a processor, without the programs that were asked.
    """

    name: str
    tried: int
    covered: int
    broken: tuple[bytes, ...]
    minutes: float
    told: str

    def row(self) -> str:
        """A line of the table."""
        cells = (
            self.name,
            f"{self.minutes:.1f}",
            f"{self.tried:,}",
            f"{self.covered:,}",
            str(len(self.broken)),
        )
        return f"| {' | '.join(cells)} |"


def fuzz(name: str, target: Target, seconds: int, work: Path) -> Run:
    """Runs a target in a process of its own for so long; stops at what breaks its promise."""
    corpus = work / "corpus"
    corpus.mkdir(exist_ok=True)
    for one in {*kept.read(name), *target.seeds}:
        (corpus / sha1(one, usedforsecurity=False).hexdigest()).write_bytes(one)
    words = work / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    before = _seconds()
    done = _child(
        name,
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        f"-dict={words}",
        "-use_value_profile=1",
        str(corpus),
        work=work,
    )
    covered = [int(features) for _, features in _COVER.findall(done)]
    tried = _RUNS.search(done)
    broken = [path.read_bytes() for glob in CRASH for path in work.glob(glob)]
    minutes = (_seconds() - before) / 60
    return Run(
        name,
        int(tried[1]) if tried else 0,
        max(covered, default=0),
        tuple(broken),
        minutes,
        done[-6000:],
    )


def _seconds() -> float:
    """Of processors, that the processes started here have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def keep(name: str, target: Target, work: Path) -> int:
    """Keeps the smallest inputs that cover what all of them cover. Returns their number."""
    small = work / "small"
    small.mkdir()
    _child(
        name, "-merge=1", f"-max_len={target.longest}", str(small), str(work / "corpus"), work=work
    )
    return kept.write(name, (path.read_bytes() for path in small.iterdir()))


def _child(name: str, *arguments: str, work: Path) -> str:
    command = [sys.executable, "-m", "tests.fuzz.child", name, f"-artifact_prefix={work}/"]
    limits = [f"-timeout={SLOW}", f"-rss_limit_mb={MEMORY}", "-print_final_stats=1"]
    done = subprocess.run(
        [*command, *limits, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout + done.stderr


def _fault(target: Target, broken: bytes) -> str:
    """How an input breaks a promise; empty if it took too long, or too much memory."""
    try:
        target.check(broken)
    except Exception:
        return traceback.format_exc(limit=-4)
    return ""


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


def main(arguments: Sequence[str]) -> int:
    """Exit code 1: some input breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(registry.NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="keep the inputs that cover the most")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.targets) - set(registry.NAMES))
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; use {', '.join(registry.NAMES)}")
    is_broken = False
    print("| target | CPU min | inputs | features | broken |\n|---|---|---|---|---|", flush=True)
    for name in given.targets or registry.NAMES:
        target = registry.load(name)
        with TemporaryDirectory(prefix="fuzz-") as work:
            run = fuzz(name, target, given.seconds, Path(work))
            print(run.row(), flush=True)
            is_broken |= bool(run.broken) or not run.tried
            print(run.told if not run.tried else "", end="")
            for one in run.broken:
                print(f"{name} breaks on {one!r}: {_fault(target, one) or run.told}", flush=True)
            if given.keep and not run.broken:
                print(f"{name}: {keep(name, target, Path(work))} inputs kept", flush=True)
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
