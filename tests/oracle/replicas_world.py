"""Three replicas as processes of their own, each with its own way to one Redis."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from redis import Redis

from tests.life.programs import Program
from tests.net.store.conftest import Server, wait_until
from tests.oracle.replicas_knowledge import HEALED, Knowledge, Process
from tests.oracle.replicas_link import OK, Link
from tests.oracle.replicas_provider import CLIENT, Provider
from tests.ports import free_port

WORKERS: Final = (1, 2, 1)
SECRET: Final = "a secret of the sidecars, 32 bytes or more"
ORIGIN: Final = "https://app.example.com"
LIFETIME: Final = 3.0  # seconds that an access token lives
LASTING: Final = 3600  # seconds that a session lives
DAY: Final = 86_500  # seconds, and some
DRAINED: Final = 28.0  # seconds that a replica may take to leave
PATHS: Final = {"refresh_token": "refreshToken", "expires_at": "expiresAt"}
AUTHJS: Final = {"type": "authjs", "secret": SECRET, "token": "accessToken", **PATHS}
RAW: Final = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
_MESSAGES: Final = 10_000  # that are kept


def fake_clock() -> str | None:
    """The library that sets a program's clock, where it is installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


class Sidecar(Program):
    """A replica that serves on a port of its own; `ahead` is how far its clock is."""

    def __init__(self, config: dict[str, Any], directory: Path, ahead: float) -> None:
        port = free_port()
        file = directory / f"{port}.json"
        basis = {"listen": f"127.0.0.1:{port}", "admin": None, "drain": {"wait": "0s"}}
        file.write_text(json.dumps({**basis, **config}))
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        library = fake_clock()
        if ahead and library is not None:
            clock = [f"LD_PRELOAD={library}", f"FAKETIME={ahead:+g}s"]
            command = ["env", *clock, "FAKETIME_DONT_FAKE_MONOTONIC=1", *command]
        super().__init__(command, port, directory / f"{port}.log")

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """Of the first of its processes."""
        assert self._process is not None
        return self._process.pid

    async def served(self) -> None:
        """Waits until it listens."""
        end = time.monotonic() + 20.0
        while not self.serves():
            assert not self.is_over, f"has ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"does not serve: {self.log.read_text()[-2000:]}"
            await asyncio.sleep(0.02)

    def resident(self) -> int:
        """Bytes of memory of the largest of its processes (proc(5), VmRSS)."""
        return max(_resident(pid) for pid in _tree(self.pid))


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _resident(pid: int) -> int:
    """0 if it has ended since it was found, and its parent has not asked how."""
    status = Path(f"/proc/{pid}/status").read_text()
    _, _, told = status.partition("VmRSS:")
    return int(told.split()[0]) << 10 if told else 0


class World:
    """Redis, the provider, and the replicas. Belongs to one event loop."""

    def __init__(
        self,
        directory: Path,
        sources: Sequence[dict[str, Any]],
        clocks: Sequence[float],
        *,
        is_shared: bool,
    ) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        self._program = program
        self._directory = directory
        self._sources = list(sources)
        self._clocks = clocks
        self._is_shared = is_shared
        self._redis = Server(program, directory)
        self._follower: Server | None = None
        self._servers = [self._redis]
        self._snapshot: tuple[float, bytes] | None = None
        self._kept_at = self._split_at = 0.0
        self.redis_is_up = True
        self.provider = Provider(LIFETIME)
        self.knowledge = Knowledge()
        self.links = [Link(self._redis.port) for _ in WORKERS]
        self.sidecars: list[Sidecar | None] = [None for _ in WORKERS]
        self.processes: list[Process | None] = [None for _ in WORKERS]
        self._programs: list[Sidecar] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: list[BaseException] = []

    async def start(self) -> None:
        """Returns once all serve."""
        await asyncio.to_thread(self._redis.start)
        await self.provider.start()
        for link in self.links:
            await link.start()
        await asyncio.gather(*(self.run(replica) for replica in range(len(WORKERS))))
        self.spawn(self._tick())

    async def stop(self) -> None:
        """Ends everything. Fails where a replica has logged a defect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._programs:
            one.kill()
        for server in self._servers:
            server.kill()
        for link in self.links:
            await link.stop()
        await self.provider.stop()
        logs = [one.log.read_text() for one in self._programs]
        lines = [line for log in logs for line in log.splitlines()]
        defects = [one for one in lines if '"event": "defect"' in one or "Traceback" in one]
        assert not defects, defects

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Does something meanwhile."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failed.append(error)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.knowledge.tick(time.monotonic())

    # -- replicas ---------------------------------------------------------------------------------

    def _config(self, replica: int) -> dict[str, Any]:
        issuer = self.provider.issuer
        api = {"kind": "api", "upstream": "api", "strip": "/api"}
        oidc = {"issuer": issuer, **CLIENT, "keep": "store", "absolute": f"{LASTING}s"}
        return {
            "secret": SECRET,
            "public_url": ORIGIN,
            "workers": WORKERS[replica],
            "upstreams": {"api": {"url": f"{issuer}/api/{replica}"}},
            "routes": [
                {"path": "/api", **api},
                {"path": "/", "kind": "page", "upstream": "api"},
            ],
            "session": {"sources": self._sources},
            "oidc": {**oidc, "idle": f"{LASTING}s", "scopes": ["openid", "offline_access"]},
            "refresh": {
                "token_endpoint": f"{issuer}/token/{replica}",
                **CLIENT,
                "leeway": "1s",
                "grace": "5m",
            },
            "store": {"url": self._store(replica)},
        }

    def _store(self, replica: int) -> str:
        if self._is_shared:
            return f"redis://127.0.0.1:{self.links[replica].port}/0"
        return f"sqlite://{self._directory}/{replica}.db"

    async def run(self, replica: int) -> None:
        """Starts a replica; returns once it serves. One that is still leaving is waited for."""
        while self.processes[replica] is not None:
            await asyncio.sleep(0.05)
        one = Sidecar(self._config(replica), self._directory, self._clocks[replica])
        self._programs.append(one)
        one.start()
        await one.served()
        now = time.monotonic()
        calm = now if self._is_calm(replica) else None
        process = Process(replica, WORKERS[replica], now, calm)
        self.knowledge.processes.append(process)
        self.sidecars[replica], self.processes[replica] = one, process

    def kill(self, replica: int) -> None:
        """As when its machine breaks. What it exchanges just then is lost."""
        one, process = self.sidecars[replica], self.processes[replica]
        if one is None or process is None:
            return
        one.kill()
        process.is_alive = False
        for call in self.provider.under_way:
            if call.replica == replica and call.is_exchanged:
                call.family.excuses.append("a replica was killed while it renewed")
        self.sidecars[replica] = self.processes[replica] = None

    def drain(self, replica: int) -> None:
        """Asks it to leave."""
        one, process = self.sidecars[replica], self.processes[replica]
        if one is not None and process is not None and not process.is_leaving:
            process.is_leaving = True
            os.kill(one.pid, signal.SIGTERM)
            self.spawn(self._drained(replica, one, process))

    async def _drained(self, replica: int, one: Sidecar, process: Process) -> None:
        end = time.monotonic() + DRAINED
        while not one.is_over and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if self.processes[replica] is not process:
            return  # it was killed meanwhile
        if one.is_over:
            self.knowledge.ended(process)
            self.sidecars[replica] = self.processes[replica] = None
        else:
            self.kill(replica)

    # -- trouble ----------------------------------------------------------------------------------

    def _is_calm(self, replica: int) -> bool:
        return self.redis_is_up and self.links[replica].mode == OK

    def _note(self) -> None:
        """Who reaches the store from now on."""
        for replica, process in enumerate(self.processes):
            if process is None:
                continue
            is_calm = self._is_calm(replica)
            if is_calm != (process.calm_since is not None):
                process.calm_since = time.monotonic() if is_calm else None

    def link(self, replica: int, mode: str, delay: float) -> None:
        """Breaks or heals a replica's way to Redis."""
        self.links[replica].turn(mode, delay)
        self._note()

    async def snapshot(self, how: str) -> None:
        """What Redis holds now is what it may come back with: by a file, or by a follower."""
        if not self.redis_is_up:
            return
        if how == "follower":
            await asyncio.to_thread(self._follow)
            self._snapshot = None
            return
        await asyncio.to_thread(self._redis.ask, "SAVE")
        file = self._redis.directory / "dump.rdb"
        self._snapshot = time.monotonic(), file.read_bytes()

    def _follow(self) -> None:
        follower = Server(
            self._program, self._directory, "--replicaof", "127.0.0.1", str(self._redis.port)
        )
        self._servers.append(follower)
        follower.start()
        wait_until(
            lambda: "up" in follower.ask("INFO", "replication")["master_link_status"],
            "the follower does not follow",
        )
        follower.ask("REPLICAOF", "NO", "ONE")
        follower.command = follower.command[:-3]
        self._follower, self._split_at = follower, time.monotonic()

    async def stop_redis(self) -> None:
        """As when its machine breaks; what it holds can be had again."""
        if self.redis_is_up:
            await asyncio.to_thread(self._redis.ask, "SAVE")
            self._kept_at = time.monotonic()
            self._redis.kill()
            self.redis_is_up = False
            self._note()

    async def start_redis(self, how: str) -> None:
        """`kept`: with all its data; `empty`; `older`: as of the snapshot, if there is one."""
        await self.stop_redis()
        file, back_to = self._redis.directory / "dump.rdb", self._kept_at
        if how == "older" and self._follower is not None:
            self._redis, self._follower, back_to = self._follower, None, self._split_at
        elif how == "older" and self._snapshot is not None:
            back_to, data = self._snapshot
            file.write_bytes(data)
        elif how == "empty":
            back_to = -HEALED
            file.unlink()
        self.knowledge.went_back(back_to)
        if self._redis.process is None:
            await asyncio.to_thread(self._redis.start)
        for link in self.links:
            link.lead(self._redis.port)
        self.redis_is_up = True
        self._note()

    async def many_messages(self) -> None:
        """As though others had told as much as messages are kept, and more."""
        if self.redis_is_up:
            await asyncio.to_thread(self._repeat)

    def _repeat(self) -> None:
        with Redis(host="127.0.0.1", port=self._redis.port) as client:
            for stream in client.scan_iter(_type="stream"):
                last = client.xrevrange(stream, count=1)
                pipe = client.pipeline(transaction=False)
                for _ in range(_MESSAGES + 400):
                    pipe.xadd(stream, last[0][1])
                pipe.xtrim(stream, maxlen=_MESSAGES, approximate=True)
                pipe.execute()

    # -- what is there ----------------------------------------------------------------------------

    def resident(self) -> int:
        """Bytes of memory of the largest process."""
        return max(one.resident() for one in self.sidecars if one is not None)

    def lasting_keys(self) -> tuple[int, int]:
        """How many keys there are, and how many of them last for more than a day."""
        with Redis(host="127.0.0.1", port=self._redis.port) as client:
            pipe = client.pipeline(transaction=False)
            for key in client.scan_iter():
                pipe.ttl(key)
            lasting = pipe.execute()
        return len(lasting), sum(not -1 < one <= DAY for one in lasting)
