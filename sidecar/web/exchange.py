"""One request and its response, as a client connection sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp.http import HttpVersion11

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from msgspec import Raw

    from sidecar.core.envelope import Parts
    from sidecar.core.forwarding import Peer
    from sidecar.core.request import Fields, RawFields


JOINED: Final = 32768  # bytes of a body up to which a copy costs less than another piece to send


class Connection(Protocol):
    """What an exchange needs of its connection (`web.connection.ClientConnection`)."""

    transport: asyncio.Transport | None
    peer: Peer

    @property
    def writing_paused(self) -> bool:
        """Whether the client does not take what was written."""

    @property
    def is_held_up(self) -> bool:
        """Whether the client is waited for: to send a body, or to take a response."""

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Returns whether another request may follow (RFC 9112 9.3)."""

    def answered(self, exchange: Exchange) -> None:
        """The response is complete."""

    def close_after(self) -> None:
        """Closes the connection once the current response is complete."""

    def write(self, data: bytes) -> None:
        """Writes without waiting."""

    async def drained(self) -> None:
        """Waits until the client takes bytes again. Raises `ConnectionError`."""

    def expect_client(self) -> None:
        """Starts timing the client, which is to send a body or to take a response."""

    def expect_nothing(self) -> None:
        """Stops timing the client."""

    def give_up(self, why: str) -> None:
        """Stops waiting for the client: 408, or a reset once a response has begun."""

    def tunnel(self, receiver: Any) -> None:
        """Hands every further byte to `receiver.client_data`, and the end to `client_lost`."""

    def end_tunnel(self) -> None:
        """Closes behind a tunnel, once the client has taken what was written, or takes no more."""

    def close(self) -> None:
        """Closes a connection that is idle."""

    def reset(self) -> None:
        """Closes with RST."""

    @property
    def cut_for(self) -> str:
        """Why the sidecar broke the connection off; empty if it did not."""


class Exchange:
    """One request and its response, as the connection sees them; the pipeline adds its own state.

    The values below are those of the common request (no body, HTTP/1.1, connection kept) before
    its line is known. `is_read`: the head could be read; `fields` is the header section once it was
    read, and `raw_fields` what it is read from;
    `closes`: no other request may follow; `chunked`: the framing of the request body; `started`:
    bytes of the response have left; `finished`: all of them; `is_open_ended`: no length was
    announced.
    """

    __slots__ = (
        "chunked",
        "closes",
        "connection",
        "fields",
        "finished",
        "http11",
        "is_open_ended",
        "is_read",
        "method",
        "payload",
        "raw_fields",
        "started",
        "target",
    )

    def __init__(self, connection: Connection, payload: StreamReader) -> None:
        self.connection = connection
        self.payload = payload
        self.is_read = self.closes = self.chunked = False
        self.started = self.finished = self.is_open_ended = False
        self.http11 = True
        self.method = self.target = ""
        self.raw_fields: RawFields = ()
        self.fields: Fields | None = None

    def read(self, message: RawRequestMessage) -> None:
        """Takes over what the parser found."""
        self.is_read = True
        self.method = message.method
        self.target = message.path
        self.raw_fields = message.raw_headers
        self.chunked = message.chunked
        self.http11 = message.version is HttpVersion11
        self.closes = message.should_close or message.upgrade or not self.http11

    @property
    def is_head(self) -> bool:
        """Whether the response has no body whatever its head says."""
        return self.method == "HEAD"

    def cancel(self) -> None:
        """The client has left, or was cut."""

    def left(self) -> None:
        """The response has left, and what follows on the connection has not been served yet."""

    # -- responding ----------------------------------------------------------------------------

    def answer(self, head: bytes, body: bytes = b"", *, bodiless: bool = False) -> None:
        """Responds at once: `head` without framing fields and final line, and the whole body.

        `bodiless`: no Content-Length is written (204, 304, HEAD of an unknown length).
        """
        if self.finished:
            return
        connection = self.connection
        transport = connection.transport
        self.started = self.finished = True
        if transport is not None:
            last = b"" if connection.keeps_alive(self) else b"Connection: close\r\n"
            if bodiless:
                transport.write(b"%b%b\r\n" % (head, last))
            else:
                length = len(body)
                if self.method == "HEAD":
                    body = b""
                if length <= JOINED:
                    framing = b"Content-Length: %d\r\n" % length
                    transport.write(b"".join((head, framing, last, b"\r\n", body)))
                else:
                    transport.writelines((_framed(head, length, last), body))
        self.left()
        connection.answered(self)

    def answer_in_parts(self, head: bytes, parts: Parts, length: int) -> None:
        """As `answer`, with a body in parts, of `length` bytes together, which are not copied.

        No response to HEAD: that has no body.
        """
        if self.finished:
            return
        connection = self.connection
        transport = connection.transport
        self.started = self.finished = True
        if transport is not None:
            last = b"" if connection.keeps_alive(self) else b"Connection: close\r\n"
            transport.writelines(_few((_framed(head, length, last), *parts)))
        self.left()
        connection.answered(self)

    def start(self, head: bytes, length: int | None) -> bool:
        """Begins a streamed response; returns whether it is to be chunked.

        `length` is the body's, None if it is unknown: then it is chunked, or ends with the
        connection for a client of HTTP/1.0.
        """
        connection = self.connection
        self.started = True
        self.is_open_ended = length is None
        chunked = length is None and self.http11
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif not chunked:
            connection.close_after()
        last = b"" if connection.keeps_alive(self) else b"Connection: close\r\n"
        connection.write(b"%b%b%b\r\n" % (head, framing, last))
        return chunked

    async def write(self, data: bytes) -> None:
        """Writes bytes of a streamed response, waiting while the client does not take them.

        Raises `ConnectionError` when the client is gone.
        """
        connection = self.connection
        if connection.transport is None or self.finished:
            raise ConnectionResetError("client left")
        connection.transport.write(data)
        if connection.writing_paused:
            await connection.drained()

    def finish(self) -> None:
        """The streamed response is complete: the connection goes on, or ends."""
        if not self.finished:
            self.finished = True
            self.left()
            self.connection.answered(self)

    def abort(self) -> None:
        """Breaks the connection, so that a part of a response never looks like a whole one."""
        self.finished = True
        self.connection.reset()


def _framed(head: bytes, length: int, last: bytes) -> bytes:
    """The whole head of a response whose body has `length` bytes."""
    return b"%bContent-Length: %d\r\n%b\r\n" % (head, length, last)


def _few(parts: Parts) -> Parts:
    """The same bytes in few parts, none of them empty: TLS would make a record of each."""
    few: list[bytes | Raw] = []
    short: list[bytes | Raw] = []
    for part in parts:
        if len(part) <= JOINED:
            short.append(part)
        else:
            few += [b"".join(short), part]
            short.clear()
    return tuple(filter(len, (*few, b"".join(short))))
