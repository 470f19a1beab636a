"""Plays a case: an upstream that follows a script and records bytes, and a client of bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.corpus.wire import Message, parse_request, parse_responses

if TYPE_CHECKING:
    from tests.conftest import Wire

Step: TypeAlias = str | float
Fill: TypeAlias = Callable[[str], str]

QUIET: Final = 0.04  # seconds without another byte that tell that nothing more comes
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


def text(value: Any) -> Any:
    """A text of the corpus, written out; lists of them, and anything else as it is."""
    if isinstance(value, dict):
        return f"{value['before']}{value['repeat'] * value['times']}{value['behind']}"
    return [text(one) for one in value] if isinstance(value, list) else value


def reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@dataclass
class Recorded:
    """One connection to the upstream."""

    raw: bytes = b""
    requests: list[Message] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)


class Recorder:
    """An upstream that records what it gets, and answers by script or with the request's target.

    `scripts` are taken in turn, the last one again and again. Requests of `VICTIM` are always
    answered.
    """

    def __init__(self, fill: Fill, scripts: Sequence[Sequence[Step]] = ()) -> None:
        self.connections: list[Recorded] = []
        self.control_passes = False
        self._fill = fill
        self._scripts = [list(script) for script in scripts]

    @property
    def requests(self) -> list[Message]:
        """All but those that only ask whether the sidecar still serves."""
        whole = [one for each in self.connections for one in each.requests]
        return [one for one in whole if "VICTIM" not in one.target]

    @property
    def anomalies(self) -> list[str]:
        told = [one for each in self.connections for one in each.anomalies]
        return told + [one for request in self.requests for one in request.anomalies]

    async def serve(self, wire: Wire) -> None:
        """Takes a connection over."""
        recorded = Recorded()
        self.connections.append(recorded)
        data = b""
        while piece := await wire.reader.read(1 << 20):
            recorded.raw += piece[: max(0, (4 << 20) - len(recorded.raw))]
            data += piece
            while data:
                request, size = parse_request(data, control_passes=self.control_passes)
                if request is None or not request.is_whole:
                    recorded.anomalies += [] if request is None else request.anomalies
                    break
                data = data[size:]
                recorded.requests.append(request)
                if not await self._answer(wire, request):
                    return

    async def _answer(self, wire: Wire, request: Message) -> bool:
        """Answers; returns whether the connection goes on."""
        if self._scripts and "VICTIM" not in request.target:
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            return await self._play(wire, script)
        if request.anomalies:
            wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        body = b'{"data":{"target":"%b"}}' % request.target.encode("ascii", "replace")
        body = b"" if request.method == "HEAD" else body
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
        wire.send(f"{head}{len(body)}\r\n\r\n".encode() + body)
        return True

    async def _play(self, wire: Wire, script: Sequence[Step]) -> bool:
        for step in script:
            if wire.writer.is_closing():
                return False
            if isinstance(step, (int, float)):
                await wire.writer.drain()
                await asyncio.sleep(step)
            elif step == "HANG":
                await wire.is_left(30)
                return False
            elif step in ("CLOSE", "RST"):
                await wire.writer.drain()
                reset(wire.writer) if step == "RST" else wire.close()
                return False
            else:
                wire.send(self._fill(step))
                await wire.writer.drain()
        return True


@dataclass
class Heard:
    """What came back to a client: `arrived` are counts of bytes with the seconds until then."""

    pieces: bytearray = field(default_factory=bytearray)
    has_ended: bool = False
    was_reset: bool = False
    arrived: list[tuple[int, float]] = field(default_factory=list)
    responses: list[Message] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return bytes(self.pieces)

    def parsed(self, methods: list[str]) -> list[Message]:
        """The responses that are here."""
        in_order = self.has_ended and not self.was_reset
        return parse_responses(self.data, methods, has_ended=in_order)

    def within(self, size: int) -> float:
        """After how many seconds more than `size` bytes were there."""
        return next((seconds for count, seconds in self.arrived if count > size), 1e9)


class Caller:
    """A client of raw bytes."""

    def __init__(self, port: int, fill: Fill) -> None:
        self._port = port
        self._fill = fill

    async def send(
        self,
        steps: Sequence[Step],
        methods: list[str],
        *,
        seconds: float = 1.2,
        wanted: int = 1,
        after: str = "",
    ) -> Heard:
        """Sends, and reads until so many responses are here, the end, or the time is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        heard = Heard()
        reading = asyncio.create_task(self._read(reader, heard))
        try:
            await self._send(writer, steps, reading)
            await self._wait(heard, reading, methods, seconds, wanted)
            if after and not reading.done():
                writer.write(after.encode("latin-1"))
                await asyncio.sleep(0.15)
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            writer.transport.abort()
        heard.responses = heard.parsed(methods)
        return heard

    @staticmethod
    async def _read(reader: asyncio.StreamReader, heard: Heard) -> None:
        began = monotonic()
        try:
            while piece := await reader.read(1 << 20):
                heard.pieces += piece
                heard.arrived.append((len(heard.pieces), monotonic() - began))
        except ConnectionError:
            heard.was_reset = True
        heard.has_ended = True

    async def _send(
        self, writer: asyncio.StreamWriter, steps: Sequence[Step], reading: asyncio.Task[None]
    ) -> None:
        with suppress(ConnectionError, TimeoutError, RuntimeError):
            for step in steps:
                if isinstance(step, (int, float)):
                    await asyncio.sleep(step)
                elif step == "FIN":
                    writer.write_eof()
                elif step == "RST":
                    reset(writer)
                elif not reading.done():
                    writer.write(self._fill(step).encode("latin-1"))
                    async with asyncio.timeout(5):
                        await writer.drain()

    @staticmethod
    async def _wait(
        heard: Heard, reading: asyncio.Task[None], methods: list[str], seconds: float, wanted: int
    ) -> None:
        """Waits until the responses are here and nothing follows them."""
        end, seen = monotonic() + seconds, 0
        while monotonic() < end and not reading.done():
            if seen and seen == len(heard.pieces):
                found = heard.parsed(methods)
                if len(found) >= wanted and found[-1].is_whole:
                    return
            seen = len(heard.pieces)
            await asyncio.wait([reading], timeout=QUIET)
