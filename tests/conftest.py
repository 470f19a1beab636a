"""What every test may ask for."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import shutil
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeAlias

import pytest
import uvloop
from hypothesis import settings
from ruamel.yaml import YAML

from sidecar.app import Sidecar
from sidecar.core.config import Config, Listen, load
from sidecar.core.config.listen_section import listeners_at
from sidecar.net.upstream import UpstreamConnection
from sidecar.web.connection import ClientConnection
from sidecar.web.flow import Flow
from sidecar.web.tunnel import Tunnel
from tests import npm_packages
from tests.ports import free_port

# How long an example takes says more of the machine than of the code.
settings.register_profile("sidecar", deadline=None)
settings.load_profile("sidecar")


def _do_without(reason: str) -> NoReturn:
    """Skip the test; in CI, where everything must be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


_SHARED: Final = frozenset(("clients", "e2e", "life", "oidc"))
"""Folders whose tests share what takes long to start: they follow each other in one process.

They also take longest, so they are first.
"""


def _group(item: pytest.Item) -> str:
    """Which tests one process plays, if several do (pytest-xdist): those of a folder, or a file."""
    folder = Path(item.nodeid.partition("::")[0]).parts[1]
    return folder if folder in _SHARED else item.nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests belong together, and has the longest groups begin first."""
    groups = {item.nodeid: _group(item) for item in items}
    items.sort(key=lambda item: groups[item.nodeid] not in _SHARED)  # keeps the order of each
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.nodeid]))


@pytest.fixture(scope="session")
def do_without() -> Callable[[str], NoReturn]:
    """Say why a test cannot run here: it is skipped, and in CI it fails."""
    return _do_without


@pytest.fixture(scope="session")
def npm_project(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]
) -> Callable[..., Path]:
    """Copy a folder and install the packages of its lock file, or do without the test."""
    require_program("node")

    def make(folder: Path, *options: str) -> Path:
        try:
            return npm_packages.copied(folder, tmp_path_factory.mktemp("npm") / "project", *options)
        except npm_packages.NotInstalled as missing:
            _do_without(str(missing))

    return make


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Find a program by name, or do without the test."""

    def find(name: str) -> str:
        return shutil.which(name) or _do_without(f"{name} is not installed")

    return find


# -- the proxy over real TCP: a scriptable upstream, a strict client, a sidecar in this loop -------

Step: TypeAlias = bytes | float | Literal["close", "reset", "hang"]
"""Bytes to send, seconds to wait, or an end: FIN, RST, or silence until the other side leaves."""

Script: TypeAlias = bytes | Sequence[Step]

TRANSIENT: Final = (ClientConnection, UpstreamConnection, Flow, Tunnel)
"""Connections and requests. None may wait for the garbage collector: it comes after hours."""
PATIENCE: Final = 20.0  # seconds that anything a test waits for may take
DRAIN_SECONDS: Final = 5.0  # for what a test has left open
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t -~\x80-\xff]*)")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? ([-+0-9.e]+|NaN)$", re.MULTILINE)


@dataclass(frozen=True)
class Head:
    """A start line and its fields, as they came; names are compared without case."""

    line: str
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of every line of a field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field that stands there once at most."""
        values = self.all(name)
        assert len(values) < 2, f"{name} stands there {len(values)} times"
        return values[0] if values else None

    @property
    def names(self) -> list[str]:
        """The names of the fields in lower case, in order."""
        return [key.lower() for key, _ in self.fields]


@dataclass(frozen=True)
class Received(Head):
    """A request as the upstream got it: `raw` is its head byte for byte."""

    raw: bytes
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


@dataclass(frozen=True)
class Answer(Head):
    """An answer as the client got it, whole and well formed; `hints` are fields of interim ones."""

    status: int
    body: bytes
    interim: tuple[int, ...] = ()
    hints: tuple[tuple[str, str], ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The `errorData.code` of an envelope."""
        data = self.json["errorData"]
        return data["code"] if isinstance(data, dict) else None


class Wire:
    """One TCP connection, read strictly: what breaks off or is malformed raises."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ended = asyncio.Event()

    def send(self, data: bytes | str) -> None:
        """Writes without waiting."""
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    async def trickle(self, data: bytes, size: int = 1, pace: float = 0.0) -> None:
        """Sends `size` bytes at a time, each a segment of its own that is read before the next."""
        for at in range(0, len(data), size):
            self.send(data[at : at + size])
            await self.writer.drain()
            await asyncio.sleep(pace)

    async def read_head(self) -> tuple[bytes, tuple[tuple[str, str], ...], bytes]:
        """The start line, the fields and the raw bytes of the next head."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        line, *rest = raw[:-4].split(b"\r\n")
        fields = []
        for one in rest:
            match = _FIELD.fullmatch(one)
            assert match, f"malformed field line {one!r}"
            fields.append((match[1].decode(), match[2].decode("latin-1")))
        return line, tuple(fields), raw

    async def read_body(self, head: Head) -> bytes:
        """The body that the head announces; none where it announces none."""
        coding, length = head.get("Transfer-Encoding"), head.get("Content-Length")
        assert coding is None or length is None, "both Content-Length and Transfer-Encoding"
        if coding is not None:
            assert coding == "chunked"
            return b"".join([chunk async for chunk in self._chunks()])
        return await self.reader.readexactly(int(length or 0))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = (await self.reader.readuntil(b"\r\n"))[:-2]
            assert _CHUNK_SIZE.fullmatch(size), f"malformed chunk size {size!r}"
            yield await self.reader.readexactly(int(size, 16))
            assert await self.reader.readexactly(2) == b"\r\n"
            if int(size, 16) == 0:
                return

    def close(self) -> None:
        """Ends with FIN."""
        self.writer.close()

    def reset(self) -> None:
        """Ends with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def is_left(self, seconds: float = PATIENCE) -> bool:
        """Whether the other side leaves within that time; what it sends till then is read."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                while await self.reader.read(1 << 16):
                    pass
        return self.reader.at_eof() or self.reader.exception() is not None

    async def gone(self) -> None:
        """Closes, and waits until that is done."""
        self.writer.close()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.writer.wait_closed()


class Upstream:
    """A server that answers by script, and remembers what it received.

    Each request takes the next script that `answers` was given, else `default`. `serve` may be
    set to a coroutine function that takes a connection over from its beginning.
    """

    def __init__(
        self, port: int = 0, *, host: str = "127.0.0.1", socket_path: Path | None = None
    ) -> None:
        self.wires: list[Wire] = []
        self.requests: list[Received] = []
        self.default: Script | Callable[[Received], Script] = self.reply(b'{"a":1}')
        self.serve: Callable[[Wire], Awaitable[None]] = self._serve
        self.port = port
        self._host = host
        self._socket_path = socket_path
        self._scripts: deque[Script] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def reply(
        body: bytes = b"",
        *fields: str,
        status: str = "200 OK",
        type: str | None = "application/json",  # noqa: A002 - as the field
    ) -> bytes:
        """The bytes of an answer with Content-Length."""
        lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
        lines += [] if type is None else [f"Content-Type: {type}"]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body

    def answers(self, *scripts: Script) -> None:
        """Appends scripts for the next requests."""
        self._scripts.extend(scripts)

    @property
    def url(self) -> str:
        if self._socket_path is not None:
            return f"unix:{self._socket_path}"
        return f"http://{self._host}:{self.port}"

    @property
    def last(self) -> Received:
        """The request received last."""
        return self.requests[-1]

    @property
    def connections(self) -> int:
        """How many connections it has ever had."""
        return len(self.wires)

    @property
    def open(self) -> list[Wire]:
        """The connections that the other side has not left."""
        return [wire for wire in self.wires if not wire.ended.is_set()]

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks of this server."""
        return self._tasks

    async def start(self) -> None:
        """Listens, also again after `stop`."""
        if self._socket_path is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._socket_path)
        else:
            self._server = await asyncio.start_server(self._accept, self._host, self.port)

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        wire = Wire(reader, writer)
        self.wires.append(wire)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.serve(wire)
        finally:
            wire.ended.set()
            wire.writer.close()

    async def _serve(self, wire: Wire) -> None:
        while not wire.writer.is_closing():
            request = await self.receive(wire)
            script = self._scripts.popleft() if self._scripts else self.default
            script = script(request) if callable(script) else script
            if request.method == "HEAD" and isinstance(script, bytes):
                script = script[: script.index(b"\r\n\r\n") + 4]
            await self.play(wire, script)

    async def receive(self, wire: Wire) -> Received:
        """Reads a request to its end and remembers it."""
        line, fields, raw = await wire.read_head()
        head = Head(line.decode("latin-1"), fields)
        request = Received(head.line, fields, raw, await wire.read_body(head))
        self.requests.append(request)
        return request

    async def play(self, wire: Wire, script: Script) -> None:
        """Runs the steps of a script."""
        for step in [script] if isinstance(script, bytes) else script:
            if wire.writer.is_closing():
                return
            if isinstance(step, bytes):
                wire.send(step)
                await wire.writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step == "hang":
                await wire.is_left(60)
                wire.close()
            elif step == "close":
                wire.close()
            else:
                wire.reset()


class Client(Wire):
    """A client that writes bytes and takes nothing but well-formed answers."""

    async def answer(self, method: str = "GET") -> Answer:
        """The next final answer; `method` is the request's, since HEAD changes the framing."""
        interim: list[int] = []
        hints: list[tuple[str, str]] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                line, fields, _ = await self.read_head()
                match = _STATUS_LINE.fullmatch(line)
                assert match, f"malformed status line {line!r}"
                status, head = int(match[1]), Head(line.decode("latin-1"), fields)
                if status >= 200 or status == 101:
                    break
                assert fields or status != 103
                assert not fields or status != 100
                interim.append(status)
                hints += fields
            body = await self._answer_body(status, head, method)
        return Answer(head.line, fields, status, body, tuple(interim), tuple(hints))

    async def _answer_body(self, status: int, head: Head, method: str) -> bytes:
        if status in (101, 204, 304):
            assert head.get("Transfer-Encoding") is None
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        if head.get("Transfer-Encoding") is None and head.get("Content-Length") is None:
            assert head.get("Connection") == "close", "neither framed nor closed"
            return await self.reader.read()
        return await self.read_body(head)

    async def ask(self, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
        """Sends a request and reads its answer. Host and Content-Length are added if missing."""
        lines = [f"{method} {target} HTTP/1.1", *fields]
        names = {field.partition(":")[0].lower() for field in fields}
        if "host" not in names:
            lines.insert(1, "Host: app.example.com")
        if body and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
        self.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body)
        return await self.answer(method)

    async def get(self, target: str, *fields: str) -> Answer:
        """A GET and its answer."""
        return await self.ask("GET", target, *fields)

    async def post(self, target: str, *fields: str, body: bytes = b"") -> Answer:
        """A POST and its answer."""
        return await self.ask("POST", target, *fields, body=body)

    async def answer_or_break(self, method: str = "GET") -> Answer | None:
        """A whole answer, or None where the connection breaks with RST before the end of one.

        One that ends early with FIN fails: some clients would take it for the whole.
        """
        try:
            return await self.answer(method)
        except ConnectionResetError:
            return None

    async def broken(self) -> bytes:
        """Reads until the connection breaks with RST, the one end that looks like no end.

        Returns what came; what ends with FIN, or not at all, fails.
        """
        got = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(1 << 16):
                    got += data
        except ConnectionResetError:
            return got
        pytest.fail(f"ended with FIN after {got[-300:]!r}")

    async def rest(self) -> bytes:
        """What comes until the connection is closed with FIN."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def rest_of_chunks(self) -> bytes:
        """The chunks that come until the chunked body ends."""
        async with asyncio.timeout(PATIENCE):
            return b"".join([chunk async for chunk in self._chunks()])

    async def ends(self) -> bytes:
        """What comes until the connection ends, with FIN or RST."""
        got = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(1 << 16):
                    got += data
        return got

    @asynccontextmanager
    async def sending(
        self, data: bytes, size: int = 1 << 20, pace: float = 0.0
    ) -> AsyncIterator[None]:
        """Sends `data` meanwhile, `size` bytes a segment; what is left at the end is not sent."""
        task = asyncio.create_task(self.trickle(data, size, pace))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def is_silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes and the connection stays open for that long."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False


class Clients:
    """Opens client connections; `await clients(running)` is a new one."""

    def __init__(self) -> None:
        self._open: list[Client] = []

    async def __call__(self, to: Running | int, *, window: int | None = None) -> Client:
        """Connects to a sidecar or to a port; `window` bounds the receive buffer in bytes."""
        port = to if isinstance(to, int) else to.port
        raw = socket.socket()
        raw.setblocking(False)
        if window is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        except OSError:
            raw.close()
            raise
        client = Client(*await asyncio.open_connection(sock=raw, limit=window or 1 << 20))
        self._open.append(client)
        return client

    async def close(self) -> None:
        """Closes every connection."""
        for one in self._open:
            await one.gone()
        self._open.clear()


class Running:
    """A sidecar that serves: its public port, and what its admin listener says."""

    def __init__(self, port: int, admin: int) -> None:
        self.port = port
        self.admin = admin

    async def ask_admin(self, path: str) -> Answer:
        """An answer of the admin listener."""
        wire = Client(*await asyncio.open_connection("127.0.0.1", self.admin, limit=1 << 20))
        try:
            return await wire.get(path, f"Host: 127.0.0.1:{self.admin}", "Connection: close")
        finally:
            await wire.gone()

    async def post_admin(self, path: str, *fields: str) -> Answer:
        """The admin listener's answer to a POST."""
        wire = Client(*await asyncio.open_connection("127.0.0.1", self.admin, limit=1 << 20))
        host = f"Host: 127.0.0.1:{self.admin}"
        try:
            return await wire.post(path, host, "X-Sidecar-Admin: 1", "Connection: close", *fields)
        finally:
            await wire.gone()

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, by name and labels as printed."""
        text = (await self.ask_admin("/metrics")).body.decode()
        return {
            f"{name}{{{labels}}}" if labels else name: float(value)
            for name, labels, value in _SAMPLE.findall(text)
        }

    async def wait_for(self, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """The metrics once `condition` has held for them; fails where it does not in time.

        They are read anew: an exposition is made in several turns of the loop, so what it begins
        with may be older than what has fulfilled the condition.
        """
        metrics, holds = await self._once(condition)
        assert holds, f"not within {PATIENCE} s: {metrics}"
        return await self.metrics()

    async def under_way(self) -> dict[str, float]:
        """What is still under way once every client has left: nothing, soon."""
        metrics, _ = await self._once(lambda metrics: not _under_way(metrics))
        return _under_way(metrics)

    async def _once(
        self, condition: Callable[[dict[str, float]], bool]
    ) -> tuple[dict[str, float], bool]:
        """The metrics once a condition holds for them, or patience has ended; and which it was."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            metrics = await self.metrics()
            holds = condition(metrics)
            if holds or asyncio.get_running_loop().time() > deadline:
                return metrics, holds
            await asyncio.sleep(0.02)


class Embedded(Running):
    """A sidecar in this event loop."""

    def __init__(self, port: int, admin: int, sidecar: Sidecar, log: StringIO) -> None:
        super().__init__(port, admin)
        self.sidecar = sidecar
        self.log = log


class Command(Running):
    """`sidecar run` as a process of its own."""

    def __init__(
        self, port: int, admin: int, process: asyncio.subprocess.Process, errors: Path
    ) -> None:
        super().__init__(port, admin)
        self.process = process
        self._errors = errors

    @property
    def stderr(self) -> str:
        """What it has written to standard error; while it runs, in whole lines."""
        text = self._errors.read_text()
        return text if self.process.returncode is not None else text[: text.rfind("\n") + 1]

    def resident(self) -> int:
        """Bytes of memory in use (proc(5), VmRSS)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.terminate()

    async def exit_code(self) -> int:
        """Waits for the end."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def serving(self) -> bool:
        """Waits until it listens; False where it has ended instead."""
        async with asyncio.timeout(2 * PATIENCE):
            while self.process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return True
                await asyncio.sleep(0.02)
        return False


def _under_way(metrics: Mapping[str, float]) -> dict[str, float]:
    names = ("sidecar_requests_in_flight", "sidecar_client_connections")
    return {
        name: value
        for name, value in metrics.items()
        if value and (name.partition("{")[0] in names or 'state="busy"' in name)
    }


Start: TypeAlias = Callable[..., Awaitable[Embedded]]
StartCommand: TypeAlias = Callable[..., Awaitable[Command]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests of the running proxy use the event loop that it runs on."""
    over_tcp = "upstream" in getattr(item, "fixturenames", ())
    return {"loop": uvloop.new_event_loop if over_tcp else asyncio.new_event_loop}


@pytest.fixture(scope="session")
def upstream_port() -> int:
    """The same for every test, so that the same configurations need reading once."""
    return free_port()


@pytest.fixture
async def upstream(upstream_port: int) -> AsyncIterator[Upstream]:
    """A server for the sidecar to forward to."""
    server = Upstream(upstream_port)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client() -> AsyncIterator[Clients]:
    """`await client(running)` is a new connection."""
    clients = Clients()
    yield clients
    await clients.close()


def _written(
    upstream: Upstream, config: str | Mapping[str, Any] | None, more: Mapping[str, Any]
) -> str:
    """A whole configuration but for its listeners; the cookie access_token is the session."""
    given = YAML(typ="safe").load(config) if isinstance(config, str) else dict(config or {})
    given.update(more)
    basis: dict[str, Any] = {
        "secret": "a secret of the tests, 32 bytes or more",
        "drain": {"wait": "0s"},
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
    }
    if not {"upstream", "upstreams"} & given.keys():
        basis["upstream"] = upstream.url
    return json.dumps(basis | given)


@cache
def _loaded(text: str) -> Config:
    return load(text, source="test", environ={}, read_file=_no_file)


@pytest.fixture
async def sidecar(upstream: Upstream, client: Clients) -> AsyncIterator[Start]:
    """`await sidecar(config)` serves a configuration (YAML, a mapping, or keyword arguments).

    Listeners, a secret, the upstream and the source access_token are added if they are missing; a
    list `listen` comes behind the usual one. At the end nothing may be left: no request under way,
    no connection on either side, no task, no defect in the log, and nothing that is over and waits
    for the garbage collector.
    """
    runs: list[Embedded] = []
    before = asyncio.all_tasks()
    thresholds = gc.get_threshold()
    gc.freeze()  # what is here is none of this sidecar's
    gc.disable()

    async def start(config: str | Mapping[str, Any] | None = None, **more: Any) -> Embedded:
        port, admin = free_port(), free_port()
        while admin == port:
            admin = free_port()
        own = Listen("127.0.0.1", port)
        listeners: dict[str, Any] = {"admin": Listen("127.0.0.1", admin)}
        if "listen" in more:
            more = {**more, "listen": [str(own), *more["listen"]]}
        else:
            listeners["listen"] = listeners_at(own)
        log = StringIO()
        with redirect_stderr(log):
            whole = _loaded(_written(upstream, config, {"listen": "127.0.0.1:0", **more}))
            embedded = Sidecar(whole.model_copy(update=listeners))
        await embedded.start()
        runs.append(Embedded(port, admin, embedded, log))
        return runs[-1]

    yield start
    await client.close()
    faults = [await _fault_at_the_end(one) for one in runs]
    gc.set_threshold(*thresholds)
    for wire in upstream.open:
        async with asyncio.timeout(PATIENCE):
            await wire.ended.wait()
    for _ in range(3):  # what the loop does for garbage (PEP 525) ends by itself
        await asyncio.sleep(0)
    waiting = left_to_the_collector(TRANSIENT)
    gc.enable()
    left = asyncio.all_tasks() - before - upstream.tasks - {asyncio.current_task()}
    assert {task for task in left if not task.done()} == set()
    assert faults == [None] * len(runs)
    assert waiting == {}


def left_to_the_collector(kinds: tuple[type, ...]) -> dict[str, int]:
    """Counts what is over and refers to itself, so that it stays until it is collected."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(type(one).__name__ for one in gc.garbage if isinstance(one, kinds))
    gc.garbage.clear()
    return dict(found)


async def _fault_at_the_end(one: Embedded) -> str | None:
    """Stops a sidecar whose clients have left; says what was still under way, or went wrong."""
    under_way = await one.under_way()
    cut = await one.sidecar.stop(DRAIN_SECONDS)
    if '"event": "defect"' in one.log.getvalue():
        return one.log.getvalue()
    return f"{cut} cut, {under_way}" if cut or under_way else None


@pytest.fixture
async def command(upstream: Upstream, tmp_path: Path) -> AsyncIterator[StartCommand]:
    """`await command(config)` runs `python -m sidecar run -c FILE`; what still runs is killed."""
    runs: list[Command] = []

    async def start(config: str | Mapping[str, Any] | None = None, **more: Any) -> Command:
        port, admin = free_port(), free_port()
        listeners = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}"}
        if isinstance(more.get("listen"), list):
            more = {**more, "listen": [listeners["listen"], *more["listen"]]}
        text = json.dumps(listeners | json.loads(_written(upstream, config, more)))
        file, errors = tmp_path / f"{port}.yaml", tmp_path / f"{port}.log"
        file.write_text(text)
        with errors.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sidecar", "run", "-c", str(file), stderr=out
            )
        runs.append(Command(port, admin, process, errors))
        await runs[-1].serving()
        return runs[-1]

    yield start
    for one in runs:
        if one.process.returncode is None:
            one.process.kill()
        await one.exit_code()


def _no_file(path: str) -> NoReturn:
    raise FileNotFoundError(path)
