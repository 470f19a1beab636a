"""How one serving process stands with what is around it: its predecessor, manager and successor."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.core.config.listen_section import addresses
from sidecar.handover import ASKED, FAILED, START_SECONDS, Successor, obstacle
from sidecar.service_manager import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.core.activation import GivenSocket
    from sidecar.inheritance import Inheritance
    from sidecar.reload import Reloads
    from sidecar.runtime import Runtime
    from sidecar.service_manager import ServiceManager


class Replaceable(Protocol):
    """What serves, and can give its sockets to another process."""

    @property
    def runtime(self) -> Runtime: ...
    def offered(self) -> Sequence[GivenSocket]: ...


class Lifecycle:
    """Belongs to the running event loop. `leave` is called once another process serves."""

    def __init__(
        self, inheritance: Inheritance, manager: ServiceManager, leave: Callable[[], None]
    ) -> None:
        self.inheritance: Final = inheritance
        self._manager: Final = manager
        self._leave: Final = leave
        self._loop: Final = asyncio.get_running_loop()
        self._successor: Successor | None = None
        self._late: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._sidecar: Replaceable | None = None
        self._reloads: Reloads | None = None
        self._is_ending = False

    def serving(self, sidecar: Replaceable, reloads: Reloads) -> None:
        """It serves: whoever waits for that is told."""
        self._sidecar, self._reloads = sidecar, reloads
        for address in self.inheritance.unused:
            sidecar.runtime.log.warning("socket is not used", detail=address)
        self.inheritance.tell_ready()
        self._loop.add_signal_handler(ASKED, self._replace)
        self.settled()
        self._give_sign()

    def reloading(self) -> None:
        """A reload begins."""
        self._manager.reloading()

    def settled(self) -> None:
        """It has begun to serve, or is through with a reload."""
        if self._reloads is not None:
            listen = addresses(self._reloads.config.listen)
            self._manager.ready(status_of(listen, self._reloads.history.holds.hash))

    def ending(self) -> None:
        """It drains; nobody can take its place any more."""
        self._is_ending = True
        self._manager.stopping("draining")
        if self._successor is not None:
            self._successor.end()
        self._forget()

    def close(self) -> None:
        """It has ended."""
        if self._beat is not None:
            self._beat.cancel()

    def _give_sign(self) -> None:
        if (seconds := self._manager.watchdog) is not None:
            self._manager.alive()
            self._beat = self._loop.call_later(seconds, self._give_sign)

    def _replace(self) -> None:
        assert self._sidecar is not None
        log, reason = self._sidecar.runtime.log, obstacle(os.environ, os.getpid())
        if reason is not None:
            log.error("handover refused", detail=reason)
            return
        if self._is_ending or self._successor is not None:
            return  # one is starting
        try:
            self._successor = Successor(self._sidecar.offered())
        except OSError as error:
            log.error("handover failed", detail=error.strerror)
            return
        log.info("handing over", pid=self._successor.pid)
        self._loop.add_reader(self._successor, self._look)
        self._late = self._loop.call_later(START_SECONDS, self._look)

    def _look(self) -> None:
        successor, sidecar = self._successor, self._sidecar
        assert sidecar is not None
        if successor is None or (state := successor.state()) == "starting":
            return
        self._forget()
        if state == "failed":
            successor.end()
            sidecar.runtime.log.error("handover failed", detail=FAILED, pid=successor.pid)
            return
        sidecar.runtime.log.info("handed over", pid=successor.pid)
        self._manager.replaced_by(successor.pid)
        self._leave()

    def _forget(self) -> None:
        if self._successor is not None:
            self._loop.remove_reader(self._successor)
            self._successor.close()
        if self._late is not None:
            self._late.cancel()
        self._successor = self._late = None
