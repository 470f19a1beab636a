"""Reads the header of the PROXY protocol off a new connection, and not one byte behind it.

What follows is TLS or HTTP, for whom the connection must be as if the header had never been there.
So bytes are looked at first, and only those of the header are taken.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from sidecar.core.proxy_protocol import LONGEST, BadProxyHeader, end_of, read_header

if TYPE_CHECKING:
    from sidecar.core.proxy_protocol import ProxyHeader


async def receive_header(
    loop: asyncio.AbstractEventLoop, connection: socket.socket
) -> ProxyHeader | None:
    """The header of a connection that does not block; None if its peer leaves without a byte.

    Raises `BadProxyHeader`, and `OSError` if the connection breaks.
    """
    header = b""
    while True:
        try:
            ahead = connection.recv(LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(loop, connection)
            continue
        if not ahead:
            if header:
                raise BadProxyHeader("a header that is cut off")
            return None
        end = end_of(header + ahead)
        header += connection.recv(len(ahead) if end is None else end - len(header))
        if len(header) == end:
            return read_header(header)


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    here = loop.create_future()
    loop.add_reader(connection, _done, here)
    try:
        await here
    finally:
        loop.remove_reader(connection)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
