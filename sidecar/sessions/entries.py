"""Entries of the store as they are read back, which another version may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sidecar.core.errors import StoreUnavailable

Entry = TypeVar("Entry")


def read_entry(stored: bytes, reader: Callable[[bytes], Entry]) -> Entry:
    """What an entry says by `reader`. Raises `StoreUnavailable` for one that it does not know.

    Such an entry is none that is absent: that would revive a dead session, or send a spent token.
    """
    try:
        return reader(stored)
    except (ValueError, RecursionError):
        raise StoreUnavailable("an entry is not what was written") from None


def text_of(stored: bytes) -> str:
    """A text."""
    return stored.decode()
