"""The composition root: builds what runs out of a configuration, serves, and ends in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from sidecar import __version__
from sidecar.access_log import Access
from sidecar.allocator import keep_freed_memory
from sidecar.assembly.open_runtime import open_runtime
from sidecar.compilation.compile_policy import compile_policy
from sidecar.core.config.listen_section import addresses
from sidecar.handover import offered
from sidecar.inheritance import NOTHING, Inheritance
from sidecar.lifecycle import Lifecycle
from sidecar.log import Logging, report_gaps
from sidecar.log_level import LogLevel
from sidecar.log_writer import LogWriter, StreamOutput, open_target
from sidecar.metrics import Metrics
from sidecar.net.open_files import raise_open_files, shortage
from sidecar.net.parsers import require_c_parsers
from sidecar.observation.warning_log import WarningLog
from sidecar.policy import Policy
from sidecar.reload import Load, Reloads, require_new_store
from sidecar.reload_on_change import ReloadOnChange
from sidecar.runtime import FINISH_SECONDS, Runtime
from sidecar.service_manager import ServiceManager
from sidecar.strays import into_log
from sidecar.tls import UnusableFile, listener_contexts
from sidecar.web.admin import Admin, ProcessFacts
from sidecar.web.listeners import (
    ADMIN,
    addresses_of,
    admin_sockets,
    listening,
    public_sockets,
)
from sidecar.web.process_status import ProcessStatus
from sidecar.web.proxy import Proxy
from sidecar.web.server import Server, pause, unless_hurried

if TYPE_CHECKING:
    import socket

    from structlog.typing import FilteringBoundLogger

    from sidecar.core.activation import GivenSocket
    from sidecar.core.config import Config
    from sidecar.net.store.wakeup import Wakeup
    from sidecar.web.accepting import Shares

FORGETS: Final = (
    "a restart forgets which sessions have ended: a cookie that was kept opens its session again "
    "until it expires; a store that outlives it (store: {url: sqlite:///path or redis://host}) "
    "remembers"
)
RETIRE_SECONDS: Final = 0.5  # between two looks whether anything is still under way
_FINE: Final = 0
_UNUSABLE: Final = 2


def run(config: Config, load: Load, inheritance: Inheritance) -> int:
    """Serves until SIGTERM or SIGINT; a second one cuts what is still under way.

    SIGHUP has the configuration read anew by `load`, and SIGUSR2 another process take this one's
    place. Returns the exit code: 0, or 2 where it could not start.
    """
    require_c_parsers()
    raise_open_files()
    keep_freed_memory(os.environ)
    return uvloop.run(_run(config, load, inheritance))


async def _run(config: Config, load: Load, inheritance: Inheritance) -> int:
    shutdown, loop, reloads = Shutdown(), asyncio.get_running_loop(), Reloads(config, load)
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    loop.add_signal_handler(signal.SIGTERM, shutdown.ask)
    loop.add_signal_handler(signal.SIGINT, shutdown.ask_at_once)
    try:
        target = open_target(config.log.target)
    except UnusableFile as error:
        return cannot_start(error)
    with closing(LogWriter(target, loop)) as output:
        logging = Logging(output, LogLevel(config.log.level))
        log = logging.events(config.log)
        for warning in config.warnings:
            log.warning("configuration", detail=warning)
        report_shortage(config, log)
        manager = ServiceManager(os.environ, os.getpid())
        lifecycle = Lifecycle(inheritance, manager, shutdown.hand_over)
        return await serve(config, shutdown, logging, reloads, lifecycle=lifecycle)


def where(config: Config) -> dict[str, str]:
    """Every address that is served, for the log."""
    return {"listen": addresses(config.listen), "admin": str(config.admin)}


def cannot_start(error: OSError) -> int:
    """Says why, on standard error. Returns the exit code."""
    sys.stderr.write(f"sidecar: cannot start: {error}\n")
    return _UNUSABLE


def report_shortage(config: Config, log: FilteringBoundLogger) -> None:
    """Warns where fewer files can be open than connections are allowed."""
    detail = shortage(config.limits.connections)
    if detail is not None:
        log.warning("few open files", detail=detail)


def has_sessions(config: Config) -> bool:
    """Whether any request can have a session."""
    return bool(config.session.sources) or config.oidc is not None


class Shutdown:
    """How it ends: `drain` lets requests under way come to their end, `hurry` cuts them.

    `waits`: whether it still serves for a while, until balancers send nobody here any more.
    `is_handed_over`: whether another process serves on the same sockets.
    """

    def __init__(self) -> None:
        self.drain: Final = asyncio.Event()
        self.hurry: Final = asyncio.Event()
        self.waits = True
        self.is_handed_over = False

    def ask(self) -> None:
        """Drains; asked again, hurries."""
        (self.hurry if self.drain.is_set() else self.drain).set()

    def ask_at_once(self) -> None:
        """As `ask`, without a wait: somebody sits at a terminal."""
        self.waits = False
        self.ask()

    def hand_over(self) -> None:
        """Drains, since another process serves; clients who are here get time to go there."""
        if not self.drain.is_set():
            self.is_handed_over = True
            self.drain.set()


class WorkerSlot(msgspec.Struct, frozen=True):
    """The slot of one worker among several, with what all of them share."""

    number: int
    entropy: bytes
    """32 bytes, where no secret can be had (`compile_policy`)."""
    sockets: tuple[tuple[socket.socket, ...], ...]
    """Those of each listener; they listen already."""
    shares: Shares
    wakeup: Wakeup
    """Reaches the other workers."""
    serving: Callable[[], None]
    """Called once it serves."""


async def serve(
    config: Config,
    shutdown: Shutdown,
    logging: Logging,
    reloads: Reloads,
    *,
    slot: WorkerSlot | None = None,
    lifecycle: Lifecycle | None = None,
) -> int:
    """Serves until `shutdown`. Returns the exit code: 0, or 2 if it could not start.

    A process alone has a `lifecycle`, and a worker a `slot`.
    """
    inheritance = NOTHING if lifecycle is None else lifecycle.inheritance
    try:
        sidecar = Sidecar(
            config, logging, slot, reloads, shutdown=shutdown, inheritance=inheritance
        )
        into_log(lambda: sidecar.runtime.log, asyncio.get_running_loop())
        await sidecar.start()
    except (OSError, ssl.SSLError) as error:
        return cannot_start(error)
    log = sidecar.runtime.log
    log.info("serving", version=__version__, **where(config))
    if config.store.url.kind == "memory" and has_sessions(config):
        log.info("memory store", detail=FORGETS)
    if slot is not None:
        slot.serving()
    if lifecycle is not None:
        lifecycle.serving(sidecar, reloads)
    await _keep_up(sidecar, reloads, lifecycle, until=shutdown.drain)
    log, drain = sidecar.runtime.log, sidecar.runtime.policy.config.drain
    wait = drain.wait if shutdown.waits else 0.0
    log.info("draining", wait=wait, seconds=drain.timeout)
    is_handed_over = shutdown.is_handed_over
    cut = await sidecar.stop(
        drain.timeout, shutdown.hurry, wait=wait, is_handed_over=is_handed_over
    )
    log.info("stopped", connections_cut=cut)
    if lifecycle is not None:
        lifecycle.close()
    return _FINE


async def _keep_up(
    sidecar: Sidecar, reloads: Reloads, lifecycle: Lifecycle | None, *, until: asyncio.Event
) -> None:
    """Reloads when it is asked to or a file has changed, until it is to drain."""
    # The supervisor watches for its workers, and tells the service manager.
    watching = ReloadOnChange(reloads, sidecar, is_on=lifecycle is not None)
    watching.follow()

    def settled() -> None:
        watching.follow()
        if lifecycle is not None:
            lifecycle.settled()

    before = nothing if lifecycle is None else lifecycle.reloading
    reloading = asyncio.create_task(reloads.keep_up(sidecar, before, settled))
    await until.wait()
    watching.close()
    reloading.cancel()
    await asyncio.wait([reloading])
    if lifecycle is not None:
        lifecycle.ending()


def nothing() -> None:
    """Does nothing."""


class Sidecar:
    """A sidecar in this process: what `run` serves with, and what tests embed.

    Alone, or as a worker in its `slot`. Raises `OSError` or `ssl.SSLError` if files that the
    configuration names cannot be used. Without `logging` lines go to `sys.stderr`, and each one is
    waited for. Without `reloads` nobody can ask for one,
    and without `shutdown` nobody for its end. It listens on the sockets of the `inheritance`, and
    opens those that are missing there.
    """

    def __init__(
        self,
        config: Config,
        logging: Logging | None = None,
        slot: WorkerSlot | None = None,
        reloads: Reloads | None = None,
        *,
        shutdown: Shutdown | None = None,
        inheritance: Inheritance = NOTHING,
    ) -> None:
        if logging is None:
            logging = Logging(StreamOutput(sys.stderr), LogLevel(config.log.level))
        self.logging: Final = logging
        self._entropy: Final = os.urandom(32) if slot is None else slot.entropy
        self._slot: Final = slot
        self._warnings: Final = WarningLog()
        self._inheritance: Final = inheritance
        self._offered: tuple[GivenSocket, ...] = ()
        policy = compile_policy(config, self._entropy)
        log, access = self._open_logs(policy)
        metrics = Metrics(access, self.logging.output)
        self.runtime = open_runtime(
            policy,
            asyncio.get_running_loop(),
            metrics,
            log,
            warnings=self._warnings,
            wakeup=self._wakeup(),
        )
        self._proxy = Proxy(self.runtime)
        self._server: Final = Server(self.runtime, self._proxy)
        reloads = reloads or Reloads(config, None)
        self._facts: Final = ProcessFacts(
            self.runtime, self._proxy, self._server, reloads, logging.level
        )
        number = 1 if slot is None else slot.number
        drain = (shutdown or Shutdown()).drain.set
        self._status: Final = ProcessStatus(
            self.runtime,
            self._proxy,
            self._server,
            reloads,
            log_level=logging.level,
            number=number,
            drain=drain,
        )
        self._admin: Final = Admin(self._facts, self._status, config.admin)
        self._listeners: Final = ExitStack()
        self._retiring: Final[dict[asyncio.Task[None], Proxy]] = {}

    def _wakeup(self) -> Wakeup | None:
        return None if self._slot is None else self._slot.wakeup

    def _open_logs(self, policy: Policy) -> tuple[FilteringBoundLogger, Access | None]:
        slot, section = self._slot, policy.config.log
        bound = {} if slot is None else {"worker": slot.number, "pid": os.getpid()}
        log = self.logging.events(section, self._warnings.add).bind(**bound)
        report_gaps(self.logging.output, log)
        return log, self.logging.access(section, policy.mask, bound)

    async def start(self) -> None:
        """Listens. Raises `OSError` where an address cannot be had."""
        config = self.runtime.policy.config
        try:
            await self.runtime.start()
            wanted = addresses_of(config)
            if self._slot is not None:
                wanted = {key: one for key, one in wanted.items() if key == ADMIN}
            opened = self._listeners.enter_context(listening(wanted, self._inheritance.sockets))
            if self._slot is None:
                self._server.start_on(public_sockets(opened))
            else:
                self._server.start_on(self._slot.sockets, self._slot.shares)
            self._offered = offered(opened)
            await self._admin.start(admin_sockets(opened))
        except BaseException:
            await self.stop(0.0)  # a listener left open would keep the loop from closing
            raise
        # What is here now stays: the collector need not look at it again and again. Nor once before
        # that: there is next to nothing to collect, and it takes a tenth of the start.
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)

    def offered(self) -> tuple[GivenSocket, ...]:
        """The sockets that another process can go on with."""
        return self._offered

    async def reload(self, config: Config) -> None:
        """Serves with another configuration from now on, without dropping a request.

        Requests, event streams and WebSockets that are under way come to their end with the old
        one. Raises `UnusableFile`, and goes on as before then, as after any other error.
        """
        contexts = listener_contexts(config.listeners)  # before anything is changed
        require_new_store(self.runtime.policy.config, config)
        policy = compile_policy(config, self._entropy)
        target = open_target(config.log.target)
        try:
            await self._replace_with(policy, contexts)
        except BaseException:
            target.close()
            raise
        self.logging.level.follow(config.log.level)
        self.logging.output.turn_to(target)

    async def _replace_with(
        self, policy: Policy, contexts: Sequence[ssl.SSLContext | None]
    ) -> None:
        old, old_proxy = self.runtime, self._proxy
        log, access = self._open_logs(policy)
        runtime = open_runtime(policy, old.loop, old.metrics, log, old, wakeup=self._wakeup())
        try:
            await runtime.start()
            proxy = Proxy(runtime)
            self._server.serve_with(runtime, proxy, contexts)
        except BaseException:
            await runtime.close(keeps_store=runtime.store is old.store)
            raise
        self._facts.serve_with(runtime, proxy)
        self._status.serve_with(runtime, proxy)
        old.metrics.log_to(access)
        self.runtime, self._proxy = runtime, proxy
        task = asyncio.create_task(self._retire(old, old_proxy))
        self._retiring[task] = old_proxy
        task.add_done_callback(self._retiring.pop)

    async def _retire(self, old: Runtime, proxy: Proxy) -> None:
        """Lets go of what served before, once nothing is under way there."""
        await asyncio.sleep(RETIRE_SECONDS)  # for what counts against no budget, such as a logout
        while any(proxy.budgets.in_flight.values()):  # noqa: ASYNC110 - plain integers count cheaply
            await asyncio.sleep(RETIRE_SECONDS)
        await old.finish(FINISH_SECONDS)
        await old.close(keeps_store=old.store is self.runtime.store)

    async def stop(
        self,
        seconds: float,
        hurry: asyncio.Event | None = None,
        *,
        wait: float = 0.0,
        is_handed_over: bool = False,
    ) -> int:
        """Drains for at most `seconds`, or until there is a `hurry`.

        For the first `wait` seconds it serves as before, but is not ready. Then nobody new is let
        in, and WebSockets and event streams end. If another process has the sockets, that one lets
        everybody in who is new from the beginning. Returns how many connections had to be cut.
        """
        loop = asyncio.get_running_loop()
        until, hurry = loop.time() + seconds, hurry or asyncio.Event()
        self._server.announce()
        if is_handed_over:
            self._server.stop_accepting()
            await self._admin.stop()
        await pause(wait, hurry)
        self._server.stop_listening()
        for proxy in (self._proxy, *self._retiring.values()):
            proxy.lasting.end()
        cut = await self._server.drain(max(0.0, until - loop.time()), hurry)
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=max(0.1, until - loop.time()))
        await unless_hurried(self.runtime.finish(max(0.0, until - loop.time())), hurry)
        await self._admin.stop()
        self._listeners.close()
        await self.runtime.close()
        return cut
