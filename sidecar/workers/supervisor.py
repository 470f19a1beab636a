"""The supervisor: binds, forks, replaces what dies, and ends in order.

It has neither event loop nor thread, ever, so each fork begins as clean as the first one did. What
needs a loop, the admin listener, is a process of its own.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from sidecar import __version__
from sidecar.allocator import keep_freed_memory
from sidecar.app import FORGETS, cannot_start, has_sessions, report_shortage, where
from sidecar.assembly.open_provider import client_certificate
from sidecar.compilation.compile_policy import compile_policy
from sidecar.core.config import Fault
from sidecar.core.errors import ConfigError
from sidecar.core.record import replace
from sidecar.handover import ASKED, offered
from sidecar.log import Logging, report_gaps
from sidecar.log_level import LogLevel
from sidecar.log_writer import LogWriter, open_target
from sidecar.net.open_files import raise_open_files
from sidecar.net.outbound import way_of
from sidecar.net.parsers import require_c_parsers
from sidecar.reload import (
    ENDING,
    REMEDY,
    STAYS,
    Load,
    adapted,
    failed,
    refused,
    reloaded,
    reopen,
    report,
    require_new_store,
    started,
)
from sidecar.spans import require_opentelemetry
from sidecar.strays import into_log
from sidecar.tls import UnusableFile, listener_contexts
from sidecar.web.listeners import addresses_of, listening
from sidecar.workers.board import Scoreboard, WorkerId
from sidecar.workers.private import private_directory
from sidecar.workers.processes import (
    DRAIN,
    DRAIN_AT_ONCE,
    HAND_OVER,
    HURRY,
    RELOAD,
    REOPEN,
    SERVES,
    WorkerContext,
    run_admin,
    run_worker,
)
from sidecar.workers.standing import SupervisorStanding
from sidecar.workers.supervised_files import TOUCHED, SupervisedFiles
from sidecar.workers.together import socket_path, write_history
from sidecar.workers.wakeups import close_wakeups, open_wakeups

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.core.reload_result import ReloadResult
    from sidecar.inheritance import Inheritance

CLOSE_SECONDS: Final = 3.0  # that a worker has beyond its drain; with it, still less than 30
HURRY_SECONDS: Final = 3.0
STEADY_SECONDS: Final = 60.0  # a process that lived that long is no part of a series of deaths
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
_IDLE_SECONDS: Final = 3600.0
_FINE: Final = 0
_FAULTY: Final = 1
_UNUSABLE: Final = 2
_ADMIN: Final = 0  # the admin process's place, before those of the workers
_NO_PLACE: Final = Fault("store.url", None, "takes a restart to be removed", REMEDY)
"""Workers without a store that they share would not know whose session the others have ended."""
_SIGNALS: Final = (
    *(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT),
    *(RELOAD, TOUCHED, SERVES, ASKED),
)


def supervise(config: Config, count: int, load: Load, inheritance: Inheritance) -> int:
    """Serves with `count` workers until SIGTERM or SIGINT; a second one cuts what is under way.

    SIGHUP has the configuration read anew by `load`, and SIGUSR2 another process take this one's
    place, as `inheritance` says what this one was given.
    Returns the exit code: 0, or 2 where it could not start or a worker could not.
    """
    require_c_parsers()
    raise_open_files()
    keep_freed_memory(os.environ)
    try:
        output = LogWriter(open_target(config.log.target))
    except UnusableFile as error:
        return cannot_start(error)
    logging = Logging(output, LogLevel(config.log.level))
    log_by = partial(_log_by, logging)
    log = log_by(config)
    for warning in config.warnings:
        log.warning("configuration", detail=warning)
    report_shortage(config, log)
    try:
        with closing(output), ExitStack() as stack:
            context = _gather(stack, config, count, load, inheritance, level=logging.level)
            log.info(
                "supervising",
                version=__version__,
                workers=count,
                **where(config),
            )
            if not _has_store(config) and has_sessions(config):
                log.info("private store", detail=FORGETS)
            standing = SupervisorStanding(inheritance, offered(context.opened), log)
            return Supervisor(context, log_by, output, standing).run()
    except (OSError, ssl.SSLError) as error:
        return cannot_start(error)


def _log_by(logging: Logging, config: Config) -> FilteringBoundLogger:
    """Returns the log in the form of a configuration. It also takes what nobody else tells."""
    log = logging.events(config.log)
    report_gaps(logging.output, log)
    into_log(lambda: log)
    return log


def pause_before(deaths: int) -> float:
    """Seconds to wait before a process is replaced whose place saw `deaths` in a row."""
    return 0.0 if deaths < 2 else min(FIRST_PAUSE * 2.0 ** min(deaths - 2, 10), LONGEST_PAUSE)


def _gather(
    stack: ExitStack,
    config: Config,
    count: int,
    load: Load,
    inheritance: Inheritance,
    *,
    level: LogLevel,
) -> WorkerContext:
    """Makes what there is one of, until `stack` closes. Raises `OSError` or `ssl.SSLError`."""
    entropy = os.urandom(32)
    _open_files(config, entropy)
    opened = stack.enter_context(listening(addresses_of(config), inheritance.sockets))
    directory = None
    if not _has_store(config) or config.admin is not None:
        directory = stack.enter_context(private_directory(os.environ))
    lifeline, held = os.pipe()
    stack.callback(os.close, lifeline)
    stack.callback(os.close, held)
    wakeups = open_wakeups(count)
    stack.callback(close_wakeups, wakeups)
    return WorkerContext(
        config=config,
        load=load,
        entropy=entropy,
        opened=opened,
        board=Scoreboard(count),
        wakeups=wakeups,
        log_level=level,
        directory=directory,
        lifeline=lifeline,
        held=held,
        supervisor=os.getpid(),
        history=started(config),
    )


def _has_store(config: Config) -> bool:
    """Whether a store is configured; else workers share one of this run's own."""
    return "url" in config.store.model_fields_set


def _open_files(config: Config, entropy: bytes) -> None:
    """Files that no worker could use are told once, here. Raises `UnusableFile`."""
    compile_policy(config, entropy)
    way_of(config.outbound.proxy, config.outbound.ca)
    client_certificate(config)
    listener_contexts(config.listeners)
    if config.tracing.endpoint is not None:
        require_opentelemetry(config.tracing.endpoint)


class _Process(msgspec.Struct, frozen=True):
    """One that was forked, and when (seconds of the monotonic clock)."""

    worker: WorkerId
    began: float

    @property
    def is_worker(self) -> bool:
        return self.worker.number != _ADMIN


class Supervisor:
    """Keeps every place filled until it is told to end."""

    def __init__(
        self,
        context: WorkerContext,
        log_by: Callable[[Config], FilteringBoundLogger],
        output: LogWriter,
        standing: SupervisorStanding,
    ) -> None:
        """`log_by` makes the log that a configuration wants, of lines that go to `output`."""
        self._context = context
        self._log_by: Final = log_by
        self._log = log_by(context.config)
        self._output: Final = output
        self._standing: Final = standing
        self._processes: Final[dict[int, _Process]] = {}  # by process id
        self._due: Final[dict[int, float]] = {}  # empty places, and when they are to be filled
        self._deaths: Final[dict[int, int]] = {}  # in a row, by place
        self._files: Final = SupervisedFiles(context.load, self._log)
        self._mask: set[int] = set()
        self._is_ending = False
        self._deadline = math.inf  # of workers that have been told to end
        self._code = _FINE

    def run(self) -> int:
        """Returns the exit code."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Signals are waited for, not handled: nothing is interrupted, and none gets lost.
        self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)}
        for number in (RELOAD, ASKED):
            signal.signal(number, signal.SIG_DFL)  # what is ignored cannot be waited for
        self._files.follow(self._context.config)
        gc.freeze()  # shared with the workers, as long as no collector writes to it
        first = 1 if self._context.config.admin is None else _ADMIN
        self._due.update(dict.fromkeys(range(first, self._context.board.workers + 1), 0.0))
        try:
            while self._workers() or not self._is_ending:
                self._fill()
                self._react(signal.sigtimedwait(_SIGNALS, self._patience()))
                self._reap()
                self._kill_late()
                self._look_around()
        finally:
            self._kill(list(self._processes))
            for pid in self._processes:
                os.waitpid(pid, 0)
        return self._code

    def _workers(self) -> list[int]:
        return [pid for pid, process in self._processes.items() if process.is_worker]

    def _patience(self) -> float:
        """Seconds until there is something to do, if no signal comes before."""
        ours = (self._deadline, self._files.due, self._standing.due)
        wake = min([*self._due.values(), *ours])
        return min(max(0.0, wake - time.monotonic()), _IDLE_SECONDS)

    def _look_around(self) -> None:
        """Does what it is time for."""
        if self._files.are_changed():
            self._reload()
        self._standing.give_sign()
        if self._standing.is_replaced():
            self._kill([pid for pid, one in self._processes.items() if not one.is_worker])
            self._end(HAND_OVER)

    # -- processes ------------------------------------------------------------------------------

    def _fill(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._fork(number)

    def _fork(self, number: int) -> None:
        worker = WorkerId(_ADMIN, 0) if number == _ADMIN else self._context.board.assign(number)
        sys.stdout.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._log.error("no process can be made", detail=error.strerror)
            self._due[number] = time.monotonic() + LONGEST_PAUSE
            return
        if pid == 0:
            self._become(worker)
        self._processes[pid] = _Process(worker, time.monotonic())

    def _become(self, worker: WorkerId) -> NoReturn:
        """Is the process that was forked, to its end."""
        code = _FAULTY
        self._output.forget()
        try:
            os.close(self._context.held)
            self._files.close()
            self._standing.forked()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to tell
            # A reload waits until the worker can take it.
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask | {RELOAD, REOPEN})
            if worker.number == _ADMIN:
                code = run_admin(self._context)
            else:
                code = run_worker(self._context, worker)
        except BaseException as error:
            self._log.error("defect", worker=worker.number, pid=os.getpid(), exc_info=error)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Takes note of every process that has ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                process = self._processes.pop(ended[0], None)
                if process is not None:
                    self._ended(process, ended[0], os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, process: _Process, pid: int, code: int) -> None:
        number = process.worker.number
        if process.is_worker:
            self._context.board.vacate(number)
            if self._context.directory is not None:
                socket_path(self._context.directory, process.worker).unlink(missing_ok=True)
        if self._is_ending:
            return
        if process.is_worker and code == _UNUSABLE and not self._is_short_of_files(number):
            self._log.error("worker cannot start", worker=number)
            self._code = _UNUSABLE
            self._end()
            return
        now = time.monotonic()
        is_steady = now - process.began >= STEADY_SECONDS
        deaths = self._deaths[number] = 1 if is_steady else self._deaths.get(number, 0) + 1
        pause = pause_before(deaths)
        self._due[number] = now + pause
        what = {"worker": number} if process.is_worker else {}
        event = "worker ended" if process.is_worker else "admin process ended"
        self._log.warning(event, pid=pid, pause=pause, **what, **_how(code))

    def _is_short_of_files(self, number: int) -> bool:
        """Whether a worker lacks what the configuration names, and others serve meanwhile.

        Such as a certificate whose key is yet to come: they have the former one.
        """
        try:
            _open_files(self._context.config, self._context.entropy)
        except OSError as error:
            if self._context.board.members():
                self._log.error("worker cannot start", worker=number, detail=str(error))
                return True
        return False

    # -- the end --------------------------------------------------------------------------------

    def _react(self, received: signal.struct_siginfo | None) -> None:
        if received is None or received.si_signo == signal.SIGCHLD:
            return
        others: dict[int, Callable[[], None]] = {
            TOUCHED: self._files.touched,
            RELOAD: self._reload,
            SERVES: self._count_workers,
            ASKED: self._replace,
        }
        if (react := others.get(received.si_signo)) is not None:
            react()
            return
        if self._is_ending:
            self._log.warning("cutting")
            self._deadline = min(self._deadline, time.monotonic() + HURRY_SECONDS)
            self._tell(HURRY)
        else:
            self._end(DRAIN_AT_ONCE if received.si_signo == signal.SIGINT else DRAIN)

    def _count_workers(self) -> None:
        """Once all workers serve, whoever waits for that is told."""
        context = self._context
        if not self._is_ending and len(context.board.members()) == context.board.workers:
            self._standing.serving(context.config, context.history)

    def _replace(self) -> None:
        if not self._is_ending:
            self._standing.replace()

    def _reload(self) -> None:
        """Has all workers read the configuration anew; those to come begin with it."""
        self._standing.reloading()
        board, asked = self._context.board, self._context.board.asked
        is_ending, history = self._is_ending, self._context.history
        result = refused(history, ENDING) if is_ending else self._reloaded()
        report(self._log, result)
        history = history.after(result)
        self._context = replace(self._context, history=history)
        if self._context.directory is not None:
            write_history(self._context.directory, history)
        if result.is_good:
            board.next_reload()
            self._tell(RELOAD)
            self._due.update(dict.fromkeys(self._due, 0.0))  # who waited for files has them now
        else:
            self._tell(REOPEN)
        board.answered(asked)
        self._files.follow(self._context.config)
        self._standing.settled(self._context.config, history)

    def _reloaded(self) -> ReloadResult:
        """Reads it for processes to come."""
        try:
            config, kept = adapted(self._context.config, self._context.load())
            if self._context.directory is None and not _has_store(config):
                raise ConfigError((_NO_PLACE,))
            require_new_store(self._context.config, config)
            _open_files(config, self._context.entropy)
            self._output.turn_to(open_target(config.log.target))
        except (ConfigError, OSError) as error:
            reopen(self._output, self._log)
            return refused(self._context.history, error)
        except Exception as error:  # the supervisor of all must not die of it
            self._log.error("reload failed", detail=STAYS, exc_info=error)
            return failed(self._context.history)
        self._context = replace(self._context, config=config)
        self._context.log_level.follow(config.log.level)
        self._log = self._log_by(config)
        self._standing.log_to(self._log)
        self._files.log_to(self._log)
        return reloaded(config, kept)

    def _end(self, how: signal.Signals = DRAIN) -> None:
        """Workers finish what is under way, and let nobody new in."""
        self._is_ending = True
        self._files.close()
        self._standing.ending()
        self._due.clear()
        self._context.close_public()
        self._deadline = time.monotonic() + self._context.config.drain.timeout + CLOSE_SECONDS
        self._tell(how)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._workers():
            os.kill(pid, number)

    def _kill_late(self) -> None:
        if time.monotonic() >= self._deadline:
            self._deadline = math.inf
            self._log.warning("killing", workers=len(self._workers()))
            self._kill(self._workers())

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def _how(code: int) -> dict[str, Any]:
    """How a process ended, of `os.waitstatus_to_exitcode`."""
    if code >= 0:
        return {"status": code}
    with suppress(ValueError):
        return {"signal": signal.Signals(-code).name}
    return {"signal": str(-code)}
