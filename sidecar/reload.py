"""SIGHUP: the configuration is read anew and put in the place of the old one, or that stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from sidecar.core.errors import ConfigError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.runtime import Runtime

Load: TypeAlias = "Callable[[], Config]"
"""Reads the configuration. Raises `ConfigError`, and `OSError` for a file that cannot be read."""

FIXED: Final = ("listen", "admin", "workers")
"""Keys that take a restart: what was opened for them is shared, or waited for by others."""


def adapted(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """The new configuration as far as it can hold now, and the keys that take a restart."""
    kept = [key for key in FIXED if getattr(old, key) != getattr(new, key)]
    if (old.tls is None) != (new.tls is None):
        kept.append("tls")
    update = {key: getattr(old, key) for key in kept}
    return new.model_copy(update=update), tuple(kept)


class Reloadable(Protocol):
    """What serves with a configuration, and can with another one."""

    @property
    def runtime(self) -> Runtime: ...
    async def reload(self, config: Config) -> None: ...


class Reloads:
    """Reloads whenever it is asked to."""

    def __init__(
        self,
        asked: asyncio.Event,
        load: Load,
        place: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """`place` makes the configuration of this process of the one for all."""
        self._asked: Final = asked
        self._load: Final = load
        self._place: Final = place

    async def keep_up(self, sidecar: Reloadable) -> None:
        """Goes on until it is cancelled. The log says what became of each reload."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload(sidecar)

    async def _reload(self, sidecar: Reloadable) -> None:
        old, log = sidecar.runtime.policy.config, sidecar.runtime.log
        try:
            read = self._place(await asyncio.to_thread(self._load))
            config, kept = adapted(old, read)
            await sidecar.reload(config)
        except (ConfigError, OSError) as error:
            refuse(log, error)
            return
        except Exception as error:
            log.error("reload failed", detail="the old configuration stays", exc_info=error)
            return
        report(sidecar.runtime.log, config, kept)


def refuse(log: FilteringBoundLogger, error: ConfigError | OSError) -> None:
    """Says why the old configuration stays."""
    faults = "; ".join(str(error).splitlines())
    log.error("reload refused", detail=f"the old configuration stays: {faults}")


def report(log: FilteringBoundLogger, config: Config, kept: tuple[str, ...]) -> None:
    """Says that another configuration holds."""
    log.info("reloaded")
    for warning in config.warnings:
        log.warning("configuration", detail=warning)
    if kept:
        keys = ", ".join(kept)
        log.warning("reload is not complete", detail=f"takes a restart: {keys}")
