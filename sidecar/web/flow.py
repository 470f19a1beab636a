"""One request on its way, from its head to the end of its response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from sidecar import spans
from sidecar.core.client import Facts
from sidecar.core.errors import ProxyError, UpstreamUnreachable, forget_frames, loggable
from sidecar.core.interim import interim_answer
from sidecar.core.request import UNREAD, Request
from sidecar.core.route_table import UNROUTED, Route
from sidecar.core.view import NOTHING_PRESENTED, SessionView
from sidecar.net.liveness import watch_peer
from sidecar.web.budgets import STREAM
from sidecar.web.exchange import Exchange

if TYPE_CHECKING:
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader

    from sidecar.core.envelope import Parts
    from sidecar.core.observed_route import Observed
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.net.members import Member
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.tracing import RequestTrace
    from sidecar.web.budgets import Body, Budgets
    from sidecar.web.exchange import Connection
    from sidecar.web.lasting import Lasting

MEMORY_BODY: Final = 65536  # bytes of a request body that is sent in one piece, and can be repeated
CLIENT_LEFT: Final = 499  # nginx's word for it, in logs and metrics only


Hold: TypeAlias = "Callable[[Flow, AsyncIterator[bytes]], Awaitable[AsyncIterator[bytes]]]"
"""Returns a body's pieces once its response need not be held any longer."""


class Plan(msgspec.Struct, frozen=True, eq=False):
    """What is done with requests of one method, target and header section; made once for all.

    `head` is the upstream's request head up to the value of X-Request-Id, `request_id` the
    client's own or empty, `kind` the budget that counts, `watch` what the bridge does with the
    request as it is sent, `hold` what holds its response. `revision` is that of the revocations
    when a client's own Authorization was let pass; None if it has none. The rest is as in `Flow`.
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
    hold: Hold | None
    revision: int | None


class FlowHandler(Protocol):
    """What serves flows (`web.proxy.Proxy`)."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def budgets(self) -> Budgets: ...
    @property
    def lasting(self) -> Lasting: ...

    def wants_whole(self, flow: Flow, head: UpstreamHead, length: int) -> bool:
        """Whether a response whose body is still coming is of use only once all of it is here."""

    def on_answer(self, flow: Flow, answer: UpstreamConnection) -> None:
        """The upstream's head is here."""

    def on_whole_answer(self, flow: Flow, head: UpstreamHead, body: bytes) -> None:
        """The upstream's response is here to its end."""

    def on_failure(self, flow: Flow, error: ProxyError, last: Member | None) -> None:
        """The upstream gave no head; `last` is its server if the request may be repeated."""

    def fail(self, flow: Flow, error: Exception) -> None:
        """Work for a flow has failed: responds, or breaks the response that has begun."""

    def resume(self, flow: Flow, plan: Plan) -> None:
        """Sends a request whose body was waited for. Raises `ProxyError`."""

    def failed(self, flow: Flow, now: float) -> None:
        """A request has ended with an error, be it the sidecar's or the upstream's."""

    async def recover(self, flow: Flow) -> None:
        """Repeats a request after a 401 with its session's newest token. Raises `ProxyError`."""


class Flow(Exchange):
    """One request: what is known of it, and how it responds and ends.

    The values below are those of a request of which nothing is known yet; as class attributes
    they cost a request nothing until they change. `decision` and `reason` say in logs and metrics
    what was done, and `detail` in logs why it was refused; `live` is the fingerprint of the live
    session presented; `counts` whether a 401 of the upstream says something about it; `kind` the
    budget that the request counts against. `hold`: the response may wait for server-side calls
    (`web.page_bridge`); `ends_at_head`: the callbacks of `on_finish` run before the response's head
    is made; `sweeps`: the response expires the session cookies that were presented; `by_cookie`:
    the credential came in one, not as the client's own bearer. `observation` and `would`: what
    an observed route found of the request, and what it would have done.

    Of the upstream's part: `upstream_address` is where the request was sent to last, or should have
    been (host and port), `sent_at` when (Unix seconds; if its body was still coming, the body's
    end), `upstream_seconds` how long it took from then to the response's head, or to its failure.
    `awaits_body`: the head is here, and its time noted, but what becomes of it waits for the body.
    `retries` counts how often the request was sent again: on another connection, or with another
    token. `trace_id` is that of the sidecar's own trace, if there is one.
    """

    __slots__ = (
        "awaits_body",
        "began",
        "beginning",
        "by_cookie",
        "bytes_out",
        "callbacks",
        "cause",
        "code",
        "counts",
        "decision",
        "detail",
        "ends_at_head",
        "handler",
        "head",
        "hold",
        "kind",
        "last",
        "live",
        "observation",
        "observed",
        "over",
        "presented",
        "reason",
        "recoveries",
        "request",
        "request_id",
        "retried",
        "retries",
        "route",
        "runtime",
        "sent_at",
        "status",
        "streaming_body",
        "sweeps",
        "tasks",
        "trace",
        "trace_id",
        "tunnelled",
        "upstream",
        "upstream_address",
        "upstream_seconds",
        "upstream_status",
        "would",
    )

    def __init__(
        self, handler: FlowHandler, connection: Connection, payload: StreamReader, began: float
    ) -> None:
        super().__init__(connection, payload)
        self.handler = handler
        self.runtime: Final[Runtime] = handler.runtime  # what the request is served with
        self.began = began
        self.request: Request = UNREAD
        self.route: Route = UNROUTED
        self.presented: SessionView = NOTHING_PRESENTED
        self.live: str | None = None
        self.upstream: UpstreamConnection | None = None
        self.hold: Hold | None = None
        self.observation: Observed | None = None
        self.trace: RequestTrace | None = None
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        self.callbacks: tuple[Callable[[], None], ...] = ()
        self.would: tuple[str, ...] = ()
        self.head = b""  # the upstream request as sent, for one retry
        self.last = b""  # its framing, and its body if that is in memory
        self.beginning = b""  # of a request body that is still coming
        self.request_id = b""
        self.kind = self.decision = self.reason = self.detail = self.code = self.cause = ""
        self.upstream_address = self.trace_id = ""
        self.recoveries = 0  # how often a 401 has been met with another token; 2: with a fresh one
        self.tunnelled = 0  # bytes of a WebSocket's client
        self.status = self.upstream_status = self.retries = self.bytes_out = 0
        self.sent_at = self.upstream_seconds = 0.0
        self.by_cookie = True
        self.counts = self.ends_at_head = self.sweeps = self.awaits_body = False
        self.streaming_body = self.retried = self.over = self.observed = False

    @property
    def facts(self) -> Facts:
        """The request's field values, even if its line could not be read."""
        if self.request is not UNREAD:
            return self.request.facts
        return {} if self.fields is None else self.fields.facts

    @property
    def told_path(self) -> str | None:
        """The path as logs, traces and pages show it (`log.mask`); None if none could be read."""
        if self.request is UNREAD:
            return None
        return loggable(self.runtime.policy.mask(self.request.path))

    @property
    def bytes_in(self) -> int:
        """How many bytes the request's body has brought so far, without its framing."""
        return self.payload.total_bytes + self.tunnelled

    @property
    def renewed_cookies(self) -> tuple[bytes, ...]:
        """The Set-Cookie values that hand a renewed session to the client that presented it.

        Not to a client that had only a token. Not if the session has died meanwhile, or they
        would bring it back, or replace the next one.
        """
        presented = self.presented
        if not presented.sets or not self.by_cookie:
            return ()
        runtime = self.runtime
        is_dead = runtime.revocations.is_dead(presented.fingerprint, runtime.clock.now())
        return () if is_dead else presented.sets

    # -- budgets ----------------------------------------------------------------------------------

    def admit(self, kind: str) -> None:
        """Counts the request against its budget, once. Raises `Overloaded`."""
        if not self.kind:
            self.handler.budgets.take(kind)
            self.kind = kind

    def admit_late(self, kind: str) -> None:
        """Counts the request against its budget, be it used up: its body has come to its end."""
        if not (self.kind or self.over):
            self.handler.budgets.take_late(kind)
            self.kind = kind

    def leave_budget(self) -> None:
        """Counts the request against no budget, until it is admitted again."""
        if self.kind and not self.over:
            self.handler.budgets.release(self.kind)
            self.kind = ""

    def outlast(self, response: Body | None = None) -> bool:
        """Counts a request that lasts as a stream. Returns False if their budget is used up.

        The request leaves its own kind's budget, and its place in its upstream's pool. If it lasts
        for its client's sake, `response` may be given up later (`Budgets.move_to_streams`).
        """
        if self.over or self.kind == STREAM:
            return True
        if not self.handler.budgets.move_to_streams(self.kind, response):
            return False
        self.kind = STREAM
        if self.upstream is not None:
            self.upstream.pool.lend(self.upstream)
        self.watch_peers()
        return True

    def watch_peers(self) -> None:
        """Notices soon when client or upstream are gone without a word: the request lasts."""
        watch_peer(self.connection.transport)
        if self.upstream is not None:
            watch_peer(self.upstream.transport)

    # -- work that waits --------------------------------------------------------------------------

    def spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Runs `work(self, *arguments)` as part of this request: it ends when the client leaves."""
        task = self.runtime.loop.create_task(self._guard(work, *arguments))
        self.tasks = (*self.tasks, task)

    async def _guard(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Whatever the work raises becomes a response, or breaks one."""
        if self.runtime.tracer is not None:
            spans.current.set(self.runtime.tracer.begin(self))
        try:
            await work(self, *arguments)
        except ConnectionError as error:
            self.cancel()  # the client is gone
            forget_frames(error)
        except Exception as error:
            self.handler.fail(self, error)
            forget_frames(error)

    def connected(self) -> UpstreamConnection:
        """The connection in use. Raises `UpstreamUnreachable` when it was lost meanwhile."""
        if self.upstream is None:
            raise UpstreamUnreachable("the connection was lost")
        return self.upstream

    # -- responses of this request's upstream (net.upstream.Listener) -----------------------------

    def on_interim(self, message: RawResponseMessage) -> None:
        """Interim responses pass to clients that know them (RFC 9110 15.2)."""
        if self.http11 and not (self.started or self.over):
            told = message.code, message.reason, message.raw_headers
            sent_host = self.request.host if self.route.maps_host else b""
            location = partial(self.route.public_location, sent_host=sent_host)
            self.connection.write(interim_answer(*told, location))

    def wants_whole(self, head: UpstreamHead, length: int) -> bool:
        """Whether a response whose body is still coming is of use only once all of it is here."""
        return self.handler.wants_whole(self, head, length)

    def on_answer(self, answer: UpstreamConnection) -> None:
        """The upstream's head is here."""
        self.handler.on_answer(self, answer)

    def on_whole_answer(self, head: UpstreamHead, body: bytes) -> None:
        """The upstream's response is here to its end."""
        self.upstream = None
        self.handler.on_whole_answer(self, head, body)

    def on_failure(self, error: ProxyError, *, untouched: bool) -> None:
        """The upstream gave no head."""
        failed, self.upstream = self.upstream, None
        last = failed.member if untouched and failed is not None else None
        self.handler.on_failure(self, error, last)

    # -- the end ----------------------------------------------------------------------------------

    def on_finish(self, callback: Callable[[], None]) -> None:
        """Has `callback` called when the request ends, or is sent once more."""
        self.callbacks = (*self.callbacks, callback)

    def run_callbacks(self) -> None:
        """Runs the callbacks that were waiting for this response."""
        callbacks, self.callbacks, self.ends_at_head = self.callbacks, (), False
        for callback in callbacks:
            callback()

    def respond(self, head: bytes, body: bytes, *, status: int, bodiless: bool = False) -> None:
        """Responds in one piece and ends the request."""
        self.status = status
        self.bytes_out = len(body)
        if not self.over:
            self._release()
        self.answer(head, body, bodiless=bodiless)

    def respond_in_parts(self, head: bytes, parts: Parts, *, status: int) -> None:
        """As `respond`, with a body in parts, which are not copied."""
        self.status = status
        length = self.bytes_out = sum(map(len, parts))
        if not self.over:
            self._release()
        self.answer_in_parts(head, parts, length)

    def left(self) -> None:
        """The response has left: observes the request, once, and never raises."""
        if not self.over:
            self._release()
        if not self.observed:
            self.observed = True
            now, runtime = time(), self.runtime
            recorder = runtime.recorder
            if now >= recorder.timeline.turns_at:
                recorder.timeline.turn(now)
            seconds, tracer = now - self.began, runtime.tracer
            if tracer is not None:
                tracer.end(self, seconds)
            runtime.metrics.observe(self, seconds)
            if self.status >= 400 or self.decision == "broken":
                self.handler.failed(self, now)
            if recorder.followers:
                recorder.tell(self, seconds)

    def cancel(self) -> None:
        """The client has left, or was cut: the upstream call ends, and so does the work on it."""
        if self.over:
            return
        self.status = self.status or CLIENT_LEFT
        self.reason = self.reason or self.connection.cut_for or "client left"
        self.cancel_work()
        self.left()

    def cancel_work(self) -> None:
        """Ends the upstream call and every task but the one that runs now."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        if self.tasks:
            current = asyncio.current_task()
            for task in self.tasks:
                if task is not current:
                    task.cancel()
            # One that was cancelled refers to this flow by where it was.
            self.tasks = tuple(task for task in self.tasks if task is current)

    def _release(self) -> None:
        """Releases the request's budget, callbacks, tasks and upstream connection."""
        self.over = True
        if self.kind:
            self.handler.budgets.release(self.kind)
        if self.callbacks:
            self.run_callbacks()
        if self.tasks or self.upstream is not None:
            self.cancel_work()
            self.tasks = ()
