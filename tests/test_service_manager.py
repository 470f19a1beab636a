"""A service manager is told how it goes, as sd_notify(3) says."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from sidecar.service_manager import ServiceManager
from tests.ports import free_port
from tests.restart.site import a_site

if TYPE_CHECKING:
    from pathlib import Path


class Manager:
    """What listens at NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._told: Queue[dict[str, str]] = Queue()
        self._thread = Thread(target=self._read, daemon=True)  # the kernel holds ten at most
        self._thread.start()

    def _read(self) -> None:
        while text := self._socket.recv(4096).decode():
            self._told.put(dict(line.split("=", 1) for line in text.splitlines()))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def until(self, key: str, value: str | None = None) -> dict[str, str]:
        """The next notification that has such a line; others are passed over."""
        while True:
            told = self._told.get(timeout=30)
            if key in told and value in (None, told[key]):
                return told


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify"))
    yield one
    one.close()


def ports() -> Iterator[int]:
    while True:
        yield free_port()


@pytest.mark.parametrize("workers", [1, 2])
async def test_start_reload_handover_and_end_are_told(
    tmp_path: Path, manager: Manager, workers: int
) -> None:
    """Ready once all workers serve; a reload with its time; who takes over; the end."""
    async with a_site(tmp_path, ports(), workers) as site:
        environ = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "200000",
        }
        await site.start(env=environ)
        first = manager.until("READY", "1")
        assert re.fullmatch(rf"serving on 127\.0\.0\.1:{site.port}, .*[0-9a-f]+", first["STATUS"])
        for _ in range(2):
            manager.until("WATCHDOG", "1")
        await site.reload("signal")
        assert int(manager.until("RELOADING", "1")["MONOTONIC_USEC"]) > 0
        manager.until("READY", "1")
        former = site.pid
        assert await site.replace() == 0
        assert manager.until("MAINPID")["MAINPID"] == str(site.pid) != str(former)
        os.kill(site.pid, signal.SIGTERM)
        assert manager.until("STOPPING", "1")["STATUS"] == "draining"


def test_nothing_happens_without_a_manager(tmp_path: Path) -> None:
    """Nor with one that is gone."""
    for address in ("", str(tmp_path / "gone"), "@gone"):
        one = ServiceManager({"NOTIFY_SOCKET": address}, 1)
        one.ready("x")
        assert one.watchdog is None


def test_abstract_address_is_reached() -> None:
    one = Manager(f"\0sidecar-test-{os.getpid()}")
    ServiceManager({"NOTIFY_SOCKET": f"@sidecar-test-{os.getpid()}"}, 1).stopping("x")
    assert one.until("STOPPING") == {"STOPPING": "1", "STATUS": "x"}
    one.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_sign_of_life_is_given_twice_as_often_as_asked(
    environ: dict[str, str], seconds: float | None
) -> None:
    """And not at all by another process, or if nobody asks: nothing wakes up then."""
    assert ServiceManager(environ, 7).watchdog == seconds
