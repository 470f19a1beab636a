"""One request on its way: what is known of it so far, for whoever handles the next step."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from sidecar.core.errors import ProxyError, UpstreamUnreachable
from sidecar.core.request import UNREAD, Request
from sidecar.core.routes import UNROUTED, Route
from sidecar.net.sessions import NOTHING_PRESENTED, Presented

if TYPE_CHECKING:
    from sidecar.net.upstream import Answer, UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.web.connection import Exchange
    from sidecar.web.proxy import Proxy

CLIENT_LEFT: Final = 499  # nginx's word for it, in logs and metrics only


class Flow:
    """The state of one request. `decision` and `reason` say in logs and metrics what was done."""

    __slots__ = (
        "began",
        "body",
        "bytes_out",
        "connection",
        "counts",
        "decision",
        "exchange",
        "head",
        "kind",
        "live",
        "on_end",
        "over",
        "presented",
        "proxy",
        "reason",
        "request",
        "request_id",
        "retried",
        "route",
        "runtime",
        "status",
        "streaming_body",
        "tasks",
        "upstream_status",
    )

    def __init__(self, proxy: Proxy, exchange: Exchange) -> None:
        self.proxy = proxy
        self.runtime: Runtime = proxy.runtime
        self.exchange = exchange
        self.began = self.runtime.clock.now()
        self.request: Request = UNREAD
        self.request_id = b""
        self.route: Route = UNROUTED
        self.kind = ""  # the budget that the request counts against
        self.presented: Presented = NOTHING_PRESENTED
        self.live: str | None = None
        self.counts = False
        self.head = b""  # the upstream request as sent, for one retry
        self.streaming_body = False
        self.retried = False
        self.connection: UpstreamConnection | None = None
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        self.on_end: Any = None
        self.decision = ""
        self.reason = ""
        self.status = 0
        self.upstream_status = 0
        self.bytes_out = 0
        self.over = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` as part of this request: it ends when the client leaves."""
        task = self.runtime.loop.create_task(self.proxy.guard(self, work))
        self.tasks = (*self.tasks, task)
        return task

    # -- answers of this request's upstream (net.upstream.Listener) -------------------------------

    def on_answer(self, answer: Answer) -> None:
        """The upstream's head is here."""
        self.proxy.answered(self, answer)

    def on_failure(self, error: ProxyError, *, untouched: bool) -> None:
        """The upstream gave no head."""
        self.connection = None
        self.proxy.failed(self, error, untouched=untouched)

    # -- the client -------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The client has left: the upstream call ends, and so does the work on it."""
        if self.over:
            return
        self.status = self.status or CLIENT_LEFT
        self.reason = self.reason or "client left"
        self.stop()
        self.proxy.ended(self)

    def stop(self) -> None:
        """Ends the upstream call and every task but the one that runs now."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        current = asyncio.current_task() if self.tasks else None
        for task in self.tasks:
            if task is not current:
                task.cancel()

    def upstream(self) -> UpstreamConnection:
        """The connection in use. Raises `UpstreamUnreachable` when it was lost meanwhile."""
        if self.connection is None:
            raise UpstreamUnreachable("connection lost")
        return self.connection
