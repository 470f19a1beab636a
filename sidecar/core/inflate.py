"""Undoes gzip and deflate in bounded steps, so that a bomb costs time but no memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PIECE: Final = 65536  # bytes that one step yields at most
TAKEN: Final = 8192  # bytes that one step is given: it copies all that it does not use

_PADDING: Final = b"\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
_RAW: Final = -zlib.MAX_WBITS
_HEADER: Final = 2  # bytes that tell the formats apart


class CorruptCoding(ValueError):
    """The bytes are not what their coding says, or end too early."""


class Inflater:
    """gzip (of several members), zlib, and the raw deflate that some servers send as deflate.

    The first two bytes tell which one it is, in whatever pieces they come. Zero bytes behind a
    whole member are padding, which servers leave of their buffers, and gzip(1) passes over.
    """

    __slots__ = ("_head", "_stream")

    def __init__(self) -> None:
        self._head = b""  # of the first bytes, until there are enough of them
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields what `data` decodes to, in pieces of at most `PIECE` bytes, or none.

        Raises `CorruptCoding`.
        """
        if self._stream is None:
            data = self._head = self._head + data
            if len(data) < _HEADER:
                return
            self._stream = zlib.decompressobj(_window(data))
            self._head = b""
        for at in range(0, len(data), TAKEN):
            stream, rest = self._stream, data[at : at + TAKEN]
            while rest:
                if stream.eof:
                    rest = rest.lstrip(_PADDING)
                    if not rest:
                        break
                    stream = self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
                try:
                    part = stream.decompress(rest, PIECE)
                except zlib.error:
                    raise CorruptCoding("the body is not what its Content-Encoding says") from None
                yield part
                rest = stream.unconsumed_tail or stream.unused_data

    def finish(self) -> None:
        """Raises `CorruptCoding` if the coding has not come to its end; nothing at all is whole."""
        if self._head or not (self._stream is None or self._stream.eof):
            raise CorruptCoding("the encoded body ends too early")


def _window(data: bytes) -> int:
    """The `wbits` argument of zlib for the format that begins like `data`."""
    if data.startswith(_GZIP_MAGIC) or _is_zlib(*data[:_HEADER]):
        return _GZIP_OR_ZLIB
    return _RAW


def _is_zlib(method: int, flags: int) -> bool:
    """Whether two bytes are the header of RFC 1950 2.2: deflate, and a check that fits."""
    return method & 0x0F == zlib.DEFLATED and (method << 8 | flags) % 31 == 0
