"""A body in the pieces that it comes in, as `StreamReader.readany` of aiohttp reads it.

That one waits for ever for a body that breaks off in the moment in which the end of a chunk has
woken it: it does not look for an exception again. Private names of aiohttp used here:
`StreamReader._buffer`, `_wait`, `_read_nowait`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD, AsyncStreamIterator

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader


async def next_piece(body: StreamReader) -> bytes:
    """What has come of a body, at least one byte; empty at its end.

    Raises what the body broke off with, behind what had come before it.
    """
    if body is EMPTY_PAYLOAD:
        return b""
    fault = body.exception()
    while fault is None and not (body._buffer or body.is_eof()):
        await body._wait("readany")
        fault = None if body._buffer else body.exception()
    if fault is not None:
        raise fault
    return body._read_nowait(-1)


def pieces_of(body: StreamReader) -> AsyncStreamIterator[bytes]:
    """Iterates over the pieces of a body up to its end. Raises what it breaks off with."""
    return AsyncStreamIterator(partial(next_piece, body))
