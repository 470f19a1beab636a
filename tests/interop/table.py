"""The results as a table of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    RIGHT = "✓"
    NOT_OFFERED = "\N{EN DASH}"
    WRONG = "✗"


@dataclass(frozen=True)
class Cell:
    """What a check has shown; `remark` says how, why not, or what went wrong."""

    state: State
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.state} {self.remark}".rstrip()


@dataclass
class Column:
    """A provider with one way to keep sessions."""

    provider: str
    version: str
    kept: str
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        return any(cell.state is State.WRONG for cell in self.cells.values())


def markdown(columns: Sequence[Column], rows: Sequence[str]) -> str:
    """The table with these rows, and below it a numbered line for each remark."""
    remarks: dict[str, int] = {}
    merged = _merged(columns)
    head = ["", *(name for name, _ in merged)]
    lines = [_row(head), "|---" * len(head) + "|"]
    for what in rows:
        row = [what]
        for _, ways in merged:
            shown = []
            for column in ways:
                cell = column.cells.get(what, Cell(State.WRONG, "not reached"))
                mark = cell.state.value
                if cell.remark:
                    mark += f" [{remarks.setdefault(cell.remark, len(remarks) + 1)}]"
                shown.append(mark)
            row.append(shown[0] if len(set(shown)) == 1 else " / ".join(shown))
        lines.append(_row(row))
    notes = [f"[{number}] {remark}" for remark, number in remarks.items()]
    return "\n".join([*lines, "", *notes])


def _merged(columns: Sequence[Column]) -> list[tuple[str, list[Column]]]:
    """A column for each provider, with its ways to keep sessions in order."""
    found: dict[str, list[Column]] = {}
    for column in columns:
        found.setdefault(f"{column.provider} {column.version}", []).append(column)
    return list(found.items())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
