"""Under load nobody loses a request: not by a reload, and not by a restart."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.restart.site import LASTING, Site, a_site, activated

if TYPE_CHECKING:
    from typing import Any

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def ports() -> Iterator[int]:
    def found() -> Iterator[int]:
        taken: set[int] = set()
        while True:
            port = free_port()
            if port not in taken:
                taken.add(port)
                yield port

    return found()


@WORKERS
async def test_nobody_loses_anything_by_reloads_and_restarts(
    tmp_path: Path, ports: Iterator[int], workers: int
) -> None:
    """A reload leaves WebSockets and event streams open; a restart ends them in order."""
    async with a_site(tmp_path, ports, workers) as site:
        await site.start()
        await site.visited()
        for how in ("signal", "file", "post"):
            await site.reload(how)
            await site.busy(100)
        seen = site.seen
        assert (seen.sockets_told, seen.streams_ended) == (0, 0)
        for count in (1, 2):
            assert await site.replace() == 0
            await site.until(site.are_all_here)
            await site.busy(100)
            assert (seen.sockets_told, seen.streams_ended) == (count * LASTING, count * LASTING)
        await site.leave()
        assert seen.is_fine, "\n".join(seen.lines())
        assert not site.lines("defect")


@WORKERS
async def test_nobody_loses_anything_while_a_socket_goes_from_process_to_process(
    tmp_path: Path, ports: Iterator[int], workers: int
) -> None:
    """As a service manager keeps it: one ends, then the next one begins."""
    async with a_site(tmp_path, ports, workers) as site:
        with socket.create_server(("127.0.0.1", site.port), backlog=1024) as listener:
            command, options = activated(listener, site.file)
            await site.start(*command, **options)
            await site.visited()
            await site.busy(100)
            await site.end()
            await site.start(*command, **options)
            await site.until(site.are_all_here)
            await site.busy(100)
            await site.leave()
            assert site.seen.is_fine, "\n".join(site.seen.lines())
            assert site.seen.sockets_told == LASTING


async def test_no_process_keeps_anything_of_a_handover(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    """Workers are forked before the former process hears that they serve, and live on."""
    async with a_site(tmp_path, ports, 2) as site:
        await site.start()
        before = pipes(site.pid)
        for _ in range(2):
            await site.replace()
            assert pipes(site.pid) == before


def pipes(pid: int) -> list[int]:
    """How many pipes a supervisor and each of its children hold."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        sum(os.readlink(one).startswith("pipe:") for one in Path(f"/proc/{one}/fd").iterdir())
        for one in [str(pid), *children]
    ]


@WORKERS
async def test_process_that_cannot_serve_takes_no_place(
    tmp_path: Path, ports: Iterator[int], workers: int
) -> None:
    """The former one goes on and says why."""
    async with a_site(tmp_path, ports, workers) as site:
        await site.start()
        await site.visited()
        correct = site.file.read_text()
        await fails(site, lambda: site.file.write_text("nonsense: 1"))
        assert "nonsense: unknown key" in site.log.read_text()
        site.file.write_text(correct)
        await site.busy(50)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            await fails(site, lambda: site.write(watch=False, admin=address))
        assert "cannot start" in site.log.read_text()
        await site.busy(50)
        assert (site.seen.sockets_told, site.seen.streams_ended) == (0, 0)
        await site.leave()
        assert site.seen.is_fine, "\n".join(site.seen.lines())


async def fails(site: Site, change: Callable[[], Any]) -> None:
    count = len(site.lines("handover failed"))
    change()
    os.kill(site.pid, signal.SIGUSR2)
    await site.until(lambda: len(site.lines("handover failed")) > count)


async def test_restart_changes_what_a_reload_cannot(tmp_path: Path, ports: Iterator[int]) -> None:
    """Another address, and from several processes to one."""
    async with a_site(tmp_path, ports, 2) as site:
        await site.start()
        former, site.port = site.port, next(ports)
        site.write(listen=f"127.0.0.1:{site.port}", workers=1)
        assert await site.replace() == 0
        await site.visited()
        await site.leave()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", former)).close()
        assert site.seen.is_fine
