"""A body in the pieces that it comes in, as `StreamReader.readany` of aiohttp reads it.

That one waits for ever for a body that breaks off in the moment in which the end of a chunk has
woken it: it does not look for an exception again. And as long as its parser has more, it never
waits, however long that takes. Private names of aiohttp used here: `StreamReader._buffer`,
`_protocol`, `_wait`, `_read_nowait`, and `BaseProtocol._reading_paused`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD, AsyncStreamIterator

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader


async def next_piece(body: StreamReader) -> bytes:
    """What has come of a body, at least one byte; empty at its end.

    If so much has come that its parser holds some back, which goes on with this read, others come
    in between: chunks of one byte make it a lot of work. Raises what the body broke off with,
    behind what had come before it.
    """
    if body is EMPTY_PAYLOAD:
        return b""
    if body._protocol._reading_paused:
        await asyncio.sleep(0)
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
