"""The requests that the sidecar cuts a client connection's bytes into."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from sidecar.core.errors import ProxyError
from sidecar.web.request_parser import RequestParser

LIMIT: Final = 2048
_LOOP: Final = asyncio.new_event_loop()


class Read(NamedTuple):
    """One request as it was read, with all of its body."""

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    version: str
    body: bytes


def pieces(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, again and again."""
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def cut(text: bytes, sizes: Sequence[int]) -> Cut:
    """What becomes of a connection's bytes that come in pieces of these sizes, up to a refusal.

    If the end of a request is not known for sure, the connection closes behind it.
    """
    made = Cut()
    try:
        for piece in pieces(text, sizes):
            made.receive(piece)
    except (HttpProcessingError, ProxyError):
        made.is_refused = True
    return made


class Cut:
    """A connection: `found` are its requests, `parser` is what cuts them."""

    def __init__(self) -> None:
        protocol = BaseProtocol(_LOOP)
        self.parser = RequestParser(protocol, _LOOP, LIMIT)
        protocol._parser = self.parser  # type: ignore[assignment]
        self.found: list[Read] = []
        self.is_refused = False
        self._message: Any = None
        self._payload: Any = None
        self._is_last = False  # the connection closes behind this request

    def receive(self, data: bytes) -> None:
        if self._message is not None:
            self.parser.feed_body(data)
            data = b""
        while not self._is_last:
            if self._message is None:
                read = self.parser.read_head(data)
                if read is None:
                    return
                self._message, self._payload = read
                data = b""
            if not self._payload.is_eof():
                return
            self._note()
            if not self._is_last:
                self.parser.next_request()

    def _note(self) -> None:
        message, body = self._message, self._payload.read_nowait(-1)
        version = f"{message.version.major}.{message.version.minor}"
        fields = tuple(message.raw_headers)
        self.found.append(Read(message.method, message.path, fields, version, body))
        self._message = None
        # As `web.exchange` has it: who asks for an upgrade may speak something else from here on.
        self._is_last = message.should_close or message.upgrade or not self.parser.is_framed
