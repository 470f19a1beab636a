"""The trace that a request belongs to, as its client says (W3C Trace Context)."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def trace_id_of(traceparent: bytes) -> str:
    """Returns the trace id of a well-formed traceparent: 32 hexadecimal digits; else empty."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return "" if found is None else found[1].decode()
