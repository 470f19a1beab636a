"""What several processes count, as one: read and rendered by prometheus_client."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""

_GROWING: Final = frozenset({"counter", "histogram", "summary"})
_OF_EACH: Final = frozenset({"sidecar_tombstones"})
"""Gauges whose sum would say nothing, since every worker knows the same; they get a label."""


@dataclass(slots=True)
class _Family:
    documentation: str
    type: str
    values: dict[Series, float] = field(default_factory=dict)

    def add(self, series: Series, value: float) -> None:
        self.values[series] = self.values.get(series, 0) + value


class Totals:
    """Sums over processes that come and go; a sum of counters never goes down.

    Each process is a source. What it told last counts until it tells more, and of counters even
    when it is gone.
    """

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[str, list[Metric]]] = {}
        self._left: dict[str, _Family] = {}

    def tell(self, source: Hashable, label: str, text: str) -> None:
        """Takes what `source` counts, in the text format; `label` names its place."""
        self._told[source] = label, list(text_string_to_metric_families(text))

    def keep(self, sources: Iterable[Hashable]) -> None:
        """All other sources are gone."""
        for gone in self._told.keys() - set(sources):
            label, metrics = self._told.pop(gone)
            _add(self._left, label, (one for one in metrics if one.type in _GROWING))

    def render(self, more: Iterable[Metric] = ()) -> bytes:
        """The sums, and `more`, in the text format."""
        registry = CollectorRegistry()
        registry.register(_Collected([*self._families(), *more]))
        return generate_latest(registry)

    def _families(self) -> Iterator[Metric]:
        families: dict[str, _Family] = {}
        for name, family in self._left.items():
            families[name] = _Family(family.documentation, family.type, dict(family.values))
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
            family = families[metric.name] = _Family(metric.documentation, metric.type)
        own = (("worker", label),) if metric.name in _OF_EACH else ()
        for sample in metric.samples:
            family.add((sample.name, (*sample.labels.items(), *own)), sample.value)


class _Collected:
    """Metrics that have been collected already (prometheus_client collector protocol)."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
