"""`workers`: several processes on one socket behave as one, also when they die."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import stat
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.families import FAMILIES
from sidecar.web.readiness import of_all
from sidecar.workers.board import BoardShares, Scoreboard, WorkerId
from sidecar.workers.private import private_directory
from sidecar.workers.processors import usable_processors
from sidecar.workers.supervisor import LONGEST_PAUSE, pause_before
from sidecar.workers.together import socket_path
from sidecar.workers.totals import Totals
from tests.e2e.servers import write_certificate
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from tests.conftest import Answer, Client, Clients, Upstream

HOST: Final = "Host: app.example.com\r\n"
PATIENCE: Final = 10.0
REQUESTS: Final = 'sidecar_requests_total{"route": "/", "status": "200"}'


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Ports of the loopback interface that nobody listens on, below those of outgoing ones."""

    def find(count: int) -> list[int]:
        found: set[int] = set()
        while len(found) < count:
            found.add(free_port())
        return [*found]

    return find


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "workers": 2,
        "drain": {"wait": "0s"},
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/", "kind": "page", "upstream": "main"},
            {"path": "/api", "kind": "api", "upstream": "main"},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
        **more,
    }


class Crew:
    """`sidecar run` as a process with its children."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        port: int,
        admin: int,
        errors: Path,
        client: Clients,
    ) -> None:
        self.process = process
        self.port = port
        self.admin = admin
        self._errors = errors
        self._client = client

    @property
    def stderr(self) -> str:
        """What they have written to standard error."""
        return self._errors.read_text()

    @property
    def children(self) -> list[int]:
        """The processes that it has forked (proc(5))."""
        pid = self.process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    async def ask_admin(self, path: str) -> Answer:
        """An answer of the admin listener."""
        one = await self._client(self.admin)
        answer = await one.get(path, f"Host: 127.0.0.1:{self.admin}", "Connection: close")
        await one.gone()
        return answer

    async def exit_code(self) -> int:
        """Waits for the end."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


Start: TypeAlias = "Callable[..., Awaitable[Crew]]"


@pytest.fixture
async def start(
    upstream: Upstream, client: Clients, free_ports: Callable[[int], list[int]], tmp_path: Path
) -> AsyncIterator[Start]:
    """`await start(**more)` runs two workers; every process that is left at the end is killed."""
    crews: list[Crew] = []

    async def run(**more: Any) -> Crew:
        port, admin = free_ports(2)
        whole = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}"}
        file, errors = tmp_path / f"{port}.json", tmp_path / f"{port}.log"
        file.write_text(json.dumps(whole | config(upstream, **more)))
        with errors.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sidecar", "run", "-c", str(file)),
                stderr=out,
                env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            )
        crews.append(Crew(process, port, admin, errors, client))
        return crews[-1]

    yield run
    for crew in crews:
        is_left = crew.process.returncode is None
        left = [crew.process.pid, *crew.children] if is_left else [*pids(crew).values()]
        for pid in filter(is_running, left):
            os.kill(pid, signal.SIGKILL)
        await crew.exit_code()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


def lines(at: Crew, event: str) -> list[dict[str, Any]]:
    """The log's lines of one event."""
    whole = at.stderr.rpartition("\n")[0]  # the last line may be under way
    parsed = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [line for line in parsed if line["event"] == event]


def pids(at: Crew) -> dict[int, int]:
    """The newest process of each worker."""
    return {line["worker"]: line["pid"] for line in lines(at, "serving") if "worker" in line}


def directory(at: Crew) -> Path:
    """The private directory of a run."""
    return Path(lines(at, "serving")[0]["admin"].removeprefix("unix:")).parent


async def samples(at: Crew) -> dict[str, float]:
    """What `/metrics` says."""
    text = (await at.ask_admin("/metrics")).body.decode()
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True) if sample.labels else ''}": (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def answers(at: Crew) -> bool:
    """Whether its admin listener does."""
    try:
        await at.ask_admin("/healthz")
    except ConnectionRefusedError:
        return False
    return True


async def all_serve(at: Crew, count: int = 2) -> None:
    """Waits until every worker serves."""

    async def is_so() -> bool:
        assert at.process.returncode is None, at.stderr
        return (await samples(at))["sidecar_workers"] == count

    await eventually(lambda: answers(at))
    await eventually(is_so)


def worker_of(answer: Any) -> str:
    """Request ids begin with what is random for each process."""
    return str(answer.get("X-Request-Id"))[:16]


async def one_of_each(at: Crew, client: Clients) -> tuple[Client, Client]:
    """A connection to each of two workers."""
    await all_serve(at)
    found: dict[str, Client] = {}
    async with asyncio.timeout(PATIENCE):
        while len(found) < 2:
            one = await client(at.port)
            found.setdefault(worker_of(await one.get("/page")), one)
    first, second = found.values()
    return first, second


async def begun(one: Client, upstream: Upstream) -> None:
    """A request is under way."""
    count = len(upstream.requests)
    one.send(f"GET /page HTTP/1.1\r\n{HOST}\r\n")

    async def is_so() -> bool:
        return len(upstream.requests) > count

    await eventually(is_so)


async def is_refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def is_running(pid: int) -> bool:
    """Whether a process has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may be reaped between open and read
        return False


# -- several serve ---------------------------------------------------------------------------------


async def test_connections_spread(start: Start, upstream: Upstream, client: Clients) -> None:
    """Also those that come one after the other while nothing else goes on, and stay."""
    at = await start()
    await all_serve(at)
    took = Counter[str]()
    for _ in range(20):
        took[worker_of(await (await client(at.port)).get("/page"))] += 1
        await asyncio.sleep(0.02)
    assert len(took) == 2
    assert min(took.values()) >= 5
    found = await samples(at)
    assert found[REQUESTS] == 20
    connections = [found[f'sidecar_worker_connections{{"worker": "{n}"}}'] for n in (1, 2)]
    assert sorted(connections) == sorted(took.values())
    assert found["sidecar_client_connections"] == 20
    assert found['sidecar_tombstones{"worker": "1"}'] == 0


async def test_metrics_of_several_workers_are_one_scrape(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """Every metric, once; what holds for each process has its name, the rest is one value.

    No counter goes down when a worker is replaced.
    """
    at = await start()
    for one in await one_of_each(at, client):
        assert (await one.get("/page")).status == 200
    text = (await at.ask_admin("/metrics")).body.decode()
    of_others = {"bytes_limit", "entries"}  # the store is a file here
    names = {one.name for one in text_string_to_metric_families(text)}
    assert names == FAMILIES.keys() - {f"sidecar_store_{name}" for name in of_others}
    found = await samples(at)
    processes = {"1", "2", "admin", "supervisor"}
    # Nobody but root sees the descriptors of another process that leaves no core file.
    seen = processes if os.geteuid() == 0 else processes - {"supervisor"}
    for name, those in (("process_open_fds", seen), ("process_cpu_seconds_total", processes)):
        told = {one for one in found if one.startswith(name)}
        assert told == {f'{name}{{"worker": "{process}"}}' for process in those}
    assert [found[one] for one in found if "build_info" in one] == [1]
    assert [found[one] for one in found if "config_info" in one] == [1]
    assert found["sidecar_store_up"] == found["sidecar_ready"] == 1
    assert found['sidecar_requests_in_flight_limit{"kind": "api"}'] == 2000
    before = {one: value for one, value in found.items() if "_total" in one or "_bucket" in one}
    killed = pids(at)[1]
    os.kill(killed, signal.SIGKILL)

    async def is_replaced() -> bool:
        return (await samples(at))["sidecar_workers_replaced_total"] == 1

    await eventually(is_replaced)
    await all_serve(at)
    after = await samples(at)
    assert {one for one, value in before.items() if after[one] < value} == set()
    assert after[REQUESTS] >= before[REQUESTS] >= 4


async def test_log_names_the_worker(start: Start, upstream: Upstream, client: Clients) -> None:
    at = await start()
    await one_of_each(at, client)
    at.process.terminate()
    assert await at.exit_code() == 0
    requests = lines(at, "request")
    assert {line["worker"]: line["pid"] for line in requests} == pids(at)
    assert len(pids(at)) == 2
    for event in ("serving", "draining", "stopped"):
        assert sorted(line["worker"] for line in lines(at, event)) == [1, 2]
    assert lines(at, "supervising")[0]["workers"] == 2


async def test_one_worker_is_one_process(start: Start, upstream: Upstream) -> None:
    """Without a supervisor, and without a word of workers in the log."""
    at = await start(workers=1)
    await eventually(lambda: answers(at))
    assert at.children == []
    assert "worker" not in at.stderr


async def test_a_stuck_worker_holds_nobody_up(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """New connections go to the others, and the whole is alive."""
    at = await start()
    await one_of_each(at, client)
    os.kill(pids(at)[1], signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(10):
            assert (await (await client(at.port)).get("/page")).status == 200
        assert time.monotonic() - began < 2
        assert (await at.ask_admin("/healthz")).status == 200
    finally:
        os.kill(pids(at)[1], signal.SIGCONT)


async def test_secret_and_dead_sessions_are_shared(
    start: Start, upstream: Upstream, client: Clients, tmp_path: Path
) -> None:
    """A session that ends at one worker is dead at the other within a second; its ticket counts.

    Even where no secret is configured, and no store.
    """
    at = await start()
    first, second = await one_of_each(at, client)
    cookie = "Cookie: access_token=tok"
    assert (await first.get("/api/a", cookie)).status == 200
    assert (await second.get("/api/a", cookie)).status == 200
    assert upstream.last.get("Authorization") == "Bearer tok"
    upstream.answers(upstream.reply(b"{}", status="401 Unauthorized"))
    ended = await first.get("/api/a", cookie)
    assert ended.status == 303
    deadline = time.monotonic() + 1
    while (await second.get("/api/a", cookie)).status == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    location = str(ended.get("Location"))
    assert "ticket=" in location
    logout = await second.get(location, cookie, "Sec-Fetch-Mode: navigate", "Accept: text/html")
    assert "access_token=" in " ".join(logout.all("Set-Cookie"))


NO_LOOK: Final = """import sidecar.net.store.sqlite
sidecar.net.store.sqlite._POLL = 3600.0
"""


async def test_workers_wake_each_other(
    start: Start,
    upstream: Upstream,
    client: Clients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker learns of a death though it looks into the file once an hour; one that took the
    place of another, and one that has reloaded, too.
    """
    (tmp_path / "sitecustomize.py").write_text(NO_LOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    at = await start()

    async def ends_everywhere(token: str) -> None:
        first, second = await one_of_each(at, client)
        cookie = f"Cookie: access_token={token}"
        assert (await second.get("/api/a", cookie)).status == 200
        assert (await first.post("/api/logout", cookie)).status == 200

        async def is_dead() -> bool:
            return (await second.get("/api/a", cookie)).status != 200

        await eventually(is_dead)

    await ends_everywhere("one")
    before = pids(at)
    os.kill(before[2], signal.SIGKILL)

    async def is_replaced() -> bool:
        return pids(at)[2] != before[2]

    await eventually(is_replaced)
    await ends_everywhere("two")
    at.process.send_signal(signal.SIGHUP)

    async def have_reloaded() -> bool:
        return len(lines(at, "reloaded")) >= 3

    await eventually(have_reloaded)
    await ends_everywhere("three")


async def test_administrator_ends_a_session_of_any_worker(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """It is counted once, at whichever worker it is known, and all of them refuse it then."""
    at = await start()
    first, second = await one_of_each(at, client)
    cookie = "Cookie: access_token=tok"
    assert (await second.get("/api/a", cookie)).status == 200
    fingerprints: list[str] = []

    async def is_logged() -> bool:
        fingerprints[:] = [one["session"] for one in lines(at, "request") if one.get("session")]
        return bool(fingerprints)

    await eventually(is_logged)
    fields = (f"Host: 127.0.0.1:{at.admin}", "X-Sidecar-Admin: 1")
    body = json.dumps({"fingerprint": fingerprints[0]}).encode()
    admin = await client(at.admin)
    told = [(await admin.post("/sessions/end", *fields, body=body)).json for _ in range(2)]
    assert [one["ended"] for one in told] == [1, 0]

    async def are_refused() -> bool:
        return all([(await one.get("/api/a", cookie)).status == 303 for one in (first, second)])

    await eventually(are_refused)


# -- what dies -------------------------------------------------------------------------------------


async def test_killed_worker_is_replaced(start: Start, upstream: Upstream, client: Clients) -> None:
    """The port is never lost, nor what was counted; and who dies again is given a pause."""
    at = await start()
    first, second = await one_of_each(at, client)
    for _ in range(5):
        await first.get("/page")
        await second.get("/page")
    counted = (await samples(at))[REQUESTS]
    assert counted >= 12
    dead = pids(at)[1]
    os.kill(dead, signal.SIGKILL)
    while is_running(dead):
        await asyncio.sleep(0)
    seen = counted
    for number in range(20):
        assert (await (await client(at.port)).get("/page")).status == 200
        now = (await samples(at))[REQUESTS]
        assert seen <= now <= counted + 1 + number
        seen = now
    await all_serve(at)
    assert (await samples(at))[REQUESTS] == counted + 20
    assert (await samples(at))["sidecar_workers_replaced_total"] == 1
    assert pids(at)[1] != dead
    os.kill(pids(at)[1], signal.SIGKILL)

    async def is_told() -> bool:
        return len(lines(at, "worker ended")) == 2

    await eventually(is_told)
    one, two = lines(at, "worker ended")
    assert (one["worker"], one["pid"], one["signal"], one["pause"]) == (1, dead, "SIGKILL", 0)
    assert two["pause"] == 0.5
    await all_serve(at)
    assert (await samples(at))[REQUESTS] >= seen


async def test_admin_process_is_replaced(start: Start, upstream: Upstream) -> None:
    """The admin port is not lost either."""
    at = await start()
    await all_serve(at)
    (admin,) = set(at.children) - set(pids(at).values())
    os.kill(admin, signal.SIGKILL)
    await all_serve(at)
    assert lines(at, "admin process ended")[0]["signal"] == "SIGKILL"


async def test_worker_that_cannot_start_ends_it_with_2(start: Start, upstream: Upstream) -> None:
    """It would not start the next time either. Here its private directory has gone."""
    at = await start()
    await all_serve(at)
    for file in directory(at).iterdir():
        file.unlink()
    directory(at).rmdir()
    os.kill(pids(at)[1], signal.SIGKILL)
    assert await at.exit_code() == 2
    assert "sidecar: cannot start" in at.stderr
    assert lines(at, "worker cannot start")[0]["worker"] == 1
    assert await is_refused(at.port)


async def test_worker_that_waits_for_a_file_ends_nobody(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """A certificate may be half-written just then, and the other worker has the former one."""
    ca, _ = write_certificate(tmp_path)
    at = await start(outbound={"ca": str(ca)}, watch=False)
    await all_serve(at)
    written = ca.read_bytes()
    ca.write_text("half")
    os.kill(pids(at)[1], signal.SIGKILL)
    await eventually(lambda: waits(at))
    assert lines(at, "worker cannot start")[0]["detail"] == (
        f"outbound.ca: {ca}: must contain a PEM certificate"
    )
    assert await answers(at)
    ca.write_bytes(written)
    at.process.send_signal(signal.SIGHUP)
    await all_serve(at)


async def waits(at: Crew) -> bool:
    return bool(lines(at, "worker cannot start"))


async def test_killed_supervisor_leaves_no_orphans(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """The ports are free at once, requests under way are answered, and all processes end."""
    at = await start()
    first, second = await one_of_each(at, client)
    upstream.default = [0.5, upstream.reply(b"{}")]
    await begun(first, upstream)
    await begun(second, upstream)
    at.process.kill()
    await eventually(lambda: is_refused(at.port))
    await eventually(lambda: is_refused(at.admin))
    for one in (first, second):
        assert (await one.answer()).status == 200
        await one.gone()

    async def all_gone() -> bool:
        return not any(is_running(pid) for pid in pids(at).values())

    await eventually(all_gone)


# -- the end ---------------------------------------------------------------------------------------


async def test_drain_finishes_what_is_under_way_in_each(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """Nobody new is let in, readiness tells it, and nothing is left behind."""
    at = await start()
    first, second = await one_of_each(at, client)
    upstream.default = [0.5, upstream.reply(b"{}")]
    await begun(first, upstream)
    await begun(second, upstream)
    assert directory(at).is_dir()
    at.process.terminate()
    await eventually(lambda: is_refused(at.port))
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["draining"]) == (503, True)
    for one in (first, second):
        answer = await one.answer()
        assert (answer.status, answer.get("Connection")) == (200, "close")
        await one.gone()
    assert await at.exit_code() == 0
    assert not directory(at).exists()
    assert not any(is_running(pid) for pid in pids(at).values())
    assert await is_refused(at.admin)


async def test_signal_to_every_process_drains(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """As service managers and terminals send it: once to all is not twice."""
    at = await start()
    first, _ = await one_of_each(at, client)
    upstream.default = [0.3, upstream.reply(b"{}")]
    await begun(first, upstream)
    for pid in at.children:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    at.process.send_signal(signal.SIGTERM)
    assert (await first.answer()).status == 200
    await first.gone()
    assert await at.exit_code() == 0


async def test_second_signal_cuts(start: Start, upstream: Upstream, client: Clients) -> None:
    """Who is in a hurry need not wait for the drain's end."""
    at = await start()
    first, _ = await one_of_each(at, client)
    upstream.default = ["hang"]
    await begun(first, upstream)
    at.process.terminate()
    await eventually(lambda: is_refused(at.port))
    at.process.terminate()
    assert await first.ends() == b""
    assert await at.exit_code() == 0
    assert [line["connections_cut"] for line in lines(at, "stopped")].count(1) == 1


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
async def test_unix_socket(start: Start, tmp_path: Path, workers: int) -> None:
    """A file left behind is replaced, and one in use is taken over; who ends removes its own."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))

    async def told() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(f"GET /page HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    async def begun() -> Crew:
        at = await start(listen=f"unix:{path}", workers=workers, secret="s" * 32)
        await eventually(lambda: answers(at))
        while len(lines(at, "serving")) < workers:
            await asyncio.sleep(0.02)
        return at

    first = await begun()
    prefixes = set()
    for _ in range(4):
        answer = await told()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        prefixes.add(answer.split(b"X-Request-Id: ")[1][:16])
    second = await begun()
    first.process.terminate()
    assert await first.exit_code() == 0
    answer = await told()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.split(b"X-Request-Id: ")[1][:16] not in prefixes
    second.process.terminate()
    assert await second.exit_code() == 0
    assert not path.exists()


async def test_nowhere_to_write_ends_with_2(upstream: Upstream, tmp_path: Path) -> None:
    """Says what would help."""
    file = tmp_path / "config.yaml"
    listeners = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    file.write_text(json.dumps(config(upstream, secret="x" * 32) | listeners))
    nowhere = f"{tmp_path}/none"
    script = (
        "import sys; from sidecar.workers import private; from sidecar.cli import main;"
        f"private.SHARED_MEMORY = private.TEMPORARY = {nowhere!r};"
        f"main(['run', '-c', {str(file)!r}])"
    )
    hidden = {"RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in hidden},
    )
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate()
    assert process.returncode == 2
    for told in (b"sidecar: cannot start", nowhere.encode(), b"tmpfs", b"workers: 1"):
        assert told in errors
    assert b"Traceback" not in errors


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "limits", "allowed"),
    [
        ("0::/\n", {".": "max 100000"}, 64),
        ("0::/\n", {".": "150000 100000"}, 2),
        ("0::/a/b\n", {"a": "100000 100000", "a/b": "800000 100000"}, 1),
        ("0::/a/b\n", {"a/b": "5000 100000"}, 1),
        ("1:cpu:/x\n", {}, 64),
        ("0::/\n", {".": "nonsense"}, 64),
    ],
)
def test_processors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    limits: Mapping[str, str],
    allowed: int,
) -> None:
    """The affinity mask, or the strictest limit of a control group and those above it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for group, limit in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(limit)
    file = tmp_path / "cgroup"
    file.write_text(own)
    assert usable_processors(file, tmp_path) == allowed
    assert usable_processors(tmp_path / "none", tmp_path) == 64


def test_pauses_grow() -> None:
    """From none, for an accident, to the longest one."""
    pauses = [pause_before(deaths) for deaths in range(1, 20)]
    assert pauses[:4] == [0, 0.5, 1, 2]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def test_board_tells_who_is_ahead() -> None:
    """Of those that accept: who starts, drains or is dead does not count."""
    board = Scoreboard(3)
    one, two = BoardShares(board, 1), BoardShares(board, 2)
    one.join()
    for _ in range(3):
        one.opened()
    assert not one.is_ahead()  # alone
    two.join()
    assert one.is_ahead()
    assert not two.is_ahead()
    two.leave()
    two.closed()
    assert not one.is_ahead()
    for number, count in ((1, 104), (2, 100), (3, 120)):
        board.connections(number, count)
    assert [board.is_ahead(number) for number in (1, 2, 3)] == [False, False, True]


def test_board_counts_generations() -> None:
    board = Scoreboard(2)
    assert board.members() == []
    board.assign(1)
    board.serving(1)
    assert board.members() == [WorkerId(1, 1)]
    board.vacate(1)
    assert board.members() == []
    assert board.assign(1) == WorkerId(1, 2)
    assert board.replaced() == 1


def exposition(requests: int, dead: int, seconds: float = 0.5) -> str:
    """What a worker's `/metrics` says."""
    return (
        "# HELP sidecar_requests_total Requests.\n# TYPE sidecar_requests_total counter\n"
        f'sidecar_requests_total{{route="/"}} {requests}\n'
        "# HELP sidecar_tombstones Dead.\n# TYPE sidecar_tombstones gauge\n"
        f"sidecar_tombstones {dead}\n"
        "# HELP sidecar_busy Busy.\n# TYPE sidecar_busy gauge\n"
        f"sidecar_busy {requests}\n"
        "# HELP t Time.\n# TYPE t histogram\n"
        f't_bucket{{le="1.0"}} {requests}\nt_bucket{{le="+Inf"}} {requests}\n'
        f"t_count {requests}\nt_sum {seconds}\n"
    )


def test_totals() -> None:
    """Sums; of those gone only what can but grow; of what all know the same, each by itself."""
    totals = Totals()
    totals.tell("a", "1", exposition(3, 7))
    totals.tell("b", "2", exposition(4, 7))
    both = generate_latest(totals.registry()).decode()
    for line in (
        'sidecar_requests_total{route="/"} 7.0',
        'sidecar_tombstones{worker="1"} 7.0',
        'sidecar_tombstones{worker="2"} 7.0',
        "sidecar_busy 7.0",
        't_bucket{le="+Inf"} 7.0',
        "t_sum 1.0",
        "# TYPE t histogram",
        "# HELP sidecar_requests_total Requests.",
    ):
        assert line in both.splitlines()
    totals.keep(["b"])
    totals.tell("c", "1", exposition(1, 0))
    later = generate_latest(totals.registry()).decode().splitlines()
    assert 'sidecar_requests_total{route="/"} 8.0' in later
    assert "sidecar_busy 5.0" in later
    assert "t_count 8.0" in later
    assert "t_sum 1.5" in later
    assert 'sidecar_tombstones{worker="1"} 0.0' in later


def test_totals_of_gauges_are_what_their_family_says() -> None:
    """The worst store is the store's state; an info is one line, and a new hash a second one."""
    totals = Totals()
    for name, up, size, version in (("a", 1, 10, "x"), ("b", 0, 20, "x"), ("c", 1, 5, "y")):
        totals.tell(
            name,
            name,
            "# HELP sidecar_store_up Up.\n# TYPE sidecar_store_up gauge\n"
            f"sidecar_store_up {up}\n"
            "# HELP sidecar_store_bytes Bytes.\n# TYPE sidecar_store_bytes gauge\n"
            f"sidecar_store_bytes {size}\n"
            "# HELP sidecar_config_info Hash.\n# TYPE sidecar_config_info gauge\n"
            f'sidecar_config_info{{hash="{version}"}} 1\n',
        )
    told = generate_latest(totals.registry()).decode().splitlines()
    assert "sidecar_store_up 0.0" in told
    assert "sidecar_store_bytes 20.0" in told
    assert 'sidecar_config_info{hash="x"} 1.0' in told
    assert 'sidecar_config_info{hash="y"} 1.0' in told
    totals.keep(["a"])
    told = generate_latest(totals.registry()).decode().splitlines()
    assert "sidecar_store_up 1.0" in told
    assert 'sidecar_config_info{hash="y"} 1.0' not in told


def report(*missing: str, draining: bool = False) -> dict[str, Any]:
    return {
        "ready": not missing and not draining,
        "draining": draining,
        "missing": list(missing),
        "store": {"reachable": "store" not in missing, "required": True, "pending": 2},
        "provider": {"keys": {"reachable": True, "error": None, "at": None}},
        "upstreams": {"a": {"reachable": "upstream a" not in missing, "required": True}},
    }


@pytest.mark.parametrize(
    ("reports", "ready", "missing"),
    [
        ({1: report(), 2: report()}, True, []),
        ({1: report(), 2: report("store")}, False, ["store"]),
        ({1: report("upstream a"), 2: report("upstream a")}, False, ["upstream a"]),
        ({1: report(), 2: None}, False, ["worker 2"]),
        ({1: report(), 2: report(draining=True)}, False, []),
        ({}, False, ["workers"]),
    ],
)
def test_readiness_is_that_of_all(
    reports: dict[int, dict[str, Any] | None], ready: bool, missing: list[str]
) -> None:
    whole = of_all(reports)
    assert (whole["ready"], whole["missing"]) == (ready, missing)
    if "store" in missing:
        assert whole["store"] == {"reachable": False, "required": True, "pending": 4}
    if "upstream a" in missing:
        assert whole["upstreams"] == {"a": {"reachable": False, "required": True}}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's; that of `tmp_path` need not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def test_private_directory(short_path: Path) -> None:
    """Where the service manager says, for this user alone, and gone afterwards."""
    environ = {"RUNTIME_DIRECTORY": f"{short_path}:/other", "XDG_RUNTIME_DIR": "/none"}
    with private_directory(environ) as path:
        assert path.parent == short_path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "file").write_text("")
    assert list(short_path.iterdir()) == []


@pytest.mark.parametrize("length", range(40, 100, 4))
def test_private_directory_has_room_for_sockets(short_path: Path, length: int) -> None:
    """Else workers would serve, and nobody could ask them for metrics: then it is elsewhere."""
    base = short_path / ("x" * (length - len(f"{short_path}/")))
    base.mkdir()
    with private_directory({"RUNTIME_DIRECTORY": str(base)}) as made:
        longest = socket_path(made, WorkerId(9999, 999_999))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(longest))


def test_abandoned_directories_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of runs that were killed: old enough, and locked by nobody."""
    old, new, used = (tmp_path / f"sidecar-workers-{name}" for name in ("old", "new", "used"))
    for one in (old, new, used):
        one.mkdir()
        (one / "store.db").write_text("")
    link = tmp_path / "sidecar-workers-link"
    link.symlink_to(used)
    for one in (old, used, link):
        os.utime(one, (0, 0), follow_symlinks=False)
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with private_directory({"XDG_RUNTIME_DIR": str(tmp_path)}):
        assert not old.exists()
        assert (new / "store.db").exists()
        assert (used / "store.db").exists()
    os.close(lock)


# -- what the admin page is told -------------------------------------------------------------------


async def test_the_admin_page_is_told_of_all_workers_as_one(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    """Requests are summed, a session's story is found wherever it was served, and all drain."""
    at = await start(**config(upstream))
    await all_serve(at)
    first, second = await one_of_each(at, client)
    before = (await at.ask_admin("/status.json")).json
    assert [row["number"] for row in before["process"]["workers"]] == [1, 2]
    for one in (first, second):
        for _ in range(3):
            assert (await one.get("/page")).status == 200
    failed = await second.post("/api/logout", "Cookie: access_token=tok")
    after = (await at.ask_admin("/status.json")).json

    def counted(status: dict[str, Any]) -> int:
        return sum(row["total"] for row in status["traffic"]["routes"] if row["route"] == "/")

    assert counted(after) - counted(before) == 6
    assert after["verdict"]["state"] == "well"
    story = (await at.ask_admin(f"/session?id={failed.get('X-Request-Id')}")).json
    assert [event["kind"] for event in story["events"]] == ["ended"]
    told = (await at.ask_admin("/configuration.json")).json
    assert {row["key"]: row["value"] for row in told["keys"]}["workers"] == 2
    asked = "Host: localhost", "X-Sidecar-Admin: 1", "Content-Type: application/json"
    admin = await client(at.admin)
    body = json.dumps({"cookie": "access_token=tok", "request": "GET /api/a"}).encode()
    answer = await admin.post("/explain", *asked, body=body)
    assert answer.json["request"]["route"] == "/api"
    refused = await admin.post("/explain", *asked, body=b'{"request": "nonsense"}')
    assert refused.status == 400
    assert (await admin.post("/drain", *asked)).status == 202
    assert await at.exit_code() == 0


async def test_the_tail_follows_every_worker(
    start: Start, upstream: Upstream, client: Clients
) -> None:
    at = await start(**config(upstream))
    await all_serve(at)
    first, second = await one_of_each(at, client)
    tail = await client(at.admin)
    tail.send("GET /tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = b""
    async with asyncio.timeout(PATIENCE):
        while not (b"/from-first" in got and b"/from-second" in got):
            await first.get("/from-first")
            await second.get("/from-second")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    got += await tail.reader.read(1 << 16)
    tail.close()
