"""Processes that have a share of a processor each, which the kernel holds them to.

So it is they that limit what is served, and not who asks or answers them: on a machine of few
processors as well, more workers can show what they are for.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench.procfs import tree

SHARE: Final = 0.2  # of a processor, for each process
_PERIOD_US: Final = 20_000
_CONTROLLER: Final = Path("/sys/fs/cgroup/cpu")  # of cgroups, version 1


def missing() -> str | None:
    """What helps where the kernel cannot be told to limit a process."""
    if os.access(_CONTROLLER / "cgroup.procs", os.W_OK):
        return None
    return f"run as root with {_CONTROLLER} (cgroups, version 1)"


def limit(server: int, stack: ExitStack) -> None:
    """Holds a process and its descendants to their shares, until the stack is left."""
    for pid in tree(server):
        group = _CONTROLLER / f"sidecar-bench-{pid}"
        group.mkdir()
        stack.callback(_give_back, group)
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(SHARE * _PERIOD_US)))
        (group / "cgroup.procs").write_text(str(pid))


def _give_back(group: Path) -> None:
    """Ends the group, which must have no process: those that it has are unlimited again."""
    for pid in (group / "cgroup.procs").read_text().split():
        (_CONTROLLER / "cgroup.procs").write_text(pid)
    group.rmdir()
