"""The pipeline: one straight way for a request, from its head to its response.

    match → peek at the session → prepare → round trip → decide → relay | wrap | unauthorized

A small request whose upstream has an idle connection and responds in one piece never leaves the
callbacks; whatever must wait goes on as a task (`relay`), along the same functions.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final, cast

from aiohttp.http import HttpVersion10

from sidecar.core.actions import (
    INSPECT,
    RELAY,
    WRAP,
    WRAP_EMPTY,
    Action,
    decide,
)
from sidecar.core.client import Client
from sidecar.core.errors import (
    HeadersTooLarge,
    ProxyError,
)
from sidecar.core.request import IDEMPOTENT_METHODS, Fields, RawFields, Request
from sidecar.core.route_table import UNROUTED
from sidecar.core.upstream_head import UpstreamHead
from sidecar.web import logout_endpoint as logout
from sidecar.web import relay, tunnel
from sidecar.web.budgets import Budgets
from sidecar.web.client_limits import admit
from sidecar.web.flow import Flow, Plan
from sidecar.web.handing_out import may_hand_out
from sidecar.web.lasting import Lasting
from sidecar.web.page_bridge import Bridge
from sidecar.web.planner import Planner
from sidecar.web.remembering import remember_failure
from sidecar.web.rescue import defect, rescue, tell_retry
from sidecar.web.response import conclude
from sidecar.web.sending import send, send_when_connected

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from sidecar.net.members import Member
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.web.exchange import Connection, Exchange


class Proxy:
    """Serves exchanges (`web.connection.Handler`) and flows (`web.flow.FlowHandler`)."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime: Final = runtime
        self.budgets: Final = Budgets(runtime.policy.config.limits.in_flight)
        self.lasting: Final = Lasting(runtime.loop, runtime.metrics.lasting)
        self._statuses: Final = runtime.policy.unauthorized.statuses
        routes = runtime.policy.config.routes
        buffers = (route.envelope.buffer for route in routes if route.envelope)
        self._short: Final = min(buffers, default=0)  # bytes of a body that every route wraps
        self.bridge: Final = Bridge(runtime.loop, runtime.policy.bridge.hold)
        self._planner: Final = Planner(runtime, self.bridge)

    # -- the request half -------------------------------------------------------------------------

    def exchange(self, connection: Connection, payload: StreamReader) -> Flow:
        """The flow of a new request."""
        return Flow(self, connection, payload, time())

    def handle(self, exchange: Exchange) -> None:
        """Serves a request."""
        flow: Flow = exchange  # type: ignore[assignment] # made by `exchange`
        try:
            flow.request_id = self.runtime.ids.fresh()
            fields = flow.fields
            if fields is None:
                fields = flow.fields = Fields(flow.raw_fields, http11=flow.http11)
            plan = fields.plans.get((flow.method, flow.target))
            if plan is None or not self._planner.holds(plan, flow.began):
                request = Request(flow.method, flow.target, fields, http11=flow.http11)
                plan = self._planner.plan(flow, request)
            if plan is not None:  # else it is answered, or waits for its session
                send(flow, plan)
        except ProxyError as error:
            rescue(flow, error)
        except Exception as error:
            defect(flow, error)

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Responds to a request that could not be read, or whose head is too large to be served."""
        flow = cast("Flow", exchange)
        flow.request_id = self.runtime.ids.fresh()
        try:
            if flow.raw_fields:
                self._read_refused(flow, flow.raw_fields)
            if isinstance(error, HeadersTooLarge) and logout.is_way_out(flow):
                admit(flow, "logout")
                logout.clear(flow)
                return
        except ProxyError as worse:
            error = worse
        rescue(flow, error)

    def _read_refused(self, flow: Flow, raw: RawFields) -> None:
        """Who asks, and for what: that decides how the refusal looks."""
        flow.request = Request(flow.method, flow.target, raw, http11=flow.http11)
        if flow.request.route_path not in self.runtime.policy.endpoints:
            flow.route = self.runtime.policy.routes.match(flow.request.route_path) or UNROUTED

    def resume(self, flow: Flow, plan: Plan) -> None:
        """Sends a request whose body was waited for; its session may have changed meanwhile.

        Raises `ProxyError`.
        """
        again: Plan | None = plan
        if not self._planner.holds(plan, time()):
            flow.counts, flow.by_cookie = False, True
            again = self._planner.plan(flow, plan.request)
        if again is not None:
            send(flow, again)

    async def recover(self, flow: Flow) -> None:
        """Repeats a request after a 401 with its session's newest token. Raises `ProxyError`."""
        await self._planner.recover(flow)

    def on_failure(self, flow: Flow, error: ProxyError, last: Member | None) -> None:
        """The upstream gave no head: repeated once if nothing can have happened twice.

        `last` is the server whose connection died before the first byte of its response.
        """
        flow.upstream_seconds = time() - flow.sent_at
        repeatable = flow.request.method in IDEMPOTENT_METHODS and not flow.streaming_body
        if last is not None and repeatable and not flow.retried:
            flow.retried = True
            flow.retries += 1
            self.runtime.metrics.retries += 1
            self.runtime.metrics.upstreams[flow.route.upstream].retries += 1
            tell_retry(flow, error.detail)
            flow.spawn(send_when_connected, last)
            return
        rescue(flow, error)

    # -- the response half ------------------------------------------------------------------------

    def wants_whole(self, flow: Flow, head: UpstreamHead, length: int) -> bool:
        """Whether the body is wrapped, or looked into, in memory: nothing leaves before its end."""
        rule = flow.route.envelope or self.runtime.policy.config.envelope
        if length > rule.buffer or b"content-encoding" in head.facts:
            return False
        is_read = flow.route.session == "none" and may_hand_out(flow)
        action = decide(
            flow.route, head, flow.method == "HEAD", self._statuses, flow.counts, is_read=is_read
        )
        if action is WRAP or action is INSPECT:
            flow.upstream_seconds = time() - flow.sent_at
            flow.awaits_body = True
        return flow.awaits_body

    def on_whole_answer(self, flow: Flow, head: UpstreamHead, body: bytes) -> None:
        """The response is here to its end, and its connection free again."""
        try:
            flow.upstream_status = head.status
            if flow.awaits_body:
                flow.awaits_body = False
            else:
                flow.upstream_seconds = time() - flow.sent_at
            if head.status == 431:
                _offer_way_out(flow)
            action = decide(
                flow.route,
                head,
                flow.method == "HEAD",
                self._statuses,
                flow.counts,
                is_read=flow.route.session == "none" and may_hand_out(flow),
            )
            may_take_long = len(body) > self._short or b"content-encoding" in head.facts
            if may_take_long and _takes_long(flow, head, action, len(body)):
                flow.spawn(relay.receive_whole, head, action, body)
            else:
                conclude(flow, head, action, body)
        except ProxyError as error:
            rescue(flow, error)
        except Exception as error:
            defect(flow, error)

    def on_answer(self, flow: Flow, answer: UpstreamConnection) -> None:
        """The upstream's head is here: decides, and goes on at once if the body is here too."""
        try:
            self._answered(flow, answer)
        except ProxyError as error:
            answer.abort()
            rescue(flow, error)
        except Exception as error:
            answer.abort()
            defect(flow, error)

    def _answered(self, flow: Flow, answer: UpstreamConnection) -> None:
        message = answer.message
        flow.upstream_status = message.code
        if flow.awaits_body:
            flow.awaits_body = False
        else:
            flow.upstream_seconds = time() - flow.sent_at
        version = b"1.0" if message.version == HttpVersion10 else b"1.1"
        head = UpstreamHead(message.code, message.raw_headers, message.reason, version)
        if message.code == 101:
            tunnel.open_tunnel(flow, answer, head)
            return
        if head.status == 431:
            _offer_way_out(flow)
        action = decide(  # as in `on_whole_answer`, where a function would be a call per response
            flow.route,
            head,
            flow.method == "HEAD",
            self._statuses,
            flow.counts,
            is_read=flow.route.session == "none" and may_hand_out(flow),
        )
        if not answer.is_whole or _takes_long(flow, head, action, answer.payload.total_bytes):
            flow.spawn(relay.receive, answer, head, action)
            return
        body = answer.take_body()
        flow.upstream = None
        answer.release()
        conclude(flow, head, action, body)

    def failed(self, flow: Flow, now: float) -> None:
        """A request has ended with an error, be it the sidecar's or the upstream's."""
        remember_failure(flow, now)

    def fail(self, flow: Flow, error: Exception) -> None:
        """Work for a flow has failed: responds, or breaks the response that has begun."""
        if isinstance(error, ProxyError):
            flow.cancel_work()
            rescue(flow, error)
        else:
            defect(flow, error)


def _takes_long(flow: Flow, head: UpstreamHead, action: Action, size: int) -> bool:
    """Whether a body that is here to its end is encoded, or too long to be wrapped in memory."""
    if action is RELAY or action is WRAP_EMPTY:
        return False
    if b"content-encoding" in head.facts:
        return True
    rule = flow.route.envelope
    return action is WRAP and rule is not None and size > rule.buffer


def _offer_way_out(flow: Flow) -> None:
    """Takes a document that is too large for its frontend for one that is too large here.

    Frontends take less than the sidecar (Node.js 16 KiB), and leave their users no way out. Raises
    `HeadersTooLarge`.
    """
    is_page = flow.route.kind == "page" and flow.observation is None
    if is_page and flow.request.client is Client.DOCUMENT:
        raise HeadersTooLarge("the upstream answered 431")
