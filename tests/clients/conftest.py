"""The libraries of package.json in Node.js: a script serves, and uses the sidecar as a client."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

from tests.npm_packages import WITHOUT_OPTIONAL

if TYPE_CHECKING:
    from tests.conftest import Start

HERE: Final = Path(__file__).parent
PATIENCE: Final = 30.0  # seconds that one deed may take


class Script:
    """A running script: the port that it serves on, and what it can be asked to do."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port
        self.upstreams = {"main": {"url": f"http://127.0.0.1:{port}"}}

    async def do(self, deed: str, **given: Any) -> Any:
        """What a deed returns; fails with what it throws."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"deed": deed, **given}).encode() + b"\n")
        told = await line_of(self._process)
        assert "failed" not in told, told["failed"]
        return told["done"]


Play: TypeAlias = Callable[..., Awaitable[Script]]


async def line_of(process: asyncio.subprocess.Process) -> Any:
    """The next line that a process prints, read as JSON."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    assert line, "the script has ended"
    return json.loads(line)


@pytest.fixture(scope="session")
def packages(npm_project: Callable[..., Path]) -> Path:
    """The scripts with the packages of the lock file."""
    return npm_project(HERE, WITHOUT_OPTIONAL)


@pytest.fixture
async def play(
    packages: Path, require_program: Callable[[str], str], sidecar: Start, tmp_path: Path
) -> AsyncIterator[Play]:
    """`await play("name.mjs")` starts a script. Ends before the sidecar does."""
    node = require_program("node")
    running: list[asyncio.subprocess.Process] = []

    async def start(name: str, **given: Any) -> Script:
        process = await asyncio.create_subprocess_exec(
            *(node, name, json.dumps({"folder": str(tmp_path), **given})),
            cwd=packages,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=1 << 22,
        )
        running.append(process)
        return Script(process, (await line_of(process))["port"])

    yield start
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.communicate()
