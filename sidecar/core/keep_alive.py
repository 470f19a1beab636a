"""How long a server says that it keeps an idle connection (RFC 2068 19.7.1.1)."""

from __future__ import annotations

from math import inf
from typing import Final

from sidecar.core.headers import list_members
from sidecar.core.memo import Memo

MARGIN: Final = 1.0  # seconds for a request to arrive before the server closes


def _usable(value: bytes) -> float:
    for member in list_members(value):
        name, _, text = member.partition(b"=")
        text = text.strip().strip(b'"')
        if name.strip() == b"timeout" and text.isdigit():
            seconds = float(text)
            return max(seconds - MARGIN, seconds / 2)
    return inf


usable: Final = Memo(_usable, 64).__getitem__
"""Seconds that an idle connection is safe to use by a Keep-Alive value, infinite if it says none.

Less than the server says: a request that meets the closing connection could not be repeated.
"""
