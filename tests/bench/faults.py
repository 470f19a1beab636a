"""What a benchmark cannot go on with."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement that would not mean what it says. The text is for a person."""
