"""Programs that run during the checks: started, waited for, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

STOP: Final = 20.0  # seconds for an orderly end
ENVIRON: Final = {
    name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME") if name in os.environ
}
"""What programs see of the environment: nothing that configures them by accident."""


class Process:
    """A program in a process group of its own, so that its children end with it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.command: Final = tuple(command)
        self.folder: Final = folder
        self.log: Final = log
        self._environ: Final = {**ENVIRON, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, ready: str, seconds: float) -> None:
        """Starts it, and waits until `ready` (a URL) answers with a status below 500."""
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(seconds):
                while not await _answers(ready):
                    if self._process.returncode is not None:
                        raise AssertionError(f"it has ended: {self._written()}")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"not ready within {seconds:.0f} s: {self._written()}") from None

    async def stop(self) -> None:
        """Ends it and its children."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP):
                    await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _written(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]


async def run(command: Sequence[str], folder: Path) -> str:
    """Runs a program to its end, and returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=ENVIRON,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    text = printed.decode(errors="replace")
    assert process.returncode == 0, text[-1500:]
    return text


async def _answers(url: str) -> bool:
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=5)) as asking,
            asking.get(url, allow_redirects=False) as answer,
        ):
            return answer.status < 500
    except (ClientError, OSError, TimeoutError):
        return False
