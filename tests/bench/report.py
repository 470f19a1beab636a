"""What was measured, as Markdown. Whatever was not measured has no table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

from tests.bench.contenders import DIRECT
from tests.bench.faults import BenchError
from tests.bench.results import Results, added, middle, ratios
from tests.bench.rows import BASELINE, COSTS, FEATURES, GROWTH, LOADS, WIRES
from tests.bench.servers import BESIDE
from tests.bench.sidecars import DEFAULT, NO_LOG
from tests.bench.stage import Rounds, Row

PAGE: Final = Path(__file__).parents[2] / "docs" / "performance.md"

_NONE: Final = "-"
Lines: TypeAlias = Iterable[Sequence[str]]


def parts(results: Results) -> Mapping[str, str]:
    """The conditions and the tables, by the names that their places in the page have."""
    made = {
        "conditions": _conditions(results),
        "beside": _beside(results),
        "wires": _each(results, WIRES, ("what", "contender")),
        "features": _each(results, FEATURES, ("request", "sidecar")),
        "growth": _each(results, GROWTH, ("number of", "")),
        "costs": _costs(results),
        "sizing": _sizing(results),
    }
    return {name: text for name, text in made.items() if text}


def _conditions(results: Results) -> str:
    told = "; ".join(f"{name} {value}" for name, value in results.conditions.items())
    return f"{told}."


# -- beside others ------------------------------------------------------------------------------


def _beside(results: Results) -> str:
    """A line for each contender, a column for each load."""
    rows = {name: results.rows[name] for name in LOADS if name in results.rows}
    titles = [LOADS[name].title for name in rows]
    latency = rows.get("1k-1")
    heads = ["contender", "does", *titles, *(["added p50 / p99, µs"] if latency else [])]
    lines = []
    for name, contender in BESIDE.items():
        if name in results.missing:
            lines.append([name, f"missing: `{results.missing[name]}`", *[_NONE] * (len(heads) - 2)])
            continue
        if not results.has(name, rows):
            continue  # an earlier run did not know of it
        cells = [_load_cell(rounds, name) for rounds in rows.values()]
        lines.append([name, contender.does, *cells, *([_added(latency, name)] if latency else [])])
    return table(heads, lines) if rows else ""


def _load_cell(rounds: Rounds, name: str) -> str:
    if name == BASELINE:
        return f"1 ({middle(rounds, name, 'cpu'):.1f} µs)"
    return spread(ratios(rounds, name, BASELINE))


def _added(rounds: Rounds, name: str) -> str:
    p50, p99 = (added(rounds, name, DIRECT, figure) for figure in ("p50", "p99"))
    return f"{p50:.0f} / {p99:.0f}"


# -- how much a processor does -------------------------------------------------------------------

_SIZING: Final = (
    ("requests of 1 KB", "1k-32", DEFAULT),
    ("requests of 1 KB, log off", "1k-32", NO_LOG),
    ("requests of 64 KB", "64k", DEFAULT),
    ("requests of 1 MB", "1m", DEFAULT),
    ("logouts", "logout", "logout"),
    ("renewals after a 401", "logout", "401, renewal, and once more"),
    ("WebSocket messages, each direction", "messages", DEFAULT),
    ("events of streams", "events", DEFAULT),
)


def _sizing(results: Results) -> str:
    """What one processor has time for in a second, and what to plan with: two digits of each."""
    lines = []
    for what, row, name in _SIZING:
        rounds = results.rows.get(row, ())
        if any(name in samples for samples in rounds):
            rate = 1e6 / middle(rounds, name, "cpu")
            lines.append((what, _rounded(rate), _rounded(rate / 2)))
    return table(("a second", "one processor, at most", "to plan with"), lines)


def _rounded(number: float) -> str:
    return f"{int(float(f'{number:.1e}')):,}"


# -- entries of a row -----------------------------------------------------------------------------


def _each(results: Results, rows: Mapping[str, Row], heads: Sequence[str]) -> str:
    """A line for each entry, by CPU time."""
    return table((*heads, "CPU µs each", "ratio", "a second"), _lines(results, rows, _cpu_lines))


def _cpu_lines(row: Row, rounds: Rounds) -> Lines:
    for name in rounds[0]:
        yield (
            row.title,
            name,
            f"{middle(rounds, name, 'cpu'):.1f}",
            "1" if name == row.baseline else spread(ratios(rounds, name, row.baseline)),
            f"{middle(rounds, name, 'rate'):,.0f}",
        )


def _costs(results: Results) -> str:
    heads = ("cost", "contender", "value", "target")
    return table(heads, _lines(results, COSTS, _cost_lines))


def _cost_lines(row: Row, rounds: Rounds) -> Lines:
    for name in rounds[0]:
        value = f"{middle(rounds, name, 'value'):.1f} {row.unit}"
        yield row.title, name, value, row.target if name == "sidecar" else ""


def _lines(
    results: Results, rows: Mapping[str, Row], lines: Callable[[Row, Rounds], Lines]
) -> Sequence[Sequence[str]]:
    measured = [name for name in rows if name in results.rows]
    return [line for name in measured for line in lines(rows[name], results.rows[name])]


# -- Markdown -----------------------------------------------------------------------------------


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Nothing for no lines."""
    if not lines:
        return ""
    rule = ["---"] * len(heads)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))


def spread(taken: Sequence[float]) -> str:
    """The median, and between which values it lies."""
    return f"{median(taken):.2f} ({min(taken):.2f}-{max(taken):.2f})"


def write_into(file: Path, made: Mapping[str, str]) -> None:
    """Replaces what stands between the markers of each part. Raises `BenchError` where a marker is
    not there.
    """
    text = file.read_text(encoding="utf-8")
    for name, part in made.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise BenchError(f"{file.name} has no markers {begin.strip()} and {end.strip()}")
        text = f"{before}{begin}{part}\n{end}{after}"
    file.write_text(text, encoding="utf-8")
