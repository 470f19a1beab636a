"""The little of RFC 6455 that a tunnel must know: the handshake's proof, and where frames end."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import Final

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
_LONGEST_HEADER: Final = 14
_CLOSE: Final = 8  # the opcode of section 5.5.1
_NO_OPCODE: Final = -1


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept value that proves the handshake was understood (section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def close_frame(status: int, reason: bytes, *, masked: bool) -> bytes:
    """A close frame with a status of section 7.4.1; `reason` up to 123 bytes.

    `masked` for the client's side of a connection; the zero mask is a valid one (section 5.3).
    """
    payload = status.to_bytes(2, "big") + reason
    header = bytes((0x88, len(payload) | (0x80 if masked else 0)))
    return header + (b"\0\0\0\0" if masked else b"") + payload


class FrameTracker:
    """Follows frame boundaries in one direction of a tunnel, without reading payloads."""

    __slots__ = ("_header", "_opcode", "_remaining")

    def __init__(self) -> None:
        self._header = b""
        self._opcode = 0
        self._remaining = 0

    @property
    def at_boundary(self) -> bool:
        """Whether a frame of one's own may be written now."""
        return not self._header and self._remaining == 0

    def finds_close(self, data: bytes) -> bool:
        """Follows `data` up to the end of the first close frame; returns whether there is one."""
        rest, at = memoryview(data), 0
        while True:
            if self.at_boundary:
                at = _after_short_frames(data, at, before=_CLOSE)
            if at == len(data):
                return False
            at += self.feed(rest[at:], stop_at_boundary=True)
            if self.at_boundary and self._opcode == _CLOSE:
                return True

    def feed(self, data: bytes | memoryview, *, stop_at_boundary: bool = False) -> int:
        """Follows `data`; returns how much of it was followed.

        That is all of it, or with `stop_at_boundary` the part up to the next frame's end.
        """
        at, end = 0, len(data)
        while at < end:
            if not (self._remaining or self._header or stop_at_boundary):
                at = _after_short_frames(data, at)
                if at == end:
                    break
            if self._remaining:
                step = min(self._remaining, end - at)
                self._remaining -= step
                at += step
            else:
                at += self._read_header(data[at : at + _LONGEST_HEADER])
            if stop_at_boundary and self.at_boundary:
                return at
        return at

    def _read_header(self, data: bytes | memoryview) -> int:
        """Takes bytes of a frame header (section 5.2); sets what remains of the frame."""
        had = len(self._header)
        header = self._header + data
        size = _header_size(header)
        if size is None or len(header) < size:
            self._header = header
            return len(data)
        self._header, self._opcode = b"", header[0] & 0x0F
        length = header[1] & 0x7F
        if length == 126:
            length = int.from_bytes(header[2:4], "big")
        elif length == 127:
            length = int.from_bytes(header[2:10], "big")
        self._remaining = length
        return size - had


def _after_short_frames(data: bytes | memoryview, at: int, *, before: int = _NO_OPCODE) -> int:
    """The index behind the frames of less than 126 bytes that are whole, from `at` on.

    Up to a frame with the opcode `before`. A client may send a hundred thousand of them at once.
    """
    last = len(data) - 1
    while at < last:
        second = data[at + 1]
        size = _SHORT_FRAMES[second]
        if not size or at + size > last + 1 or data[at] & 0x0F == before:
            break
        at += size
    return at


# By a frame's second byte (section 5.2): header, mask and payload; 0 if more bytes say its length.
_SHORT_FRAMES: Final = tuple(
    0 if second & 0x7F > 125 else 2 + (second & 0x7F) + (4 if second & 0x80 else 0)
    for second in range(256)
)


def _header_size(header: bytes) -> int | None:
    if len(header) < 2:
        return None
    length = header[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    return 2 + extended + (4 if header[1] & 0x80 else 0)
