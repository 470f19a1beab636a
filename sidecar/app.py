"""The composition root: builds what runs out of a configuration, serves, and ends in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import sys
from typing import TYPE_CHECKING, Final

import uvloop

from sidecar import __version__
from sidecar.log import open_log
from sidecar.metrics import Metrics
from sidecar.net.parsers import require_c_parsers
from sidecar.policy import compile_policy
from sidecar.runtime import Runtime, open_runtime
from sidecar.web.admin import Admin
from sidecar.web.proxy import Proxy
from sidecar.web.server import Server

if TYPE_CHECKING:
    from sidecar.core.config import Config

DRAIN_SECONDS: Final = 25.0  # Kubernetes kills after 30
_FINE: Final = 0
_UNUSABLE: Final = 2


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code: 0, or 2 where it could not start."""
    require_c_parsers()
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    log = open_log(config.log.level, config.log.format)
    for warning in config.warnings:
        log.warning("configuration", detail=warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        sidecar = Sidecar(config)
        await sidecar.start()
    except (OSError, ssl.SSLError) as error:
        sys.stderr.write(f"sidecar: cannot start: {error}\n")
        return _UNUSABLE
    log.info("serving", version=__version__, listen=str(config.listen), admin=str(config.admin))
    await stop.wait()
    log.info("draining", seconds=DRAIN_SECONDS)
    cut = await sidecar.stop(DRAIN_SECONDS)
    log.info("stopped", connections_cut=cut)
    return _FINE


class Sidecar:
    """A sidecar in this process: what `run` serves with, and what tests embed.

    Raises `OSError` or `ssl.SSLError` where files that the configuration names cannot be used.
    """

    def __init__(self, config: Config) -> None:
        log = open_log(config.log.level, config.log.format)
        policy = compile_policy(config, os.urandom(32))
        metrics = Metrics(log if config.log.access else None)
        self.runtime: Final[Runtime] = open_runtime(
            policy, asyncio.get_running_loop(), metrics, log
        )
        self._proxy: Final = Proxy(self.runtime)
        self._server: Final = Server(self.runtime, self._proxy)
        self._admin: Final = Admin(self.runtime, self._proxy, self._server)

    async def start(self) -> None:
        """Listens. Raises `OSError` where an address cannot be had."""
        await self.runtime.start()
        await self._server.start()
        try:
            await self._admin.start(self.runtime.policy.config)
        except OSError:
            await self.stop(0.0)  # a listener left open would keep the loop from closing
            raise
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)

    async def stop(self, seconds: float) -> int:
        """Drains for at most `seconds`; returns how many connections had to be cut."""
        cut = await self._server.drain(seconds)
        await self._admin.stop()
        await self.runtime.close()
        return cut
