"""Signals instead of waits: the kernel sends one if a descriptor becomes readable (fcntl(2))."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import signal

_F_SETSIG: Final = 10  # fcntl.F_SETSIG is missing before Python 3.14
_F_SETOWN_EX: Final = 15  # as is this
_F_OWNER_TID: Final = 0
_OWNER: Final = struct.Struct("ii")


def signal_when_readable(fd: int, number: signal.Signals) -> None:
    """Has this thread get a signal each time; a non-blocking `fd` stays one.

    Another thread that does not block the signal would end the process.
    """
    fcntl.fcntl(fd, _F_SETOWN_EX, _OWNER.pack(_F_OWNER_TID, threading.get_native_id()))
    fcntl.fcntl(fd, _F_SETSIG, number)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
