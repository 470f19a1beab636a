"""Several servers, or a name with several addresses: each is tried, none holds up the rest."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config.routes import Ejection
from sidecar.core.errors import UpstreamTimeout, UpstreamUnreachable
from sidecar.core.record import replace
from sidecar.net.members import Member
from sidecar.net.pool import Pool
from sidecar.policy import UpstreamAddress, UpstreamServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import Clients, Start, Upstream

ADDRESS = UpstreamAddress(
    name="main",
    servers=(UpstreamServer("name.test", 0),),
    tls=None,
    connect=2.0,
    retry=0.0,
    head=5.0,
    idle=5.0,
    pool_idle=15.0,
    pool_max=8,
    pool_max_age=300.0,
    header_limit=65536,
    ejection=Ejection(),
)
NOBODY = Member(UpstreamServer("", 0))  # asks for a new connection


class Names:
    """An event loop whose resolver knows names; everything else is the running loop's."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {f"{name}.test": addresses for name, addresses in names.items()}
        self.asked: list[str] = []
        self._loop = asyncio.get_running_loop()

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[Any]:
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.names[host]
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@pytest.fixture
async def listening() -> AsyncIterator[int]:
    """A port on which 127.0.0.3 and 127.0.0.4 take connections, and 127.0.0.2 refuses them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    first = await asyncio.start_server(serve, "127.0.0.3", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, "127.0.0.4", port)
    yield port
    first.close()
    second.close()


@pytest.fixture
def deaf(listening: int) -> Iterator[str]:
    """An address that answers nothing on the port: its queue is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.5", listening))
        server.listen(0)
        for _ in range(2):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield "127.0.0.5"


def pool(names: Names, port: int, *hosts: str, **more: Any) -> Pool:
    servers = tuple(UpstreamServer(host, port) for host in hosts)
    return Pool(names, replace(ADDRESS, servers=servers, **more))  # type: ignore[arg-type]


async def connected(one: Pool) -> str:
    """The address that a new connection leads to."""
    connection = await one.acquire(last=NOBODY)
    assert connection.transport is not None
    address = connection.transport.get_extra_info("peername")[0]
    connection.abort()
    return str(address)


async def test_address_that_refuses_is_passed_over(listening: int) -> None:
    one = pool(Names(name=["127.0.0.2", "127.0.0.3"]), listening, "name.test")
    assert await connected(one) == "127.0.0.3"


async def test_address_that_does_not_answer_costs_a_moment_and_only_once(
    listening: int, deaf: str
) -> None:
    one = pool(Names(name=[deaf, "127.0.0.3"]), listening, "name.test")
    began = time.monotonic()
    assert await connected(one) == "127.0.0.3"
    assert 0.2 < time.monotonic() - began < 1.0
    await asyncio.sleep(0.01)  # until the slower attempt has ended
    began = time.monotonic()
    assert await connected(one) == "127.0.0.3"
    assert time.monotonic() - began < 0.2


@pytest.mark.parametrize("many", [3, 20])
async def test_all_addresses_are_tried_within_the_time_limit(
    listening: int, deaf: str, many: int
) -> None:
    """However many there are and however short the limit is."""
    addresses = [deaf] * many + ["127.0.0.4"]
    # Equal addresses are one: each of these is another spelling of the loopback network.
    one = pool(Names(name=addresses), listening, "name.test", connect=0.3)
    assert await connected(one) == "127.0.0.4"


async def test_no_address_that_answers_is_a_timeout_and_one_that_refuses_is_none(
    listening: int, deaf: str
) -> None:
    one = pool(Names(name=[deaf]), listening, "name.test", connect=0.2)
    with pytest.raises(UpstreamTimeout):
        await connected(one)
    one = pool(Names(name=["127.0.0.2", "127.0.0.6"]), listening, "name.test")
    with pytest.raises(UpstreamUnreachable, match="connection refused"):
        await connected(one)
    one = pool(Names(), listening, "other.test")
    with pytest.raises(UpstreamUnreachable, match="the name cannot be resolved"):
        await connected(one)


async def test_each_new_connection_follows_the_name(listening: int) -> None:
    names = Names(name=["127.0.0.3"])
    one = pool(names, listening, "name.test")
    assert await connected(one) == "127.0.0.3"
    assert one.servers()[0].addresses == ("127.0.0.3",)
    names.names["name.test"] = ["127.0.0.4"]
    assert await connected(one) == "127.0.0.4"
    shown = one.servers()[0]
    assert shown.addresses == ("127.0.0.4",)
    assert shown.resolved_at is not None
    assert (shown.error, shown.failures) == (None, 0)


async def test_literal_address_is_not_looked_up(listening: int) -> None:
    names = Names()
    assert await connected(pool(names, listening, "127.0.0.3")) == "127.0.0.3"
    assert names.asked == []


async def test_attempts_that_are_given_up_leave_nothing_behind(listening: int, deaf: str) -> None:
    """No task, no connection: whoever waits for one may leave at any time."""
    one = pool(Names(name=[deaf, deaf, "127.0.0.3"]), listening, "name.test")
    before = asyncio.all_tasks()
    for wait in (0.0, 0.001, 0.05, 0.3):
        task = asyncio.create_task(connected(one))
        await asyncio.sleep(wait)
        task.cancel()
        await asyncio.wait([task])
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    assert one.open == 0


async def test_servers_take_connections_in_turn_and_one_that_fails_is_passed_over(
    listening: int,
) -> None:
    one = pool(Names(a=["127.0.0.3"]), listening, "a.test", "127.0.0.4")
    assert Counter([await connected(one) for _ in range(6)]) == {"127.0.0.3": 3, "127.0.0.4": 3}
    one = pool(Names(), listening, "unknown.test", "127.0.0.2", "127.0.0.3")
    assert {await connected(one) for _ in range(4)} == {"127.0.0.3"}


# -- over the wire ---------------------------------------------------------------------------------


async def test_requests_go_to_the_servers_in_turn(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Also one after another; a server that is down is passed over, and idle connections serve."""
    hits: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits["connections"] += 1
        while await reader.readuntil(b"\r\n\r\n"):
            hits["requests"] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    other = await asyncio.start_server(quiet, "127.0.0.2", upstream.port)
    urls = [upstream.url, f"http://127.0.0.2:{upstream.port}"]
    at = await sidecar(
        {
            "upstreams": {"main": {"urls": urls}},
            "routes": [{"path": "/", "kind": "api", "upstream": "main", "session": "optional"}],
        }
    )
    one = await client(at)
    for _ in range(10):
        assert (await one.get("/a")).status == 200
    assert (hits["requests"], len(upstream.requests)) == (5, 5)
    assert (hits["connections"], upstream.connections) == (1, 1)
    assert upstream.last.get("Host") == f"127.0.0.1:{upstream.port}"
    other.close()
    other.close_clients() if hasattr(other, "close_clients") else None
    await upstream.stop()
    await upstream.start()
    for _ in range(6):
        assert (await one.get("/a")).status == 200


@pytest.mark.parametrize("first", ["dead", "deaf"])
async def test_readiness_needs_one_server(
    sidecar: Start, upstream: Upstream, client: Clients, first: str
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.2", 0))
        if first == "deaf":
            server.listen(0)
            for _ in range(2):
                queued = stack.enter_context(socket.socket())
                queued.setblocking(False)
                queued.connect_ex(server.getsockname())
        urls = [f"http://127.0.0.2:{server.getsockname()[1]}", upstream.url]
        at = await sidecar(
            {
                "upstreams": {"main": {"urls": urls, "ready": True}},
                "routes": [{"path": "/", "kind": "page", "upstream": "main"}],
            }
        )
        assert (await at.ask_admin("/readyz")).status == 200
        assert (await (await client(at)).get("/a")).status == 200
