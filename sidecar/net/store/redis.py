"""The store in Redis: one server, a master found by Sentinel, or a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.core.errors import StoreUnavailable
from sidecar.core.store_url import Kind, StoreUrl
from sidecar.net.deadline import Within
from sidecar.net.store.base import (
    BATCH,
    KEPT_MESSAGES,
    LIMIT,
    PING,
    PING_SECONDS,
    Cancel,
    Feed,
    MessageListener,
    Receive,
    Report,
    guarded,
    lifetime,
)
from sidecar.net.store.measured import StoreFill
from sidecar.net.store.redis_connections import (
    MasterConnection,
    NodeConnection,
    PlainConnection,
    TlsConnection,
    TlsContext,
    TlsMasterConnection,
    TlsNodeConnection,
)
from sidecar.net.store.redis_memory import LOOK, MemoryState

_PREFIX: Final = "sidecar:"
_MESSAGES: Final = "sidecar::messages"  # a stream; no key of an entry begins with a colon
_BEGINNING: Final = "0-0"
_MESSAGES_MS: Final = 24 * 3600 * 1000  # how long the stream outlives its last message
_AT_ONCE: Final = 16  # operations, so connections to each server; one more waits for messages
_OVERLAP_MS: Final = 10_000  # see _earlier

# Each touches one key, so each runs in a cluster too.
_REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_REMOVE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_PUBLISH: Final = """
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'm', ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""


_Command: TypeAlias = tuple[str, tuple[str | bytes | int, ...]]
"""A key, which says where, and a command."""


def _publication(message: bytes) -> tuple[str | bytes | int, ...]:
    return ("EVAL", _PUBLISH, 1, _MESSAGES, message, KEPT_MESSAGES, _MESSAGES_MS)


class RedisStore:
    """Entries are keys that expire, messages a capped stream.

    A stream instead of publish and subscribe, which lose what is sent while a subscriber is away.
    Nothing is repeated: a write whose answer is lost may have happened. Connections that died
    while they were idle are noticed before they are used.
    """

    def __init__(
        self, url: StoreUrl, report: Report, *, limit: float = LIMIT, look: float = LOOK
    ) -> None:
        """`look` is after how many seconds its servers are asked for their memory again."""
        self._limit = limit
        self._report = report
        self._secrets = [one for one in (url.password, url.sentinel_password) if one]
        self._server: _Server = _CONNECT[url.kind](url, limit)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._closed = False
        self._look = look
        self._memory = MemoryState(report)
        self._looking: asyncio.Task[None] | None = None
        self._feed = Feed(
            beginning=_BEGINNING,
            latest=self._latest,
            read=self._read,
            resume=_earlier,
            is_gone=self._is_gone,
            report=report,
        )

    async def get(self, key: str) -> bytes | None:
        value = await self._run(_PREFIX + key, "GET", _PREFIX + key)
        if value is not None and not isinstance(value, bytes):
            raise StoreUnavailable("redis: an answer is something else than bytes")
        return value

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        key = _PREFIX + key
        await self._run(key, "SET", key, value, "PX", _milliseconds(seconds))

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        lifetime_ms = _milliseconds(seconds)
        commands: list[_Command] = [
            (_PREFIX + key, ("SET", _PREFIX + key, value, "PX", lifetime_ms))
            for key, value in entries.items()
        ]
        if message is not None:
            commands.append((_MESSAGES, _publication(message)))
        async with self._turn():
            await self._server.run_all(commands)

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        key = _PREFIX + key
        return bool(await self._run(key, "SET", key, value, "PX", _milliseconds(seconds), "NX"))

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        key, lifetime_ms = _PREFIX + key, _milliseconds(seconds)
        return bool(await self._run(key, "EVAL", _REPLACE, 1, key, old, new, lifetime_ms))

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        key = _PREFIX + key
        if value is None:
            return bool(await self._run(key, "DEL", key))
        return bool(await self._run(key, "EVAL", _REMOVE, 1, key, value))

    async def publish(self, message: bytes) -> None:
        await self._run(_MESSAGES, *_publication(message))

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._keep_looking())
        return await self._feed.subscribe(receive, listener)

    async def ping(self) -> None:
        async with guarded(self._limit, self._explain):
            await self.put(PING, b"", PING_SECONDS)
            if self._memory.is_due(self._look):
                await self._look_at_memory()

    def fill(self) -> StoreFill | None:
        """How full the fullest master is, as it said last; None if it has not."""
        return self._memory.fill

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        await self._feed.close()
        for _ in range(_AT_ONCE):  # what is under way ends, at the latest by its time limit
            await self._turns.acquire()
        with suppress(Exception):  # what cannot be closed properly is gone already
            async with Within(self._limit):
                await self._server.close()
        for _ in range(_AT_ONCE):
            self._turns.release()

    # -- messages ---------------------------------------------------------------------------------

    async def _latest(self) -> str:
        async with guarded(self._limit, self._explain):
            newest = await self._run(_MESSAGES, "XREVRANGE", _MESSAGES, "+", "-", "COUNT", 1)
            return str(newest[0][0], "ascii") if newest else _BEGINNING

    async def _read(self, position: str) -> tuple[str, list[bytes]]:
        """Waits for messages on the server, for half of the time that a response may take."""
        wait = ("BLOCK", int(self._limit * 500))
        async with guarded(self._limit, self._explain):
            # Takes no turn: it would keep it for good.
            answer = await self._server.run(
                _MESSAGES, "XREAD", "COUNT", BATCH, *wait, "STREAMS", _MESSAGES, position
            )
            if not answer:
                return position, []
            ((_, entries),) = answer
            return str(entries[-1][0], "ascii"), [fields[b"m"] for _, fields in entries]

    async def _is_gone(self, position: str) -> bool:
        if position == _BEGINNING:
            return int(await self._run(_MESSAGES, "XLEN", _MESSAGES)) >= KEPT_MESSAGES
        oldest = await self._run(_MESSAGES, "XRANGE", _MESSAGES, "-", "+", "COUNT", 1)
        if not oldest:
            return True  # the stream has ended, or it was lost
        return _order(str(oldest[0][0], "ascii")) > _order(position)

    # -- memory -----------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        """Asks for the memory every now and then, whether somebody wants to know or not."""
        while True:
            with suppress(StoreUnavailable):
                await self._look_at_memory()
            await asyncio.sleep(self._look)

    async def _look_at_memory(self) -> None:
        """Raises `StoreUnavailable`; not if a server does not say, as some do not."""
        servers: list[Mapping[str, Any]] = []
        try:
            async with self._turn():
                with suppress(ResponseError):
                    servers = await self._server.memory()
        finally:
            self._memory.note(servers)

    # -- commands ---------------------------------------------------------------------------------

    async def _run(self, key: str, *command: str | bytes | int) -> Any:
        """The response of the server that holds `key`, when it is this command's turn."""
        async with self._turn():
            return await self._server.run(key, *command)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Raises `StoreUnavailable` for all that goes wrong within."""
        async with guarded(self._limit, self._explain), self._turns:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            yield

    def _explain(self, error: Exception) -> str:
        """What went wrong, without anything that was sent: a server may quote a command."""
        if isinstance(error, RedisClusterException) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        text = type(error).__name__
        if isinstance(error, MasterNotFoundError):
            pass  # its text lists clients with all their settings
        elif isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
            text += f": {error}"
        elif isinstance(error, ResponseError) and str(error).partition(" ")[0].isupper():
            text += f": {str(error).partition(' ')[0]}"  # Redis's own error code
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return f"redis: {text}"


# -- the forms of Redis -------------------------------------------------------------------------


class _Server(Protocol):
    async def run(self, key: str, /, *command: str | bytes | int) -> Any:
        """The response of the server that holds `key`."""
        ...

    async def run_all(self, commands: Sequence[_Command], /) -> None:
        """Carries out several, in order. Raises what the first one raises that fails."""
        ...

    async def memory(self, /) -> list[Mapping[str, Any]]:
        """`INFO memory` of each server that takes writes."""
        ...

    async def close(self) -> None: ...


class _Master:
    """One server, or whichever Sentinel names."""

    def __init__(self, client: Redis, beside: Iterable[Sentinel] = ()) -> None:
        self._client: Any = client  # redis-py types no command that is given as it is
        self._beside = tuple(beside)

    async def run(self, _key: str, /, *command: str | bytes | int) -> Any:
        return await self._client.execute_command(*command)

    async def run_all(self, commands: Sequence[_Command], /) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for _, command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute()

    async def memory(self, /) -> list[Mapping[str, Any]]:
        return [await self._client.execute_command("INFO", "memory")]

    async def close(self) -> None:
        await self._client.aclose()
        for sentinel in self._beside:
            await sentinel.aclose()


class _Cluster:
    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    async def run(self, key: str, /, *command: str | bytes | int) -> Any:
        await self._client.initialize()
        node = self._client.get_node_from_key(key)
        return await self._client.execute_command(*command, target_nodes=node)

    async def run_all(self, commands: Sequence[_Command], /) -> None:
        for key, command in commands:
            await self.run(key, *command)

    async def memory(self, /) -> list[Mapping[str, Any]]:
        await self._client.initialize()
        ask = partial(self._client.execute_command, "INFO", "memory")
        return [await ask(target_nodes=node) for node in self._client.get_primaries()]

    async def close(self) -> None:
        # The client's own way does nothing while it is looking for the cluster.
        await self._client.aclose()
        await self._client.nodes_manager.aclose()
        await self._client.nodes_manager.aclose("startup_nodes")


def _settings(url: StoreUrl, limit: float) -> dict[str, Any]:
    """What every connection is made with. One attempt: who repeats, and when, is not redis-py's."""
    return {
        "username": url.username,
        "password": url.password,
        "socket_connect_timeout": limit,
        "socket_timeout": limit,
        "protocol": 2,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": _AT_ONCE + 2,
    }


def _tls(url: StoreUrl) -> dict[str, Any]:
    if not url.tls:
        return {}
    return {"tls": TlsContext(ca_certs=url.ca, certfile=url.cert, keyfile=url.key)}


def _client(host: str, port: int, tls: Mapping[str, Any], settings: Mapping[str, Any]) -> Redis:
    kind = TlsConnection if tls else PlainConnection
    return Redis.from_pool(
        ConnectionPool(connection_class=kind, host=host, port=port, **tls, **settings)
    )


def _connect_one(url: StoreUrl, limit: float) -> _Server:
    host, port = url.hosts[0]
    return _Master(_client(host, port, _tls(url), _settings(url, limit) | {"db": url.database}))


def _connect_sentinel(url: StoreUrl, limit: float) -> _Server:
    settings, tls = _settings(url, limit), _tls(url)
    asking = settings | {
        "username": url.sentinel_username,
        "password": url.sentinel_password,
        # Several may have to be asked, one after the other, before an operation can begin.
        "socket_connect_timeout": limit / 5,
        "socket_timeout": limit / 5,
    }
    untyped: Any = Sentinel  # by redis-py
    sentinel: Sentinel = untyped([])
    sentinel.sentinels = [_client(host, port, tls, asking) for host, port in url.hosts]
    master = sentinel.master_for(
        url.service,
        connection_class=TlsMasterConnection if tls else MasterConnection,
        db=url.database,
        **tls,
        **settings,
    )
    return _Master(master, [sentinel])


def _connect_cluster(url: StoreUrl, limit: float) -> _Server:
    client = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in url.hosts],
        # The hosts of the URL stay the way in, even when every node has got another address.
        dynamic_startup_nodes=False,
        # A node that does not answer leaves time for another one.
        **_settings(url, limit)
        | {"socket_connect_timeout": limit / 3, "socket_timeout": limit / 3},
    )
    tls = _tls(url)
    kind = TlsNodeConnection if tls else NodeConnection
    client.connection_kwargs |= {"connection_class": kind, **tls}
    for node in client.startup_nodes:
        node.connection_class = kind
        node.connection_kwargs |= tls
    return _Cluster(client)


_CONNECT: Final[Mapping[Kind, Callable[[StoreUrl, float], _Server]]] = {
    "redis": _connect_one,
    "sentinel": _connect_sentinel,
    "cluster": _connect_cluster,
}


def _milliseconds(seconds: float) -> int:
    return max(1, round(lifetime(seconds) * 1000))


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def _earlier(position: str) -> str:
    """Where to read on after trouble: a bit before.

    Positions are times of the server that wrote. The next master may lack the last messages, and
    its clock may be behind; what it writes then stands before what has been read last.
    """
    milliseconds = int(position.partition("-")[0])
    return f"{max(0, milliseconds - _OVERLAP_MS)}-0"
