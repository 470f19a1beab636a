"""What the C library does with memory that was freed: glibc keeps it for the next long body.

By itself it gives pieces of a megabyte back to the system, which hands them out again page by page,
each one cleared: that takes ten times as long as to copy such a body.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Final

MAPPED_FROM: Final = 4 << 20
"""Bytes of a piece that comes from the system itself, and goes back there.

Bodies that are wrapped in memory are shorter by default. Tables of large dictionaries are longer:
Python makes them anew over and over, and in the heap each one leaves a hole that others nibble at.
From 174,000 to 349,000 entries, among them the tombstones of a full memory, they take 8 MB.
"""
KEPT: Final = 32 << 20
"""Bytes at the end of the heap that are kept when they are free."""

_OPTIONS: Final = (
    # mallopt(3): M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, as malloc.h numbers them
    (-3, "MALLOC_MMAP_THRESHOLD_", MAPPED_FROM),
    (-1, "MALLOC_TRIM_THRESHOLD_", KEPT),
)


def keep_freed_memory(environment: Mapping[str, str]) -> None:
    """Has this process, and all that it forks, keep what it frees, within bounds.

    What the operator has set in the environment holds. Without effect on other allocators.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return
    for option, variable, value in _OPTIONS:
        if variable not in environment:
            mallopt(option, value)
