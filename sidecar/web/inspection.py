"""Looks into JSON responses that are relayed as they come: do they say that the session is over?

The head of such a response waits until the body is here if its length is known and within
`envelope.buffer`, and else for `LOOK_SECONDS` at most: a client that streams JSON wants it as it
comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.core.envelope import (
    Document,
    InvalidJSON,
    NeedsWalk,
    Walk,
    parse_at_once,
    read_beginning,
)
from sidecar.core.errors import UpstreamProtocolError
from sidecar.net.deadline import Within
from sidecar.net.pieces import next_piece
from sidecar.web.turn import Turn

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from sidecar.policy import UnauthorizedRule

LOOK_SECONDS: Final = 0.05


class Arrived(NamedTuple):
    """What has come of a body."""

    data: bytes
    is_whole: bool


async def arriving(payload: StreamReader, length: int | None, limit: int) -> Arrived:
    """Waits for a body whose `length` is within `limit` bytes; else for what comes at once."""
    wait = None if length is not None and length <= limit else LOOK_SECONDS
    held: list[bytes] = []
    size = 0
    try:
        async with Within(wait):
            while size <= limit:
                data = await next_piece(payload)
                if not data:
                    return Arrived(b"".join(held), is_whole=True)
                held.append(data)
                size += len(data)
    except TimeoutError:
        await asyncio.sleep(0)  # if it was this process that had no time, there may be more
        held.append(payload.read_nowait(-1))
    return Arrived(b"".join(held), is_whole=payload.at_eof())


async def first_piece(payload: StreamReader) -> bytes | None:
    """The first piece of a body, empty at its end; None if it does not come at once."""
    try:
        async with Within(LOOK_SECONDS):
            return await next_piece(payload)
    except TimeoutError:
        return None


async def passed_over(payload: StreamReader, limit: int) -> None:
    """Reads what nobody needs of a body, up to `limit` bytes, so that its connection can be used
    again: no longer than `LOOK_SECONDS`, since the response waits.
    """
    size = 0
    with suppress(TimeoutError):
        async with Within(LOOK_SECONDS):
            while size <= limit and (data := await next_piece(payload)):
                size += len(data)


async def decoded_text(pieces: AsyncIterator[bytes], limit: int) -> Arrived:
    """What `pieces` decode to, up to `limit` bytes or as far as it can be decoded."""
    held: list[bytes] = []
    size = 0
    try:
        async for part in pieces:
            held.append(part)
            size += len(part)
            if size > limit:
                return Arrived(b"".join(held), is_whole=False)
    except UpstreamProtocolError:
        return Arrived(b"".join(held), is_whole=False)
    return Arrived(b"".join(held), is_whole=True)


async def is_told(rule: UnauthorizedRule, text: Arrived, status: int) -> bool:
    """Whether a JSON body, as far as it has come, says that the session is over."""
    if text.is_whole:
        document = await _read(text.data)
        return document is not None and rule.is_told_by(document, status)
    found = read_beginning(text.data)
    return found is not None and rule.is_told_by(found.document, status, is_whole=found.is_whole)


async def _read(body: bytes) -> Document | None:
    """The document, None if the body is not JSON."""
    try:
        return parse_at_once(body)
    except InvalidJSON:
        return None
    except NeedsWalk:
        found = await walked(body)
        return None if isinstance(found, InvalidJSON) else found


async def walked(body: bytes) -> Document | InvalidJSON:
    """What a body is that takes long to read: the others are let in meanwhile."""
    steps, turn = Walk(body), Turn()
    while True:
        try:
            document = steps.step()
        except InvalidJSON as error:
            return InvalidJSON(*error.args)  # without the frames that it holds
        if document is not None:
            return document
        await turn.give_way()
