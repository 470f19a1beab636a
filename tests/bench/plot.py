"""The comparison as a picture (SVG): a panel for each load, a bar for each contender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, log10
from pathlib import Path
from statistics import median
from typing import Final
from xml.sax.saxutils import escape

from tests.bench.results import Results, ratios
from tests.bench.rows import BASELINE, LOADS
from tests.bench.servers import BESIDE
from tests.bench.stage import Rounds

FILE: Final = Path(__file__).parents[2] / "docs" / "performance.svg"

_PANELS: Final = ("1k-32", "64k", "1m")
_NAMES, _BARS, _WIDTH = 170, 480, 760  # pixels: where bars begin, how long they may be, all
_LINE, _HEAD, _TOP = 20, 44, 34  # a bar's height with its gap, a panel's head, the title
_STYLE: Final = """
  text { font: 12px sans-serif; fill: #333 }
  .title { font-size: 15px; font-weight: bold }
  .head { font-weight: bold }
  .scale { stroke: #ddd }
  .bar { fill: #9aa7c7 }
  .own { fill: #3f51b5 }
  .range { stroke: #222 }
"""


def svg(results: Results) -> str:
    """CPU time as a ratio to nginx, on one logarithmic scale from a half on: median and range."""
    panels = {LOADS[one].title: results.rows[one] for one in _PANELS if one in results.rows}
    names = [name for name in BESIDE if results.has(name, _PANELS)]
    every = [max(ratios(rounds, name, BASELINE)) for rounds in panels.values() for name in names]
    decades = ceil(log10(max(every, default=10.0)))
    height = _TOP + len(panels) * (_HEAD + _LINE * len(names)) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f'<style>{_STYLE}</style><rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(12, 22, "CPU time per request, as a ratio to nginx (less is better)", "title"),
    ]
    top = _TOP
    for title, rounds in panels.items():
        parts += _panel(top, title, rounds, names, decades)
        top += _HEAD + _LINE * len(names)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    top: int, title: str, rounds: Rounds, names: Sequence[str], decades: int
) -> Iterable[str]:
    yield _text(12, top + 24, title, "head")
    for tick in (10.0**power for power in range(decades + 1)):
        x = _x(tick, decades)
        yield _text(x, top + 36, f"{tick:g}", anchor="middle")
        yield _rule(x, top + 40, x, top + _HEAD + _LINE * len(names), "scale")
    for number, name in enumerate(names):
        taken = ratios(rounds, name, BASELINE)
        y = top + _HEAD + number * _LINE
        low, middle, high = (_x(one, decades) for one in (min(taken), median(taken), max(taken)))
        kind = "bar own" if name.startswith("sidecar") else "bar"
        yield _text(_NAMES - 8, y + 13, name, anchor="end")
        yield _bar(_NAMES, y + 3, middle - _NAMES, kind)
        yield _rule(low, y + 9.5, high, y + 9.5, "range")
        yield _text(max(middle, high) + 6, y + 13, f"{median(taken):.1f}")


def _x(ratio: float, decades: int) -> float:
    """Where a ratio lies; nothing lies left of a half."""
    start = log10(0.5)
    return _NAMES + _BARS * (max(log10(ratio), start) - start) / (decades - start)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.1f}" height="13"/>'


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}"/>'
