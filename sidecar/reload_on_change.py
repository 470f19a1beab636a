"""Reloads once a file that the configuration is made of has changed (`file_watch`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.file_watch import SETTLE_SECONDS, FileWatch, hindrance

if TYPE_CHECKING:
    from sidecar.reload import Reloadable, Reloads


class ReloadOnChange:
    """Watches for the running event loop, while `watch: true` holds. `is_on`: whether at all."""

    def __init__(self, reloads: Reloads, sidecar: Reloadable, *, is_on: bool) -> None:
        self._reloads: Final = reloads
        self._sidecar: Final = sidecar
        self._is_on: Final = is_on
        self._loop: Final = asyncio.get_running_loop()
        self._watch: FileWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_told = False

    def follow(self) -> None:
        """Watches the files of the configuration that was read last, which may be others."""
        if not (self._is_on and self._reloads.config.watch):
            self.close()
            return
        try:
            if self._watch is None:
                self._watch = FileWatch()
                self._loop.add_reader(self._watch, self._touched)
            self._watch.watch(self._reloads.digests)
        except OSError as error:
            self._give_up(error)
        else:
            self._settle()  # a file may have changed before it was watched

    def close(self) -> None:
        """Watches nothing any more."""
        for under_way in (self._timer, self._looking):
            if under_way is not None:
                under_way.cancel()
        if self._watch is not None:
            self._loop.remove_reader(self._watch)
            self._watch.close()
        self._watch = self._timer = self._looking = None

    def _touched(self) -> None:
        if self._watch is not None and self._watch.take():
            self._settle()

    def _settle(self) -> None:
        """Waits until nothing has happened for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(SETTLE_SECONDS, self._settled)

    def _settled(self) -> None:
        self._timer = None
        if self._looking is not None:
            self._settle()
        elif self._watch is not None:
            self._looking = self._loop.create_task(self._look(self._watch))

    async def _look(self, watch: FileWatch) -> None:
        try:
            watch.follow()
            changed = await asyncio.to_thread(watch.changed)
        except OSError as error:
            self._looking = None
            self._give_up(error)
            return
        self._looking = None
        if changed:
            self._sidecar.runtime.log.info("files changed", files=changed)
            self._reloads.ask()

    def _give_up(self, error: OSError) -> None:
        """Says so once; a reload tries again."""
        self.close()
        if not self._is_told:
            self._is_told = True
            self._sidecar.runtime.log.warning("files are not watched", detail=hindrance(error))
