"""What a contender costs besides CPU time: memory for large bodies and idle connections, and the
time it takes to start. Each is measured on a process of its own, which has done nothing else.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Final, TypeAlias

from tests.bench.faults import BenchError
from tests.bench.payloads import DOWNLOAD, LARGE
from tests.bench.procfs import peak_bytes, reset_peak, resident_bytes
from tests.bench.samples import Ask, check_body, data_told, send
from tests.bench.servers import Server, running
from tests.bench.site import Site
from tests.bench.stage import Sample, Stage, Take
from tests.bench.upstream import PAUSE

IDLE: Final = Ask("/1k.json")
STREAM: Final = Ask("/echo/events?pause=60000")
SOCKET: Final = Ask(
    "/echo/socket",
    fields={
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
    status=101,
)
OPEN_FILES: Final = 12_000  # of this process and all that it starts

_PIECE: Final = 65536
_WARM_UP: Final = 50  # connections that make a new process take what it takes only once

Transfer: TypeAlias = Callable[[Server, Site], None]


def allow_open_files() -> None:
    """Raises `BenchError` where the machine does not allow them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < OPEN_FILES:
        raise BenchError(f"needs {OPEN_FILES} open files (ulimit -n), at most {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, OPEN_FILES), hard))


# -- large bodies -------------------------------------------------------------------------------


def download(server: Server, _: Site) -> None:
    size = sum(map(len, _read_slowly(server, DOWNLOAD)))
    if size != LARGE:
        raise BenchError(f"{server.name} passes {size} of {LARGE} bytes on")


def stream(server: Server, site: Site) -> None:
    """JSON that no buffer takes."""
    body = b"".join(_read_slowly(server, "100m.json"))
    check_body(server, body, (site.home / "www/api/100m.json").read_bytes())


def _read_slowly(server: Server, file: str) -> Iterator[bytes]:
    with closing(server.connect()) as connection:
        response = send(connection, server, Ask(f"/{file}"))
        time.sleep(PAUSE)
        yield from iter(lambda: response.read(_PIECE), b"")


def upload(server: Server, _: Site) -> None:
    pieces = (bytes(_PIECE) for _ in range(LARGE // _PIECE))
    ask = Ask("/echo/upload", "POST", {"Content-Length": str(LARGE)})
    with closing(server.connect()) as connection:
        answer = send(connection, server, ask, pieces).read()
    if data_told(answer) != {"received": LARGE}:
        raise BenchError(f"{server.name} does not pass the whole upload on")


def growth(transfer: Transfer) -> Take:
    """MiB by which the peak of resident memory rises during the transfer."""

    def measured(stage: Stage, name: str) -> Sample:
        with running(stage.site, name) as server, ExitStack() as stack:
            open_connections(stack, server, _WARM_UP)
            reset_peak(server.pid)
            before = peak_bytes(server.pid)
            transfer(server, stage.site)
            return {"value": (peak_bytes(server.pid) - before) / 2**20}

    return measured


# -- connections, start -------------------------------------------------------------------------


def held(ask: Ask, count: int) -> Take:
    """KB of resident memory that a connection holds after one request, or during one that lasts."""

    def measured(stage: Stage, name: str) -> Sample:
        allow_open_files()
        with running(stage.site, name) as server, ExitStack() as stack:
            open_connections(stack, server, _WARM_UP, ask)
            before = resident_bytes(server.pid)
            open_connections(stack, server, count, ask)
            return {"value": (resident_bytes(server.pid) - before) / count / 1000}

    return measured


def open_connections(stack: ExitStack, server: Server, count: int, ask: Ask = IDLE) -> None:
    """Opens connections that stay, one after the other, each with this request behind it.

    A stream, or what is no HTTP any more, goes on.
    """
    for _ in range(count):
        connection = stack.enter_context(closing(server.connect()))
        response = stack.enter_context(send(connection, server, ask))
        if response.length is not None:
            response.read()


def start(stage: Stage, name: str) -> Sample:
    """Milliseconds from the command to the first answer."""
    began = time.perf_counter()
    with running(stage.site, name):
        return {"value": (time.perf_counter() - began) * 1000}


def at_rest(stage: Stage, name: str) -> Sample:
    """MiB of resident memory of a process that has answered a few requests."""
    with running(stage.site, name) as server, ExitStack() as stack:
        open_connections(stack, server, _WARM_UP)
        return {"value": resident_bytes(server.pid) / 2**20}
