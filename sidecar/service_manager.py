"""Tells a service manager how it goes (sd_notify(3)). Without one, nothing happens."""

from __future__ import annotations

import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

_SECONDS: Final = 0.1  # that a manager who has much to read may hold this process up
_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The manager that NOTIFY_SOCKET names, asked for a sign of life each WATCHDOG_USEC."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._address: Final = environ.get("NOTIFY_SOCKET", "")
        self.watchdog: Final = _watchdog(environ, pid)
        """Seconds between two signs of life; None if none are asked for."""

    def ready(self, status: str) -> None:
        """It serves, or has come through a reload."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it (`Type=notify-reload`)."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """It drains."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    def replaced_by(self, pid: int) -> None:
        """Another process is the service's main one."""
        self._tell(f"MAINPID={pid}\nREADY=1")

    def alive(self) -> None:
        """Gives a sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # A manager that is gone or does not listen is no trouble of those who are served.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.settimeout(_SECONDS)
            one.sendto(text.encode(), path)


def _watchdog(environ: MutableMapping[str, str], pid: int) -> float | None:
    """Half of what the manager waits for, as sd_watchdog_enabled(3) recommends."""
    text = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    if not (text.isdecimal() and int(text) and is_ours):
        return None
    return int(text) / _MICROSECONDS / 2


def status_of(listen: str, config_hash: str) -> str:
    """What `systemctl status` shows, in one line."""
    return f"serving on {listen}, configuration {config_hash}"
