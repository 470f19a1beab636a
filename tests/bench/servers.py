"""The programs that are measured: started, awaited and stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.bench.children import child
from tests.bench.contenders import DIRECT, OTHERS, Contender, upstream
from tests.bench.faults import BenchError
from tests.bench.logins import OAUTH2_PROXY
from tests.bench.nextjs import NEXT_JS
from tests.bench.sidecars import DEFAULT, IMAGE_PYTHON, IMAGE_PYTHON_NO_LOG, NO_LOG, SIDECARS
from tests.bench.site import (
    HOST,
    POLL_SECONDS,
    READY_SECONDS,
    ROOT,
    Place,
    Session,
    Site,
    await_port,
)
from tests.ports import free_port

BESIDE: Mapping[str, Contender] = {
    **OTHERS,
    "oauth2-proxy": OAUTH2_PROXY,
    "Next.js route handler": NEXT_JS,
    DEFAULT: SIDECARS[DEFAULT],
    NO_LOG: SIDECARS[NO_LOG],
    IMAGE_PYTHON: SIDECARS[IMAGE_PYTHON],
    IMAGE_PYTHON_NO_LOG: SIDECARS[IMAGE_PYTHON_NO_LOG],
}
"""Who is compared, in the table's order."""

CONTENDERS: Mapping[str, Contender] = {**BESIDE, **SIDECARS}


@dataclass(frozen=True, slots=True)
class Server:
    """A running contender, the head of its processes, and the session that it knows."""

    name: str
    contender: Contender
    pid: int
    port: int
    session: Session

    def connect(self) -> HTTPConnection:
        """A new connection, which opens at its first request."""
        return HTTPConnection(HOST, self.port, timeout=30)

    def path(self, path: str) -> str:
        """Of what the upstream has below `/api`."""
        return self.contender.base + path

    def url(self, path: str) -> str:
        """The same as a whole URL."""
        return f"http://{HOST}:{self.port}{self.path(path)}"


def missing(names: Iterable[str]) -> Mapping[str, str]:
    """Which of the contenders cannot run here, each with what helps."""
    lacking = {name: CONTENDERS[name].missing() for name in names}
    return {name: remedy for name, remedy in lacking.items() if remedy is not None}


@contextmanager
def running(site: Site, name: str) -> Iterator[Server]:
    """Runs a contender, yielded at its first answer, until the context is left.

    Raises `BenchError` where its first answer is no 200.
    """
    contender = CONTENDERS[name]
    with _place(site) as place, ExitStack() as stack:
        settled = contender.beside(stack, place)
        yield stack.enter_context(_started(name, contender, settled))


@contextmanager
def running_upstream(site: Site) -> Iterator[Server]:
    """Runs what all contenders stand in front of."""
    with _place(site) as place, ExitStack() as stack:
        command = [sys.executable, "-m", "tests.bench.upstream", str(place.admin)]
        log = stack.enter_context((place.folder / "upstream.log").open("wb"))
        stack.enter_context(child(command, log, cwd=ROOT))
        await_port(place.admin)
        yield stack.enter_context(_started(DIRECT, upstream(place.admin), place))


@contextmanager
def _place(site: Site) -> Iterator[Place]:
    """A folder and ports of its own; logs of a load take much room, so it goes at once."""
    folder = Path(tempfile.mkdtemp(dir=site.home))
    try:
        yield Place(site, folder, free_port(), free_port(), free_port())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(name: str, contender: Contender, place: Place) -> Iterator[Server]:
    command = contender.command(place)
    environ = _environ() | dict(contender.environ(place))
    log = place.folder / "log"
    with (
        log.open("wb") as output,
        child(command, output, cwd=contender.cwd, env=environ) as process,
    ):
        session = contender.session(place)
        server = Server(name, contender, process.pid, place.port, session)
        status = _first_status(server, process)
        if status != 200:
            told = log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{name} first answers {status or 'nothing'}; it said:\n{told}")
        yield server


def _environ() -> dict[str, str]:
    """This process's own without what would configure the sidecar besides its file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}


def _first_status(server: Server, process: subprocess.Popen[bytes]) -> int:
    """The status of the first answer, 0 where none comes in time."""
    cookie = {"Cookie": server.session.header}
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError, HTTPException), closing(server.connect()) as connection:
            connection.request("GET", server.path("/1k.json"), headers=cookie)
            return connection.getresponse().status
        time.sleep(POLL_SECONDS)
    return 0
