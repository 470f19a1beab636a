"""Programs that this one starts, of which none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_SECONDS = 3.0


@contextmanager
def child(
    command: Sequence[str],
    output: int | IO[bytes],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program, whose output and errors go to `output`, until the context is left.

    It is the leader of a session, so that Ctrl-C reaches this script alone, which then stops it.
    """
    with ExitStack() as stack:
        with _uninterrupted():
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            stack.callback(_stop, process)
        yield process


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait: one between the fork and the first line after it would leave a child behind."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in came:
        signal.raise_signal(number)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process with its group, which holds nothing but its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
