"""The programs that are measured: found, started, awaited and stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from children import child
from configs import DIRECT, HOST, VARIANTS, Site, configuration
from faults import BenchError

ROOT = Path(__file__).parents[2]

PROGRAMS = ("nginx", "caddy", "wrk")
"""What has to be there besides the sidecar; Debian's packages have the same names."""

_READY_SECONDS = 15.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, the head of its processes, and the path of the static upstream's files."""

    name: str
    pid: int
    port: int
    base: str

    def connect(self) -> HTTPConnection:
        """A new connection, which opens at its first request."""
        return HTTPConnection(HOST, self.port, timeout=30)


def missing_programs() -> list[str]:
    """Those of `PROGRAMS` that are not installed."""
    return [name for name in PROGRAMS if _find(name) is None]


def program(name: str) -> str:
    """The path of a program that is not missing."""
    path = _find(name)
    assert path is not None
    return path


def _find(name: str) -> str | None:
    # Debian keeps nginx where not every user's PATH leads.
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


@contextmanager
def running(site: Site, name: str) -> Iterator[Server]:
    """Runs a contender, yielded at its first answer, until the context is left.

    Raises `BenchError` where its first answer is no 200.
    """
    directory = Path(tempfile.mkdtemp(dir=site.home))
    port, admin = _free_ports(2)
    config, log = directory / "config", directory / "log"
    config.write_text(configuration(site, name, port, admin))
    command, environment = _command(name, config), _environment(directory)
    with (
        log.open("wb") as output,
        child(command, output, cwd=ROOT, env=environment) as process,
    ):
        server = Server(name, process.pid, port, "" if name == DIRECT else "/api")
        status = _first_status(server, site, process)
        if status != 200:
            told = log.read_text(errors="replace")[-1000:]
            raise BenchError(f"{name} first answers {status or 'nothing'}; it said:\n{told}")
        yield server


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in held]


def _command(name: str, config: Path) -> list[str]:
    if name in VARIANTS:
        return [sys.executable, "-m", "sidecar", "run", "-c", str(config)]
    if name == "caddy":
        return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    return [program("nginx"), "-e", "stderr", "-p", str(config.parent), "-c", str(config)]


def _environment(directory: Path) -> dict[str, str]:
    """This process's own without what would configure the sidecar besides its file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    one_worker = {"GOMAXPROCS": "1"}
    return kept | one_worker | {"XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)}


def _first_status(server: Server, site: Site, process: subprocess.Popen[bytes]) -> int:
    """The status of the first answer, 0 where none comes in time."""
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError, HTTPException):
            return _status(server, site)
        time.sleep(_POLL_SECONDS)
    return 0


def _status(server: Server, site: Site) -> int:
    connection = server.connect()
    try:
        headers = {"Cookie": site.login.header}
        connection.request("GET", f"{server.base}/1k.json", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()
