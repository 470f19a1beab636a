"""One request on its way: what is known of it so far, for whoever handles the next step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.core.client import Facts
from sidecar.core.errors import ProxyError, UpstreamUnreachable
from sidecar.core.interim import interim_answer
from sidecar.core.request import UNREAD, Request
from sidecar.core.routes import UNROUTED, Route
from sidecar.core.view import NOTHING_PRESENTED, SessionView
from sidecar.web.exchange import Exchange

if TYPE_CHECKING:
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader

    from sidecar.core.answer import AnswerHead
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.web.exchange import Connection
    from sidecar.web.proxy import Proxy

MEMORY_BODY: Final = 65536  # bytes of a request body that is sent in one piece, and can be repeated
STREAM: Final = "stream"  # the budget of event streams, WebSockets, and whatever lasts
CLIENT_LEFT: Final = 499  # nginx's word for it, in logs and metrics only


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is done with requests of one method, target and header section; made once for all.

    `head` is the upstream's request head up to the value of X-Request-Id, `request_id` the
    client's own or empty, `kind` the budget that counts, `watch` what the bridge does with the
    request as it is sent. `revision` is that of the revocations when a client's own Authorization
    was let pass; None if it has none. The rest is as in `Flow`.
    """

    request: Request
    route: Route
    kind: str
    presented: SessionView
    live: str | None
    counts: bool
    head: bytes
    request_id: bytes
    expects_body: bool
    by_cookie: bool
    watch: Callable[[Flow], None] | None
    is_held: bool
    revision: int | None


class Flow(Exchange):
    """The state of one request, and the listener for its upstream's answer.

    The values below are those of a request of which nothing is known yet; as class attributes
    they cost a request nothing until they change. `decision` and `reason` say in logs and metrics
    what was done, and `detail` in logs why it was refused; `live` is the fingerprint of the live
    session presented; `counts` whether a 401 of the upstream says something about it; `kind` the
    budget that the request counts against.
    `is_held`: the answer may wait for server-side calls (`web.bridge`); `sweeps`: it expires the
    session cookies that were presented; `by_cookie`: the credential came in one, not as the
    client's own bearer; `on_head` and `on_end` are called before the answer's head
    is made and when the request has ended.
    """

    request: Request = UNREAD
    request_id = b""
    route: Route = UNROUTED
    kind = ""
    presented: SessionView = NOTHING_PRESENTED
    live: str | None = None
    counts = False
    head = b""  # the upstream request as sent, for one retry
    last = b""  # its framing and its body, where that is in memory
    recoveries = 0  # how often a 401 has been met with another token; 2: with a fresh one
    beginning = b""  # of a request body that is still coming
    streaming_body = False
    retried = False
    upstream: UpstreamConnection | None = None
    tasks: tuple[asyncio.Task[None], ...] = ()
    on_head: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None
    is_held = False
    sweeps = False
    by_cookie = True
    decision = ""
    reason = ""
    detail = ""
    status = 0
    upstream_status = 0
    bytes_out = 0
    over = False
    observed = False

    def __init__(
        self,
        proxy: Proxy,
        connection: Connection,
        payload: StreamReader,
        began: float,
    ) -> None:
        self.connection = connection
        self.payload = payload
        self.proxy = proxy
        self.began = began

    @property
    def runtime(self) -> Runtime:
        """What the request is served with."""
        return self.proxy.runtime

    @property
    def facts(self) -> Facts:
        """The request's field values, also where its line could not be read."""
        if self.request is not UNREAD:
            return self.request.facts
        return {} if self.fields is None else self.fields.facts

    @property
    def renewed_cookies(self) -> tuple[bytes, ...]:
        """The Set-Cookie values that hand a renewed session to the client that presented it.

        Not to one that had a token only; and not where the session has died meanwhile, or they
        would bring it back, or replace the next one.
        """
        presented = self.presented
        if not presented.sets or not self.by_cookie:
            return ()
        runtime = self.runtime
        is_dead = runtime.revocations.is_dead(presented.fingerprint, runtime.clock.now())
        return () if is_dead else presented.sets

    def spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Runs `work(self, *arguments)` as part of this request: it ends when the client leaves."""
        task = self.runtime.loop.create_task(self.proxy.guard(self, work, *arguments))
        self.tasks = (*self.tasks, task)

    # -- answers of this request's upstream (net.upstream.Listener) -------------------------------

    def on_interim(self, message: RawResponseMessage) -> None:
        """Interim answers pass to whoever knows them (RFC 9110 15.2)."""
        if self.http11 and not (self.started or self.over):
            told = message.code, message.reason, message.raw_headers
            self.connection.write(interim_answer(*told, self.route.public_location))

    def on_answer(self, answer: UpstreamConnection) -> None:
        """The upstream's head is here."""
        self.proxy.on_answer(self, answer)

    def on_whole_answer(self, head: AnswerHead, body: bytes) -> None:
        """The upstream's answer is here to its end."""
        self.upstream = None
        self.proxy.on_whole_answer(self, head, body)

    def on_failure(self, error: ProxyError, *, untouched: bool) -> None:
        """The upstream gave no head."""
        self.upstream = None
        self.proxy.on_failure(self, error, untouched=untouched)

    def settle(self) -> None:
        """What hung on this request's answer being still to come is let go."""
        on_end, self.on_head, self.on_end = self.on_end, None, None
        if on_end is not None:
            on_end()

    # -- the end ----------------------------------------------------------------------------------

    def left(self) -> None:
        """The answer has left."""
        self.proxy.ended(self)

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
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        if self.tasks:
            current = asyncio.current_task()
            for task in self.tasks:
                if task is not current:
                    task.cancel()

    def connected(self) -> UpstreamConnection:
        """The connection in use. Raises `UpstreamUnreachable` when it was lost meanwhile."""
        if self.upstream is None:
            raise UpstreamUnreachable("the connection was lost")
        return self.upstream
