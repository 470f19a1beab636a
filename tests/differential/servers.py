"""The sidecar, nginx and HAProxy: each a process, and each with an upstream of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.differential.upstream import Recorder
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ("nginx", "haproxy")
PLAIN, INJECTING, NGINX, HAPROXY = "sidecar", "injecting", "nginx", "haproxy"
READY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A proxy that listens on `port`, and the upstream behind it."""

    name: str
    port: int
    upstream: Recorder


def _sidecar(route: Mapping[str, Any], port: int, behind: int) -> str:
    sources = [{"type": "cookie", "cookie": "access_token"}]
    return json.dumps(
        {
            "listen": f"127.0.0.1:{port}",
            "admin": None,
            "secret": "a secret of the tests, 32 bytes or more",
            "upstreams": {"main": {"url": f"http://127.0.0.1:{behind}", "retry": "0s"}},
            "routes": [{"path": "/", "upstream": "main", **route}],
            "session": {"sources": sources},
            "logout": {"redirect_to": "/"},
            "limits": {"client_head": "30s", "client_idle": "30s"},
            "log": {"level": "error", "access": False},
        }
    )


ROUTES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        PLAIN: {"kind": "page", "session": "none", "envelope": False},
        INJECTING: {"kind": "api", "session": "optional"},
    }
)


def _nginx(port: int, behind: int, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{}}
http {{
  access_log off; {temporary}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream main {{ server 127.0.0.1:{behind} max_fails=0; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://main;
      proxy_http_version 1.1;
      proxy_next_upstream off;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""


def _haproxy(port: int, behind: int) -> str:
    return f"""
global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout http-request 30s
  retries 0
listen main
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{behind}
"""


def missing() -> Sequence[str]:
    """The programs that are not installed."""
    return [one for one in PROGRAMS if shutil.which(one) is None]


@asynccontextmanager
async def lanes() -> AsyncIterator[Sequence[Lane]]:
    """Runs all of them until the context is left."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = []
        for name in (PLAIN, INJECTING, NGINX, HAPROXY):
            upstream = Recorder()
            await stack.enter_async_context(upstream.listening())
            lane = Lane(name, free_port(), upstream)
            command = _command(lane, folder)
            process = await _started(command, folder / f"{name}.log")
            stack.push_async_callback(_ended, process)
            made.append(lane)
        for lane in made:
            await _reached(lane, folder)
        yield made


def _command(lane: Lane, folder: Path) -> Sequence[str]:
    """Writes the configuration, and returns how its program is run."""
    file = folder / f"{lane.name}.conf"
    behind = lane.upstream.port
    if lane.name == NGINX:
        file.write_text(_nginx(lane.port, behind, folder))
        return ("nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(file))
    if lane.name == HAPROXY:
        file.write_text(_haproxy(lane.port, behind))
        return ("haproxy", "-db", "-q", "-f", str(file))
    file.write_text(_sidecar(ROUTES[lane.name], lane.port, behind))
    return (sys.executable, "-m", "sidecar", "run", "-c", str(file))


async def _started(command: Sequence[str], log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _reached(lane: Lane, folder: Path) -> None:
    """Waits until the proxy serves. Raises `RuntimeError` if it does not."""
    until = asyncio.get_running_loop().time() + READY_SECONDS
    while asyncio.get_running_loop().time() < until:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
            writer.write(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if answer.startswith(b"HTTP/1.1 200 "):
                return
        await asyncio.sleep(0.02)
    said = (folder / f"{lane.name}.log").read_text()
    raise RuntimeError(f"{lane.name} does not serve:\n{said[-2000:]}")
