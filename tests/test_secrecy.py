"""What the system shows of the process: no core file, no memory and no environment (T88)."""

from __future__ import annotations

import asyncio
import ctypes
import json
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.leaks.canaries import Sought, canary
from tests.leaks.site import PATIENCE, Running, running
from tests.net.store.conftest import make_certificates

LIMIT: Final = resource.getrlimit(resource.RLIMIT_CORE)[1]
PATTERN: Final = Path("/proc/sys/kernel/core_pattern").read_text().strip()
_PR_CAPBSET_DROP: Final = 24

LOOK: Final = """
import os, sys
def shows(name, look):
    try:
        look(f"/proc/{sys.argv[1]}/{name}")
    except PermissionError:
        print(name, end=" ")
for name in ("environ", "maps", "mem"):
    shows(name, lambda path: open(path, "rb").close())
shows("fd/0", os.readlink)
"""
"""Prints what of a process may not be looked at."""


def unlimited() -> None:
    """In a process that is about to begin: core files may be as large as they like."""
    resource.setrlimit(resource.RLIMIT_CORE, (LIMIT, LIMIT))


def powerless() -> None:
    """In a process that is about to begin: root has no more rights than anybody else."""
    for capability in range(64):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def site(**more: Any) -> dict[str, Any]:
    """Nobody is behind it: it is the process that is looked at."""
    return {"upstream": "http://127.0.0.1:1", "drain": {"wait": "0s"}, **more}


async def processes(one: Running, workers: int) -> list[int]:
    """The supervisor, its admin process and all workers; or the one process that there is."""
    assert one.process is not None
    pid = one.process.pid
    async with asyncio.timeout(PATIENCE):
        while one.log.read_text().count('"serving"') < workers:
            await asyncio.sleep(0.05)
    found = [pid, *children(pid)]
    assert len(found) == (1 if workers == 1 else workers + 2)
    return found


def children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def cores(folder: Path) -> list[Path]:
    return [*folder.glob(f"{PATTERN.partition('%')[0]}*")]


def refused(pid: int) -> set[str]:
    """What of a process another one of the same user may not look at."""
    command = [sys.executable, "-c", LOOK, str(pid)]
    looked = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=powerless)
    return {*looked.stdout.decode().split()}


def holds(file: Path, text: str) -> bool:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data:
        return data.find(text.encode()) >= 0


@pytest.mark.skipif(LIMIT == 0, reason="no process may leave a core file here")
@pytest.mark.skipif(
    not re.match("[^|/%]", PATTERN), reason="core files are not left in the working directory here"
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("allowed", [False, True])
async def test_crash_leaves_a_core_file_only_if_it_is_allowed(
    tmp_path: Path, *, allowed: bool, workers: int
) -> None:
    """As it does by default for other programs; and such a file holds each secret."""
    secret = canary("secret")
    config = site(core_dumps=allowed, workers=workers, secret=secret)
    async with running(tmp_path, config, preexec_fn=unlimited) as one:
        assert one.process is not None
        os.kill((await processes(one, workers))[-1], signal.SIGABRT)
        if workers == 1:
            await one.process.wait()
        else:
            await one.logs("SIGABRT")  # the supervisor goes on, and says how its worker ended
        said = one.log.read_bytes()
    assert b"Fatal Python error: Aborted" in said
    assert not Sought("secret", secret).context(said)
    left = cores(tmp_path)
    assert bool(left) is allowed
    assert all(holds(core, secret) for core in left)


@pytest.mark.parametrize("allowed", [False, True])
async def test_no_other_process_of_the_user_looks_into_it(tmp_path: Path, *, allowed: bool) -> None:
    """Neither into a worker nor into the supervisor. All the same it serves."""
    ours = make_certificates(tmp_path / "tls")
    tls = {"cert": str(ours.cert), "key": str(ours.key)}
    config = site(core_dumps=allowed, workers=2, tls=tls)
    async with running(tmp_path, config, preexec_fn=powerless) as one:
        for pid in await processes(one, 2):
            hidden = refused(pid)
            # A system may refuse `mem` of any process that is no child (Yama).
            assert hidden - {"mem"} == (set() if allowed else {"environ", "maps", "fd/0"})
            assert allowed or "mem" in hidden
        answer = await one.ask("GET", "/x", scheme="https")
        assert answer["status"] == 502


async def test_environment_of_the_process_shows_no_variable_of_the_configuration(
    tmp_path: Path,
) -> None:
    """To root neither. They hold all the same: after a reload, in workers and for a successor."""
    known = {name: canary(name) for name in ("secret", "source", "referenced", "proxy", "other")}
    config = site(workers=2)
    config["session"] = {"sources": [{"type": "authjs", "secret": "${MINE}", "token": "t"}]}
    environ = {
        "SIDECAR_SECRET": known["secret"],
        "SIDECAR_CORE_DUMPS": "true",  # whoever runs this test may look
        "MINE": known["referenced"],
        "AUTH_SECRET": known["source"],
        "https_proxy": f"http://user:{known['proxy']}@127.0.0.1:1",
        "OTHER": known["other"],
    }

    def shown(pids: Sequence[int]) -> set[str]:
        data = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)
        return {name for name, text in known.items() if Sought(name, text).context(data)}

    async with running(tmp_path, config, environ) as one:
        assert one.process is not None
        assert shown(await processes(one, 2)) == {"other"}
        before = await hash_of(one)
        one.process.send_signal(signal.SIGHUP)
        await one.logs('"reloaded"')
        one.process.send_signal(signal.SIGUSR2)
        await one.logs('"handed over"')
        told = re.search(r'"pid": (\d+), .*"event": "handed over"', one.log.read_text())
        assert told is not None
        successor = int(told[1])
        try:
            await one.process.wait()
            assert shown([successor, *children(successor)]) == {"other"}
            assert await hash_of(one) == before
        finally:
            os.kill(successor, signal.SIGTERM)


async def hash_of(one: Running) -> str:
    """Of the configuration, secrets included."""
    await one.ask_admin("/status.json", sink="status")
    status = json.loads(one.sinks["status"].splitlines()[-1])
    return str(status["process"]["config_hash"])
