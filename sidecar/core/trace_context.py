"""The trace that a request belongs to, as its client says (W3C Trace Context)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 1


class TraceParent(NamedTuple):
    """A well-formed traceparent. `is_sampled`: the client may have recorded its part (3.2.3.1)."""

    trace_id: int
    parent_id: int
    is_sampled: bool


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Returns what a traceparent says; None if it is malformed (section 3.2.2)."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    trace_id, parent_id, flags = (int(part, 16) for part in found.groups())
    return TraceParent(trace_id, parent_id, bool(flags & _SAMPLED))


def trace_id_of(traceparent: bytes) -> str:
    """Returns the trace id of a well-formed traceparent: 32 hexadecimal digits; else empty."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return "" if found is None else found[1].decode()
