"""What was measured, as Markdown for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import load
import rest
from configs import DIRECT
from faults import BenchError
from load import Rounds, Sample
from rest import Values

BEGIN, END = "<!-- results -->", "<!-- /results -->"

_NONE = "-"


@dataclass(frozen=True, slots=True)
class Results:
    """One run: its conditions, and what was measured of each row that was asked for."""

    conditions: Mapping[str, str | int]
    loads: Mapping[str, Rounds]
    rests: Mapping[str, Values]


# -- what samples say ---------------------------------------------------------------------------


def ratios(rounds: Rounds, one: str, baseline: str) -> list[float]:
    """CPU time of a contender in each round, by the baseline's in the same round."""
    return [samples[one].cpu / samples[baseline].cpu for samples in rounds]


def added(rounds: Rounds, one: str, latency: Callable[[Sample], float]) -> float:
    """Median over rounds of the latency that is not the upstream's own, in microseconds."""
    return median(latency(samples[one]) - latency(samples[DIRECT]) for samples in rounds)


# -- Markdown -----------------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """The tables of the rows that were measured, under a line that tells the conditions."""
    told = ", ".join(f"{name} {value}" for name, value in results.conditions.items())
    return "\n\n".join([f"{told}.", *filter(None, _tables(results))]) + "\n"


def _tables(results: Results) -> Iterable[str]:
    for baseline in ("nginx", "sidecar"):
        names = [name for name in results.loads if load.ROWS[name].baseline == baseline]
        lines = [line for name in names for line in _load_lines(name, results.loads[name])]
        heads = ("load", "contender", "CPU µs per request", f"ratio to {baseline}")
        yield _table((*heads, "requests/s", "added p50 / p99, µs", "target"), lines)
    lines = [line for name, values in results.rests.items() for line in _rest_lines(name, values)]
    yield _table(("cost", "contender", "value", "ratio to nginx", "target"), lines)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    rule = ["---"] * len(heads)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))


def _load_lines(name: str, rounds: Rounds) -> Iterable[Sequence[str]]:
    row = load.ROWS[name]
    for one in row.contenders:
        if one == DIRECT:
            continue
        yield (
            row.title,
            one,
            f"{median(samples[one].cpu for samples in rounds):.1f}",
            _NONE if one == row.baseline else spread(ratios(rounds, one, row.baseline)),
            f"{median(samples[one].load.per_second for samples in rounds):,.0f}",
            _added(rounds, one),
            row.target if one == "sidecar" else "",
        )


def spread(values: Sequence[float]) -> str:
    """The median, and between which values it lies."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _added(rounds: Rounds, one: str) -> str:
    if DIRECT not in rounds[0]:
        return _NONE
    p50, p99 = (
        added(rounds, one, latency)
        for latency in (lambda sample: sample.load.p50, lambda sample: sample.load.p99)
    )
    return f"{p50:.0f} / {p99:.0f}"


def _rest_lines(name: str, values: Values) -> Iterable[Sequence[str]]:
    row = rest.ROWS[name]
    middle = {one: median(taken) for one, taken in values.items()}
    for one, value in middle.items():
        ratio = f"{value / middle['nginx']:.1f}" if row.compared and one != "nginx" else _NONE
        target = f"{row.target} {row.unit}" if one == "sidecar" else ""
        yield row.title, one, f"{value:.1f} {row.unit}", ratio, target


def write_into(file: Path, text: str) -> None:
    """Replaces what stands between the markers. Raises `BenchError` where they are not there."""
    before, begin, rest_ = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest_.partition(END)
    if not begin or not end:
        raise BenchError(f"{file.name} has no markers {BEGIN} and {END}")
    file.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
