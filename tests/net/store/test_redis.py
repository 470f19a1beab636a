"""Redis in trouble: `StoreUnavailable` in time, nothing else, and soon back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.store_url import parse_store_url
from sidecar.net.store.base import KEPT_MESSAGES, guarded
from sidecar.net.store.redis import RedisStore
from sidecar.net.store.redis_memory import LOOK
from tests.loops import busy
from tests.net.store.conftest import (
    PATIENCE,
    MakeServer,
    Server,
    make_certificates,
    start_watched,
    trouble,
    until,
    until_works,
    wait_for_cluster,
)
from tests.ports import free_port

if TYPE_CHECKING:
    from sidecar.net.store import Store

LIMIT: Final = 0.5
SLOW: Final = 1.5  # seconds by which a busy machine may be late
SOON: Final = 1.0 + SLOW

Opened = Callable[["Store"], "Store"]


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def connect(opened: Opened, reports: list[str]) -> Callable[..., RedisStore]:
    def connect(url: str, limit: float = LIMIT, look: float = LOOK) -> RedisStore:
        store = RedisStore(parse_store_url(url), reports.append, limit=limit, look=look)
        opened(store)
        return store

    return connect


Connect = Callable[..., RedisStore]


@dataclass
class Form:
    """A way to run Redis, and its servers (of Sentinel: those that hold data)."""

    url: str
    servers: list[Server]


@pytest.fixture(params=["single", "sentinel", "cluster"])
def form(request: pytest.FixtureRequest, server: MakeServer, tmp_path: Path) -> Form:
    if request.param == "single":
        one = server()
        return Form(f"redis://{one.address}", [one])
    if request.param == "sentinel":
        watched = start_watched(server, tmp_path)
        return Form(watched.url, [watched.master, watched.replica])
    nodes = request.getfixturevalue("cluster")
    return Form("redis+cluster://" + ",".join(node.address for node in nodes), nodes)


@pytest.fixture
def cluster(cluster_nodes: list[Server]) -> Iterator[list[Server]]:
    """The cluster of the contract, empty, and as it was in the end."""
    for node in cluster_nodes:
        node.ask("FLUSHALL")
    yield cluster_nodes
    wait_for_cluster(cluster_nodes)


@pytest.fixture
def one(server: MakeServer) -> Server:
    return server()


async def every_operation_fails(store: RedisStore, seconds: float) -> None:
    """At once, each within the time given."""
    await asyncio.gather(
        *(
            trouble(operation, seconds)
            for operation in (
                store.get("k"),
                store.put("k", b"v", 60),
                store.add("k", b"v", 60),
                store.replace("k", b"v", b"w", 60),
                store.remove("k"),
                store.remove("k", b"v"),
                store.put_all({"k": b"v", "l": b"v"}, 60, b"m"),
                store.publish(b"m"),
                store.ping(),
            )
        )
    )


# -- down and back ---------------------------------------------------------------------------------


async def test_killed_and_begun_again(form: Form, connect: Connect, reports: list[str]) -> None:
    """All operations fail while it is down, all work soon after; the subscription goes on."""
    store, heard = connect(form.url), list[bytes]()
    await store.subscribe(heard.append)
    await store.put("k", b"v", 60)
    await store.publish(b"before")
    await until(lambda: heard == [b"before"])
    for server in form.servers:
        server.kill()
    await every_operation_fails(store, LIMIT + SLOW)
    await until(lambda: reports)
    await every_operation_fails(store, LIMIT + SLOW)
    for server in form.servers:
        server.start()
    # A master that Sentinel has given up, or a cluster's state, takes time of its own.
    await until_works(store.ping, SOON if len(form.servers) == 1 else 15)
    await until_works(lambda: store.put("k", b"again", 60), 15)
    assert await store.get("k") == b"again"
    await until_works(lambda: store.publish(b"after"), 15)
    await until(lambda: b"after" in heard)
    assert heard == [b"before", b"after"]
    await until(lambda: len(reports) == 2)
    assert reports[0].startswith("messages cannot be read: redis: ")
    assert reports[1].startswith("messages are read again")


async def test_a_failover_is_followed(server: MakeServer, connect: Connect, tmp_path: Path) -> None:
    """The replica becomes the master: what it has got stays, and messages go on."""
    watched = start_watched(server, tmp_path)
    store, other = connect(watched.url), connect(watched.url)
    heard: list[bytes] = []
    await other.subscribe(heard.append)
    await store.put("k", b"v", 60)
    await store.publish(b"before")
    await until(lambda: heard == [b"before"])
    assert watched.master.ask("WAIT", 1, 2000) == 1
    watched.master.kill()
    await trouble(store.get("k"), LIMIT + SLOW)
    await until_works(store.ping, 15)
    assert watched.master_port() == watched.replica.port
    assert await store.get("k") == b"v"
    await store.publish(b"after")
    await until(lambda: b"after" in heard)


async def test_a_master_that_hangs_is_left(
    server: MakeServer, connect: Connect, tmp_path: Path
) -> None:
    """It keeps its connections, so only the time limit tells."""
    watched = start_watched(server, tmp_path)
    store = connect(watched.url)
    await store.ping()
    watched.master.pause()
    await trouble(store.get("k"), LIMIT + SLOW)
    await until_works(store.ping, 15)
    assert watched.replica.ask("ROLE")[0] == "master"
    watched.master.resume()


async def test_the_first_sentinel_is_down(
    server: MakeServer, connect: Connect, tmp_path: Path
) -> None:
    """Or hangs: the next one is asked within the time limit."""
    watched = start_watched(server, tmp_path)
    hanging = server()
    hanging.pause()
    dead = server()
    dead.kill()
    good = watched.sentinels[0].address
    store = connect(f"redis+sentinel://{dead.address},{hanging.address},{good}/main", 2.0)
    await store.ping()
    none = connect(f"redis+sentinel://{dead.address}/main")
    assert (await trouble(none.ping())).detail == "redis: MasterNotFoundError"
    unknown = connect(f"redis+sentinel://{good}/another")
    assert (await trouble(unknown.ping())).detail == "redis: MasterNotFoundError"
    hanging.resume()


async def test_a_cancellation_is_never_lost(one: Server, connect: Connect) -> None:
    """Whatever an operation is at just then: else what keeps a lock keeps it for good."""
    store = connect(f"redis://{one.address}", 5.0)

    async def go_on() -> None:
        while True:
            with suppress(StoreUnavailable):
                await store.replace("key", b"a", b"b", 5.0)

    tasks = {asyncio.create_task(go_on()) for _ in range(400)}
    for task in tasks:
        await asyncio.sleep(random.uniform(0, 0.005))
        task.cancel()
    _, left = await asyncio.wait(tasks, timeout=PATIENCE)
    for task in left:
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
    assert len(left) == 0


async def test_a_cancellation_that_a_client_loses_is_passed_on() -> None:
    """As one is by `asyncio.wait_for` of Python 3.11."""

    async def operation() -> None:
        async with guarded(5.0, str):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    task = asyncio.create_task(operation())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_down_from_the_start(one: Server, connect: Connect, reports: list[str]) -> None:
    """Opening and subscribing raise nothing; once it is up everything works."""
    one.kill()
    store, heard = connect(f"redis://{one.address}"), list[bytes]()
    began = time.monotonic()
    await store.subscribe(heard.append)
    assert time.monotonic() - began < LIMIT + SLOW
    await every_operation_fails(store, LIMIT + SLOW)
    assert len(reports) == 1
    one.start()
    await until_works(store.ping, SOON)
    await store.publish(b"m")
    await until(lambda: heard == [b"m"])


async def test_connections_that_died_idle_are_not_used(form: Form, connect: Connect) -> None:
    """A server or firewall that ends idle connections costs no request an error."""
    store = connect(form.url, 2.0)
    keys = [f"k{number}" for number in range(10)]  # some for each node
    for round_ in range(3):
        await asyncio.gather(*(store.put(key, b"v", 60) for key in keys))
        for server in form.servers:
            server.drop_clients()
        await asyncio.sleep(0.1)  # until this side has seen it
        assert await asyncio.gather(*map(store.get, keys)) == [b"v"] * 10
        assert await store.add(f"new{round_}", b"v", 60)


async def test_a_slot_that_moves_is_followed(cluster: list[Server], connect: Connect) -> None:
    """Resharding goes on beneath the store."""
    nodes = cluster
    store = connect(f"redis+cluster://{nodes[0].address}", 2.0)
    await store.put("moved", b"v", 60)
    slot = int(nodes[0].ask("CLUSTER KEYSLOT", "sidecar:moved"))
    ids = [node.ask("CLUSTER MYID") for node in nodes]
    owner = next(n for n in range(3) if nodes[n].ask("CLUSTER COUNTKEYSINSLOT", slot) == 1)
    to = (owner + 1) % 3
    nodes[to].ask("CLUSTER SETSLOT", slot, "IMPORTING", ids[owner])
    nodes[owner].ask("CLUSTER SETSLOT", slot, "MIGRATING", ids[to])
    assert await store.get("moved") == b"v"
    nodes[owner].ask("MIGRATE", "127.0.0.1", nodes[to].port, "sidecar:moved", 0, 5000)
    assert await store.get("moved") == b"v"  # ASK
    for node in (nodes[to], nodes[owner]):
        node.ask("CLUSTER SETSLOT", slot, "NODE", ids[to])
    assert await store.replace("moved", b"v", b"w", 60)  # MOVED
    assert await store.get("moved") == b"w"


# -- slow ------------------------------------------------------------------------------------------


async def test_a_hanging_server_takes_no_longer_than_the_limit(
    form: Form, connect: Connect
) -> None:
    """However many ask at once, with connections and without; and it is back at once."""
    used, fresh = connect(form.url), connect(form.url)
    await used.put("k", b"v", 60)
    for server in form.servers:
        server.pause()
    began = time.monotonic()
    for store in (used, fresh):
        await asyncio.gather(*(trouble(store.get("k"), LIMIT + SLOW) for _ in range(200)))
        await every_operation_fails(store, LIMIT + SLOW)
    assert time.monotonic() - began < 4 * (LIMIT + SLOW)
    for server in form.servers:
        server.resume()
    for store in (used, fresh):
        await until_works(store.ping, SOON if len(form.servers) == 1 else 15)


async def test_process_that_is_late_takes_no_sentinel_for_silent(
    server: MakeServer, connect: Connect, tmp_path: Path
) -> None:
    """A connect and a command take several turns of its loop; what comes meanwhile is in time."""
    store = connect(start_watched(server, tmp_path).url)
    async with busy(0.4 * LIMIT):
        await store.put("k", b"v", 60)
        assert await store.get("k") == b"v"


async def test_connections_are_bounded(one: Server, connect: Connect) -> None:
    """Work waits for its turn, within the time limit, instead of storming the server."""
    store = connect(f"redis://{one.address}", 10.0)
    await store.subscribe(lambda message: None)
    await asyncio.gather(*(store.put(f"k{number}", b"v", 60) for number in range(2000)))
    clients = one.ask("CLIENT LIST")
    assert 10 < len(clients) <= 16 + 1 + 1  # operations, messages, and who asks
    assert one.ask("DBSIZE") == 2000


async def test_no_retry_storm(one: Server, connect: Connect) -> None:
    """While it is down the subscription knocks a few times a second."""
    store = connect(f"redis://{one.address}")
    await store.subscribe(lambda message: None)
    one.kill()
    knocks = 0

    async def knock(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    async with await asyncio.start_server(knock, "127.0.0.1", one.port):
        await asyncio.sleep(1.5)
    assert 1 <= knocks <= 16


# -- full, read-only, evicting, strange ------------------------------------------------------------


async def test_full(one: Server, connect: Connect) -> None:
    """Writing fails and reading works; so readiness fails."""
    store = connect(f"redis://{one.address}")
    await store.put("k", b"v", 60)
    one.ask("CONFIG SET", "maxmemory", 1)
    for operation in (
        store.put("k", b"w", 60),
        store.add("new", b"w", 60),
        store.replace("k", b"v", b"w", 60),
        store.put_all({"k": b"v"}, 60, b"m"),
        store.publish(b"m"),
        store.ping(),
    ):
        error = await trouble(operation)
        assert "OutOfMemory" in error.detail or "OOM" in error.detail
    assert await store.get("k") == b"v"
    assert await store.remove("k")
    one.ask("CONFIG SET", "maxmemory", 0)
    await store.ping()


async def test_read_only(one: Server, connect: Connect) -> None:
    """A replica, or a master that has become one."""
    store = connect(f"redis://{one.address}")
    await store.put("k", b"v", 60)
    one.ask("REPLICAOF", "127.0.0.1", 1)
    for operation in (store.put("k", b"w", 60), store.add("n", b"w", 60), store.ping()):
        assert "ReadOnly" in (await trouble(operation)).detail
    await trouble(store.replace("k", b"v", b"w", 60))
    one.ask("REPLICAOF", "NO", "ONE")
    await store.ping()


async def test_a_server_that_may_evict_is_reported(
    one: Server, connect: Connect, reports: list[str]
) -> None:
    """Once, and again when it changes: an evicted session is a user logged out for nothing."""
    store = connect(f"redis://{one.address}", look=0)
    await store.ping()
    assert reports == []
    one.ask("CONFIG SET", "maxmemory", "100mb", "maxmemory-policy", "volatile-lru")
    await store.ping()
    await store.ping()
    assert len(reports) == 1
    assert "volatile-lru" in reports[0]
    one.ask("CONFIG SET", "maxmemory-policy", "noeviction")
    await store.ping()
    one.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    await store.ping()
    assert len(reports) == 2


async def test_it_says_how_full_it_is(form: Form, connect: Connect) -> None:
    """Of all masters that of the fullest, though nobody asks; and nothing while it is away."""
    masters = [one for one in form.servers if one.ask("INFO", "replication")["role"] == "master"]
    masters[-1].ask("CONFIG SET", "maxmemory", "900mb", "maxmemory-policy", "allkeys-lru")
    store = connect(form.url, look=0.05)
    assert store.fill() is None
    cancel = await store.subscribe(lambda _: None)
    await until(lambda: store.fill() is not None)
    fill = store.fill()
    assert fill is not None
    assert (fill.max_bytes, fill.may_evict, fill.entries) == (900 * 2**20, True, None)
    assert 500_000 < fill.size < 50_000_000
    for one in form.servers:
        one.pause()
    await until(lambda: store.fill() is None)
    for one in form.servers:
        one.resume()
    cancel()
    masters[-1].ask("CONFIG SET", "maxmemory", 0, "maxmemory-policy", "noeviction")


async def test_a_server_that_does_not_tell_its_memory_is_used_all_the_same(
    one: Server, connect: Connect, reports: list[str]
) -> None:
    one.ask("ACL", "SETUSER", "default", "-info")
    store = connect(f"redis://{one.address}", look=0)
    await store.ping()
    assert (store.fill(), reports) == (None, [])


async def test_its_memory_is_asked_for_rarely(one: Server, connect: Connect) -> None:
    """However often readiness and the admin page ask whether it is there."""
    store = connect(f"redis://{one.address}")
    for _ in range(20):
        await store.ping()
    assert store.fill() is not None
    assert one.ask("INFO", "commandstats")["cmdstat_info"]["calls"] == 1


async def test_an_entry_of_another_kind(one: Server, connect: Connect) -> None:
    """Somebody else uses the key: neither absent nor overwritten by a comparison."""
    store = connect(f"redis://{one.address}")
    one.ask("RPUSH", "sidecar:k", "x")
    await trouble(store.get("k"))
    await trouble(store.replace("k", b"x", b"y", 60))
    assert not await store.add("k", b"y", 60)
    await store.put("k", b"y", 60)
    assert await store.get("k") == b"y"


async def test_what_stands_in_redis(one: Server, connect: Connect) -> None:
    """Keys begin with a prefix and end by themselves; messages are capped and end too."""
    store = connect(f"redis://{one.address}/5", 5.0)
    await store.put("k", b"v", 60)
    for _ in range(3):
        await asyncio.gather(*(store.publish(b"m") for _ in range(4000)))
    keys = one.ask("KEYS", "*", db=5)
    assert sorted(keys) == ["sidecar::messages", "sidecar:k"]
    assert 50_000 < one.ask("PTTL", "sidecar:k", db=5) <= 60_000
    assert one.ask("PTTL", "sidecar::messages", db=5) > 0
    assert 10_000 <= one.ask("XLEN", "sidecar::messages", db=5) < 10_500


ANSWERS: Final = {
    "nothing": b"",
    "garbage": b"\x00\x01\x02 no RESP at all\r\n" * 50,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "short": b"$100\r\nabc",
    "huge": b"*1000000000\r\n",
    "wrong type": b"*2\r\n:1\r\n:2\r\n",
    "endless": b"$-",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel", "rediss"])
async def test_what_is_no_redis(
    connect: Connect, reports: list[str], scheme: str, answer: bytes
) -> None:
    """Whatever answers there: no exception but the one, and in time."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(1)
            writer.write(answer)
            await writer.drain()
            if b"HTTP" not in answer:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        store = connect(f"{scheme}://127.0.0.1:{port}" + "/main" * ("sentinel" in scheme), 0.3)
        await store.subscribe(lambda message: None)
        await trouble(store.get("k"), LIMIT + SLOW)
        await until(lambda: reports)
        await store.close()
    assert len(reports) == 1
    assert reports[0].startswith("messages cannot be read: ")


# -- messages over trouble -------------------------------------------------------------------------


async def test_no_message_is_lost_when_connections_break(one: Server, connect: Connect) -> None:
    """They come late instead; in order, but for what is repeated after a break."""
    publisher, subscriber = (
        connect(f"redis://{one.address}", 5.0),
        connect(f"redis://{one.address}"),
    )
    heard: list[bytes] = []
    await subscriber.subscribe(heard.append)
    sent, unsure = [b"%d" % number for number in range(600)], set[bytes]()
    for number, message in enumerate(sent):
        try:
            await publisher.publish(message)
        except StoreUnavailable:
            unsure.add(message)
        if number % 150 == 100:
            one.drop_clients()
    await publisher.publish(b"end")
    await until(lambda: heard and heard[-1] == b"end")
    first = list(dict.fromkeys(heard))[:-1]
    assert first == sorted(first, key=int)
    assert set(sent) - unsure <= set(first)
    assert len(unsure) <= 4


async def test_messages_sent_while_a_subscriber_was_away(one: Server, connect: Connect) -> None:
    """It could not be reached for a while; what was sent meanwhile comes then."""
    one.ask("ACL", "SETUSER", "sub", "on", ">pw", "~*", "+@all")
    subscriber = connect(f"redis://sub:pw@{one.address}")
    publisher = connect(f"redis://{one.address}")
    heard: list[bytes] = []
    await subscriber.subscribe(heard.append)
    one.ask("ACL", "SETUSER", "sub", "off")
    one.ask("CLIENT", "KILL", "USER", "sub")
    await trouble(subscriber.get("k"))
    for number in range(300):
        await publisher.publish(b"%d" % number)
    assert heard == []
    one.ask("ACL", "SETUSER", "sub", "on")
    await until(lambda: len(heard) >= 300)
    assert heard == [b"%d" % number for number in range(300)]


class Heard:
    """What a subscriber learns of trouble."""

    def __init__(self) -> None:
        self.breaks = 0
        self.gaps: list[bool] = []

    def broken(self) -> None:
        self.breaks += 1

    def resumed(self, *, has_gap: bool) -> None:
        self.gaps.append(has_gap)


@pytest.mark.parametrize(
    ("count", "has_gap"), [(300, False), (KEPT_MESSAGES + 500, True)], ids=["some", "too many"]
)
async def test_a_subscriber_learns_whether_it_missed_messages(
    one: Server, connect: Connect, reports: list[str], *, count: int, has_gap: bool
) -> None:
    """While it was away; they are gone if more came than are kept."""
    one.ask("ACL", "SETUSER", "sub", "on", ">pw", "~*", "+@all")
    subscriber, trouble = connect(f"redis://sub:pw@{one.address}"), Heard()
    publisher = connect(f"redis://{one.address}", 5.0)
    heard: list[bytes] = []
    await subscriber.subscribe(heard.append, trouble)
    await publisher.publish(b"first")
    await until(lambda: heard == [b"first"])
    one.ask("ACL", "SETUSER", "sub", "off")
    one.ask("CLIENT", "KILL", "USER", "sub")
    await until(lambda: trouble.breaks == 1)
    for first in range(0, count, 100):
        await asyncio.gather(*(publisher.publish(b"%d" % n) for n in range(first, first + 100)))
    one.ask("ACL", "SETUSER", "sub", "on")
    await until(lambda: trouble.gaps)
    assert trouble.gaps == [has_gap]
    await until(lambda: heard[-1] == b"%d" % (count - 1))
    assert reports[-1].startswith("messages are read again")
    assert ("some were lost" in reports[-1]) == has_gap


async def test_a_stream_that_is_lost_is_a_gap(one: Server, connect: Connect) -> None:
    """What was published behind the last message read may have been in it."""
    subscriber, trouble = connect(f"redis://{one.address}"), Heard()
    heard: list[bytes] = []
    await subscriber.subscribe(heard.append, trouble)
    await subscriber.publish(b"first")
    await until(lambda: heard == [b"first"])
    one.kill()
    await until(lambda: trouble.breaks == 1)
    one.start()
    await until(lambda: trouble.gaps)
    assert trouble.gaps == [True]


# -- logins and TLS --------------------------------------------------------------------------------


async def test_logins(server: MakeServer, connect: Connect, reports: list[str]) -> None:
    """With the right one it works; with a wrong one no text holds it."""
    password = "pass/w@rd:%?#1"
    one = server("--requirepass", password)
    one.ask("ACL", "SETUSER", "app", "on", f">{password}", "~sidecar:*", "+@all", password=password)
    quoted = "pass%2Fw%40rd%3A%25%3F%231"
    for login in (f":{quoted}", f"app:{quoted}"):
        await connect(f"redis://{login}@{one.address}").ping()
    for login in (":wr0ng-one", "app:wr0ng-one", "wr0ng-one:" + quoted):
        store = connect(f"redis://{login}@{one.address}")
        await store.subscribe(lambda message: None)
        detail = (await trouble(store.ping())).detail
        assert detail.startswith("redis: AuthenticationError")
        assert "wr0ng-one" not in detail + "".join(reports) + repr(store)
    detail = (await trouble(connect(f"redis://{one.address}").ping())).detail
    assert detail.startswith("redis: Authentication")


async def test_a_user_without_rights(one: Server, connect: Connect) -> None:
    """The detail says which, and nothing of what was to be stored."""
    one.ask("ACL", "SETUSER", "app", "on", ">pw", "~other:*", "+@all")
    store = connect(f"redis://app:pw@{one.address}")
    error = await trouble(store.put("k", b"s3cret-value", 60))
    assert error.detail.startswith("redis: NoPermissionError")
    assert "s3cret" not in error.detail
    assert "s3cret" not in repr(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


async def test_tls_is_checked(server: MakeServer, connect: Connect, tmp_path: Path) -> None:
    """An authority, a name, and where it is demanded a certificate of our own."""
    ours, theirs = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "theirs")
    one = server(*ours.options, "--tls-auth-clients", "yes", tls=True)
    mutual = f"&cert={ours.cert}&key={ours.key}"
    await connect(f"rediss://{one.address}?ca={ours.ca}{mutual}", 2.0).ping()
    for url, why in (
        (f"rediss://{one.address}?ca={theirs.ca}{mutual}", "certificate verify failed"),
        (f"rediss://{one.address}", "certificate verify failed"),
        (f"rediss://localhost:{one.port}?ca={ours.ca}{mutual}", "Hostname mismatch"),
        (f"rediss://{one.address}?ca={ours.ca}", ""),
        (f"rediss://{one.address}?ca={ours.ca}&cert={theirs.cert}&key={theirs.key}", ""),
        (f"rediss://{one.address}?ca={tmp_path}/none.pem", "No such file"),
        (f"redis://{one.address}", ""),
    ):
        assert why in (await trouble(connect(url, 2.0).ping())).detail


async def test_tls_to_a_plain_server(one: Server, connect: Connect) -> None:
    """It does not fall back."""
    await trouble(connect(f"rediss://{one.address}").ping())


async def test_tls_with_sentinel_and_cluster(
    server: MakeServer, connect: Connect, tmp_path: Path
) -> None:
    """The same rules on every connection that they make."""
    made = make_certificates(tmp_path / "made")
    options = (*made.options, "--tls-auth-clients", "no")
    master = server(*options, tls=True)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
    sentinel = server(
        str(configuration), "--sentinel", *options, "--tls-replication", "yes", tls=True
    )
    url = f"rediss+sentinel://{sentinel.address}/main"
    store = connect(f"{url}?ca={made.ca}", 2.0)
    await store.put("k", b"v", 60)
    assert await store.get("k") == b"v"
    await trouble(connect(url, 2.0).ping())
    bus = ("--cluster-port", str(free_port()))
    node = server(*options, "--cluster-enabled", "yes", "--tls-cluster", "yes", *bus, tls=True)
    context = {"ssl": True, "ssl_ca_certs": str(made.ca)}
    node.ask("CLUSTER ADDSLOTSRANGE", 0, 16383, **context)
    url = f"rediss+cluster://{node.address}"
    store = connect(f"{url}?ca={made.ca}", 2.0)
    await until_works(store.ping)
    await store.put("k", b"v", 60)
    assert await store.get("k") == b"v"
    await trouble(connect(url, 2.0).ping())
