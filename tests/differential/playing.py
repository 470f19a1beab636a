"""Plays a stream through a proxy: what its client and its upstream see."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.corpus.wire import Message, parse_responses
from tests.differential.answers import Asked
from tests.differential.servers import Lane
from tests.differential.streams import Stream
from tests.differential.upstream import name_of

PATIENCE: Final = 10.0  # seconds for a proxy to close behind its client
QUIET: Final = 0.04  # seconds without a byte after which a proxy is taken to wait for more


@dataclass(slots=True)
class Heard:
    """What the client was sent, and how the connection ended: `fin`, `reset` or `open`."""

    data: bytes = b""
    ended: str = "open"

    def responses(self, methods: Sequence[str]) -> list[Message]:
        """The final responses."""
        return parse_responses(self.data, list(methods), has_ended=self.ended == "fin")


@dataclass(slots=True)
class Outcome:
    """What came of a stream: requests at the upstream by name, and responses in order.

    `partial` are requests that reached the upstream in part, `strangers` those by no name of the
    stream, or by one that came before.
    """

    seen: dict[str, Message] = field(default_factory=dict)
    partial: list[bytes] = field(default_factory=list)
    strangers: list[Message] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)
    ended: str = "open"

    @property
    def statuses(self) -> list[str]:
        """Statuses, with the name of the request whose response the upstream wrote."""
        return [f"{one.status} {one.get('x-answer')}".strip() for one in self.answers]

    def anomalies(self) -> list[str]:
        """What a strict parser has against the bytes on both sides."""
        told = [one for each in (*self.seen.values(), *self.strangers) for one in each.anomalies]
        return told + [one for each in self.answers for one in each.anomalies]


async def play(lane: Lane, stream: Stream, quiet: float = QUIET) -> Outcome:
    """Sends a stream through one proxy."""
    lane.upstream.reset()
    methods = [one.method for one in stream.requests]
    heard = await send(lane.port, stream.raw, stream.cuts, methods, quiet)
    await asyncio.sleep(0)
    outcome = Outcome(answers=heard.responses(methods), ended=heard.ended)
    names = {one.name for one in stream.requests}
    for each in lane.upstream.connections:
        for request in each.requests:
            name = name_of(request)
            if name not in names or name in outcome.seen:
                outcome.strangers.append(request)
            else:
                outcome.seen[name] = request
        if each.rest:
            outcome.partial.append(each.rest)
    return outcome


async def send(
    port: int, data: bytes, cuts: Sequence[int], methods: Sequence[str], quiet: float
) -> Heard:
    """Sends bytes in segments, and reads until every response is here or nothing more comes.

    Then the client leaves, and waits until the proxy has done so, too.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    heard = Heard()
    reading = asyncio.create_task(_read(reader, heard))
    try:
        at = 0
        with suppress(OSError, RuntimeError):  # uvloop's word for a transport that is closed
            for cut in (*cuts, len(data)):
                writer.write(data[at:cut])
                await writer.drain()
                at = cut
                if at < len(data):
                    await asyncio.sleep(0.002)
        await _wait(heard, reading, methods, quiet)
        if not reading.done():
            with suppress(OSError, RuntimeError):
                writer.write_eof()
            await asyncio.wait([reading], timeout=PATIENCE)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.transport.abort()
    return heard


async def _read(reader: asyncio.StreamReader, heard: Heard) -> None:
    try:
        while piece := await reader.read(1 << 18):
            heard.data += piece
    except ConnectionError:
        heard.ended = "reset"
    else:
        heard.ended = "fin"


async def _wait(
    heard: Heard, reading: asyncio.Task[None], methods: Sequence[str], quiet: float
) -> None:
    """Until the responses are here, the connection has ended, or nothing more comes."""
    loop = asyncio.get_running_loop()
    since, size = loop.time(), 0
    while not reading.done() and loop.time() - since < quiet:
        if len(heard.data) != size:
            since, size = loop.time(), len(heard.data)
            found = heard.responses(methods)
            if len(found) == len(methods) and found[-1].is_whole:
                return
        await asyncio.wait([reading], timeout=0.002)


@dataclass(slots=True)
class Told:
    """What a client was told: the response to its request, and to the one behind that.

    `first` is None without a whole head. `ended` is how the connection ended, if it did before the
    client left.
    """

    first: Message | None
    interim: list[int]
    second: Message | None
    rest: bytes
    ended: str


async def hear(lane: Lane, asked: Asked, quiet: float = QUIET) -> Told:
    """Asks once, and once more on the same connection if that is still there."""
    lane.upstream.reset()
    lane.upstream.script = asked.script
    reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
    heard = Heard()
    reading = asyncio.create_task(_read(reader, heard))
    methods = [asked.method, "GET"]
    try:
        writer.write(asked.raw)
        await _wait(heard, reading, methods[:1], quiet)
        await asyncio.wait([reading], timeout=0.004)  # what is behind the response
        if not reading.done():
            writer.write(asked.second)
            await _wait(heard, reading, methods, quiet)
        ended = heard.ended
        if not reading.done():
            with suppress(OSError, RuntimeError):
                writer.write_eof()
            await asyncio.wait([reading], timeout=PATIENCE)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.transport.abort()
    found = parse_responses(heard.data, methods, has_ended=ended == "fin")
    found = [one for one in found if one.start.startswith(b"HTTP/1.") and b" " in one.start]
    return Told(
        first=found[0] if found else None,
        interim=[int(code) for code in _INTERIM.findall(heard.data)],
        second=found[1] if len(found) > 1 else None,
        rest=b"" if found else heard.data,
        ended=ended,
    )


_INTERIM: Final = re.compile(rb"^HTTP/1\.1 (1[0-9]{2}) ", re.MULTILINE)
