"""Where files cannot be watched, it is said once, with the remedy, and all else goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

import sidecar.reload_on_change as in_a_loop
from sidecar.core.config import Log, load
from sidecar.log import Logging
from sidecar.log_level import LogLevel
from sidecar.log_writer import StreamOutput
from sidecar.reload import Reloads
from sidecar.reload_on_change import ReloadOnChange
from sidecar.workers import supervised_files
from sidecar.workers.supervised_files import TOUCHED, SupervisedFiles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.core.config import Config

TEXT: Final = "upstream: http://localhost:9"


class Files:
    """Reads a configuration of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Config:
        return load(TEXT, source="test", environ={}, read_file=lambda path: path)

    @property
    def digests(self) -> Mapping[str, bytes | None]:
        return {str(self._path): None}


def no_more() -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def lines() -> tuple[Any, Callable[[], list[dict[str, Any]]]]:
    text = StringIO()
    log = Logging(StreamOutput(text), LogLevel("info")).events(Log())
    return log, lambda: [json.loads(line) for line in text.getvalue().splitlines()]


def check(told: list[dict[str, Any]]) -> None:
    (line,) = told
    assert (line["event"], line["level"]) == ("files are not watched", "warning")
    assert "fs.inotify.max_user_instances" in line["detail"]
    assert "SIGHUP" in line["detail"]


async def test_process_without_inotify_says_so_once(
    lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_a_loop, "FileWatch", no_more)
    log, told = lines
    files = Files(tmp_path / "file")
    serving: Any = SimpleNamespace(runtime=SimpleNamespace(log=log))
    watching = ReloadOnChange(Reloads(files(), files), serving, is_on=True)
    for _ in range(3):
        watching.follow()
    watching.close()
    check(told())


def test_supervisor_without_inotify_says_so_once(
    lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised_files, "FileWatch", no_more)
    log, told = lines
    load = Files(tmp_path / "file")
    files = SupervisedFiles(load, log)
    for _ in range(3):
        files.follow(load())
        files.touched()
        assert not files.are_changed()
    check(told())


def test_supervisor_is_told_of_a_change_once(
    lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal to its thread alone; and it waits until the file is complete."""
    monkeypatch.setattr(supervised_files, "SETTLE_SECONDS", 0.0)
    log, told = lines
    load = Files(tmp_path / "file")
    done = threading.Event()
    other = threading.Thread(target=done.wait)  # it does not block the signal
    other.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [TOUCHED])
    files = SupervisedFiles(load, log)
    try:
        files.follow(load())
        assert not files.are_changed()
        (tmp_path / "file").write_text("new")
        assert signal.sigtimedwait([TOUCHED], 10) is not None
        files.touched()
        assert files.are_changed()
        assert not files.are_changed()
    finally:
        files.close()
        with suppress(InterruptedError):
            while signal.sigtimedwait([TOUCHED], 0):
                pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        done.set()
        other.join()
    assert [line["files"] for line in told()] == [[str(tmp_path / "file")]]
