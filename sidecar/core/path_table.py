"""Paths compared with prefixes: which prefix a path lies under, however servers read the path."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from sidecar.core.target import (
    LONGEST_READ,
    MOST_READ,
    PAGE_DATA,
    folded,
    has_format,
    is_cased,
    is_odd,
    page_of,
    prefix_key,
    readings,
)


class FoundPath(msgspec.Struct, frozen=True):
    """Where a path leads: the longest prefix, and the closed ones that servers may read in it.

    `pages` are the closed prefixes of pages whose content a server may give at this path in another
    format.
    """

    prefix: str
    closed: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()


class PathTable:
    """Longest-prefix match at segment boundaries; costs a path's depth, not the prefixes' number.

    Prefixes and paths are normalised (`normalise`), and prefixes are named by their `prefix_key`.
    `is_closed` says of each prefix whether it holds for every spelling of its path. Some servers do
    not look at the case of letters; prefixes that differ in it alone are told apart. `endpoints`
    are paths that the sidecar answers itself: another spelling of one lies under no prefix, unless
    a prefix is written in just these letters.
    """

    __slots__ = (
        "_by_reading",
        "_cased",
        "_closed",
        "_depth",
        "_endpoints",
        "_folded",
        "_folded_endpoints",
        "_odd",
        "_prefixes",
    )

    def __init__(self, is_closed: Mapping[str, bool], endpoints: Iterable[str] = ()) -> None:
        self._prefixes: Final = frozenset(map(prefix_key, is_closed))
        written = [path for path, closed in is_closed.items() if closed]
        self._closed: Final = frozenset(map(prefix_key, written))
        self._by_reading: Final = {prefix: prefix for prefix in map(prefix_key, is_closed)} | {
            prefix_key(reading): prefix_key(path)
            for path in written
            for reading in readings(path, as_url=False)
        }
        self._folded: Final = {
            folded(key): prefix
            for is_closed_one in (False, True)
            for key, prefix in self._by_reading.items()
            if (prefix in self._closed) is is_closed_one
        }
        self._depth: Final = max((key.count("/") for key in self._by_reading), default=0)
        own = [*endpoints]
        self._endpoints: Final = frozenset(
            prefix_key(reading) for path in own for reading in readings(path, as_url=False)
        )
        self._folded_endpoints: Final = frozenset(map(folded, self._endpoints))
        # Of these even a plain path may be another spelling.
        looked_for = [*written, *own]
        self._odd: Final = any(map(is_odd, looked_for))
        self._cased: Final = any(map(is_cased, looked_for))

    def find(self, path: str) -> FoundPath | None:
        """Where `path` leads; None if it lies under no prefix, or may be read as an endpoint."""
        prefix = self._longest(path, self._prefixes)
        is_odd_one = self._odd or is_odd(path)
        if prefix is None:
            return None
        if not (is_odd_one or self._cased or is_cased(path) or has_format(path)):
            return FoundPath(prefix)
        if is_odd_one and len(path) > LONGEST_READ:
            return None
        found = readings(path, limit=MOST_READ) if is_odd_one else frozenset((path,))
        if not found or any(self._is_an_endpoint(reading, path) for reading in found):
            return None
        pages = (self._gate_of_page(one, prefix) for one in found)
        return FoundPath(prefix, _known(map(self._gate, found)), _known(pages))

    def needs_session(self, found: FoundPath) -> bool:
        """Whether one of the prefixes that a path leads to is closed."""
        return bool(found.closed) or found.prefix in self._closed

    def _is_an_endpoint(self, reading: str, path: str) -> bool:
        """Whether a server may take a path by this reading for one that the sidecar answers."""
        key = prefix_key(reading)
        if key in self._endpoints:
            return True
        is_a_prefix = reading == path and key in self._prefixes
        return not is_a_prefix and folded(key) in self._folded_endpoints

    def _gate(self, reading: str) -> str | None:
        """The closed prefix that a reading of a path leads to, or None.

        In other letters it leads to another prefix only if that has more segments of it.
        """
        key = self._longest(reading, self._by_reading)
        prefix = None if key is None else self._by_reading[key]
        if prefix is not None and prefix in self._closed:
            return prefix
        other = self._longest(folded(reading), self._folded)
        if other is None or (key is not None and other.count("/") <= key.count("/")):
            return None
        prefix = self._folded[other]
        return prefix if prefix in self._closed else None

    def _gate_of_page(self, reading: str, prefix: str) -> str | None:
        """The closed prefix of the page whose content a path may hold (`page_of`), or None.

        It must have more segments than the path's own `prefix`, which may be that of one file:
        `/robots.txt`, where all else is closed. The data of Next.js lie below a prefix of files.
        """
        page = page_of(reading)
        gate = None if page is None else self._gate(page)
        if gate is None or gate.count("/") > prefix.count("/"):
            return gate
        return gate if PAGE_DATA in reading and PAGE_DATA not in f"{prefix}/" else None

    def _longest(self, path: str, prefixes: Collection[str]) -> str | None:
        """The longest key that is a prefix of `path`, at segment boundaries."""
        key = prefix_key("/".join(path.split("/", self._depth + 1)[: self._depth + 1]))
        while True:
            if key in prefixes:
                return key
            if not key:
                return None
            key = key[: key.rfind("/")]


def _known(prefixes: Iterable[str | None]) -> tuple[str, ...]:
    """The prefixes that are one, each once."""
    return tuple({one for one in prefixes if one is not None})
