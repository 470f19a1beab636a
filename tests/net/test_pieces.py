"""Bodies that break off are never waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.net.parsers import response_parser
from sidecar.net.pieces import next_piece, pieces_of
from sidecar.net.stream_protocol import StreamProtocol

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Broken(Exception):
    """What a body breaks off with."""


class Feeding(StreamProtocol):
    """A connection whose parser goes on with what it holds back."""

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed_data(data)


class Source:
    """A chunked body that comes from a parser, as far as it was fed."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = Feeding(loop)
        protocol.transport = asyncio.Transport()
        self._parser = protocol._parser = response_parser(protocol, loop, 65536, has_body=True)
        self.body: StreamReader = self._parser.feed_data(HEAD)[0][0][1]

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def breaks_with(self, data: bytes) -> None:
        with pytest.raises(HttpProcessingError):
            self._parser.feed_data(data)
        self.body.set_exception(Broken())


async def read(source: Source) -> bytes:
    return b"".join([piece async for piece in pieces_of(source.body)])


async def test_pieces_are_what_has_come() -> None:
    source = Source()
    source.feed(b"1\r\na\r\n1\r\nb\r\n")
    assert await next_piece(source.body) == b"ab"
    source.feed(b"1\r\nc\r\n0\r\n\r\n")
    assert await read(source) == b"c"
    assert await next_piece(source.body) == b""


async def test_no_body_has_no_pieces() -> None:
    assert await next_piece(EMPTY_PAYLOAD) == b""


async def test_body_that_breaks_off_at_the_end_of_a_chunk_is_not_waited_for() -> None:
    """That end wakes the reader, before what follows it turns out to be no chunk."""
    source = Source()
    source.feed(b"1\r\na")
    assert await next_piece(source.body) == b"a"
    waiting = asyncio.create_task(next_piece(source.body))
    await asyncio.sleep(0)
    source.breaks_with(b"\r\nzz\r\n")
    with pytest.raises(Broken):
        await asyncio.wait_for(waiting, 5)


async def test_what_came_before_a_break_is_given_to_who_waits_for_it() -> None:
    source = Source()
    waiting = asyncio.create_task(next_piece(source.body))
    await asyncio.sleep(0)
    source.breaks_with(b"1\r\na\r\nzz\r\n")
    assert await waiting == b"a"
    with pytest.raises(Broken):
        await next_piece(source.body)


async def test_end_of_a_chunk_is_not_the_end_of_a_body() -> None:
    source = Source()
    source.feed(b"1\r\na")
    await next_piece(source.body)
    waiting = asyncio.create_task(next_piece(source.body))
    await asyncio.sleep(0)
    source.feed(b"\r\n")
    await asyncio.sleep(0)
    assert not waiting.done()
    source.feed(b"1\r\nb\r\n0\r\n\r\n")
    assert await waiting == b"b"


async def test_others_come_in_between_the_chunks_of_one_segment() -> None:
    """It may have forty thousand, each of one byte, and its reader waits for nothing (T97)."""
    source, turns = Source(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    source.feed(b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n")
    pieces = [len(piece) async for piece in pieces_of(source.body)]
    waiting.cancel()
    assert sum(pieces) == 40_000
    assert turns >= len(pieces) - 2 >= 8


async def test_reader_that_is_given_up_while_others_come_loses_nothing() -> None:
    source = Source()
    source.feed(b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n")
    given_up = asyncio.create_task(next_piece(source.body))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert len(await read(source)) == 40_000
