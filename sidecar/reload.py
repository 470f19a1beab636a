"""The configuration is read anew and put in the place of the old one, or that stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from sidecar.compilation.compile_policy import config_hash
from sidecar.core.errors import ConfigError
from sidecar.core.reload_result import ReloadHistory, ReloadResult
from sidecar.places import require_store_files
from sidecar.tls import UnusableFile

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.core.config.tree import Tree
    from sidecar.log import Logging
    from sidecar.log_writer import Output
    from sidecar.runtime import Runtime

FIXED: Final = ("admin", "core_dumps", "workers")
"""Keys that take a restart: what was opened for them is shared, or waited for by others, and a
process should not say of itself at any time that it may be looked into.
"""

_OF_LISTENERS: Final = ((), ("listen",), ("tls",), ("listen", "tls"))
"""Which keys keep their values where the new ones would take another listener; the first that do.
"""

STAYS: Final = "the old configuration stays"
DEFECT: Final = "a defect of the sidecar; the log has the cause"
REMEDY: Final = "SIGUSR2 restarts without a loss"
ENDING: Final = "the sidecar is about to end"
NO_FILE: Final = "there is no configuration to read anew"


class Load(Protocol):
    """Reads the configuration (`config_loader.ConfigLoader`)."""

    def __call__(self) -> Config:
        """Raises `ConfigError`, and `OSError` for a file that cannot be read."""

    @property
    def digests(self) -> Mapping[str, bytes | None]:
        """What the files held that the last call came to see."""


@runtime_checkable
class TreeLoad(Protocol):
    """A `Load` that can also say where each key is written."""

    def tree(self) -> tuple[Config, Tree]:
        """Raises what `Load` raises."""


def adapted(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """The new configuration as far as it can hold now, and the keys that take a restart."""
    fixed = tuple(key for key in FIXED if getattr(old, key) != getattr(new, key))
    listeners = next(keys for keys in _OF_LISTENERS if _shape(_with(new, old, keys)) == _shape(old))
    kept = (*listeners, *fixed)
    return _with(new, old, kept), kept


def require_new_store(old: Config, new: Config) -> None:
    """The files of another store can be used. Raises `UnusableFile`.

    The one that serves already is left alone: a reload may be what its trouble needs.
    """
    if new.store.url != old.store.url:
        require_store_files(new.store.url)


def _with(new: Config, old: Config, keys: Sequence[str]) -> Config:
    return new.model_copy(update={key: getattr(old, key) for key in keys})


def _shape(config: Config) -> list[tuple[object, ...]]:
    """What stays of the listeners for as long as a process lives; certificates may change."""
    return [(one.address, one.scheme, one.proxy_protocol) for one in config.listeners]


def started(config: Config) -> ReloadHistory:
    """The history of a process that begins with a configuration."""
    return ReloadHistory(ReloadResult("started", time.time(), config_hash(config)))


def reloaded(config: Config, kept: tuple[str, ...]) -> ReloadResult:
    """Another configuration holds from now on."""
    return ReloadResult(
        "reloaded", time.time(), config_hash(config), kept=kept, warnings=config.warnings
    )


def refused(history: ReloadHistory, error: ConfigError | OSError | str) -> ReloadResult:
    """The old configuration stays."""
    faults = error.faults if isinstance(error, ConfigError) else (error,)
    told = tuple(line for one in faults for line in str(one).splitlines())
    return ReloadResult("refused", time.time(), history.holds.hash, faults=told)


def failed(history: ReloadHistory) -> ReloadResult:
    """The old configuration stays, since the new one met a defect."""
    return ReloadResult("failed", time.time(), history.holds.hash, faults=(DEFECT,))


class Reloadable(Protocol):
    """What serves with a configuration, and can with another one."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def logging(self) -> Logging: ...
    async def reload(self, config: Config) -> None: ...


class Reloads:
    """Reloads whenever it is asked to, one after the other. Belongs to the running event loop."""

    def __init__(
        self,
        config: Config,
        load: Load | None,
        place: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """`config` is the one to begin with, and `load` reads others, if anything can.

        `place` makes the configuration of this process of the one for all.
        """
        self.history = started(config)
        self._config = config
        self._load: Final = load
        self._place: Final = place
        self._asked: Final = asyncio.Event()
        self._waiting: list[asyncio.Future[ReloadResult]] = []
        self._never: str | None = NO_FILE if load is None else None

    @property
    def digests(self) -> Mapping[str, bytes | None]:
        """What the files held that were read last."""
        return {} if self._load is None else self._load.digests

    @property
    def config(self) -> Config:
        """The one that holds, of all processes."""
        return self._config

    def read(self) -> tuple[Config, Tree] | None:
        """Reads the file with the places of its keys; None if that cannot be done here.

        Blocks. Raises `ConfigError`, and `OSError` for a file that cannot be read.
        """
        return self._load.tree() if isinstance(self._load, TreeLoad) else None

    def ask(self) -> asyncio.Future[ReloadResult]:
        """Has the configuration read after this call; the future is what comes of it."""
        future = asyncio.get_running_loop().create_future()
        if self._never is not None:
            future.set_result(refused(self.history, self._never))
        else:
            self._waiting.append(future)
            self._asked.set()
        return future

    async def keep_up(
        self, sidecar: Reloadable, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        """Goes on until it is cancelled. The log says what became of each reload.

        `before` and `after` are called around each.
        """
        waiting: list[asyncio.Future[ReloadResult]] = []
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
                before()
                result = await self._reload(sidecar)
                self.history = self.history.after(result)
                after()
                _answer(waiting, result)
        finally:
            self._never = ENDING
            _answer([*waiting, *self._waiting], refused(self.history, ENDING))

    async def _reload(self, sidecar: Reloadable) -> ReloadResult:
        assert self._load is not None
        log = sidecar.runtime.log
        try:
            config, kept = adapted(self._config, await asyncio.to_thread(self._load))
            await sidecar.reload(self._place(config))
        except (ConfigError, OSError) as error:
            reopen(sidecar.logging.output, log)
            result = refused(self.history, error)
        except Exception as error:
            log.error("reload failed", detail=STAYS, exc_info=error)
            result = failed(self.history)
        else:
            self._config = config
            result = reloaded(config, kept)
        report(sidecar.runtime.log, result)
        return result


def reopen(output: Output, log: FilteringBoundLogger) -> None:
    """Opens the log's file anew, since it may have been renamed before the reload that failed."""
    try:
        output.reopen()
    except UnusableFile as error:
        log.warning("log not reopened", detail=str(error))


def _answer(waiting: list[asyncio.Future[ReloadResult]], result: ReloadResult) -> None:
    for future in waiting:
        if not future.done():  # whoever waited may have left
            future.set_result(result)


def report(log: FilteringBoundLogger, result: ReloadResult) -> None:
    """Says which configuration holds now, and why if that is the old one.

    A defect is told by whoever met it.
    """
    if result.result == "failed":
        return
    if not result.is_good:
        log.error("reload refused", detail=f"{STAYS}: {'; '.join(result.faults)}")
        return
    log.info("reloaded", config=result.hash)
    for warning in result.warnings:
        log.warning("configuration", detail=warning)
    if result.kept:
        keys = ", ".join(result.kept)
        log.warning("reload is not complete", detail=f"takes a restart: {keys}; {REMEDY}")
