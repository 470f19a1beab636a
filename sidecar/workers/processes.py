"""What runs in the processes that the supervisor forks: a worker, and the admin listener."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvloop

from sidecar.app import Shutdown, WorkerSlot, serve
from sidecar.core.config import Listen
from sidecar.core.store_url import StoreUrl
from sidecar.log import Logging
from sidecar.log_level import LogLevel
from sidecar.log_writer import LogTarget, LogWriter, open_target, standard_error
from sidecar.reload import Load, Reloads
from sidecar.tls import UnusableFile
from sidecar.web.admin import Admin
from sidecar.web.listeners import admin_sockets, public_sockets
from sidecar.workers.board import BoardShares, Scoreboard, WorkerId
from sidecar.workers.status_together import WorkersStatus
from sidecar.workers.together import WorkersFacts, socket_path
from sidecar.workers.wakeups import WorkerWakeup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.config import Config
    from sidecar.core.reload_result import ReloadHistory
    from sidecar.web.listeners import Key, Opened

DRAIN: Final = signal.SIGTERM
RELOAD: Final = signal.SIGHUP
DRAIN_AT_ONCE: Final = signal.SIGUSR1
REOPEN: Final = signal.SIGUSR2
HAND_OVER: Final = signal.SIGALRM
"""Another supervisor's workers serve on the same sockets."""
SERVES: Final = signal.SIGUSR1
"""To the supervisor: a worker serves."""
HURRY: Final = signal.SIGQUIT
"""Not a second SIGTERM: service managers send one to every process, beside the supervisor's."""


class WorkerContext(msgspec.Struct, frozen=True):
    """What the supervisor has made, once, for all processes."""

    config: Config
    load: Load
    """Reads it anew, in each process by itself."""
    entropy: bytes
    opened: Mapping[Key, Opened]
    """What listens, for workers and for the admin process."""
    board: Scoreboard
    wakeups: tuple[int, ...]
    """What wakes each worker, by its number."""
    log_level: LogLevel
    directory: Path | None
    """Private to this run; None where nothing is kept there."""
    lifeline: int
    """The end of a pipe that reads EOF once the supervisor is gone, however it went."""
    held: int
    """The other end, which the supervisor alone holds."""
    supervisor: int
    """Its process id."""
    history: ReloadHistory
    """The supervisor's own reloads."""

    def close_public(self) -> None:
        """Closes what workers accept from, in this process."""
        for sockets in public_sockets(self.opened):
            for one in sockets:
                one.close()


def run_worker(context: WorkerContext, worker: WorkerId) -> int:
    """Serves. Returns the exit code."""
    for one in admin_sockets(context.opened):
        one.close()
    return uvloop.run(_serve(context, worker))


async def _serve(context: WorkerContext, worker: WorkerId) -> int:
    shutdown, loop = Shutdown(), asyncio.get_running_loop()
    loop.add_signal_handler(DRAIN, shutdown.drain.set)
    reloads = Reloads(context.config, context.load, partial(_own_config, context, worker))
    loop.add_signal_handler(RELOAD, _reload, context.board, worker, reloads)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (RELOAD,))
    loop.add_signal_handler(DRAIN_AT_ONCE, shutdown.ask_at_once)
    loop.add_signal_handler(HAND_OVER, shutdown.hand_over)
    loop.add_signal_handler(HURRY, _hurry, shutdown)
    loop.add_reader(context.lifeline, _orphaned, context, shutdown)
    slot = WorkerSlot(
        number=worker.number,
        entropy=context.entropy,
        sockets=public_sockets(context.opened),
        shares=BoardShares(context.board, worker.number),
        wakeup=WorkerWakeup(context.wakeups, worker.number, loop),
        serving=partial(_serves, context, worker),
    )
    with closing(LogWriter(_log_target(context.config), loop)) as output:
        loop.add_signal_handler(REOPEN, _reopen, output)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (REOPEN,))
        return await serve(
            _own_config(context, worker, context.config),
            shutdown,
            Logging(output, context.log_level),
            reloads,
            slot=slot,
        )


def _serves(context: WorkerContext, worker: WorkerId) -> None:
    context.board.serving(worker.number)
    os.kill(context.supervisor, SERVES)


def _reload(board: Scoreboard, worker: WorkerId, reloads: Reloads) -> None:
    """Has it done, and says when it is."""
    reload = board.reload  # as of now: there may be another one meanwhile
    reloads.ask().add_done_callback(lambda _: board.reloaded(worker.number, reload))


def _log_target(config: Config) -> LogTarget:
    """Standard error if the log's file is gone meanwhile: a worker serves all the same."""
    try:
        return open_target(config.log.target)
    except UnusableFile:
        return LogTarget(standard_error())


def _reopen(output: LogWriter) -> None:
    with suppress(UnusableFile):  # told by the supervisor
        output.reopen()


def _hurry(shutdown: Shutdown) -> None:
    shutdown.drain.set()
    shutdown.hurry.set()


def _orphaned(context: WorkerContext, shutdown: Shutdown) -> None:
    """The supervisor was killed: closes the port, and ends when its requests have."""
    asyncio.get_running_loop().remove_reader(context.lifeline)
    shutdown.waits = False
    shutdown.drain.set()


def _own_config(context: WorkerContext, worker: WorkerId, config: Config) -> Config:
    """With an admin listener for the admin process alone, and with the store of this run."""
    config = with_private_store(config, context.directory)
    if context.config.admin is None:
        return config
    assert context.directory is not None
    path = str(socket_path(context.directory, worker))
    return config.model_copy(update={"admin": Listen("", 0, path)})


def with_private_store(config: Config, directory: Path | None) -> Config:
    """With a store for as long as this run lives, where none is configured.

    Login sessions should live longer, so they are kept where one worker would keep them.
    """
    if "url" in config.store.model_fields_set or directory is None:
        return config
    url = StoreUrl("sqlite", path=str(directory / "store.db"))
    changed: dict[str, Any] = {"store": config.store.model_copy(update={"url": url})}
    if config.oidc is not None and config.oidc.keep is None:
        changed["oidc"] = config.oidc.model_copy(update={"keep": "cookie"})
    return config.model_copy(update=changed)


def run_admin(context: WorkerContext) -> int:
    """Serves the admin listener until the supervisor is gone, or kills it. Returns 0."""
    context.close_public()
    for number in (DRAIN, DRAIN_AT_ONCE, HAND_OVER, HURRY, RELOAD, REOPEN):
        signal.signal(number, signal.SIG_IGN)  # it has to tell how the others drain
    return uvloop.run(_administer(context))


async def _administer(context: WorkerContext) -> int:
    assert context.directory is not None
    orphaned = asyncio.Event()
    asyncio.get_running_loop().add_reader(context.lifeline, orphaned.set)
    ask_supervisor = partial(os.kill, context.supervisor, RELOAD)
    facts = WorkersFacts(
        context.board, context.directory, context.history, ask_supervisor, context.log_level
    )
    drain = partial(os.kill, context.supervisor, DRAIN)
    status = WorkersStatus(context.board, context.directory, drain)
    admin = Admin(facts, status, context.config.admin)
    await admin.start(admin_sockets(context.opened))
    collecting = asyncio.create_task(facts.keep_collecting())
    await orphaned.wait()
    collecting.cancel()
    return 0
