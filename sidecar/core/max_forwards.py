"""Max-Forwards: how many proxies may still pass an OPTIONS on (RFC 9110 7.6.2).

TRACE has the field too, but is never served: it would show its sender what the proxy has added.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.client import Facts

METHOD: Final = "OPTIONS"
NAME: Final = b"max-forwards"
ALLOWED: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"

_NUMBER: Final = re.compile(rb"[0-9]{1,9}")


def is_last(method: str, facts: Facts) -> bool:
    """Whether the request must not be passed on: the answer comes from here."""
    return method == METHOD and _hops(facts) == 0


def forwarded_line(method: str, facts: Facts) -> bytes:
    """The line for the upstream: one less on OPTIONS, on other methods as it came."""
    if method != METHOD:
        return b"Max-Forwards: %b\r\n" % facts[NAME]
    hops = _hops(facts)
    return b"" if hops is None else b"Max-Forwards: %d\r\n" % (hops - 1)


def _hops(facts: Facts) -> int | None:
    """What the field says; None if that is no number."""
    value = facts.get(NAME, b"").strip()
    return int(value) if _NUMBER.fullmatch(value) else None
