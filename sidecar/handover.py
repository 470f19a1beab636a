"""Starts the process that takes this one's place, on the same listening sockets.

It is started as this one was, so it is whatever version is installed by then. This process goes on
until the other one serves, and also if it never does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from sidecar.core.activation import HANDOVER, GivenSocket, Handover
from sidecar.core.record import replace
from sidecar.descriptor_signals import signal_when_readable
from sidecar.inheritance import READY
from sidecar.web.listeners import ADMIN

if TYPE_CHECKING:
    from sidecar.web.listeners import Key, Opened

ASKED: Final = signal.SIGUSR2
FAILED: Final = "the other process did not come to serve, and said why; this one goes on"
START_SECONDS: Final = 60.0  # that the other process has until it serves

State: TypeAlias = Literal["starting", "serving", "failed"]


def obstacle(environ: Mapping[str, str], pid: int) -> str | None:
    """Why nobody can take this process's place, and what to do instead."""
    if pid == 1:
        return "this is process 1, whose end is the container's; replace the container"
    if environ.get("SYSTEMD_EXEC_PID") == str(pid) and not environ.get("NOTIFY_SOCKET"):
        return "systemd ends the service with this process; set Type=notify, or use a socket unit"
    return None


def offered(opened: Mapping[Key, Opened]) -> tuple[GivenSocket, ...]:
    """What to give. A Unix socket of our own is left out: the other one's takes its name."""
    return tuple(
        GivenSocket(
            one.fileno(),
            "admin" if key == ADMIN else "http",
            None if at.is_managed else str(at.address),
        )
        for key, at in opened.items()
        if at.is_managed or at.address.unix_path is None
        for one in at.sockets
    )


class Successor:
    """The process that is to take this one's place. Raises `OSError` if it cannot be made."""

    def __init__(self, sockets: Sequence[GivenSocket]) -> None:
        self.due: Final = time.monotonic() + START_SECONDS
        """When it is late, in seconds of the monotonic clock."""
        self._pipe, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.pid: Final = _spawned(Handover(tuple(sockets), theirs))
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)

    def fileno(self) -> int:
        """Readable once it serves, or has failed."""
        return self._pipe

    def send(self, number: signal.Signals) -> None:
        """Has this process get a signal then, for who has no event loop."""
        signal_when_readable(self._pipe, number)

    def state(self) -> State:
        """How far it is."""
        try:
            return "serving" if os.read(self._pipe, 1) == READY else "failed"
        except BlockingIOError:
            return "failed" if time.monotonic() >= self.due else "starting"

    def close(self) -> None:
        """Looks at it no more."""
        os.close(self._pipe)

    def end(self) -> None:
        """Ends one that has failed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _spawned(handover: Handover) -> int:
    """The process id of a process that was started as this one, with these descriptors."""
    descriptors = [*(one.fd for one in handover.sockets), handover.ready]
    # Copies, so that those of this process stay what they are: closed in whatever it starts else.
    copies = {fd: os.dup(fd) for fd in descriptors}
    try:
        for fd in copies.values():
            os.set_inheritable(fd, True)
        theirs = Handover(
            tuple(replace(one, fd=copies[one.fd]) for one in handover.sockets),
            copies[handover.ready],
        )
        environ = {**os.environ, HANDOVER: theirs.as_text()}
        environ.pop("WATCHDOG_PID", None)
        command = [sys.executable, *sys.orig_argv[1:]]
        return os.posix_spawn(sys.executable, command, environ, setsigmask=())
    finally:
        for fd in copies.values():
            os.close(fd)
