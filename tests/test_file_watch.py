"""A change of a file is seen however it is made, and nothing else wakes anybody up."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sidecar.file_watch import FileWatch, digest_of_bytes, digest_of_file, hindrance
from sidecar.inotify import DELETE, OVERFLOW, _events

PATIENCE: Final = 10.0


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    with closing(FileWatch()) as one:
        yield one


def watches(watch: FileWatch, *paths: Path) -> None:
    watch.watch({str(path): digest_of_file(str(path)) for path in paths})


def is_touched(watch: FileWatch, seconds: float = PATIENCE) -> bool:
    """Whether the kernel reports something that counts."""
    while select.select([watch], [], [], seconds)[0]:
        if watch.take():
            return True
    return False


def write(path: Path) -> None:
    path.write_text("new")


def replace(path: Path) -> None:
    """As editors do."""
    other = path.with_name("swap")
    other.write_text("new")
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("other"))


@pytest.mark.parametrize("change", [write, replace, remove, move_away])
def test_every_way_of_changing_a_file_is_seen(
    watch: FileWatch, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """And again, once it is back or changes once more."""
    file = tmp_path / "file"
    file.write_text("old")
    watches(watch, file)
    assert watch.changed() == []
    change(file)
    assert is_touched(watch)
    assert watch.changed() == [str(file)]
    watches(watch, file)
    replace(file)
    assert is_touched(watch)
    watches(watch, file)
    write(file)
    assert is_touched(watch)


def test_the_same_contents_are_no_change(watch: FileWatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    watches(watch, file)
    file.write_text("old")
    assert is_touched(watch)
    assert watch.changed() == []


def test_other_files_of_the_directory_do_not_count(watch: FileWatch, tmp_path: Path) -> None:
    """Such as a log or a database beside it."""
    file = tmp_path / "file"
    file.write_text("old")
    watches(watch, file)
    for _ in range(3):
        (tmp_path / "log").write_text("line")
        (tmp_path / "log").unlink()
    file.read_text()
    assert not is_touched(watch, 0.0)


def test_missing_file_is_seen_once_it_is_there(watch: FileWatch, tmp_path: Path) -> None:
    """Also if its directories are missing, too."""
    file = tmp_path / "a" / "b" / "file"
    watches(watch, file)
    file.parent.parent.mkdir()
    assert is_touched(watch)
    watch.follow()
    file.parent.mkdir()
    assert is_touched(watch)
    watch.follow()
    file.write_text("new")
    assert is_touched(watch)
    assert watch.changed() == [str(file)]


def test_mounted_config_map_is_seen_to_change(watch: FileWatch, tmp_path: Path) -> None:
    """Kubernetes replaces a link above the file, and removes what was there; every time."""

    def publish(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
        (tmp_path / "..tmp").symlink_to(name)
        (tmp_path / "..tmp").rename(tmp_path / "..data")

    publish("..1", "1")
    file = tmp_path / "file"
    file.symlink_to("..data/file")
    (tmp_path / "outer").symlink_to(tmp_path)
    reached = tmp_path / "outer" / "file"
    watches(watch, reached)
    for number in range(2, 5):
        publish(f"..{number}", str(number))
        assert is_touched(watch)
        assert watch.changed() == [str(reached)]
        watches(watch, reached)
        (tmp_path / f"..{number - 1}" / "file").unlink()
        (tmp_path / f"..{number - 1}").rmdir()
        while is_touched(watch, 0.0):
            pass
        assert watch.changed() == []


def test_directory_that_is_replaced_is_seen(watch: FileWatch, tmp_path: Path) -> None:
    inside = tmp_path / "etc"
    inside.mkdir()
    file = inside / "file"
    file.write_text("old")
    watches(watch, file)
    inside.rename(tmp_path / "former")
    assert is_touched(watch)
    watch.follow()
    inside.mkdir()
    assert is_touched(watch)
    watch.follow()
    file.write_text("new")
    assert is_touched(watch)
    assert watch.changed() == [str(file)]


def test_directory_counts_with_all_its_files(watch: FileWatch, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a.html").write_text("a")
    watches(watch, pages)
    (pages / "b.html").write_text("b")
    assert is_touched(watch)
    assert watch.changed() == [str(pages)]
    watches(watch, pages)
    (pages / "a.html").write_text("other")
    assert is_touched(watch)
    assert watch.changed() == [str(pages)]


def test_links_in_a_circle_end(watch: FileWatch, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    watches(watch, tmp_path / "a")
    assert watch.changed() == []


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe would not end, or take what another one waits for."""
    os.mkfifo(tmp_path / "pipe")
    assert digest_of_file(str(tmp_path / "pipe")) is None
    assert digest_of_file(str(tmp_path / "missing")) is None
    (tmp_path / "file").write_bytes(b"x")
    assert digest_of_file(str(tmp_path / "file")) == digest_of_bytes(b"x")


def test_a_signal_comes_for_who_has_no_event_loop(watch: FileWatch, tmp_path: Path) -> None:
    """Without a process or thread that waits."""
    file = tmp_path / "file"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    try:
        watch.send(signal.SIGIO)
        watches(watch, file)
        file.write_text("new")
        assert signal.sigtimedwait([signal.SIGIO], PATIENCE) is not None
        assert watch.take()
    finally:
        while signal.sigtimedwait([signal.SIGIO], 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOSPC])
def test_limits_are_told_with_their_remedy(code: int) -> None:
    told = hindrance(OSError(code, os.strerror(code)))
    assert "raise " in told
    assert "SIGHUP" in told


def test_events_that_were_lost_may_be_anything() -> None:
    """The kernel keeps only so many."""
    raw = (-1).to_bytes(4, "little", signed=True) + OVERFLOW.to_bytes(4, "little") + bytes(8)
    entry = (7).to_bytes(4, "little") + DELETE.to_bytes(4, "little") + bytes(4)
    events = [*_events(raw + entry + (16).to_bytes(4, "little") + b"name".ljust(16, b"\0"))]
    assert [(one.watch, one.mask, one.name) for one in events] == [
        (-1, OVERFLOW, ""),
        (7, DELETE, "name"),
    ]
