"""What Linux tells about a process and all its descendants (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PPID = 1  # fields of /proc/PID/stat, counted from the one behind the command's name
_TIMES = slice(11, 15)  # utime, stime, and both of children that have ended


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its descendants have taken, in seconds.

    The kernel tells it in ticks, of 10 ms as a rule.
    """
    fields = _stats()
    return sum(sum(map(int, fields[one][_TIMES])) for one in _tree(pid, fields)) / _TICKS


def tree(pid: int) -> Sequence[int]:
    """The process and all its descendants."""
    return tuple(_tree(pid, _stats()))


def resident_bytes(pid: int) -> int:
    """Resident memory, exactly: the counter in /proc/PID/status lags on machines of many cores."""
    return _total(pid, "smaps_rollup", "Rss")


def peak_bytes(pid: int) -> int:
    """The most memory that was resident since `reset_peak`, the descendants' added up."""
    return _total(pid, "status", "VmHWM")


def reset_peak(pid: int) -> None:
    """Makes the present the peak. Raises `OSError` where the kernel does not allow it."""
    for one in _tree(pid, _stats()):
        (_PROC / str(one) / "clear_refs").write_text("5")


def _stats() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                text = (entry / "stat").read_text(errors="replace")
                found[int(entry.name)] = text.rpartition(")")[2].split()
    return found


def _tree(pid: int, stats: dict[int, list[str]]) -> Iterator[int]:
    yield pid
    for one, fields in stats.items():
        if int(fields[_PPID]) == pid:
            yield from _tree(one, stats)


def _total(pid: int, file: str, field: str) -> int:
    line = re.compile(rf"^{field}:\s+(\d+) kB", re.MULTILINE)
    texts = ((_PROC / str(one) / file).read_text() for one in _tree(pid, _stats()))
    return sum(int(found[1]) for text in texts if (found := line.search(text))) * 1024
