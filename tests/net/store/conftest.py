"""Real servers for the stores: Redis alone, with TLS, under Sentinel, as a cluster."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import RedisError

from sidecar.core.errors import StoreUnavailable
from sidecar.core.store_url import parse_store_url
from sidecar.net.store import Store, open_store
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.redis import RedisStore
from sidecar.net.store.sqlite import SqliteStore
from tests.ports import free_port

PATIENCE: Final = 10.0  # seconds that anything a test waits for may take
SECRET: Final = b"a secret of the tests, 32 bytes or more"


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> float:
    """Waits for a condition; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come true in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def until_works(operation: Callable[[], Awaitable[Any]], seconds: float = PATIENCE) -> float:
    """Repeats an operation until the store is available; how long it took."""
    began = time.monotonic()
    while True:
        try:
            await operation()
        except StoreUnavailable:
            assert time.monotonic() - began < seconds, "the store did not come back in time"
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - began


async def trouble(operation: Awaitable[Any], seconds: float = PATIENCE) -> StoreUnavailable:
    """The operation fails, as all trouble must, and in time."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await operation
    assert time.monotonic() - began < seconds
    return caught.value


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that the sidecar runs on."""
    return {"loop": uvloop.new_event_loop}


# -- servers ---------------------------------------------------------------------------------------


class Server:
    """A redis-server on a port of its own, without persistence; it can be ended and begun again.

    Its first option may be a file of configuration.
    """

    def __init__(self, program: str, directory: Path, *options: str, tls: bool = False) -> None:
        self.port = free_port()
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        plain, tls_port = (0, self.port) if tls else (self.port, 0)
        file = [option for option in options[:1] if not option.startswith("--")]
        self.command = [
            *(
                program,
                *file,
                "--bind",
                "127.0.0.1",
                "--port",
                str(plain),
                "--tls-port",
                str(tls_port),
            ),
            *("--dir", str(self.directory), "--save", "", "--appendonly", "no"),
            *("--repl-diskless-sync-delay", "0", "--logfile", "log", *options[len(file) :]),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it listens."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < end, "redis-server does not listen"
            time.sleep(0.01)

    def kill(self) -> None:
        """As when the machine breaks; safe to do twice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        """Connections stay, answers do not come."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def ask(self, *command: str | int, **options: Any) -> Any:
        """An administrator's command."""
        with Redis(host="127.0.0.1", port=self.port, decode_responses=True, **options) as client:
            return client.execute_command(*command)

    def drop_clients(self) -> None:
        """Ends every connection but its own, and Sentinel's: it would take the server for dead."""
        with Redis(host="127.0.0.1", port=self.port, decode_responses=True) as client:
            mine = client.client_id()
            for one in client.client_list(_type="normal"):
                if int(one["id"]) != mine and not one["name"].startswith("sentinel-"):
                    with suppress(RedisError):  # it has gone by itself
                        client.execute_command("CLIENT", "KILL", "ID", one["id"])


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """For fixtures that are not asynchronous."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < end, what
        time.sleep(0.02)


MakeServer: TypeAlias = Callable[..., Server]


def _makes_servers(program: str, directory: Path, stack: ExitStack) -> MakeServer:
    def make(*options: str, tls: bool = False) -> Server:
        server = Server(program, directory, *options, tls=tls)
        stack.callback(server.kill)
        server.start()
        return server

    return make


@pytest.fixture(scope="session")
def lasting_server(
    require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeServer]:
    """Starts servers that run until all tests are over."""
    with ExitStack() as stack:
        yield _makes_servers(
            require_program("redis-server"), tmp_path_factory.mktemp("redis"), stack
        )


@pytest.fixture
def server(require_program: Callable[[str], str], tmp_path: Path) -> Iterator[MakeServer]:
    """Starts servers that one test may ill-treat."""
    with ExitStack() as stack:
        yield _makes_servers(require_program("redis-server"), tmp_path, stack)


@dataclass
class Certificates:
    """An authority of our own, and what it has signed: PEM files."""

    ca: Path
    cert: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        """Those of a server, which wants the same of its clients only where it is told to."""
        return (
            *("--tls-cert-file", str(self.cert), "--tls-key-file", str(self.key)),
            *("--tls-ca-cert-file", str(self.ca)),
        )


UNUSED: Final = (
    *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("crl_sign", "encipher_only", "decipher_only"),
)


def key_usage(*, signs: bool) -> x509.KeyUsage:
    """What a key is for: certificates, or connections."""
    unused = dict.fromkeys(UNUSED, False)
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, **unused)


def make_certificates(directory: Path, ends_in: float = 3600.0) -> Certificates:
    """For 127.0.0.1, valid for so many seconds from now."""
    directory.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(seconds=ends_in))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), True)
            # From Python 3.13 on, certificates must keep to RFC 5280 (4.2.1.1 to 4.2.1.3).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
            )
            .add_extension(key_usage(signs=name == issuer), True)
            .sign(signer, hashes.SHA256())
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    pem = serialization.Encoding.PEM
    made.ca.write_bytes(certificate("ca", ca_key, "ca", ca_key).public_bytes(pem))
    made.cert.write_bytes(certificate("server", key, "ca", ca_key).public_bytes(pem))
    made.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@dataclass
class Watched:
    """A master, a replica of it, and sentinels that agree by a majority of one."""

    master: Server
    replica: Server
    sentinels: list[Server]

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main"

    def master_port(self) -> int:
        """As the sentinel says."""
        return int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])


def start_watched(make: MakeServer, directory: Path) -> Watched:
    """Returns once a failover would work."""
    master = make()
    replica = make("--replicaof", "127.0.0.1", str(master.port))
    configuration = directory / f"sentinel-{master.port}.conf"
    configuration.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 400\n"
        "sentinel failover-timeout main 3000\n"
    )
    sentinel = make(str(configuration), "--sentinel")
    wait_until(
        lambda: "up" in replica.ask("INFO", "replication")["master_link_status"],
        "the replica does not follow",
    )
    wait_until(
        lambda: len(sentinel.ask("SENTINEL", "REPLICAS", "main")) == 1,
        "the sentinel does not see the replica",
    )
    return Watched(master, replica, [sentinel])


def start_cluster(make: MakeServer, redis_cli: str) -> list[Server]:
    """Three masters that share the slots."""
    nodes = [
        make(
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
            *("--cluster-port", str(free_port())),
        )
        for _ in range(3)
    ]
    subprocess.run(
        [redis_cli, "--cluster", "create", *(node.address for node in nodes), "--cluster-yes"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wait_for_cluster(nodes)
    return nodes


def wait_for_cluster(nodes: list[Server]) -> None:
    """Returns once every node says that all is well."""
    wait_until(
        lambda: all(node.ask("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes),
        "the cluster does not come up",
    )


# -- places: what the contract is held on ----------------------------------------------------------


@pytest.fixture(scope="session")
def redis_url(lasting_server: MakeServer) -> str:
    return f"redis://{lasting_server().address}/3"


@pytest.fixture(scope="session")
def tls_url(lasting_server: MakeServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    server = lasting_server(*made.options, "--tls-auth-clients", "yes", tls=True)
    return f"rediss://{server.address}?ca={made.ca}&cert={made.cert}&key={made.key}"


@pytest.fixture(scope="session")
def sentinel_url(lasting_server: MakeServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_watched(lasting_server, tmp_path_factory.mktemp("sentinel")).url


@pytest.fixture(scope="session")
def cluster_nodes(
    lasting_server: MakeServer, require_program: Callable[[str], str]
) -> list[Server]:
    """One for all tests, since it takes two seconds to come up."""
    return start_cluster(lasting_server, require_program("redis-cli"))


@pytest.fixture(scope="session")
def cluster_url(cluster_nodes: list[Server]) -> str:
    return "redis+cluster://" + ",".join(node.address for node in cluster_nodes[:2])


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite://{tmp_path_factory.mktemp('sqlite')}/a store.db"


@dataclass
class Place:
    """Where a store is. `sealed` is how the sidecar opens it, else it is the backend alone."""

    url: str
    sealed: bool
    reports: list[str] = field(default_factory=list)

    @property
    def is_shared(self) -> bool:
        return self.url != "memory:"

    def open(self, limit: float = 2.0) -> Store:
        url, report = parse_store_url(self.url), self.reports.append
        if self.sealed:
            return open_store(url, [SECRET], report, limit=limit)
        if url.kind == "memory":
            return MemoryStore(report)
        if url.kind == "sqlite":
            return SqliteStore(url.path, report, limit=limit)
        return RedisStore(url, report, limit=limit)


SHARED: Final = (
    *("sqlite", "redis", "tls", "sentinel", "cluster"),
    *("sealed sqlite", "sealed redis", "sealed cluster"),
)
ALL: Final = ("memory", *SHARED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`place` is every backend; `shared_place` those that several processes can use."""
    for name, kinds in (("place", ALL), ("shared_place", SHARED)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, kinds, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    kind: str = request.param
    name = kind.removeprefix("sealed ")
    url = "memory:" if name == "memory" else request.getfixturevalue(f"{name}_url")
    return Place(url, kind != name)


shared_place = place


Open: TypeAlias = Callable[..., Store]


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Store], Store]]:
    """Closes what a test has opened."""
    stores: list[Store] = []

    def remember(store: Store) -> Store:
        stores.append(store)
        return store

    yield remember
    for store in stores:
        await store.close()


@pytest.fixture
def key() -> str:
    """A key that no other test uses, and a prefix of more."""
    return f"test:{os.urandom(8).hex()}"
