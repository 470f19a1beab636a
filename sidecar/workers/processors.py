"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_TREE: Final = Path("/sys/fs/cgroup")


def usable_processors(own: Path = _OWN, tree: Path = _TREE) -> int:
    """Those of its affinity mask, or fewer where a control group limits its time; at least one.

    A part of a processor counts as a whole one. `own` and `tree` are where version 2 of cgroups(7)
    says which group this process is in, and which limits groups have.
    """
    return min([len(os.sched_getaffinity(0)), *map(math.ceil, _quotas(own, tree))])


def _quotas(own: Path, tree: Path) -> Iterator[float]:
    """The limits, in processors, of the control group and of all above it."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            if line.startswith("0::/"):
                group = tree / line.removeprefix("0::/")
                yield from _limits(group, tree)


def _limits(group: Path, tree: Path) -> Iterator[float]:
    for directory in (group, *group.parents):
        with suppress(OSError, ValueError):
            quota, period = (directory / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        if directory == tree:
            return
