"""Which files the supervisor watches. It has no event loop, so the kernel sends it a signal."""

from __future__ import annotations

import math
import signal
import time
from typing import TYPE_CHECKING, Final

from sidecar.file_watch import SETTLE_SECONDS, FileWatch, hindrance

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.reload import Load

TOUCHED: Final = signal.SIGIO
"""Something may have changed (inotify(7))."""


class SupervisedFiles:
    """The files that `load` read, watched while `watch: true` holds."""

    def __init__(self, load: Load, log: FilteringBoundLogger) -> None:
        self._load: Final = load
        self._log = log
        self._watch: FileWatch | None = None
        self._is_told = False
        self.due = math.inf
        """When to ask `are_changed`, in seconds of the monotonic clock."""

    def log_to(self, log: FilteringBoundLogger) -> None:
        """Another configuration says in which form to log."""
        self._log = log

    def follow(self, config: Config) -> None:
        """Watches what was read last. `TOUCHED` has to be blocked."""
        if not config.watch:
            self.close()
            return
        try:
            if self._watch is None:
                self._watch = FileWatch()
                self._watch.send(TOUCHED)
            self._watch.watch(self._load.digests)
        except OSError as error:
            self._give_up(error)
        else:
            self._settle()  # a file may have changed before it was watched

    def touched(self) -> None:
        """Takes note of a signal."""
        if self._watch is not None and self._watch.take():
            self._settle()

    def are_changed(self) -> bool:
        """Whether it is time, and a file has changed."""
        if self._watch is None or time.monotonic() < self.due:
            return False
        self.due = math.inf
        try:
            self._watch.follow()
        except OSError as error:
            self._give_up(error)
            return False
        changed = self._watch.changed()
        if changed:
            self._log.info("files changed", files=changed)
        return bool(changed)

    def close(self) -> None:
        """Watches nothing any more."""
        if self._watch is not None:
            self._watch.close()
        self._watch, self.due = None, math.inf

    def _settle(self) -> None:
        self.due = time.monotonic() + SETTLE_SECONDS

    def _give_up(self, error: OSError) -> None:
        """Says so once; a reload tries again."""
        self.close()
        if not self._is_told:
            self._is_told = True
            self._log.warning("files are not watched", detail=hindrance(error))
