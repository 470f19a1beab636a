"""What a contender costs besides CPU time: memory for large bodies and idle connections, and the
time it takes to start. Each is measured on a process of its own, which has done nothing else.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import product

from configs import PROXIES, Site
from echo import PAUSE
from faults import BenchError
from payloads import DOWNLOAD, LARGE, data_of
from procfs import peak_bytes, reset_peak, resident_bytes
from samples import ask, check_envelope, told_by_echo
from servers import Server, running

_PIECE = 65536
_WARM_UP = 50  # connections that make a new process take what it takes only once
_IDLE = 2000
_OPEN_FILES = 2 * _IDLE


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement and the unit of its value; `target` is the sidecar's.

    It is taken once, or in each round, and compared with nginx's where the ratio has a meaning.
    """

    title: str
    unit: str
    target: str
    value: Callable[[Site, str], float]
    contenders: tuple[str, ...] = PROXIES
    in_rounds: bool = False
    compared: bool = True


Values = dict[str, list[float]]
"""By contender."""


def measure(
    site: Site, names: Sequence[str], rounds: int, say: Callable[[str], None]
) -> dict[str, Values]:
    """Takes the measurements of the rows named. `say` is told what comes next.

    Raises `BenchError` where an answer is not right, or this process may not open enough files.
    """
    results: dict[str, Values] = {}
    for name in names:
        say(name)
        row = ROWS[name]
        values: Values = {one: [] for one in row.contenders}
        for _, one in product(range(rounds if row.in_rounds else 1), row.contenders):
            values[one].append(row.value(site, one))
        results[name] = values
    return results


def _allow_open_files() -> None:
    """For this process and all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _OPEN_FILES:
        raise BenchError(f"needs {_OPEN_FILES} open files (ulimit -n), at most {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _OPEN_FILES), hard))


# -- large bodies -------------------------------------------------------------------------------


def _download(server: Server, site: Site) -> None:
    size = sum(map(len, _read_slowly(server, site, DOWNLOAD)))
    if size != LARGE:
        raise BenchError(f"{server.name} passes {size} of {LARGE} bytes on")


def _stream(server: Server, site: Site) -> None:
    body = b"".join(_read_slowly(server, site, "100m.json"))
    check_envelope(server.name, body, data_of((site.home / "www/100m.json").read_bytes()))


def _read_slowly(server: Server, site: Site, file: str) -> Iterator[bytes]:
    with closing(server.connect()) as connection:
        response = ask(connection, server, site, f"{server.base}/{file}")
        time.sleep(PAUSE)
        yield from iter(lambda: response.read(_PIECE), b"")


def _upload(server: Server, site: Site) -> None:
    pieces = (bytes(_PIECE) for _ in range(LARGE // _PIECE))
    with closing(server.connect()) as connection:
        answer = ask(connection, server, site, "/echo/", upload=pieces, length=LARGE).read()
    if told_by_echo(server, answer) != {"received": LARGE}:
        raise BenchError(f"{server.name} does not pass the whole upload on")


def _growth(transfer: Callable[[Server, Site], None]) -> Callable[[Site, str], float]:
    """MiB by which the peak of resident memory rises during the transfer."""

    def measured(site: Site, name: str) -> float:
        with running(site, name) as server, ExitStack() as stack:
            _open(stack, server, site, _WARM_UP)
            reset_peak(server.pid)
            before = peak_bytes(server.pid)
            transfer(server, site)
            return (peak_bytes(server.pid) - before) / 2**20

    return measured


# -- connections, start -------------------------------------------------------------------------


def _idle_connection(site: Site, name: str) -> float:
    """KB of resident memory that a connection holds between two requests."""
    _allow_open_files()
    with running(site, name) as server, ExitStack() as stack:
        _open(stack, server, site, _WARM_UP)
        before = resident_bytes(server.pid)
        _open(stack, server, site, _IDLE)
        return (resident_bytes(server.pid) - before) / _IDLE / 1000


def _open(stack: ExitStack, server: Server, site: Site, count: int) -> None:
    """Opens connections that stay, one after the other, each with one request behind it."""
    for _ in range(count):
        connection = stack.enter_context(closing(server.connect()))
        ask(connection, server, site, f"{server.base}/1k.json").read()


def _start(site: Site, name: str) -> float:
    """Milliseconds from the command to the first answer."""
    began = time.perf_counter()
    with running(site, name):
        return (time.perf_counter() - began) * 1000


def _large(what: str, transfer: Callable[[Server, Site], None], *contenders: str) -> Row:
    return Row(
        f"100 MB {what}, peak memory growth",
        "MiB",
        "≤ 20",
        _growth(transfer),
        contenders or PROXIES,
        compared=False,
    )


ROWS: Mapping[str, Row] = {
    "start": Row("cold start to the first answer", "ms", "< 500", _start, in_rounds=True),
    "idle": Row("idle connection, of 2,000", "KB", "≤ 10", _idle_connection),
    "download": _large("download", _download),
    "upload": _large("upload", _upload),
    "stream": _large("enveloped stream", _stream, "sidecar"),
}
