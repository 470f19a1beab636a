"""A site behind a sidecar that is reloaded and restarted while people use it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.restart.visitors import Chatter, Listener, Seen, Visitor

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_WAIT: Final = 60.0  # seconds for a process to start or end, on a machine that has more to do
USERS: Final = 6
LASTING: Final = 3


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The upstream: answers, an endless event stream, and WebSockets."""
    with suppress(OSError, EOFError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(
                line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line
            )
            await reader.readexactly(int(fields.get(b"content-length", 0)))
            if head.startswith(b"GET /events"):
                writer.write(_STREAM)
                while True:
                    writer.write(b"9\r\ndata: 1\n\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)
            elif head.startswith(b"GET /socket"):
                await _converse(head, reader, writer)
                break
            writer.write(_ANSWER)
    writer.close()


async def _converse(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    line = next(one for one in head.split(b"\r\n") if one.lower().startswith(b"sec-websocket-key"))
    key = line.partition(b": ")[2]
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())  # noqa: S324 - RFC 6455
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    await reader.read()


class Site:
    """The sidecar's processes, one after the other, with their file and their log."""

    def __init__(self, folder: Path, port: int, admin: int, config: dict[str, Any]) -> None:
        self.port = port
        self.admin = admin
        self.file = folder / "sidecar.yaml"
        self.log = folder / "log"
        self.seen = Seen()
        self.config = config
        self.write()
        self.process: asyncio.subprocess.Process | None = None
        self.pid = 0
        self._tasks: list[asyncio.Task[None]] = []

    def write(self, **more: Any) -> None:
        """Writes the file, with other values of some keys."""
        self.config |= more
        self.file.write_text(json.dumps(self.config))

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What the log says of an event."""
        found = [json.loads(line) for line in _whole_lines(self.log) if line[:1] == "{"]
        return [line for line in found if line["event"] == event]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition; an error shows the log."""
        try:
            async with asyncio.timeout(_WAIT):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(self.log.read_text()[-3000:]) from None

    async def start(self, *command: str, **options: Any) -> None:
        """Starts a process, and waits until all its workers serve."""
        serving = len(self.lines("serving")) if self.log.exists() else 0
        run = command or (sys.executable, "-m", "sidecar", "run", "-c", str(self.file))
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(*run, stderr=out, **options)
        self.pid = self.process.pid
        count = serving + self.config["workers"]
        process = self.process
        await self.until(
            lambda: len(self.lines("serving")) >= count or process.returncode is not None
        )
        assert process.returncode is None, self.log.read_text()

    async def replace(self) -> int:
        """Has another process take over; returns the exit code of the former one."""
        count = len(self.lines("handed over"))
        former, pid = self.process, self.pid
        os.kill(pid, signal.SIGUSR2)
        await self.until(lambda: len(self.lines("handed over")) > count)
        self.pid, self.process = self.lines("handed over")[-1]["pid"], None
        if former is None:
            await self.until(lambda: is_gone(pid))
            return 0
        async with asyncio.timeout(_WAIT):
            return await former.wait()

    async def reload(self, how: str) -> None:
        """By a `signal`, a changed `file`, or a `post`; waits until it is done everywhere."""
        workers = self.config["workers"]
        count = len(self.lines("reloaded")) + (1 if workers == 1 else workers + 1)
        if how == "signal":
            os.kill(self.pid, signal.SIGHUP)
        elif how == "file":
            idle = 60 + len(self.lines("reloaded"))
            self.write(limits={"client_idle": f"{idle}s"})
        else:
            await self._post()
        await self.until(lambda: len(self.lines("reloaded")) >= count)

    async def _post(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        writer.write(
            b"POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sidecar-Admin: 1\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        assert b" 200 " in answer.partition(b"\r\n")[0], answer

    async def end(self) -> None:
        """Ends the process that serves."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        if self.process is not None:
            async with asyncio.timeout(_WAIT):
                await self.process.wait()
        else:
            await self.until(lambda: is_gone(self.pid))

    async def visited(self) -> None:
        """People come: some ask, some listen, some chat."""
        users = [Visitor(self.port, self.seen, f"/x{n}") for n in range(USERS // 2)]
        users += [Visitor(self.port, self.seen, f"/y{n}", b"body") for n in range(USERS // 2)]
        lasting = [Listener(self.port, self.seen) for _ in range(LASTING)]
        chats = [Chatter(self.port, self.seen) for _ in range(LASTING)]
        self._tasks = [
            *(asyncio.create_task(one.visit()) for one in users),
            *(asyncio.create_task(one.visit()) for one in lasting),
            *(asyncio.create_task(one.visit()) for one in chats),
        ]
        await self.until(self.are_all_here)

    def are_all_here(self) -> bool:
        """Whether everybody who stays is connected."""
        seen = self.seen
        streams = seen.streams_opened - seen.streams_ended
        return streams >= LASTING and seen.sockets_opened - seen.sockets_told >= LASTING

    async def busy(self, requests: int = 200) -> None:
        """Lets people go on for so many requests."""
        count = self.seen.requests + requests
        await self.until(lambda: self.seen.requests >= count)

    async def leave(self) -> None:
        """All leave; what breaks from now on is not counted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also if nobody has asked how yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@asynccontextmanager
async def a_site(folder: Path, ports: Iterator[int], workers: int) -> AsyncIterator[Site]:
    """An upstream, and a sidecar in front of it that is not started yet."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    port, admin = next(ports), next(ports)
    config = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "workers": workers,
        "core_dumps": True,  # its descriptors are looked at
        "secret": "a secret of the tests, 32 bytes or more",
        "upstreams": {"main": {"url": f"http://127.0.0.1:{upstream}"}},
        "routes": [{"path": "/", "kind": "api", "upstream": "main", "session": "none"}],
        "csrf": {"enabled": False},
        "drain": {"wait": "500ms"},
        "log": {"access": False},
    }
    site = Site(folder, port, admin, config)
    try:
        yield site
    finally:
        await site.leave()
        await site.end()
        server.close()


_ACTIVATE: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "sidecar", "run", "-c", sys.argv[2]])
"""


def activated(listener: socket.socket, file: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The command and options that give a socket to a process as systemd does."""
    fd = listener.fileno()
    return (sys.executable, "-c", _ACTIVATE, str(fd), str(file)), {"pass_fds": [fd]}


def _whole_lines(log: Path) -> list[str]:
    """Without one that is being written."""
    text = log.read_text()
    return text[: text.rfind("\n") + 1].splitlines()
