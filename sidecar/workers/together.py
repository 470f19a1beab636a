"""The admin listener's facts about all workers together; each is asked over its own socket."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client import CollectorRegistry, Metric, ProcessCollector

from sidecar.core import families
from sidecar.core.admin_guard import HEADER
from sidecar.core.end_request import EndRequest, EndResult, all_together, read_end_result
from sidecar.core.record import replace
from sidecar.core.reload_result import ReloadHistory, ReloadResult, read_history, together
from sidecar.log_level import LogLevel
from sidecar.web.exposition import reloads, value, values
from sidecar.web.readiness import of_all
from sidecar.workers.board import Scoreboard, WorkerId
from sidecar.workers.totals import Totals

ASK_SECONDS: Final = 4.0  # a worker's own probes take up to 2
ALIVE_SECONDS: Final = 1.0
END_SECONDS: Final = 20.0  # that a worker has to end sessions, in the store too
POLL_SECONDS: Final = 5.0  # what a worker counts in the time before its end is lost at most

RELOAD_SECONDS: Final = 30.0  # that supervisor and workers have for a reload
LOOK_SECONDS: Final = 0.02  # between two looks whether they are through, while somebody waits
_HISTORY: Final = "reloads.json"
_MEANT: Final = (200, 422, 503)  # statuses of answers that say something


def socket_path(directory: Path, worker: WorkerId) -> Path:
    """Where a worker answers."""
    return directory / f"worker-{worker.number}-{worker.generation}.sock"


def write_history(directory: Path, history: ReloadHistory) -> None:
    """Tells the admin process of the supervisor's reloads, in one step."""
    whole = directory / f".{_HISTORY}"
    with suppress(OSError):  # a full disk: then it goes on telling of the last one
        whole.write_text(json.dumps(history.as_json()))
        whole.replace(directory / _HISTORY)


class WorkersFacts:
    """What all workers together have to tell (`web.admin.Facts`)."""

    def __init__(
        self,
        board: Scoreboard,
        directory: Path,
        history: ReloadHistory,
        ask_supervisor: Callable[[], None],
        log_level: LogLevel,
    ) -> None:
        """`history` is the supervisor's until now; `ask_supervisor` has it reload."""
        self.log_level = log_level
        self._board: Final = board
        self._directory: Final = directory
        self._history = history
        self._ask_supervisor: Final = ask_supervisor
        self._totals: Final = Totals()
        parent = os.getppid()
        self._admin: Final = ProcessCollector(registry=None)
        self._supervisor: Final = ProcessCollector(pid=lambda: parent, registry=None)
        self._lock: Final = asyncio.Lock()  # answers are counted in the order they were given in

    async def is_alive(self) -> bool:
        """Whether at least one worker answers."""
        asked = [
            asyncio.create_task(self._ask(worker, "/healthz", ALIVE_SECONDS))
            for worker in self._board.members()
        ]
        try:
            for answer in asyncio.as_completed(asked):
                if await answer is not None:
                    return True
        finally:
            for task in asked:
                task.cancel()
        return False

    async def readiness(self) -> dict[str, Any]:
        """Ready if all that have started are."""
        answers = await self._ask_all("/readyz")
        return of_all(
            {
                worker.number: None if answer is None else json.loads(answer)
                for worker, answer in answers.items()
            }
        )

    async def metrics(self) -> CollectorRegistry:
        """Sums, and what there is to say of the workers themselves."""
        await self.collect()
        return self._totals.registry(self._own_metrics())

    async def reload(self) -> ReloadResult:
        """The supervisor reloads, then all workers do; a fault of one is told."""
        asked = self._board.ask_reload()
        self._ask_supervisor()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_SECONDS):
                while not self._is_reloaded(asked):  # noqa: ASYNC110 - shared memory tells nobody
                    await asyncio.sleep(LOOK_SECONDS)
        history = await self.reloads()
        last = history.last if self._board.is_answered(asked) else None
        if last is None:
            return together(history.holds, {"supervisor": None})
        if not last.is_good:
            return last
        return together(last, await self._of_workers())

    async def reloads(self) -> ReloadHistory:
        """The supervisor's."""
        with suppress(FileNotFoundError):  # there was no reload yet
            self._history = read_history(json.loads((self._directory / _HISTORY).read_text()))
        return self._history

    async def end_sessions(self, asked: EndRequest) -> EndResult:
        """One worker after the other, so that each session is counted once.

        They share a store, so any of them ends what the store knows. A session that it does not
        know ends where it is known, or else by its name.
        """
        if asked.fingerprint is not None:
            known = await self._end_in_turn(replace(asked, known_only=True))
            if known.result != "done" or known.is_known:
                return known
        return await self._end_in_turn(asked)

    async def _end_in_turn(self, asked: EndRequest) -> EndResult:
        """A worker that does not answer is left out: it learns of it from the store."""
        results = []
        for worker in self._board.members():
            answer = await self._ask(worker, "/sessions/end", END_SECONDS, asked.as_json())
            with suppress(ValueError):
                results += [] if answer is None else [read_end_result(answer.encode())]
        return all_together(results)

    def _is_reloaded(self, asked: int) -> bool:
        members = self._board.members()
        return self._board.is_answered(asked) and all(map(self._board.has_reloaded, members))

    async def _of_workers(self) -> dict[str, ReloadResult | None]:
        """What came of the last reload in each worker; of one that began since, its start."""
        results: dict[str, ReloadResult | None] = {}
        for worker, answer in (await self._ask_all("/reload")).items():
            history = None if answer is None else read_history(json.loads(answer))
            is_through = history is not None and self._board.has_reloaded(worker)
            told = history.last or history.holds if history is not None else None
            results[f"worker {worker.number}"] = told if is_through else None
        return results

    async def collect(self) -> None:
        """Hears what every worker counts."""
        async with self._lock:
            for worker, answer in (await self._ask_all("/metrics")).items():
                if answer is not None:
                    self._totals.tell(worker, str(worker.number), answer)
            self._totals.note("admin", "admin", self._admin.collect())
            held = reloads(await self.reloads())
            self._totals.note("supervisor", "supervisor", [*self._supervisor.collect(), *held])
            self._totals.keep([*self._board.members(), "admin", "supervisor"])

    async def keep_collecting(self) -> None:
        """Collects every now and then, whether somebody asks or not."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.collect()

    async def _ask_all(self, path: str) -> dict[WorkerId, str | None]:
        members = self._board.members()
        answers = await asyncio.gather(*(self._ask(one, path, ASK_SECONDS) for one in members))
        return dict(zip(members, answers, strict=True))

    async def _ask(
        self, worker: WorkerId, path: str, seconds: float, body: object = None
    ) -> str | None:
        """The body of a worker's answer, None if none comes in time. With `body` it is a POST."""
        connector = UnixConnector(str(socket_path(self._directory, worker)), force_close=True)
        timeout = ClientTimeout(total=seconds)
        try:
            async with (
                ClientSession(connector=connector, timeout=timeout) as session,
                session.request(
                    "GET" if body is None else "POST",
                    f"http://worker{path}",
                    json=body,
                    headers={HEADER: "1"},
                ) as answer,
            ):
                return await answer.text() if answer.status in _MEANT else None
        except (ClientError, OSError):
            return None

    def _own_metrics(self) -> Iterator[Metric]:
        members = self._board.members()
        yield value(families.WORKERS, len(members))
        yield value(families.WORKERS_REPLACED, self._board.replaced())
        connections = {
            (str(one.number),): self._board.open_connections(one.number) for one in members
        }
        yield values(families.WORKER_CONNECTIONS, connections)
