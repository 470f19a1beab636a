"""Finds out that the other end of a connection is gone without closing the connection.

Tunnels and event streams may be silent for hours, so no time limit ends them. A client that lost
its network, or an upstream whose machine is gone, sends nothing more, not even an end. So the
kernel asks for a sign of life.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

SILENT_SECONDS: Final = 60  # until the first question
INTERVAL_SECONDS: Final = 15  # between two
QUESTIONS: Final = 4  # without a response
# Also for data that is not acknowledged, about which the kernel would be patient for 15 minutes.
GONE_SECONDS: Final = SILENT_SECONDS + QUESTIONS * INTERVAL_SECONDS

# By name, since not every system has all (tcp(7)).
_OPTIONS: Final = (
    ("TCP_KEEPIDLE", SILENT_SECONDS),
    ("TCP_KEEPINTVL", INTERVAL_SECONDS),
    ("TCP_KEEPCNT", QUESTIONS),
    ("TCP_USER_TIMEOUT", GONE_SECONDS * 1000),
)


# States of a connection whose other end has reset it, or has sent its last byte (tcp(7), TCP_INFO).
_CLOSED: Final = 7
_CLOSE_WAIT: Final = 8


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end of a connection that is not read from has closed it.

    The loop does not tell: it waits for no events of such a connection. False if that cannot be
    found out.
    """
    raw = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_INFO", None)
    if raw is None or option is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return raw.getsockopt(socket.IPPROTO_TCP, option, 1)[0] in (_CLOSED, _CLOSE_WAIT)


def watch_peer(transport: asyncio.BaseTransport | None) -> None:
    """Has the connection end about `GONE_SECONDS` after its other end has gone."""
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return  # a Unix socket always ends with its peer
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
