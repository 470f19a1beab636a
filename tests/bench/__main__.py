"""Measures the sidecar beside other proxies: `python tests/bench --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sidecar.core.record import replace
from tests.bench import plot
from tests.bench.children import SIGNALS
from tests.bench.conditions import conditions
from tests.bench.contenders import DIRECT, lacks
from tests.bench.cookies import log_in
from tests.bench.faults import BenchError
from tests.bench.payloads import write_files
from tests.bench.report import PAGE, parts, write_into
from tests.bench.results import FILE, Results, decoded, encoded
from tests.bench.rows import LOADS, ROWS
from tests.bench.servers import CONTENDERS, Server, missing, running_upstream
from tests.bench.site import Site
from tests.bench.stage import Stage, measure

NEEDED = ("nginx", "wrk")  # the upstream, and the yardstick, and the load
FAILED, UNUSABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if options.page:
        _write_page(decoded(FILE.read_bytes()))
        return 0
    if lacking := " ".join(lacks(*NEEDED)):
        _say(f"missing: {lacking}. On Debian: apt-get install {lacking}")
        return UNUSABLE
    for number in SIGNALS:
        signal.signal(number, _leave)
    logging.getLogger("sidecar.demo").setLevel(logging.ERROR)  # the provider says what it is for
    try:
        results = _measure(options)
        made = parts(results)
        print("\n\n".join(made.values()))
        if options.write:
            FILE.write_bytes(encoded(results))
            _write_page(results)
    except BenchError as error:
        _say(f"failed: {error}")
        return FAILED
    return 0


def _write_page(results: Results) -> None:
    """The tables into their page, and its picture beside it. Raises `BenchError`."""
    write_into(PAGE, parts(results))
    plot.FILE.write_text(plot.svg(results), encoding="utf-8")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first impression within a minute")
    parser.add_argument("--rounds", type=_positive, help="rounds (5; 2 with --quick)")
    parser.add_argument(
        "--seconds", type=_positive, help="of load per contender and round (3; 1 with --quick)"
    )
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to a file")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"keep every sample, and put the tables into {PAGE.name}",
    )
    parser.add_argument(
        "--page", action="store_true", help=f"the tables of the kept samples into {PAGE.name} again"
    )
    parser.add_argument(
        "--build", action="store_true", help="first build what no package has; takes minutes"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    options.only = options.only or list(LOADS if options.quick else ROWS)
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _measure(options: argparse.Namespace) -> Results:
    rows = {name: row for name, row in ROWS.items() if name in options.only}
    wanted = {entry.contender for row in rows.values() for entry in row.entries.values()}
    left_out = missing(wanted - {DIRECT})
    if options.build:
        for name in left_out:
            _build(name)
        left_out = missing(wanted - {DIRECT})
    for name, remedy in left_out.items():
        _say(f"{name} is left out: {remedy}")
    results = Results(conditions(options.rounds, options.seconds), left_out, {})
    with _site() as (site, direct):
        for name, row in rows.items():
            with Stage(site, direct, options.seconds) as stage:
                rounds = measure(row, stage, options.rounds, left_out, _say)
            results = replace(results, rows={**results.rows, name: rounds})
            if options.json:  # by each row, so that a run which fails later was not for nothing
                options.json.write_bytes(encoded(results))
    return results


def _build(name: str) -> None:
    make = CONTENDERS[name].build
    if make is not None:
        _say(f"builds {name}")
        _say(f"made {make()}")


@contextmanager
def _site() -> Iterator[tuple[Site, Server]]:
    """A login, and a directory that only this user can read; and the upstream in front of it."""
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name:
        site = Site(Path(name), log_in())
        write_files(site.home / "www/api")
        with running_upstream(site) as direct:
            yield replace(site, upstream=direct.port), direct


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _leave(number: int, _: FrameType | None) -> None:
    """Ends as an exception does, so that every server is stopped, once."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
