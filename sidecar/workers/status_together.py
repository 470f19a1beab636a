"""What all workers together tell the admin page; each is asked over its own socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector

from sidecar.core.admin_guard import HEADER
from sidecar.core.errors import BadRequest
from sidecar.observation.status_merge import merged, one_story
from sidecar.observation.status_model import Configuration, Status, Story, WorkerRow
from sidecar.workers.board import Scoreboard, WorkerId
from sidecar.workers.together import socket_path

SECONDS: Final = 4.0
LINES: Final = 1_000
"""Requests of all workers that wait for a listener."""
LOOK_SECONDS: Final = 2.0
"""Between two looks for workers that have begun, while somebody listens."""

Told = TypeVar("Told")


class WorkersStatus:
    """`StatusFacts` of several processes. `drain` has the supervisor end them all."""

    def __init__(self, board: Scoreboard, directory: Path, drain: Callable[[], None]) -> None:
        self._board: Final = board
        self._directory: Final = directory
        self.drain: Final = drain

    async def status(self) -> Status:
        """One document out of every worker's. Raises `ValueError` if none answers."""
        members = self._board.members()
        told = await self._every("/status.json", Status, members)
        silent = [
            WorkerRow(one.number, 0, 0.0, answers=False, is_ready=False)
            for one in members
            if one not in told
        ]
        return merged(list(told.values()), silent, replaced=self._board.replaced())

    async def story(self, asked: str) -> Story:
        """What all of them know of a session."""
        path = f"/session?{urlencode({'id': asked})}"
        return one_story(list((await self._every(path, Story, self._board.members())).values()))

    async def configuration(self) -> Configuration:
        """That of the first worker that answers: all have the same file."""
        for worker in self._board.members():
            told = await self._ask(worker, "/configuration.json")
            if told is not None:
                return msgspec.json.decode(told, type=Configuration)
        return Configuration((), (), ("no worker answers",))

    async def explain(self, cookie: str, request: str | None) -> Mapping[str, Any]:
        """As the first worker that answers would decide. Raises `BadRequest`."""
        body = json.dumps({"cookie": cookie, "request": request or ""})
        for worker in self._board.members():
            told = await self._ask(worker, "/explain", body)
            if told is not None:
                found: dict[str, Any] = json.loads(told)
                if found.get("result") == "refused":
                    raise BadRequest(str(found["reason"]))
                return found
        raise BadRequest("no worker answers")

    async def tail(self, session: str | None, *, errors: bool) -> AsyncGenerator[bytes]:
        """The requests of all workers as they end, also of those that begin meanwhile."""
        asked = urlencode({"session": session or "", "errors": str(int(errors))})
        queue: asyncio.Queue[bytes] = asyncio.Queue(LINES)
        tasks: dict[WorkerId, asyncio.Task[None]] = {}
        try:
            while True:
                for worker in self._board.members():
                    if worker not in tasks:
                        following = self._follow(worker, f"/tail?{asked}", queue)
                        tasks[worker] = asyncio.create_task(following)
                line = b""
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        line = await queue.get()
                if line:
                    yield line
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _follow(self, worker: WorkerId, path: str, queue: asyncio.Queue[bytes]) -> None:
        """Passes on what a worker tells; its own bound holds while nobody takes it."""
        with suppress(ClientError, OSError):
            async with (
                self._session(worker, None) as session,
                session.get(f"http://localhost{path}") as answer,
            ):
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        await queue.put(line[6:].rstrip(b"\n"))

    async def _every(
        self, path: str, form: type[Told], members: list[WorkerId]
    ) -> dict[WorkerId, Told]:
        """What each worker that answers in time tells."""
        answers = await asyncio.gather(*(self._ask(one, path) for one in members))
        return {
            worker: msgspec.json.decode(answer, type=form)
            for worker, answer in zip(members, answers, strict=True)
            if answer is not None
        }

    async def _ask(self, worker: WorkerId, path: str, body: str | None = None) -> bytes | None:
        """The body of an answer; None if there is none in time."""
        url, fields = f"http://localhost{path}", {HEADER: "1"}
        with suppress(ClientError, OSError):
            async with self._session(worker, SECONDS) as session:
                method = "GET" if body is None else "POST"
                async with session.request(method, url, data=body, headers=fields) as answer:
                    return await answer.read() if answer.status in (200, 400) else None
        return None

    def _session(self, worker: WorkerId, seconds: float | None) -> ClientSession:
        connector = UnixConnector(str(socket_path(self._directory, worker)), force_close=True)
        return ClientSession(connector=connector, timeout=ClientTimeout(total=seconds))
