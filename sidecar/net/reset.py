"""Ends a connection so that the peer does not take the response for complete."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


def reset(transport: asyncio.Transport) -> None:
    """Closes with RST; over a Unix socket, which knows none, at once."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
