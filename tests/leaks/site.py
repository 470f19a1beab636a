"""A sidecar as a process with every part that knows a secret, and what it says where."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aiohttp import ClientSession, DummyCookieJar, hdrs
from yarl import URL

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 40.0
DOCUMENT: Final = {
    "Accept": "text/html",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


class Running:
    """One process: `sinks` is what it said, by where it said so."""

    def __init__(self, folder: Path, config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.folder: Final = folder
        self.environ: Final = {**_environment(folder), **environ}
        self.port, self.admin = free_port(), free_port()
        self.config: Final = {
            "listen": f"127.0.0.1:{self.port}",
            "admin": f"127.0.0.1:{self.admin}",
            "public_url": f"http://127.0.0.1:{self.port}",
            **config,
        }
        self.file: Final = folder / "sidecar.yaml"
        self.log: Final = folder / "log"
        self.sinks: Final[dict[str, bytes]] = {}
        self.cookies: Final[list[str]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.session: ClientSession

    def told(self, sink: str, data: bytes) -> None:
        self.sinks[sink] = self.sinks.get(sink, b"") + data + b"\n"

    def write(self) -> None:
        self.file.write_text(json.dumps(self.config, indent=1))

    async def _started(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar", *arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, given: str = "") -> None:
        """Runs a command of the sidecar; what it prints is a sink."""
        process = await self._started(*arguments, "-c", str(self.file))
        out, errors = await process.communicate(given.encode())
        self.told(f"sidecar {' '.join(arguments)}", out + errors)

    @asynccontextmanager
    async def following(self, *arguments: str) -> AsyncIterator[None]:
        """Runs `sidecar tail`, from when it follows until the context is left."""
        process = await self._started("tail", *arguments, "-c", str(self.file))
        assert process.stdout is not None
        first = asyncio.ensure_future(process.stdout.readline())
        async with asyncio.timeout(PATIENCE):
            while not first.done():
                await self.ask("GET", "/first")
                await asyncio.wait([first], timeout=0.1)
        try:
            yield
        finally:
            await self.ask("GET", "/last")
            async with asyncio.timeout(PATIENCE):
                while b"/last" not in (line := await process.stdout.readline()):
                    assert line, "it has ended"
                    self.told("sidecar tail", line)
            process.terminate()
            self.told("sidecar tail", (await process.communicate())[1])

    async def ask(
        self, method: str, path: str, *, sink: str = "client", **more: Any
    ) -> Mapping[str, Any]:
        """Asks the sidecar; what it says, but for cookies that it sets, is a sink, if named."""
        headers = {"Accept": "application/json", **more.pop("headers", {})}
        url = URL(f"{more.pop('scheme', 'http')}://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, ssl=False, **more
        ) as response:
            body = await response.read()
            lines = [
                f"{name}: {value}"
                for name, value in response.headers.items()
                if name.title() != hdrs.SET_COOKIE
            ]
            if sink:
                head = "\n".join((f"{response.status} {response.reason}", *lines))
                self.told(sink, head.encode() + b"\n" + body)
            cookies = [one.partition(";")[0] for one in response.headers.getall("Set-Cookie", [])]
            self.cookies.extend(cookies)
            return {
                "status": response.status,
                "location": response.headers.get("Location", ""),
                "cookies": [one for one in cookies if not one.endswith("=")],
            }

    async def ask_admin(
        self, path: str, *, post: Any = None, sink: str = "", cookie: str = ""
    ) -> None:
        """What the admin listener says is a sink."""
        url = f"http://127.0.0.1:{self.admin}{path}"
        method = "GET" if post is None else "POST"
        headers = {"X-Sidecar-Admin": "1", "Cookie": cookie}
        async with self.session.request(method, url, json=post, headers=headers) as response:
            self.told(sink or f"admin {path}", await response.read())

    async def logs(self, event: str) -> None:
        """Waits until the log has a word."""
        async with asyncio.timeout(PATIENCE):
            while event not in self.log.read_text(errors="replace"):
                await asyncio.sleep(0.05)

    def collect(self) -> None:
        """What is in the log, in files and in the process table."""
        self.told("log", self.log.read_bytes())
        assert self.process is not None
        for name in ("cmdline", "environ"):
            with suppress(PermissionError):  # nobody but root reads its environment
                shown = Path(f"/proc/{self.process.pid}/{name}").read_bytes()
                self.told(f"/proc/PID/{name}", shown)
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in (self.file, self.log) and path.parent.name != "given":
                self.told(f"file {path.name}", path.read_bytes())


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }


@asynccontextmanager
async def running(
    folder: Path,
    config: Mapping[str, Any],
    environ: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = ("-m", "sidecar"),
    **started: Any,
) -> AsyncIterator[Running]:
    """`sidecar run`, until the context is left; `started` is how the process is."""
    one = Running(folder, config, environ)
    one.write()
    with one.log.open("wb") as log:
        one.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "faulthandler", *program, "run", "-c", str(one.file)),
            cwd=folder,
            env=one.environ,
            stdout=log,
            stderr=log,
            **started,
        )
    one.session = ClientSession(cookie_jar=DummyCookieJar())
    try:
        await _serving(one)
        yield one
    finally:
        await one.session.close()
        if one.process.returncode is None:
            one.process.send_signal(signal.SIGKILL)
        await one.process.wait()


async def _serving(one: Running) -> None:
    async with asyncio.timeout(PATIENCE):
        for port in (one.port, one.admin):
            while not await _is_open(port):
                assert one.process is not None
                assert one.process.returncode is None, one.log.read_text()
                await asyncio.sleep(0.05)


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
