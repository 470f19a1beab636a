"""docs/metrics.md has every metric, as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar.core.errors import UpstreamCause
from sidecar.core.families import FAMILIES

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()


def test_the_page_has_every_metric_in_the_words_of_the_code() -> None:
    """Name, type, labels, meaning, and what several workers make of it."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \| (\w+) \|$", PAGE, re.MULTILINE)
    told = {name: (kind, labels, text, merge) for name, kind, labels, text, merge in rows}
    assert len(told) == len(rows)
    assert told == {
        one.shown: (
            one.kind.value,
            ", ".join(f"`{label}`" for label in one.labels) or "\N{EN DASH}",
            one.text,
            one.merge.value,
        )
        for one in FAMILIES.values()
    }


def test_the_page_has_every_cause_of_an_upstream_error() -> None:
    table = PAGE.partition("| `cause` |")[2].partition("\n\n")[0]
    causes = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .+? \|", table, re.MULTILINE)))
    upstreams_keys = {"connect", "head", "idle"}
    assert sorted(set(causes) - upstreams_keys) == sorted(UpstreamCause)
