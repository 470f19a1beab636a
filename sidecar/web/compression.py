"""Compresses envelopes again: wrapping undoes the coding of the upstream's response.

gzip alone, which every client knows. Small bodies are compressed at once, longer ones in steps that
let others in, and streams piece by piece: what has come is never held back by the compressor.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sidecar.core.codings import GZIP, accepts_gzip
from sidecar.core.headers import list_members
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from msgspec import Raw

    from sidecar.core.envelope import Parts
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow

COMPRESSED_FROM: Final = 1024  # bytes of an upstream's body above which it is worth it
AT_ONCE: Final = 16384  # bytes that are compressed in one step, in less than a millisecond
_GZIP_BITS: Final = zlib.MAX_WBITS | 16


class Coder(NamedTuple):
    """What compresses: a module like `zlib`, and its level."""

    module: Any
    level: int


# 4 % longer than level 4, in two thirds of its time: the levels above look for matches twice.
PLAIN_CODER: Final = Coder(zlib, 3)


def fastest_coder() -> Coder:
    """ISA-L where it is installed (the extra `isal`): a fifth of the time for the same length."""
    try:
        return Coder(importlib.import_module("isal.isal_zlib"), 2)
    except ImportError:
        return PLAIN_CODER


CODER: Final = fastest_coder()


def coding_for(flow: Flow, head: UpstreamHead) -> bytes | None:
    """The coding of an envelope that is worth one: b"" for none.

    None if it has none whatever the client accepts: the route's rule says so, or the upstream
    forbids transformations (RFC 9110 7.7). What another site has asked for with a session is never
    compressed: its length would reveal its content (BREACH).
    """
    route = flow.route
    if route.envelope is None or not route.envelope.compress:
        return None
    if b"no-transform" in list_members(head.fact(b"cache-control")):
        return None
    facts = flow.request.facts
    if flow.live is not None and facts.get(b"sec-fetch-site") == b"cross-site":
        return b""
    return GZIP if accepts_gzip(facts.get(b"accept-encoding", b"")) else b""


def gzipped(body: bytes) -> bytes:
    """A small body, compressed."""
    packed: bytes = CODER.module.compress(body, CODER.level, _GZIP_BITS)
    return packed


async def gzipped_in_turns(parts: Parts) -> bytes:
    """A body of any length, compressed in steps that let others in."""
    packer, turn = CODER.module.compressobj(CODER.level, wbits=_GZIP_BITS), Turn()
    packed = []
    for part in parts:
        for step in steps(part):
            packed.append(packer.compress(step))
            await turn.give_way()
    return b"".join([*packed, packer.flush()])


def steps(data: bytes | Raw) -> Iterator[bytes]:
    """The parts of `data` that are compressed in one step each."""
    view = memoryview(data)
    for at in range(0, len(view), AT_ONCE):
        yield bytes(view[at : at + AT_ONCE])


class Packer(Protocol):
    """Codes a body that streams."""

    def steps(self, data: bytes) -> Iterable[bytes]:
        """The parts of `data` that are fed one after the other."""

    def feed(self, data: bytes) -> bytes:
        """What can be sent of `data`."""

    def flush(self) -> bytes:
        """All that has been fed and not been returned: nothing else is here right now."""

    def finish(self) -> bytes:
        """The end of the body."""


class _Plain:
    """No coding."""

    __slots__ = ()

    def steps(self, data: bytes) -> Iterable[bytes]:
        return (data,)

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    finish = flush


class _Gzip:
    """gzip, flushed at each pause of the stream, so that clients can decode what they have."""

    __slots__ = ("_is_held", "_packer")

    def __init__(self) -> None:
        self._packer = CODER.module.compressobj(CODER.level, wbits=_GZIP_BITS)
        self._is_held = False

    steps = staticmethod(steps)

    def feed(self, data: bytes) -> bytes:
        self._is_held = self._is_held or bool(data)
        packed: bytes = self._packer.compress(data)
        return packed

    def flush(self) -> bytes:
        if not self._is_held:
            return b""
        self._is_held = False
        packed: bytes = self._packer.flush(zlib.Z_SYNC_FLUSH)
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._packer.flush()
        return packed


def packer_for(coding: bytes | None) -> Packer:
    """What codes a stream (`coding_for`)."""
    return _Gzip() if coding else _Plain()
