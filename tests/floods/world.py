"""A sidecar as a process of its own, and in this process the API and the provider behind it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from aiohttp import ClientSession, web

from tests.floods.strangers import BALANCER
from tests.oracle.users import SECRET
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
OTHER: Final = "the secret of other libraries, long enough"
LIFETIME: Final = 4.0  # seconds that a renewed token is good for
READY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where the sidecar listens, and its process."""

    port: int
    balanced: int
    """Where the balancer connects, with a PROXY header."""
    pid: int
    log: Path
    memory: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def resident_bytes(self) -> int:
        """Resident memory of its process (proc(5), smaps_rollup)."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024  # type: ignore[index]

    async def fills(self) -> Mapping[str, tuple[float, float]]:
        """What each of its memories holds, and its bound (`inside.fills`)."""
        reader, writer = await asyncio.open_unix_connection(self.memory)
        try:
            told = json.loads(await reader.read())
        finally:  # whoever watches is cancelled when the flood is over
            writer.close()
        return {name: (holds, bound) for name, holds, bound in told}


class Backend:
    """The API, which echoes nonce and token, and the provider."""

    def __init__(self) -> None:
        self.exchanges = 0
        self.url = ""

    async def api(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        await request.read()
        if request.path == "/refused":
            return web.json_response({"message": "no longer"}, status=401)
        if not token.startswith("token-of-"):
            return web.json_response({"message": "who are you?"}, status=401)
        return web.json_response({"nonce": request.query.get("nonce"), "token": token})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """An event stream without an end."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        with suppress(ConnectionError):
            await response.prepare(request)
            while True:
                await response.write(b"data: x\n\n")
                await asyncio.sleep(1)
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """A WebSocket that says back what it hears."""
        wire = web.WebSocketResponse()
        with suppress(ConnectionError):
            await wire.prepare(request)
            async for message in wire:
                await wire.send_str(message.data)
        return wire

    async def token(self, request: web.Request) -> web.Response:
        """Renews tokens of users, as often as they come; a stranger's are refused."""
        old = parse_qs(await request.text()).get("refresh_token", [""])[0]
        self.exchanges += 1
        if not old.startswith("r-token-of-"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = old.removeprefix("r-").partition("#")[0]
        body = {
            "access_token": token,
            "refresh_token": f"r-{token}#{self.exchanges}",
            "expires_in": LIFETIME,
            "token_type": "Bearer",
        }
        return web.json_response(body)

    async def metadata(self, _: web.Request) -> web.Response:
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint")
        ends = ("authorize", "token", "keys", "end")
        urls = {name: f"{self.url}/{end}" for name, end in zip(names, ends, strict=True)}
        return web.json_response({"issuer": self.url, **urls})

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": []})


def configuration(url: str, port: int, balanced: int) -> dict[str, Any]:
    """What the sidecar is run with."""
    renewed = {"refresh_token": "refreshToken", "expires_at": "exp2"}
    sealed = {"type": "authjs", "secret": SECRET, "token": "accessToken", **renewed}
    return {
        "listen": [
            f"127.0.0.1:{port}",
            {"address": f"127.0.0.1:{balanced}", "proxy_protocol": True},
        ],
        "trusted_proxies": [BALANCER],
        "admin": None,
        "public_url": f"http://127.0.0.1:{port}",
        "secret": "a secret of the tests, 32 bytes or more",
        "upstreams": {"api": {"url": url}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"},
            {"path": "/open/", "kind": "api", "upstream": "api", "session": "optional"},
        ],
        "session": {
            "sources": [
                sealed,
                {"type": "nextauth", "secret": OTHER, "token": "accessToken"},
                {"type": "auth0", "secret": OTHER},
                {"type": "better-auth", "secret": OTHER, "token": "accessToken"},
                {"type": "jwt", "cookie": "signed", "secret": OTHER, "token": "accessToken"},
                {"type": "iron-session", "cookie": "app", "password": "p" * 40, "token": "token"},
                {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"},
            ]
        },
        "oidc": {
            "issuer": url,
            "client_id": "app",
            "client_secret": "s" * 32,
            "frontchannel": True,
        },
        "refresh": {"leeway": "1s"},
        "limits": {
            "connections": 3000,
            "client_head": "5s",
            "in_flight": {"api": 100, "page": 50, "stream": 350},
        },
        "logout": {"redirect_to": "/open/"},
        "log": {"level": "error", "access": False},
    }


@asynccontextmanager
async def running_site() -> AsyncIterator[Site]:
    """Runs all of it until the context is left."""
    backend = Backend()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/token", backend.token)
    application.router.add_get("/.well-known/openid-configuration", backend.metadata)
    application.router.add_get("/keys", backend.keys)
    application.router.add_get("/open/events", backend.events)
    application.router.add_get("/open/ws", backend.socket)
    application.router.add_route("*", "/{path:.*}", backend.api)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    behind, port, balanced = (free_port() for _ in range(3))
    backend.url = f"http://127.0.0.1:{behind}"
    await web.TCPSite(runner, "127.0.0.1", behind).start()
    with tempfile.TemporaryDirectory() as directory:
        log, memory = Path(directory, "log"), Path(directory, "memory")
        config = json.dumps(configuration(backend.url, port, balanced))
        process = await _start(Path(directory, "sidecar.yaml"), config, log, memory)
        site = Site(port, balanced, process.pid, log, memory)
        try:
            await _wait(site, process)
            yield site
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
            await runner.cleanup()


async def _start(path: Path, config: str, log: Path, memory: Path) -> asyncio.subprocess.Process:
    path.write_text(config)  # noqa: ASYNC240 - nothing else runs yet
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.floods.inside", str(path), str(memory)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )


async def _wait(site: Site, process: asyncio.subprocess.Process) -> None:
    """Until the sidecar serves. Raises `RuntimeError` if it does not."""
    until = time.monotonic() + READY_SECONDS
    async with ClientSession() as session:
        while time.monotonic() < until and process.returncode is None:
            try:
                async with session.get(f"{site.url}/open/", allow_redirects=False):
                    return
            except OSError:
                await asyncio.sleep(0.05)
    raise RuntimeError(f"the sidecar does not serve:\n{site.log.read_text()[-2000:]}")
