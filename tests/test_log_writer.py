"""Lines go out whole and in order, and nobody waits for them, whatever standard error is."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import socket
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidecar import log_writer
from sidecar.log_writer import (
    CLOSE_SECONDS,
    FEW,
    HELD_BYTES,
    LONGEST_ATOMIC,
    LogTarget,
    LogWriter,
    open_target,
)
from sidecar.tls import UnusableFile

Ends = tuple[int, int]


@pytest.fixture
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Where to read what is written, and where to write: a pipe, a terminal or a socket."""
    reading, writing = KINDS[request.param]()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def _terminal() -> Ends:
    reading, writing = pty.openpty()
    tty.setraw(writing)
    return reading, writing


def _sockets() -> Ends:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


KINDS: dict[str, Callable[[], Ends]] = {
    "pipe": os.pipe,
    "terminal": _terminal,
    "socket": _sockets,
}
every_kind = pytest.mark.parametrize("ends", KINDS, indirect=True)
a_pipe = pytest.mark.parametrize("ends", ["pipe"], indirect=True)


def numbered(count: int, length: int = 100) -> list[bytes]:
    return [f"{number:{length}}\n".encode() for number in range(count)]


async def read_lines(fd: int, count: int) -> list[bytes]:
    """Reads until that many lines are here, while the loop runs."""
    os.set_blocking(fd, False)
    data = b""
    async with asyncio.timeout(10):
        while data.count(b"\n") < count:
            try:
                data += os.read(fd, 50_000)
            except BlockingIOError:
                await asyncio.sleep(0.001)
    return data.splitlines(keepends=True)


def open_writer(fd: int) -> Any:
    return closing(LogWriter(fd, asyncio.get_running_loop()))


@every_kind
async def test_lines_wait_for_a_reader_and_nobody_waits_for_them(ends: Ends) -> None:
    """More than the kernel holds; they come once somebody reads, whole and in order."""
    reading, writing = ends
    lines = numbered(9000)
    with open_writer(writing) as writer:
        began = time.monotonic()
        for line in lines:
            writer.write(line)
            if len(line) % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert time.monotonic() - began < 2
        assert await read_lines(reading, len(lines)) == lines
        assert writer.lost == 0


@every_kind
async def test_the_shared_description_stays_as_it_was(ends: Ends) -> None:
    """O_NONBLOCK would hit every process that has the same terminal or pipe."""
    reading, writing = ends
    before = fcntl.fcntl(writing, fcntl.F_GETFL)
    with open_writer(writing) as writer:
        for line in numbered(5000):
            writer.write(line)
        await asyncio.sleep(0.1)
        assert fcntl.fcntl(writing, fcntl.F_GETFL) == before
        await read_lines(reading, 5000)
    assert fcntl.fcntl(writing, fcntl.F_GETFL) == before


@every_kind
async def test_lines_beyond_the_bound_are_counted_and_told_where_they_are_missing(
    ends: Ends,
) -> None:
    reading, writing = ends
    lines = numbered(30_000)
    with open_writer(writing) as writer:
        told: list[int] = []

        def on_gap(count: int) -> None:
            told.append(count)
            writer.write(b"gap\n", at_once=True)

        writer.on_gap = on_gap
        for line in lines:
            writer.write(line)
        lost = writer.lost
        kept = len(lines) - lost
        assert HELD_BYTES - 200 < kept * len(lines[0]) < HELD_BYTES + 500_000
        assert await read_lines(reading, kept + 1) == [*lines[:kept], b"gap\n"]
        assert told == [lost]
        writer.write(b"next\n")
        assert await read_lines(reading, 1) == [b"next\n"]
    assert told == [lost]


@a_pipe
@pytest.mark.parametrize("can_reopen", [True, False])
async def test_a_reader_that_is_gone_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Ends, *, can_reopen: bool
) -> None:
    """And one that comes back to a named pipe gets what is held, with the gap."""
    if not can_reopen:
        monkeypatch.setattr(log_writer, "_open_port", _polled)
    monkeypatch.setattr(log_writer, "PAUSE_SECONDS", 0.02)
    path = tmp_path / "fifo"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fd = os.open(path, os.O_WRONLY)
    with open_writer(fd) as writer:
        os.close(first)
        for line in numbered(100):
            writer.write(line, at_once=True)
            await asyncio.sleep(0)
        again = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        async with asyncio.timeout(5):
            data = b""
            while data.count(b"\n") < 100:
                data += os.read(again, 50_000) if _is_readable(again) else b""
                await asyncio.sleep(0.01)
        assert data.splitlines(keepends=True) == numbered(100)
    os.close(again)
    os.close(fd)


def _polled(target: LogTarget) -> Any:
    return log_writer._PolledPort(target.fd, is_own=False)


def _is_readable(fd: int) -> bool:
    try:
        data = fcntl.ioctl(fd, 0x541B, b"\0\0\0\0")  # FIONREAD
    except OSError:
        return False
    return any(data)


async def test_the_rest_of_a_line_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk took a part of it, and was full for a while."""
    monkeypatch.setattr(log_writer, "PAUSE_SECONDS", 0.02)
    room = 12
    written = b""

    def write(_: int, data: bytearray) -> int:
        nonlocal room, written
        if not room:
            raise OSError(28, "No space left on device")
        taken = bytes(data[:room])
        written += taken
        room -= len(taken)
        return len(taken)

    monkeypatch.setattr("sidecar.log_writer.os.write", write)
    with (tmp_path / "log").open("wb") as file, open_writer(file.fileno()) as writer:
        for line in (b"first\n", b"second\n", b"third\n"):
            writer.write(line, at_once=True)
        await asyncio.sleep(0.05)
        assert written == b"first\nsecond"
        room = 100
        await asyncio.sleep(0.05)
        assert written == b"first\nsecond\nthird\n"


async def test_many_lines_go_to_a_file_in_one_piece_and_to_a_pipe_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is shared by processes: it takes `PIPE_BUF` bytes whole, and a file all."""
    lines = numbered(300)
    sizes: list[int] = []

    def write(_: int, data: bytes) -> int:
        sizes.append(len(data))
        return len(data)

    monkeypatch.setattr("sidecar.log_writer.os.write", write)
    reading, writing = os.pipe()
    with (tmp_path / "log").open("wb") as file:
        for fd in (file.fileno(), writing):
            sizes.clear()
            with open_writer(fd) as writer:
                writer.expect(lambda: lines)
                assert sizes == []
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert sum(sizes) == sum(map(len, lines))
                assert len(sizes) == 1 if fd != writing else max(sizes) <= LONGEST_ATOMIC
    os.close(reading)
    os.close(writing)


async def test_what_a_file_did_not_take_goes_to_a_pipe_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next target may take less at once than the last."""
    lines = numbered(300)
    reading, writing = os.pipe()
    writes: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        if fd == target.fd:
            raise OSError(28, "No space left on device")
        writes.append(data)
        return len(data)

    target = open_target(f"file://{tmp_path / 'log'}")
    writer = LogWriter(target)
    monkeypatch.setattr("sidecar.log_writer.os.write", write)
    writer.expect(lambda: lines)
    writer.turn_to(LogTarget(writing))
    assert b"".join(writes) == b"".join(lines)
    assert max(map(len, writes)) <= LONGEST_ATOMIC
    assert all(data.endswith(b"\n") for data in writes)
    writer.close()
    os.close(reading)
    os.close(writing)


@a_pipe
async def test_lines_that_are_expected_go_before_what_comes_later(ends: Ends) -> None:
    """They are asked for once, and before an event of a later time; and at the end."""
    reading, writing = ends
    writer = LogWriter(writing, asyncio.get_running_loop())
    writer.expect(lambda: [b"first\n", b"second\n"])
    writer.write(b"event\n", at_once=True)
    assert os.read(reading, 100) == b"first\nsecond\nevent\n"
    writer.expect(lambda: [b"third\n"])
    writer.write(b"fourth\n")
    writer.expect(lambda: [b"fifth\n"])
    writer.close()
    assert os.read(reading, 100) == b"third\nfourth\nfifth\n"


@a_pipe
async def test_many_expected_lines_do_not_wait_for_the_time(
    monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    reading, writing = ends
    monkeypatch.setattr(log_writer, "GATHER_SECONDS", 3600.0)
    with open_writer(writing) as writer:
        for _ in range(FEW):
            writer.expect(lambda: [b"before\n"])
            await asyncio.sleep(0)
            assert os.read(reading, 100) == b"before\n"
        writer.expect(lambda: [b"first\n"])
        await asyncio.sleep(0.05)
        assert not _is_readable(reading)
        writer.hurry(at_once=False)
        assert await read_lines(reading, 1) == [b"first\n"]


@a_pipe
async def test_lines_that_are_expected_count_while_nobody_reads(ends: Ends) -> None:
    """They are bounded like others, so they are asked for at once then."""
    _, writing = ends
    lines = numbered(100)
    writer = LogWriter(writing, asyncio.get_running_loop())
    for line in numbered(2000):
        writer.write(line, at_once=True)
    for _ in range(100):
        writer.expect(lambda: lines)
    assert writer.lost > 0
    assert writer._held <= HELD_BYTES
    assert writer._expected == []
    writer.close()


@a_pipe
async def test_a_warning_goes_out_at_once_behind_what_came_before(ends: Ends) -> None:
    reading, writing = ends
    with open_writer(writing) as writer:
        writer.write(b"first\n")
        writer.write(b"warning\n", at_once=True)
        assert os.read(reading, 100) == b"first\nwarning\n"


@a_pipe
async def test_the_end_waits_for_a_reader_for_a_moment_only(ends: Ends) -> None:
    _, writing = ends
    writer = LogWriter(writing, asyncio.get_running_loop())
    for line in numbered(5000):
        writer.write(line)
    began = time.monotonic()
    writer.close()
    assert CLOSE_SECONDS * 0.9 < time.monotonic() - began < CLOSE_SECONDS + 0.5


@a_pipe
async def test_the_end_writes_what_was_gathered(ends: Ends) -> None:
    reading, writing = ends
    writer = LogWriter(writing, asyncio.get_running_loop())
    writer.write(b"last\n")
    writer.close()
    assert os.read(reading, 100) == b"last\n"


@a_pipe
async def test_nothing_is_written_behind_the_end(ends: Ends) -> None:
    """The file descriptor may be another file's then."""
    reading, writing = ends
    writer = LogWriter(writing, asyncio.get_running_loop())
    own = writer._port.fd
    writer.close()
    again = os.dup(writing)
    assert again == own
    writer.write(b"late\n", at_once=True)
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 100)
    os.close(again)


@a_pipe
async def test_several_writers_never_mix_their_lines(ends: Ends) -> None:
    """Though the pipe is full all the time, and lines have all lengths."""
    reading, writing = ends
    loop = asyncio.get_running_loop()
    writers = [LogWriter(writing, loop) for _ in range(4)]
    for number in range(4000):
        for name, writer in enumerate(writers):
            writer.write(b"%d" % name * (1 + number * 37 % 300) + b"\n")
    found = await read_lines(reading, 16_000)
    for writer in writers:
        writer.close()
    for name in range(4):
        own = [line for line in found if line[0] == ord(str(name))]
        assert own == [b"%d" % name * (1 + number * 37 % 300) + b"\n" for number in range(4000)]
    assert len(found) == 16_000


def test_without_a_loop_lines_go_at_once_or_with_the_next_one() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    lines = numbered(1000)
    for line in lines:
        writer.write(line)
    data = os.read(reading, 200_000)
    assert len(data) < sum(map(len, lines))
    writer.write(b"next\n")
    data += os.read(reading, 200_000)
    assert data == b"".join(lines) + b"next\n"
    writer.close()
    os.close(reading)
    os.close(writing)


def test_a_process_without_standard_error_writes_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """File descriptor 2 may be a client's connection then."""
    monkeypatch.setattr("sys.stderr", None)
    fd = log_writer.standard_error()
    assert os.path.realpath(f"/proc/self/fd/{fd}") == os.devnull
    os.close(fd)


def test_a_file_is_appended_to_and_made_for_owner_and_group(tmp_path: Path) -> None:
    """And so is one that is there."""
    path = tmp_path / "sidecar.log"
    for line in (b"first\n", b"second\n"):
        writer = LogWriter(open_target(f"file://{path}"))
        writer.write(line)
        writer.close()
    assert path.read_bytes() == b"first\nsecond\n"
    assert path.stat().st_mode & 0o137 == 0


@pytest.mark.parametrize("name", ["missing/sidecar.log", "fifo", "folder"])
def test_a_file_that_cannot_be_written_to_is_named(tmp_path: Path, name: str) -> None:
    """Nobody waits for a reader of a pipe."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnusableFile, match=f"log.target: {tmp_path / name}: "):
        open_target(f"file://{tmp_path / name}")


def test_a_file_that_was_renamed_is_opened_anew(tmp_path: Path) -> None:
    """As logrotate renames it: no line is lost, and none stands in both."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    writer = LogWriter(open_target(f"file://{path}"))
    writer.write(b"first\n")
    path.rename(old)
    writer.write(b"second\n")
    writer.reopen()
    writer.write(b"third\n")
    writer.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"first\nsecond\n", b"third\n")


def test_a_file_that_cannot_be_opened_anew_is_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = LogWriter(open_target(f"file://{folder / 'log'}"))
    folder.rename(tmp_path / "other")
    with pytest.raises(UnusableFile):
        writer.reopen()
    writer.write(b"line\n")
    writer.close()
    assert (tmp_path / "other" / "log").read_bytes() == b"line\n"


def test_half_a_line_never_begins_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full within a line; what is held goes to the new file, with the gap."""
    room = 9
    written: dict[int, bytes] = {}

    def write(fd: int, data: bytearray) -> int:
        nonlocal room
        taken = bytes(data[:room])
        if not taken:
            raise OSError(28, "No space left on device")
        written[fd] = written.get(fd, b"") + taken
        room -= len(taken)
        return len(taken)

    monkeypatch.setattr("sidecar.log_writer.os.write", write)
    first, second = (open_target(f"file://{tmp_path / name}") for name in ("one", "other"))
    writer = LogWriter(first)
    told: list[int] = []
    writer.on_gap = told.append
    for line in (b"first\n", b"second\n", b"third\n"):
        writer.write(line)
    writer.turn_to(second)
    room = 100
    writer.write(b"fourth\n")
    assert written == {first.fd: b"first\nsec", second.fd: b"third\nfourth\n"}
    assert (told, writer.lost) == ([1], 1)
    writer.close()


def test_standard_streams_are_opened_anew_by_nobody() -> None:
    """They are the parent's."""
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    writer.reopen()
    writer.write(b"line\n")
    assert os.read(reading, 100) == b"line\n"
    assert open_target("stdout").is_file is False
    writer.close()
    os.close(reading)
    os.close(writing)
