"""What the system shows others of this process, whose memory and environment hold secrets."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Has the system write no core file of this process, and of those that it forks.

    The limit does not bind where a program takes core files (a `|` in core_pattern, core(5)), so
    the process is not dumpable either. Then another process of the same user cannot trace it, or
    read its memory and its environment; one with CAP_SYS_PTRACE, such as root's, can (ptrace(2)).
    """
    _limit_core_files(0)
    _set_dumpable(0)


def allow_core_dumps() -> None:
    """Undoes that, as far as the hard limit allows."""
    _limit_core_files(resource.getrlimit(resource.RLIMIT_CORE)[1])
    _set_dumpable(1)


def conceal(names: Collection[str]) -> None:
    """Empties these variables in the block of memory that /proc/PID/environ shows (proc(5)).

    That is where a process finds its environment when it begins, and those that it forks have a
    copy. `os.environ` is another one and stays, for reloads and for a successor.
    """
    for address in _variables():
        name, _, value = ctypes.string_at(address).partition(b"=")
        if value and name.decode(errors="surrogateescape") in names:
            ctypes.memset(address + len(name) + 1, 0, len(value))


def _limit_core_files(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):  # a sandbox may forbid it; what follows suffices
        resource.setrlimit(resource.RLIMIT_CORE, (size, hard))


def _set_dumpable(number: int) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(number), *[ctypes.c_ulong(0)] * 3)


def _variables() -> Iterator[int]:
    """Where each variable stands, as `NAME=value` (environ(7))."""
    block = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    at = 0
    while block and (address := block[at]):
        yield address
        at += 1
