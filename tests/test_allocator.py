"""Memory that long answers have used is used again, not fetched from the system page by page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, StartCommand, Upstream

PAGES = 256  # of 4 KiB, in a megabyte
ANSWERS = 40
FAULTS = """
import os, resource
from sidecar.allocator import keep_freed_memory
keep_freed_memory(os.environ)
for count in (5, 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        held = [bytes(b"x" * (1 << 20)) for _ in range(4)]
        del held
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults // count)
"""


def faults_per_round(**environment: str) -> int:
    """Page faults of a process for four pieces of a megabyte that it takes and frees."""
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    assert faults_per_round() < PAGES


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"},
    ],
)
def test_what_the_operator_has_set_holds(environment: dict[str, str]) -> None:
    assert faults_per_round(**environment) > 3 * PAGES


TABLES = """
import os
from collections import deque
from sidecar.allocator import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keep_freed_memory(os.environ)
found, order = {}, deque()
for number in range(450_000):
    found[f"{number:022}"] = None
    order.append(f"{number:022}")
most = resident()
for number in range(450_000, 2_500_000):
    found[f"{number:022}"] = None
    order.append(f"{number:022}")
    del found[order.popleft()]
    if number % 1000 == 0:
        most = max(most, resident())
    if number == 1_200_000:  # by now the table is as large as it gets
        before = most
print(most - before)
"""


def test_a_memory_that_turns_over_takes_no_more_each_time() -> None:
    """Tables of large dictionaries are made anew, and leave no holes in the heap."""
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", TABLES], env=inherited, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 4 << 20


@pytest.mark.parametrize("workers", [1, 2])
async def test_long_answer_costs_few_page_faults(
    command: StartCommand, upstream: Upstream, client: Clients, workers: int
) -> None:
    """Less than a tenth of what one copy of it would cost in fresh memory."""
    upstream.default = upstream.reply(b'{"data":"%b"}' % (b"x" * 1_000_000))
    at = await command({"log": {"access": False}, "workers": workers})
    pids = [at.process.pid, *children(at.process.pid)]
    one = await client(at)

    async def ask() -> None:
        for _ in range(ANSWERS):
            assert (await one.get("/")).status == 200

    await ask()
    before = sum(map(minor_faults, pids))
    await ask()
    assert (sum(map(minor_faults, pids)) - before) / ANSWERS < PAGES / 10


def children(pid: int) -> list[int]:
    """The processes that a process has forked."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def minor_faults(pid: int) -> int:
    """Page faults of a process that needed no reading (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
