"""The dashboard: Grafana can show it, Prometheus can read it, and what it shows exists."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from sidecar.core.families import FAMILIES, MetricKind

ROOT: Final = Path(__file__).parents[1]
DASHBOARD: Final[Mapping[str, Any]] = json.loads(
    (ROOT / "config" / "grafana" / "sidecar.json").read_text()
)
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
QUERIES: Final = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
WIDTH: Final = 24  # columns of Grafana's grid
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SUFFIXES: Final = {
    MetricKind.COUNTER: ("_total",),
    MetricKind.GAUGE: ("",),
    MetricKind.HISTOGRAM: ("_bucket", "_count", "_sum"),
}
SAMPLES: Final = {
    f"{one.name}{suffix}": one for one in FAMILIES.values() for suffix in SUFFIXES[one.kind]
}


def test_panels_have_ids_and_titles_of_their_own() -> None:
    ids = Counter(panel["id"] for panel in PANELS)
    titles = Counter(panel["title"] for panel in PANELS)
    assert [one for one, count in (ids + titles).items() if count > 1] == []
    assert len(PANELS) > 30


def test_no_panel_covers_another() -> None:
    """Each lies within the grid, on cells of its own."""
    cells: Counter[tuple[int, int]] = Counter()
    for panel in PANELS:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= WIDTH
        assert at["h"] > 0
        cells.update(
            (column, line)
            for column in range(at["x"], at["x"] + at["w"])
            for line in range(at["y"], at["y"] + at["h"])
        )
    assert [cell for cell, count in cells.items() if count > 1] == []


def test_all_data_comes_from_the_source_that_is_chosen() -> None:
    """A variable of type datasource, so that the file fits any Grafana."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    sources = [panel["datasource"] for panel in shown]
    sources += [target["datasource"] for panel in shown for target in panel["targets"]]
    sources += [one["datasource"] for one in DASHBOARD["annotations"]["list"]]
    sources += [one["datasource"] for name, one in variables.items() if name != "datasource"]
    assert len(sources) > 70
    assert [one for one in sources if one != SOURCE] == []
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(DASHBOARD)))
    assert used == variables.keys()


def test_each_query_has_a_name_in_its_panel_and_is_of_the_chosen_instances() -> None:
    for panel in PANELS:
        names = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(names)) == len(names)
    for query in QUERIES:
        selected = re.findall(r"\b(?:sidecar|process)_\w+\{([^}]*)\}", query)
        named = re.findall(r"\b(?:sidecar|process)_\w+", query)
        assert len(selected) == len(named), query
        for one in selected:
            assert one.startswith('job=~"$job",instance=~"$instance"')


def test_queries_name_metrics_and_labels_that_exist() -> None:
    """Nearly all metrics are shown, too."""
    shown = set()
    for panel in PANELS:
        for target in panel.get("targets", ()):
            query = target["expr"]
            named = re.findall(r"\b(?:sidecar|process)_\w+", query)
            families = [SAMPLES[one] for one in named]
            shown |= {one.name for one in families}
            labels = {"instance", "job", "le"}.union(*(one.labels for one in families))
            by = " ".join(re.findall(r"\bby \(([^)]*)\)", query))
            legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert {*re.findall(r"\w+", by), *legend} <= labels, query
    assert len(shown) > 0.8 * len(FAMILIES)


def test_prometheus_reads_every_query(
    require_program: Callable[[str], str], tmp_path: Path
) -> None:
    """As rules, with Grafana's variables filled in."""
    promtool = require_program("promtool")
    queries = [*QUERIES, *(one["expr"] for one in DASHBOARD["annotations"]["list"])]
    rules = [
        {"record": f"test:query_{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    with file.open("w") as out:
        YAML(typ="safe").dump({"groups": [{"name": "queries", "rules": rules}]}, out)
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("panel", [one for one in PANELS if one["type"] != "row"])
def test_each_panel_has_a_unit(panel: Mapping[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
