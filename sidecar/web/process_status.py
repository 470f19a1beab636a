"""What this process tells the admin page (`StatusFacts`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sidecar.access_log import facts as access_facts
from sidecar.access_log import told_path
from sidecar.core.config.difference import compared
from sidecar.core.config.effective import Effective, effective
from sidecar.core.config.tree import Tree
from sidecar.core.errors import ConfigError
from sidecar.observation.status_model import Configuration, KeyDifference, KeyRow
from sidecar.web.explanation import explain_asking
from sidecar.web.foresight import Foresight
from sidecar.web.status_feed import Tail, TooManyListeners
from sidecar.web.status_report import status_of

if TYPE_CHECKING:
    from sidecar.access_log import Served
    from sidecar.log_level import LogLevel
    from sidecar.observation.status_model import Status, Story
    from sidecar.reload import Reloads
    from sidecar.runtime import Runtime
    from sidecar.web.proxy import Proxy
    from sidecar.web.server import Server


class ProcessStatus:
    """`number` is the worker's, 1 if it is the only one; `drain` begins its end."""

    def __init__(
        self,
        runtime: Runtime,
        proxy: Proxy,
        server: Server,
        reloads: Reloads,
        *,
        log_level: LogLevel,
        number: int,
        drain: Callable[[], None],
    ) -> None:
        self._server: Final = server
        self._reloads: Final = reloads
        self._log_level: Final = log_level
        self._number: Final = number
        self.drain: Final = drain
        self.serve_with(runtime, proxy)

    def serve_with(self, runtime: Runtime, proxy: Proxy) -> None:
        """Tells of another configuration from now on; what is remembered goes on."""
        self._runtime = runtime
        self._proxy = proxy

    async def status(self) -> Status:
        """The document."""
        return await status_of(
            self._runtime,
            self._proxy.budgets,
            self._reloads.history,
            log_level=self._log_level,
            is_draining=self._server.draining,
            worker=self._number,
        )

    async def story(self, asked: str) -> Story:
        """What is known of a session."""
        return self._runtime.recorder.story(asked)

    async def configuration(self) -> Configuration:
        """What runs, and how the file on disk differs."""
        running = self._reloads.config
        try:
            read = await asyncio.to_thread(self._reloads.read)
        except (ConfigError, OSError) as error:
            faults = tuple(str(error).splitlines())
            return Configuration(_rows(effective(running, Tree(""))), (), faults)
        if read is None:
            return Configuration(_rows(effective(running, Tree(""))), (), ())
        rows, differences = compared(running, *read)
        return Configuration(_rows(rows), tuple(KeyDifference(*one) for one in differences), ())

    async def explain(self, cookie: str, request: str | None) -> Mapping[str, Any]:
        """What becomes of a request here; `GET /` if none is given. Raises `BadRequest`."""
        runtime = self._runtime
        foresight = Foresight(runtime.policy, runtime, self._proxy.bridge.would_lead)
        now = runtime.clock.now()
        return await explain_asking(foresight, request or "GET /", cookie, now)

    async def tail(self, session: str | None, *, errors: bool) -> AsyncGenerator[bytes]:
        """Requests as they end. Raises `TooManyListeners`."""

        def wanted(facts: Mapping[str, Any]) -> bool:
            is_error = facts["status"] >= 500 or facts["decision"] == "broken"
            return (session is None or facts["session"] == session) and (is_error or not errors)

        tail, recorder = Tail(wanted), self._runtime.recorder

        def follow(flow: Served, seconds: float) -> None:
            path = told_path(flow, self._runtime.policy.mask)
            told = {**access_facts(flow, seconds), "path": path}
            tail.add({"at": round(time.time(), 3), **told})

        if not recorder.follow(follow):
            raise TooManyListeners
        try:
            async for line in tail.lines():
                yield line
        finally:
            recorder.unfollow(follow)


def _rows(rows: list[Effective]) -> tuple[KeyRow, ...]:
    return tuple(KeyRow(*one) for one in rows)
