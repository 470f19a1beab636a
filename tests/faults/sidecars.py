"""A running sidecar: its processes over all handovers, its log, and what it takes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.wire import Broken, connected, request
from tests.oracle.replicas_world import Sidecar, fake_clock
from tests.ports import free_port
from tests.restart.site import is_gone

START_SECONDS: Final = 60.0
_HARD_LIMIT: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
_SAMPLE: Final = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """What all processes of a sidecar take: bytes of the largest, tasks, descriptors.

    `outgoing` are its connections to other servers and to a store in a file, which are kept in
    pools and so may be more or fewer; `descriptors` is all else.
    """

    resident: int
    tasks: int
    kinds: Counter[str]
    """Descriptors by what they are: a file's path, `socket`, `pipe`, …"""
    outgoing: int

    @property
    def descriptors(self) -> int:
        """All but the outgoing connections."""
        return self.kinds.total()


class Log:
    """What a sidecar logs, by a FIFO. It can be left unread, or without a reader."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.lines: list[str] = []
        self._path = path
        self._rest = b""
        self._fd = -1

    def open(self) -> None:
        """Reads, from now on."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def pause(self) -> None:
        """Reads no more; the reader is still there."""
        asyncio.get_running_loop().remove_reader(self._fd)

    def close(self) -> None:
        """Goes away."""
        if self._fd >= 0:
            self._read()
            self.pause()
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 1 << 20):
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.lines += [one.decode("utf-8", "replace") for one in lines]
            asyncio.get_running_loop().remove_reader(self._fd)  # nobody writes now


class Running(Sidecar):
    """One replica. `clock` is a file that says how far its clock is, if that can be set."""

    def __init__(
        self,
        config: dict[str, Any],
        directory: Path,
        *,
        clock: Path | None,
        log_file: Path | None,
    ) -> None:
        self.admin = free_port()
        admin = {"admin": f"127.0.0.1:{self.admin}"}
        super().__init__({**config, **admin}, directory, 0.0)
        self.file = Path(self.command[-1])
        self.workers: int = config.get("workers", 1)
        library = fake_clock()
        if clock is not None and library is not None:
            faked = [f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={clock}"]
            faked += ["FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
            self.command = ["env", *faked, *self.command]
        self.said = Log(self.log)
        self._log_file = log_file
        self._lead = 0

    @property
    def lead(self) -> int:
        """The process that serves, or that supervises those that do."""
        return self._lead

    def logged(self) -> list[str]:
        """All lines of the log that were read, of which none is being written."""
        file = self._log_file
        text = file.read_text() if file is not None and file.exists() else ""
        return [*self.said.lines, *text[: text.rfind("\n") + 1].splitlines()]

    def last_words(self) -> str:
        """The end of the log, without requests."""
        return "\n".join([one for one in self.logged() if '"request"' not in one][-10:])

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What the log says of an event."""
        lines = [one for one in self.logged() if f'"{event}"' in one]
        found = [json.loads(one) for one in lines if one.startswith("{") and one.endswith("}")]
        return [one for one in found if one["event"] == event]

    def defects(self) -> list[str]:
        """What may stand in no log."""
        return [one for one in self.logged() if '"defect"' in one or "Traceback" in one]

    async def begin(self) -> None:
        """Starts it; returns once all its workers serve."""
        self.said.open()
        count = len(self.lines("serving")) + self.workers
        self.start()
        assert self._process is not None
        self.said.open()  # a FIFO that nobody writes into is at its end
        self._lead = self._process.pid
        await self.until(lambda: len(self.lines("serving")) >= count or self.is_over)
        assert not self.is_over, self.last_words()

    async def until(self, condition: Any) -> None:
        """Waits for a condition; an error shows the log."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(self.last_words()) from None

    def pids(self) -> list[int]:
        """All of its processes, the first of them first."""
        return _tree(self._lead)

    def workers_now(self) -> list[int]:
        """Its worker processes."""
        return self.pids()[1:]

    async def all_serve(self) -> None:
        """Waits until all of its workers do, and its admin listener as well."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with suppress(Broken, OSError):
                    metrics = await self.metrics()
                    if self.workers == metrics.get("sidecar_workers", "sidecar_tasks" in metrics):
                        return
                await asyncio.sleep(0.05)

    async def hand_over(self) -> None:
        """Another process takes over."""
        count, former = len(self.lines("handed over")), self._lead
        failed = len(self.lines("handover failed"))
        os.kill(former, signal.SIGUSR2)
        await self.until(
            lambda: (
                len(self.lines("handed over")) > count
                or len(self.lines("handover failed")) > failed
            )
        )
        assert len(self.lines("handed over")) > count, "the handover failed"
        self._lead = self.lines("handed over")[-1]["pid"]
        await self.until(lambda: is_gone(former))
        await self.all_serve()

    async def reload(self, event: str) -> None:
        """Has it read its configuration, and waits for what the log says then."""
        count = len(self.lines(event))
        os.kill(self._lead, signal.SIGHUP)
        await self.until(lambda: len(self.lines(event)) > count)

    async def ended(self) -> None:
        """Waits until it has ended, as it was asked to: a second SIGTERM would hurry it."""
        await self.until(lambda: is_gone(self._lead))
        self.kill()

    def limit_descriptors(self, more: int | None) -> None:
        """Leaves each of its processes only so many more; None: as many as before."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                count = _HARD_LIMIT if more is None else len(_descriptors(pid)) + more
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, _HARD_LIMIT))

    def limit_files(self, size: int) -> None:
        """No file grows beyond so many bytes, as on a full disk."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, by name and labels as printed."""
        async with connected(self.admin) as wire:
            got = await wire.ask(request("GET", "/metrics", "", "Connection: close"))
        text = got.body.decode()
        return {name + labels: float(value) for name, labels, value in _SAMPLE.findall(text)}

    async def sample(self, others: Collection[int]) -> Sample:
        """What it takes now; `others` are ports of other servers. Raises `Broken`, `OSError`."""
        return self.sampled(await self.metrics(), others)

    def sampled(self, metrics: Mapping[str, float], others: Collection[int]) -> Sample:
        """The same, with what its metrics said just now."""
        pids = self.pids()
        found = [one for pid in pids for one in _descriptors(pid)]
        outgoing = _connected_to(others)
        kept = [one for one in found if one not in outgoing and ".db" not in one]
        return Sample(
            max(_resident(pid) for pid in pids),
            int(metrics["sidecar_tasks"]),
            Counter(one.partition(":[")[0] for one in kept),
            len(found) - len(kept),
        )


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _descriptors(pid: int) -> list[str]:
    """What they are, as proc(5) has it: `socket:[INODE]`, …"""
    found = []
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _connected_to(ports: Collection[int]) -> set[str]:
    """Sockets whose peers have these ports (proc(5), net/tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if int(row[2].rpartition(":")[2], 16) in ports}


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10
    return 0


__all__ = ["Broken", "Log", "Running", "Sample"]
