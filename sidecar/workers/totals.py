"""What several processes count, as one: read and rendered by prometheus_client."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.families import FAMILIES, Merge
from sidecar.web.exposition import Collected

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""

_GROWING: Final = frozenset({"counter", "histogram", "summary"})


class _Family(msgspec.Struct):
    documentation: str
    type: str
    merge: Merge
    values: dict[Series, float] = msgspec.field(default_factory=dict)

    def add(self, series: Series, value: float) -> None:
        before = self.values.get(series)
        if before is None:
            self.values[series] = value
        elif self.merge is Merge.MAX:
            self.values[series] = max(before, value)
        elif self.merge is Merge.MIN:
            self.values[series] = min(before, value)
        else:
            self.values[series] = before + value


class Totals:
    """Sums over processes that come and go; a sum of counters never goes down.

    Each process is a source. What it told last counts until it tells more, and of counters even
    when it is gone. Gauges become one as their family says (`core.families`).
    """

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[str, list[Metric]]] = {}
        self._left: dict[str, _Family] = {}

    def tell(self, source: Hashable, label: str, text: str) -> None:
        """Takes what `source` counts, in the text format; `label` names its place."""
        self.note(source, label, text_string_to_metric_families(text))

    def note(self, source: Hashable, label: str, metrics: Iterable[Metric]) -> None:
        """The same of what was collected here."""
        self._told[source] = label, list(metrics)

    def keep(self, sources: Iterable[Hashable]) -> None:
        """All other sources are gone."""
        for gone in self._told.keys() - set(sources):
            label, metrics = self._told.pop(gone)
            _add(self._left, label, (one for one in metrics if one.type in _GROWING))

    def registry(self, more: Iterable[Metric] = ()) -> CollectorRegistry:
        """The sums, and `more`."""
        registry = CollectorRegistry()
        registry.register(Collected([*self._families(), *more]))
        return registry

    def _families(self) -> Iterator[Metric]:
        families: dict[str, _Family] = {}
        for name, family in self._left.items():
            kept = dict(family.values)
            families[name] = _Family(family.documentation, family.type, family.merge, kept)
        for label, metrics in self._told.values():
            _add(families, label, metrics)
        for name, family in families.items():
            metric = Metric(name, family.documentation, family.type)
            for (sample, labels), value in family.values.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _add(families: dict[str, _Family], label: str, metrics: Iterable[Metric]) -> None:
    for metric in metrics:
        family = families.get(metric.name)
        if family is None:
            merge = FAMILIES[metric.name].merge if metric.name in FAMILIES else Merge.SUM
            family = _Family(metric.documentation, metric.type, merge)
            families[metric.name] = family
        own = (("worker", label),) if family.merge is Merge.EACH else ()
        for sample in metric.samples:
            family.add((sample.name, (*sample.labels.items(), *own)), sample.value)
