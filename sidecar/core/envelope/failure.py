"""Answers below 400 that say in their body that something has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sidecar.core.envelope.beginning import read_beginning
from sidecar.core.envelope.document import ABSENT, Document, decoded
from sidecar.core.envelope.lookup import Path, values_at


class FailureRule(msgspec.Struct, frozen=True):
    """A member that says so: it is one of `values`, or with `is_excluding` it is none of them."""

    path: Path
    values: tuple[Any, ...]
    is_excluding: bool = False

    def holds(self, document: Document) -> bool:
        """Whether an object says so. A member that is not there says nothing."""
        if document.members is None:
            return False
        return any(self._says(decoded(found)) for found in values_at(document, self.path))

    def _says(self, found: Any) -> bool:
        if found is ABSENT:
            return False
        return any(_is_same(found, value) for value in self.values) is not self.is_excluding


def _is_same(found: Any, value: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, but true is not 1."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return bool(found == value)


def has_failed(rules: Sequence[FailureRule], document: Document) -> bool:
    """Whether one of the rules holds for a whole body."""
    return any(rule.holds(document) for rule in rules)


def begins_as_failure(rules: Sequence[FailureRule], text: bytes) -> bool:
    """Whether one of the rules holds for what is certain of a body that is still coming."""
    beginning = read_beginning(text)
    return beginning is not None and has_failed(rules, beginning.document)
