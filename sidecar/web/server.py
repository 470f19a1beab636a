"""The public listener: accepts connections, knows who they are, and drains them at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.core.forwarding import Peer
from sidecar.web.accepting import Acceptor
from sidecar.web.connection import ClientConnection, Handler

if TYPE_CHECKING:
    from sidecar.runtime import Runtime
    from sidecar.web.accepting import Shares

BACKLOG = 1024


class Server:
    """Serves one address (`web.connection.Registry`)."""

    def __init__(self, runtime: Runtime, handler: Handler) -> None:
        self._runtime = runtime
        self._handler = handler
        self._connections: set[ClientConnection] = set()
        self._server: asyncio.Server | Acceptor | None = None
        self._shares: Shares | None = None
        self._empty = asyncio.Event()
        self._scheme = b"https" if runtime.policy.config.tls is not None else b"http"
        self.draining = False

    async def start(self) -> None:
        """Listens. Raises `OSError` where the address cannot be had."""
        config = self._runtime.policy.config
        listen = config.listen
        options: dict[str, Any] = {"backlog": BACKLOG}
        if config.tls is not None:
            options["ssl"] = server_tls(config.tls)
        if listen.unix_path is not None:
            self._server = await self._runtime.loop.create_unix_server(
                self._accept, listen.unix_path, **options
            )
        else:
            self._server = await self._runtime.loop.create_server(
                self._accept, listen.host, listen.port, reuse_address=True, **options
            )

    def start_on(self, sockets: Sequence[socket.socket], shares: Shares) -> None:
        """Accepts from sockets that listen already, together with other processes.

        Raises `OSError` or `ssl.SSLError` where the certificate cannot be used.
        """
        tls = self._runtime.policy.config.tls
        self._shares = shares
        acceptor = Acceptor(
            self._runtime.loop,
            sockets,
            self._accept,
            tls=None if tls is None else server_tls(tls),
            shares=shares,
            log=self._runtime.log,
        )
        acceptor.start()
        self._server = acceptor

    def _accept(self) -> ClientConnection:
        runtime = self._runtime
        return ClientConnection(
            runtime.loop, self._handler, runtime.policy.config.limits, registry=self
        )

    def opened(self, connection: ClientConnection, transport: asyncio.BaseTransport) -> Peer:
        """Counts a connection in and says who it is."""
        self._connections.add(connection)
        self._runtime.metrics.connections += 1
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) else ""
        address = address.removeprefix("::ffff:") if "." in address else address
        policy = self._runtime.policy
        return Peer(address, policy.trusts.includes(address), self._scheme, policy.public_authority)

    def closed(self, connection: ClientConnection) -> None:
        """Counts a connection out."""
        self._connections.discard(connection)
        self._runtime.metrics.connections -= 1
        if self._shares is not None:
            self._shares.closed()
        if not self._connections:
            self._empty.set()

    async def drain(self, seconds: float, hurry: asyncio.Event) -> int:
        """Stops listening, lets requests under way come to their end, then closes.

        Returns how many connections had to be cut after `seconds`, or once there was a `hurry`.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in [one for one in self._connections if one.is_idle]:
            if connection.transport is not None:
                connection.transport.close()
        self._empty.clear()
        if self._connections:
            await _first_of(seconds, self._empty, hurry)
        cut = list(self._connections)
        for connection in cut:
            connection.reset()
        self._remove_socket_file()
        return len(cut)

    def _remove_socket_file(self) -> None:
        path = self._runtime.policy.config.listen.unix_path
        is_own = self._shares is None
        if path is not None and is_own and hasattr(socket, "AF_UNIX"):
            Path(path).unlink(missing_ok=True)


async def unless_hurried(work: Coroutine[Any, Any, None], hurry: asyncio.Event) -> None:
    """Waits for `work` to end, or cancels it once there is a `hurry`."""
    task, hurried = asyncio.create_task(work), asyncio.create_task(hurry.wait())
    await asyncio.wait((task, hurried), return_when=asyncio.FIRST_COMPLETED)
    for one in (task, hurried):
        one.cancel()
    await asyncio.wait((task, hurried))


async def _first_of(seconds: float, *events: asyncio.Event) -> None:
    """Waits until one of `events` is set, for at most `seconds`."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)


def server_tls(tls: Any) -> ssl.SSLContext:
    """The listener's certificate. Raises `OSError` or `ssl.SSLError` for files without use."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["http/1.1"])
    return context
