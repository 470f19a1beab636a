"""One run as data: its conditions, and every sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from tests.bench.stage import Rounds

FILE: Final = Path(__file__).with_name("results") / "results.json"


@dataclass(frozen=True, slots=True)
class Results:
    """The machine, the versions of all programs and how it was measured; which contenders were
    missing, each with what helps; and the rounds of every row, by the row's key.
    """

    conditions: Mapping[str, str | int]
    missing: Mapping[str, str]
    rows: Mapping[str, Rounds]

    def has(self, name: str, rows: Iterable[str]) -> bool:
        """Whether a contender was measured in each of these rows that the run has."""
        return all(name in self.rows[row][0] for row in rows if row in self.rows)


def encoded(results: Results) -> bytes:
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"


def decoded(data: bytes) -> Results:
    """Raises `msgspec.ValidationError` for anything else than what `encoded` makes."""
    return msgspec.json.decode(data, type=Results)


# -- what samples say ---------------------------------------------------------------------------


def values(rounds: Rounds, name: str, figure: str) -> list[float]:
    """One figure of an entry, round by round."""
    return [samples[name][figure] for samples in rounds]


def middle(rounds: Rounds, name: str, figure: str) -> float:
    """The median of it."""
    return median(values(rounds, name, figure))


def ratios(rounds: Rounds, name: str, baseline: str, figure: str = "cpu") -> list[float]:
    """A figure of an entry in each round, by the baseline's in the same round."""
    return [samples[name][figure] / samples[baseline][figure] for samples in rounds]


def added(rounds: Rounds, name: str, direct: str, figure: str) -> float:
    """Median over rounds of what an entry has more than the upstream asked directly."""
    return median(samples[name][figure] - samples[direct][figure] for samples in rounds)
