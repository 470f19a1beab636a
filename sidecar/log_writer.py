"""Log lines on their way to standard error or a file, which never hold up or fail a request.

    IDLE ──line──► GATHERING ──a loop turn; when busy 50 ms, or many lines; an event──► WRITING
                                                            │  ▲
                                   not taken, or an error   ▼  │  there is room, or a pause is over
                                                           WAITING

    TAKING ──the lines held are `HELD_BYTES`──► DROPPING ──everything is out──► TAKING

Both are of one writer. The first says when it writes: with `_due` GATHERING, with `_is_waiting`
WAITING; while it is IDLE, nothing wakes the process. The second says what becomes of a new line.
The newest lines are dropped, since the oldest tell how the trouble began; and that until everything
is out, so that there is one gap and not a thousand. The first line behind a gap says how many lines
are missing there.

A write holds whole lines, and is never larger than PIPE_BUF unless a line is: a pipe takes it whole
or not at all (pipe(7)), so lines of several processes never mix. A regular file is locked for each
write, of whatever size (write(2), POSIX.1 2.9.7), so it takes many lines at once. What is left of a
line that was written in part goes first.

O_NONBLOCK belongs to the open file description, which other processes share (fcntl(2)): it is not
set on standard error. A pipe or a terminal is opened once more through /proc, which makes a
description of its own; a socket is written to with MSG_DONTWAIT. If neither can be had, poll(2) is
asked first. A regular file is written to as it is, as nothing else is known for files.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TextIO, TypeAlias

import msgspec

from sidecar.core.config.values import log_file
from sidecar.tls import UnusableFile

HELD_BYTES: Final = 1 << 20
"""Of lines that could not be written yet."""
GATHER_SECONDS: Final = 0.05
FEW: Final = 8
"""Writes within `GATHER_SECONDS` that are made in the next turn of the loop: of few requests each
finds its line once its response can be read. Then lines are gathered until that time is over.
"""
GATHER_BYTES: Final = 1 << 16  # what a pipe holds
PAUSE_SECONDS: Final = 0.5
"""Before writing is tried again after an error, or if nobody can say when there is room."""
CLOSE_SECONDS: Final = 1.0
LONGEST_ATOMIC: Final = select.PIPE_BUF
"""Bytes that a pipe takes whole or not at all."""
_ROOM: Final = select.POLLOUT
_NEWLINE: Final = ord("\n")
_STANDARD_ERROR: Final = 2


Lines: TypeAlias = Callable[[], Sequence[bytes]]
"""Returns lines that were announced, once each."""


class Output(Protocol):
    """Where log lines go."""

    lost: int
    """How many lines were dropped."""
    on_gap: Callable[[int], None]
    """Called with the number of lines that are missing, once lines are taken again."""

    def write(self, line: bytes, *, at_once: bool = False) -> None:
        """Takes one whole line."""

    def expect(self, lines: Lines) -> None:
        """Has `lines` called, once, before anything else is written, in a moment at the latest."""

    def hurry(self, *, at_once: bool) -> None:
        """Has the lines that are expected written soon. `at_once`: takes them now."""

    def turn_to(self, target: LogTarget) -> None:
        """Has lines go there from now on."""

    def reopen(self) -> None:
        """Opens a file anew, which may have been renamed. Raises `UnusableFile`."""

    @property
    def columns(self) -> int | None:
        """How wide the terminal is that lines go to; None if it is none."""


class LogTarget(msgspec.Struct, frozen=True):
    """A file descriptor to write to.

    `written` is what it was opened for (`log.target`), empty if it cannot be opened anew.
    """

    fd: int
    written: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its writer alone, who closes it."""
        return log_file(self.written) is not None

    def close(self) -> None:
        """Closes it, if nobody writes to it after all."""
        if self.is_file:
            os.close(self.fd)


class StreamOutput:
    """Writes each line to a text stream at once; for whoever embeds a sidecar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self.lost = 0
        self.on_gap: Callable[[int], None] = _nothing

    def write(self, line: bytes, *, at_once: bool = False) -> None:  # noqa: ARG002
        self._stream.write(line.decode())

    def expect(self, lines: Lines) -> None:
        for line in lines():
            self.write(line)

    def hurry(self, *, at_once: bool) -> None:
        """Nothing waits."""

    def turn_to(self, target: LogTarget) -> None:
        """The stream stays."""
        target.close()

    def reopen(self) -> None:
        """The stream stays."""

    @property
    def columns(self) -> int | None:
        return None


class LogWriter:
    """Gathers lines, and writes them to a file descriptor without ever waiting for it.

    Without a `loop` each line is written at once, and what is not taken is tried with the next one.
    Not for several threads.
    """

    def __init__(
        self, target: int | LogTarget, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._loop: Final = loop
        self._target = target if isinstance(target, LogTarget) else LogTarget(target)
        self._port = _open_port(self._target)
        self._is_torn = False  # whether a part of the first line that is held has been written
        self._expected: list[Lines] = []
        self._lines: list[bytes] = []
        self._units: Final[deque[bytes]] = deque()  # what is written at once; before `_lines`
        self._held = 0
        self._is_dropping = False
        self._missing = 0
        self._due: asyncio.Handle | None = None
        self._is_due_soon = False
        self._busy_at = 0.0  # when the time of `_writes` began, by the loop's clock
        self._writes = 0
        self._is_waiting = False
        self._room: select.epoll | None = None
        self.lost = 0
        self.on_gap: Callable[[int], None] = _nothing

    def write(self, line: bytes, *, at_once: bool = False) -> None:
        """Takes one whole line. `at_once`: it is not gathered with others."""
        if self._expected:
            self._collect()  # what ended before goes before
        self._keep(line)
        if at_once or self._held > GATHER_BYTES:
            self._flush_unless_waiting()
        else:
            self._gather()

    def expect(self, lines: Lines) -> None:
        """Has `lines` called, once, before anything else is written."""
        self._expected.append(lines)
        self._gather()

    def hurry(self, *, at_once: bool) -> None:
        """Has the lines that are expected written in the next turn. `at_once`: takes them now."""
        if at_once:
            self._collect()
            if self._held > GATHER_BYTES:
                self._flush_unless_waiting()
        if not (self._is_due_soon or self._is_waiting or self._loop is None):
            self._put_off()
            self._due, self._is_due_soon = self._loop.call_soon(self._flush), True

    def _gather(self) -> None:
        """Has what is held written in a moment."""
        if self._is_waiting:
            self._collect()  # what waits is bounded, and counted if there is too much
        elif self._loop is None:
            self._flush()
        elif self._due is None:
            now = self._loop.time()
            if now - self._busy_at > GATHER_SECONDS:
                self._busy_at, self._writes = now, 0
            self._writes += 1
            if self._writes <= FEW:
                self._collect()  # made now, written then: next to nothing after the response
                self._due, self._is_due_soon = self._loop.call_soon(self._flush), True
            else:
                self._due = self._loop.call_at(self._busy_at + GATHER_SECONDS, self._flush)

    def _collect(self) -> None:
        """Takes the lines that are expected."""
        expected, self._expected = self._expected, []
        for announced in expected:
            lines = announced()
            held = self._held + sum(map(len, lines))
            if held <= HELD_BYTES and not self._is_dropping:
                self._held = held
                self._lines += lines
            else:
                for line in lines:
                    self._keep(line)

    def _keep(self, line: bytes) -> None:
        held = self._held + len(line)
        if self._is_dropping or held > HELD_BYTES:
            self._is_dropping = True
            self._missing += 1
            self.lost += 1
        else:
            self._held = held
            self._lines.append(line)

    def _pack(self) -> None:
        """Joins the lines to what can be written at once."""
        lines, self._lines = self._lines, []
        if 0 < self._held <= self._port.most and not self._units:
            self._units.append(b"".join(lines))
            return
        unit: list[bytes] = []
        size, most = 0, self._port.most
        for line in lines:
            size += len(line)
            if size > most and unit:
                self._units.append(b"".join(unit))
                unit, size = [], len(line)
            unit.append(line)
        if unit:
            self._units.append(b"".join(unit))

    def _unpack(self) -> None:
        """Makes lines of what was joined for a target that may take more at once than the next."""
        held = b"".join(self._units)
        self._units.clear()
        self._lines[:0] = [line + b"\n" for line in held.split(b"\n")[:-1]]

    def forget(self) -> None:
        """Forgets the lines held: after a fork they are the other process's."""
        self._units.clear()
        self._lines, self._expected = [], []
        self._held = self._missing = 0
        self._is_dropping = self._is_torn = False

    def turn_to(self, target: LogTarget) -> None:
        """Has lines go there from now on, also those that are held.

        The rest of a line that is half written is lost: it would be half a line there.
        """
        port = _open_port(target)
        self._stop_waiting()
        with suppress(OSError):
            self._write_out()
        if self._is_torn:
            self._drop_rest()
        self._unpack()
        self._port.close()
        self._target, self._port = target, port
        self._flush()

    def reopen(self) -> None:
        """Opens a file anew, which may have been renamed. Raises `UnusableFile`."""
        if self._target.is_file:
            self.turn_to(open_target(self._target.written))

    def _drop_rest(self) -> None:
        unit = self._units.popleft()
        rest = unit.index(b"\n") + 1
        if len(unit) > rest:
            self._units.appendleft(unit[rest:])
        self._held -= rest
        self._missing += 1
        self.lost += 1
        self._is_torn = False

    @property
    def columns(self) -> int | None:
        """How wide the terminal is that lines go to; None if it is none."""
        try:
            return os.get_terminal_size(self._port.fd).columns
        except OSError:
            return None

    # -- writing --------------------------------------------------------------------------------

    def _flush_unless_waiting(self) -> None:
        if not self._is_waiting:
            self._flush()

    def _flush(self) -> None:
        self._stop_waiting()
        try:
            self._write_out()
        except BlockingIOError:
            self._wait(is_watched=True)
        except OSError:
            self._wait(is_watched=False)

    def _write_out(self) -> None:
        """Writes everything. Raises `OSError` if that cannot be done now."""
        self._collect()
        while True:
            self._pack()
            units = self._units
            while units:
                unit = units[0]
                count = self._port.write(unit)
                self._held -= count
                if count == len(unit):
                    units.popleft()
                    self._is_torn = False
                elif count:
                    self._is_torn = unit[count - 1] != _NEWLINE
                    units[0] = unit[count:]
            missing, self._missing, self._is_dropping = self._missing, 0, False
            if not missing:
                return
            # What says so is kept, and written in the next round.
            self._is_waiting = True
            try:
                self.on_gap(missing)
            finally:
                self._is_waiting = False

    def _wait(self, *, is_watched: bool) -> None:
        if self._loop is None:
            return
        self._is_waiting = True
        if is_watched:
            with suppress(OSError):
                self._room = select.epoll()
                self._room.register(self._port.fd, select.EPOLLOUT)
                self._loop.add_reader(self._room.fileno(), self._flush)
                return
        self._due = self._loop.call_later(PAUSE_SECONDS, self._flush)

    def _put_off(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._is_due_soon = False

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        self._put_off()
        if self._room is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._room.fileno())
            self._room.close()
            self._room = None

    def close(self) -> None:
        """Writes what is left, and waits for room for at most `CLOSE_SECONDS`."""
        self._stop_waiting()
        end = time.monotonic() + CLOSE_SECONDS
        with suppress(OSError):
            while self._is_left():
                remaining = end - time.monotonic()
                if remaining <= 0 or not _has_room(self._port.fd, remaining):
                    break
        self._port.close()
        self._is_waiting = True  # for good: the number may be another file's from now on

    def _is_left(self) -> bool:
        """Whether something is left after another try. Raises `OSError`."""
        try:
            self._write_out()
        except BlockingIOError:
            return True
        return False


def _nothing(_: int) -> None:
    pass


# -- file descriptors -----------------------------------------------------------------------------


def standard_error() -> int:
    """The file descriptor of standard error; of nothing if this process was given none."""
    return _standard(sys.stderr)


def _standard(stream: TextIO | None) -> int:
    """Its number may be that of a client's connection if this process was not given the stream."""
    if stream is None:
        return os.open(os.devnull, os.O_WRONLY)
    try:
        return stream.fileno()
    except OSError:  # it is none of the system's: who embeds a sidecar has put it there
        return _STANDARD_ERROR


def open_target(target: str) -> LogTarget:
    """Opens `stderr`, `stdout` or the file of a `file://` URL, at its end. Raises `UnusableFile`.

    A file that is missing is made, for its owner and to be read by its group.
    """
    path = log_file(target)
    if path is None:
        return LogTarget(_standard(sys.stdout if target == "stdout" else sys.stderr))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o640)
    except OSError as error:
        cause = (error.strerror or type(error).__name__).lower()
        raise UnusableFile("log.target", path, cause) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnusableFile("log.target", path, "must be a regular file")
    return LogTarget(fd, target)


class _Port:
    """A file descriptor that does not block: a regular file, or one of our own opening.

    It takes up to `most` bytes in one piece.
    """

    def __init__(self, fd: int, *, is_own: bool, most: int = LONGEST_ATOMIC) -> None:
        self.fd: Final = fd
        self.most: Final = most
        self._is_own: Final = is_own

    def write(self, data: bytes) -> int:
        """Returns how many bytes were taken. Raises `OSError`."""
        return os.write(self.fd, data)

    def close(self) -> None:
        if self._is_own:
            os.close(self.fd)


class _PolledPort(_Port):
    """One that may block; other processes that write to it can still get in between."""

    def write(self, data: bytes) -> int:
        if not _has_room(self.fd, 0):
            raise BlockingIOError
        return os.write(self.fd, data[:LONGEST_ATOMIC])


class _SocketPort(_Port):
    def __init__(self, fd: int) -> None:
        self._socket: Final = socket.socket(fileno=os.dup(fd))
        super().__init__(self._socket.fileno(), is_own=True)

    def write(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._socket.close()


def _open_port(target: LogTarget) -> _Port:
    fd = target.fd
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return _Port(fd, is_own=target.is_file, most=GATHER_BYTES)
    if stat.S_ISSOCK(mode):
        return _SocketPort(fd)
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        return _Port(os.open(f"/proc/self/fd/{fd}", flags), is_own=True)
    except OSError:
        return _PolledPort(fd, is_own=False)


def _has_room(fd: int, seconds: float) -> bool:
    """Whether a write would not wait, or would fail, within that time."""
    poller = select.poll()
    poller.register(fd, _ROOM)
    return bool(poller.poll(seconds * 1000))
