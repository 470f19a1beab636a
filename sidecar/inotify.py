"""inotify(7): the kernel says which entries of directories change. It costs nothing meanwhile."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.descriptor_signals import signal_when_readable

if TYPE_CHECKING:
    import signal

CLOSE_WRITE: Final = 0x008
ATTRIB: Final = 0x004
MOVED_FROM: Final = 0x040
MOVED_TO: Final = 0x080
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000
"""Events were lost: anything may have changed."""
IGNORED: Final = 0x8000
"""What was watched is gone."""

CHANGES: Final = (
    CLOSE_WRITE | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
)

_HEADER: Final = struct.Struct("iIII")
_READ: Final = 65536


class FileEvent(NamedTuple):
    """What happened to an entry of a directory, or with an empty name to what is watched."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One instance. Raises `OSError` (EMFILE) if the system gives no more of them."""

    def __init__(self) -> None:
        self._libc: Final = ctypes.CDLL(None, use_errno=True)
        self._fd: Final = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """Readable once there are events."""
        return self._fd

    def add(self, path: str) -> int:
        """Watches a directory or file; the number of its watch. Raises `OSError`."""
        name = ctypes.c_char_p(os.fsencode(path))
        return self._checked(self._libc.inotify_add_watch(self._fd, name, ctypes.c_uint32(CHANGES)))

    def remove(self, watch: int) -> None:
        """Watches it no more; no matter if the kernel does not any more either."""
        self._libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[FileEvent]:
        """What has happened until now."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, _READ):
                yield from _events(data)

    def send(self, number: signal.Signals) -> None:
        """Has this thread get a signal at each event, for who has no event loop."""
        signal_when_readable(self._fd, number)

    def close(self) -> None:
        """Ends every watch, unless another process still has it."""
        os.close(self._fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


def _events(data: bytes) -> Iterator[FileEvent]:
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        yield FileEvent(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
        at += length
