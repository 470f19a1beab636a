"""CPU time per request and latency, in rounds that take every contender in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import wrk
from configs import DIRECT, HOST, LOGGING, PROXIES, VARIANTS, Site
from procfs import cpu_seconds
from samples import check_upstream_side, fetch_document
from servers import Server, program, running


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of load. Ratios are to `baseline`; `target` is the sidecar's."""

    title: str
    file: str
    connections: int
    target: str = ""
    contenders: tuple[str, ...] = PROXIES
    baseline: str = "nginx"


ROWS: Mapping[str, Row] = {
    "1k-32": Row(
        "1 KB, 32 connections",
        "1k.json",
        32,
        "ratio ≤ 2.5, then ≤ 2.0",
        (*PROXIES, LOGGING),
    ),
    "1k-1": Row(
        "1 KB, 1 connection",
        "1k.json",
        1,
        "p50 ≤ 1.5 of nginx's, p99 < 1 ms",
        (DIRECT, *PROXIES),
    ),
    "64k": Row("64 KB, 32 connections", "64k.json", 32, "ratio ≤ 5"),
    "1m": Row("1 MB, 4 connections", "1m.json", 4, "ratio ≤ 4"),
    "features": Row(
        "1 KB, 32 connections",
        "1k.json",
        32,
        contenders=tuple(VARIANTS),
        baseline="sidecar",
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one round: CPU time in microseconds per request, and wrk's view."""

    cpu: float
    load: wrk.Load


Rounds = list[dict[str, Sample]]
"""For each round a sample of each contender."""


def measure(
    site: Site, names: Sequence[str], rounds: int, seconds: int, say: Callable[[str], None]
) -> dict[str, Rounds]:
    """Takes the rounds of the rows named, after every contender's answers were found right.

    Each contender is under load for `seconds` in each round. `say` is told what comes next.
    Raises `BenchError`.
    """
    rows = {name: ROWS[name] for name in names}
    contenders = dict.fromkeys(one for row in rows.values() for one in row.contenders)
    with ExitStack() as stack:
        servers = {one: stack.enter_context(running(site, one)) for one in contenders}
        for server in servers.values():
            if server.name != DIRECT:
                check_upstream_side(server, site)
        sizes = {
            (name, one): fetch_document(servers[one], site, row.file).size
            for name, row in rows.items()
            for one in row.contenders
        }
        results: dict[str, Rounds] = {name: [] for name in rows}
        for number, (name, row) in product(range(rounds), rows.items()):
            say(f"round {number + 1} of {rounds}: {name}")
            # Who comes first alternates, as the machine's other work comes and goes.
            turn = row.contenders[:: -1 if number % 2 else 1]
            samples = {
                one: _sample(site, row, servers[one], sizes[name, one], seconds) for one in turn
            }
            results[name].append(samples)
    return results


def _sample(site: Site, row: Row, server: Server, answer_bytes: int, seconds: int) -> Sample:
    before = cpu_seconds(server.pid)
    told = wrk.run(
        program("wrk"),
        f"http://{HOST}:{server.port}{server.base}/{row.file}",
        site.login.header,
        connections=row.connections,
        seconds=seconds,
        home=site.home,
    )
    spent = cpu_seconds(server.pid) - before
    load = wrk.judge(server.name, told, answer_bytes)
    return Sample(spent / load.requests * 1e6, load)
