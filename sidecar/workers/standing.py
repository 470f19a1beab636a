"""How the supervisor stands with what is around it, without an event loop (`lifecycle`)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sidecar.core.config.listen_section import addresses
from sidecar.handover import FAILED, Successor, obstacle
from sidecar.service_manager import ServiceManager, status_of
from sidecar.workers.supervised_files import TOUCHED

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.activation import GivenSocket
    from sidecar.core.config import Config
    from sidecar.core.reload_result import ReloadHistory
    from sidecar.inheritance import Inheritance


class SupervisorStanding:
    """Its predecessor, service manager and successor. The supervisor asks it at each turn."""

    def __init__(
        self, inheritance: Inheritance, given: Sequence[GivenSocket], log: FilteringBoundLogger
    ) -> None:
        """`given` are the sockets that another process can go on with."""
        self._inheritance: Final = inheritance
        self._given: Final = given
        self._log = log
        self._manager: Final = ServiceManager(os.environ, os.getpid())
        self._successor: Successor | None = None
        self._is_serving = False
        self._next_sign = 0.0 if self._manager.watchdog is not None else math.inf
        for address in inheritance.unused:
            log.warning("socket is not used", detail=address)

    def log_to(self, log: FilteringBoundLogger) -> None:
        """Another configuration says in which form to log."""
        self._log = log

    @property
    def due(self) -> float:
        """When to ask it at the latest, in seconds of the monotonic clock."""
        late = math.inf if self._successor is None else self._successor.due
        return min(self._next_sign, late)

    def forked(self) -> None:
        """In a process that was forked: a handover is none of its business."""
        if not self._is_serving:
            self._inheritance.forget()
        if self._successor is not None:
            self._successor.close()

    def serving(self, config: Config, history: ReloadHistory) -> None:
        """All workers serve, for the first time or again."""
        if not self._is_serving:
            self._is_serving = True
            self._inheritance.tell_ready()
            self.settled(config, history)

    def reloading(self) -> None:
        """A reload begins."""
        if self._is_serving:
            self._manager.reloading()

    def settled(self, config: Config, history: ReloadHistory) -> None:
        """It is through with a reload."""
        if self._is_serving:
            self._manager.ready(status_of(addresses(config.listen), history.holds.hash))

    def give_sign(self) -> None:
        """Gives a sign of life if it is time."""
        now, pause = time.monotonic(), self._manager.watchdog
        if pause is not None and now >= self._next_sign:
            self._manager.alive()
            self._next_sign = now + pause

    def replace(self) -> None:
        """Starts the process that is to take this one's place."""
        reason = obstacle(os.environ, os.getpid())
        if reason is not None:
            self._log.error("handover refused", detail=reason)
            return
        if self._successor is not None:
            return  # one is starting
        try:
            self._successor = Successor(self._given)
        except OSError as error:
            self._log.error("handover failed", detail=error.strerror)
            return
        self._successor.send(TOUCHED)
        self._log.info("handing over", pid=self._successor.pid)

    def is_replaced(self) -> bool:
        """Whether another process has come to serve."""
        successor = self._successor
        if successor is None or (state := successor.state()) == "starting":
            return False
        self._forget()
        if state == "failed":
            successor.end()
            self._log.error("handover failed", detail=FAILED, pid=successor.pid)
            return False
        self._log.info("handed over", pid=successor.pid)
        self._manager.replaced_by(successor.pid)
        return True

    def ending(self) -> None:
        """It drains; nobody can take its place any more."""
        self._manager.stopping("draining")
        if self._successor is not None:
            self._successor.end()
        self._forget()

    def _forget(self) -> None:
        if self._successor is not None:
            self._successor.close()
        self._successor = None
