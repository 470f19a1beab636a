"""Connections of redis-py that are given up for the server's silence alone."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.net.deadline import LOOKS, Within


class PlainConnection(Connection):
    """To one server. Its limits leave out the time in which this process does not read.

    Those of redis-py itself do not (`sidecar.net.deadline`), and are left as a last resort.
    """

    def __init__(
        self, *, socket_timeout: float, socket_connect_timeout: float, **settings: Any
    ) -> None:
        super().__init__(
            socket_timeout=LOOKS * socket_timeout,
            socket_connect_timeout=LOOKS * socket_connect_timeout,
            **settings,
        )
        self._limit = socket_timeout
        self._connect_limit = socket_connect_timeout

    async def _connect(self) -> None:
        connect: Any = super()._connect  # untyped by redis-py
        async with Within(self._connect_limit):
            await connect()

    async def read_response(self, *how: Any, **more: Any) -> Any:
        """Raises `RedisTimeoutError`, and what redis-py raises."""
        try:
            async with Within(self._limit):
                return await super().read_response(*how, **more)
        except TimeoutError:
            raise RedisTimeoutError("Timeout reading from the server") from None


class MasterConnection(SentinelManagedConnection, PlainConnection):
    """To the master that Sentinel names."""


class TlsContext(RedisSSLContext):
    """What TLS is checked against, read once for all connections.

    Left alone, each connection reads it for itself, some 20 ms in which the process does nothing
    else; and it would trust the system's authorities besides `ca`.
    """

    def get(self) -> ssl.SSLContext:
        if self.context is None:
            context = ssl.create_default_context(cafile=self.ca_certs)
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
            self.context = context
        return self.context


class TlsConnection(PlainConnection, SSLConnection):
    """To one server, by TLS."""

    def __init__(self, *, tls: TlsContext, **settings: Any) -> None:
        super().__init__(**settings)
        self.ssl_context = tls

    async def disconnect(self, nowait: bool = False, *why: Any, **more: Any) -> None:
        """A connection that is given up does not stay until the other side says goodbye."""
        if nowait and self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait, *why, **more)


class TlsMasterConnection(SentinelManagedConnection, TlsConnection):
    """To the master, by TLS."""


class NodeConnection(PlainConnection):
    """A connection that is made anew when it is found dead before use.

    As the pools of the other forms do it; those of a cluster's nodes do not look.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if self.is_connected:
            dead = True
            with suppress(RedisConnectionError):
                dead = await self.can_read()
            if dead:
                await self.disconnect(nowait=True)
        await super().send_packed_command(command, check_health)


class TlsNodeConnection(NodeConnection, TlsConnection):
    """To a node, by TLS."""
