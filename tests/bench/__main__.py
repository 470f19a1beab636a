"""Measures the sidecar against nginx and Caddy: `python tests/bench --help`."""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import load
import msgspec
import rest
from authjs import log_in
from children import SIGNALS
from configs import DIRECT, Site
from echo import echo_upstream
from faults import BenchError
from payloads import write_files
from report import Results, markdown, write_into
from servers import missing_programs, program, running

from sidecar import __version__

README = Path(__file__).with_name("README.md")
ROWS = (*load.ROWS, *rest.ROWS)
FAILED, UNUSABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    missing = missing_programs()
    if missing:
        names = " ".join(missing)
        _say(f"missing: {names}. On Debian: apt-get install {names}")
        return UNUSABLE
    for number in SIGNALS:
        signal.signal(number, _leave)
    try:
        results = _measure(options)
        text = markdown(results)
        print(text, end="")
        if options.json:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(results))))
        if options.write:
            write_into(README, text)
    except BenchError as error:
        _say(f"failed: {error}")
        return FAILED
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first impression within a minute")
    parser.add_argument("--rounds", type=_positive, help="rounds (5; 2 with --quick)")
    parser.add_argument(
        "--seconds", type=_positive, help="of load per contender and round (3; 1 with --quick)"
    )
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to a file")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {README.name}")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    options.only = options.only or [row for row in ROWS if row != "features" or not options.quick]
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _measure(options: argparse.Namespace) -> Results:
    rests = [name for name in rest.ROWS if name in options.only]
    loads = [name for name in load.ROWS if name in options.only]
    with _site() as site:
        return Results(
            _conditions(options),
            rests=rest.measure(site, rests, options.rounds, _say),
            loads=load.measure(site, loads, options.rounds, options.seconds, _say),
        )


@contextmanager
def _site() -> Iterator[Site]:
    """The upstreams, a login, and a directory that only this user can read."""
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name, echo_upstream() as echo:
        site = Site(Path(name), log_in(), echo)
        (site.home / "www").mkdir()
        write_files(site.home / "www")
        with running(site, DIRECT) as static:
            yield replace(site, static=static.port)


def _conditions(options: argparse.Namespace) -> dict[str, str | int]:
    return {
        "sidecar": __version__,
        "Python": platform.python_version(),
        "nginx": _version("nginx", "-v"),
        "Caddy": _version("caddy", "version"),
        "wrk": _version("wrk", "-v"),
        "processors": os.cpu_count() or 0,
        "rounds": options.rounds,
        "seconds each": options.seconds,
    }


def _version(name: str, option: str) -> str:
    done = subprocess.run([program(name), option], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _leave(number: int, _: FrameType | None) -> None:
    """Ends as an exception does, so that every server is stopped, once."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
