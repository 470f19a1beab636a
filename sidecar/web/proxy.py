"""The pipeline: one straight way for a request, from its head to its answer.

    match → peek at the session → prepare → round trip → decide → relay | wrap | unauthorized

A small request whose upstream has an idle connection and answers in one piece never leaves the
callbacks; whatever must wait goes on as a task (`relay`), along the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import time
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp.http import HttpVersion10
from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.core.actions import (
    INSPECT,
    RELAY,
    UNAUTHORIZED,
    WRAP,
    WRAP_EMPTY,
    WRAP_ERROR,
    Action,
    decide,
    is_wrappable,
)
from sidecar.core.answer import AnswerHead
from sidecar.core.client import Client
from sidecar.core.envelope import (
    Document,
    InvalidJSON,
    NeedsWalk,
    parse_at_once,
    wrap,
    wrap_empty,
    wrap_text,
)
from sidecar.core.errors import (
    BodyTooLarge,
    HeadersTooLarge,
    Overloaded,
    ProxyError,
    UpstreamProtocolError,
)
from sidecar.core.forwarding import (
    clean_response,
)
from sidecar.core.headers import is_for_everybody, media_type
from sidecar.core.representation import stands_for_envelope
from sidecar.core.request import IDEMPOTENT_METHODS, Fields, RawFields, Request
from sidecar.core.routes import UNROUTED
from sidecar.core.sweep import room_beside
from sidecar.web import logout, relay, tunnel
from sidecar.web.bridge import Bridge
from sidecar.web.compression import AT_ONCE, COMPRESSED_FROM, coding_for, gzipped
from sidecar.web.flow import MEMORY_BODY, STREAM, Flow, Plan
from sidecar.web.lifetime import Lasting
from sidecar.web.planner import Planner
from sidecar.web.rescue import rescue

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from sidecar.core.view import OpenedSession
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.web.exchange import Connection, Exchange


UNREAD: Final = Document(b"", None)
"""Stands for a body that nobody has looked into."""


class Proxy:
    """Serves exchanges (`web.connection.Handler`) by the runtime's policy."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        limits = runtime.policy.config.limits
        self._body_limit: Final = limits.body
        self._unauthorized: Final = runtime.policy.unauthorized
        self._pools: Final = runtime.pools
        self._by_origin: Final = runtime.policy.cors.is_on
        self.lasting: Final = Lasting()
        self.bridge: Final = Bridge(runtime.loop, runtime.policy.bridge.hold)
        self.planner: Final = Planner(runtime, self.bridge)
        self._budgets: Final = {
            "api": limits.in_flight.api,
            "page": limits.in_flight.page,
            STREAM: limits.in_flight.stream,
        }
        self.in_flight: dict[str, int] = dict.fromkeys(self._budgets, 0)

    # -- the request half -----------------------------------------------------------------------

    def exchange(self, connection: Connection, payload: StreamReader) -> Flow:
        """The flow of a new request."""
        return Flow(self, connection, payload, time())

    def handle(self, exchange: Exchange) -> None:
        """Serves a request."""
        flow = cast("Flow", exchange)
        try:
            self._begin(flow)
        except ProxyError as error:
            rescue(flow, error)
        except Exception as error:
            self._defect(flow, error)

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answers a request that could not be read, or whose head is too large to be served."""
        flow = cast("Flow", exchange)
        flow.request_id = self.runtime.ids.fresh()
        try:
            if flow.raw_fields:
                self._read_refused(flow, flow.raw_fields)
            if isinstance(error, HeadersTooLarge) and logout.is_way_out(flow):
                logout.clear(flow)
                return
        except ProxyError as worse:
            error = worse
        rescue(flow, error)

    def _read_refused(self, flow: Flow, raw: RawFields) -> None:
        """Who asks, and for what: that decides how the refusal looks."""
        flow.request = Request(flow.method, flow.target, raw, http11=flow.http11)
        if flow.request.route_path != self.runtime.policy.logout.path:
            flow.route = self.runtime.policy.routes.match(flow.request.route_path) or UNROUTED

    def _begin(self, flow: Flow) -> None:
        flow.request_id = self.runtime.ids.fresh()
        fields = flow.fields
        if fields is None:
            fields = flow.fields = Fields(flow.raw_fields, http11=flow.http11)
        planner = self.planner
        plan = fields.plans.get((flow.method, flow.target))
        if plan is None or not planner.holds(plan, flow.began):
            request = Request(flow.method, flow.target, fields, http11=flow.http11)
            plan = planner.plan(flow, request)
            if plan is None:
                return  # answered, or waiting for its session
        self.send(flow, plan)

    # -- towards the upstream -------------------------------------------------------------------

    def send(self, flow: Flow, plan: Plan) -> None:
        """Sends the request as planned. Raises `Overloaded` and `BodyTooLarge`."""
        flow.request = plan.request
        flow.route = plan.route
        flow.presented = plan.presented
        flow.live = plan.live
        flow.counts = plan.counts
        if plan.watch is not None:  # rarely anything but the class's own values
            flow.is_held = plan.is_held
        if not plan.by_cookie:
            flow.by_cookie = False
        if plan.request_id:
            flow.request_id = plan.request_id
        if not flow.kind:
            self.admit(flow, plan.kind)
        if flow.payload is not EMPTY_PAYLOAD and not (flow.last or self._is_worth_sending(flow)):
            flow.spawn(relay.collect, plan)
            return
        if flow.on_end is not None:
            flow.settle()  # it is sent once more
        if plan.watch is not None:
            plan.watch(flow)
        facts = plan.request.facts
        if flow.payload is not EMPTY_PAYLOAD:
            flow.last = flow.last or self._body(flow, facts.get(b"content-length"))
        else:
            flow.last = b"Content-Length: 0\r\n\r\n" if b"content-length" in facts else b"\r\n"
        flow.head = b"%b%b\r\n%b" % (plan.head, flow.request_id, flow.last)
        if flow.streaming_body or flow.kind == STREAM:
            flow.spawn(relay.send)
            return
        upstream = self._pools[plan.route.upstream].take()
        if upstream is None:
            flow.spawn(relay.send)
            return
        flow.upstream = upstream
        upstream.send(flow.head, flow, expects_body=plan.expects_body)

    def admit(self, flow: Flow, kind: str) -> None:
        """Counts a request against its budget, once. Raises `Overloaded`."""
        if flow.kind:
            return
        if self.in_flight[kind] >= self._budgets[kind]:
            raise Overloaded(f"budget of {kind} requests is used up")
        self.in_flight[kind] += 1
        flow.kind = kind

    def outlast(self, flow: Flow) -> bool:
        """Counts a request that lasts as a stream; False if their budget is used up.

        It takes none of its own kind's budget any more, and no place of its upstream's pool.
        """
        if flow.over or flow.kind == STREAM:
            return True
        if self.in_flight[STREAM] >= self._budgets[STREAM]:
            return False
        self.in_flight[flow.kind] -= 1
        self.in_flight[STREAM] += 1
        flow.kind = STREAM
        if flow.upstream is not None:
            flow.upstream.pool.lend(flow.upstream)
        flow.watch_peers()
        return True

    def _is_worth_sending(self, flow: Flow) -> bool:
        """Whether `MEMORY_BODY` bytes or the end of the request body are here.

        Until then the request takes no connection that others could use. Raises `BodyTooLarge`.
        """
        payload, limit = flow.payload, self._body_limit
        length = flow.request.facts.get(b"content-length")
        if length is not None and int(length) > limit:
            raise BodyTooLarge(f"Content-Length is above {limit}", close=True)
        if payload.total_bytes > limit:
            raise BodyTooLarge(f"request body is above {limit}", close=True)
        return payload.is_eof() or payload.total_bytes >= MEMORY_BODY

    def resume(self, flow: Flow, plan: Plan) -> None:
        """Sends a request whose body was waited for; its session may have changed meanwhile.

        Raises `ProxyError`.
        """
        again: Plan | None = plan
        if not self.planner.holds(plan, time()):
            flow.counts, flow.by_cookie = False, True
            again = self.planner.plan(flow, plan.request)
        if again is not None:
            self.send(flow, again)

    def _body(self, flow: Flow, length: bytes | None) -> bytes:
        """The framing of the request body, and the body itself where it is here and small."""
        payload = flow.payload
        if payload.is_eof() and payload.total_bytes <= MEMORY_BODY:
            body, flow.beginning = flow.beginning + payload.read_nowait(-1), b""
            return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        flow.streaming_body = True
        if length is None:
            return b"Transfer-Encoding: chunked\r\n\r\n"
        return b"Content-Length: %b\r\n\r\n" % length

    def on_failure(self, flow: Flow, error: ProxyError, *, untouched: bool) -> None:
        """The upstream gave no head: repeated once where nothing can have happened twice."""
        repeatable = flow.request.method in IDEMPOTENT_METHODS and not flow.streaming_body
        if untouched and repeatable and not flow.retried:
            flow.retried = True
            self.runtime.metrics.retries += 1
            flow.spawn(relay.send, True)
            return
        rescue(flow, error)

    # -- the response half ----------------------------------------------------------------------

    def on_whole_answer(self, flow: Flow, head: AnswerHead, body: bytes) -> None:
        """The answer is here to its end, and its connection free again."""
        try:
            flow.upstream_status = head.status
            if head.status == 431:
                _offer_way_out(flow)
            action = decide(
                flow.route, head, flow.method == "HEAD", self._unauthorized.statuses, flow.counts
            )
            if _takes_long(flow, head, action, len(body)):
                flow.spawn(relay.receive_whole, head, action, body)
            else:
                self.conclude(flow, head, action, body)
        except ProxyError as error:
            rescue(flow, error)
        except Exception as error:
            self._defect(flow, error)

    def on_answer(self, flow: Flow, answer: UpstreamConnection) -> None:
        """The upstream's head is here: decides, and goes on at once where the body is here too."""
        try:
            self._answered(flow, answer)
        except ProxyError as error:
            answer.abort()
            rescue(flow, error)
        except Exception as error:
            answer.abort()
            self._defect(flow, error)

    def _answered(self, flow: Flow, answer: UpstreamConnection) -> None:
        message = answer.message
        flow.upstream_status = message.code
        version = b"1.0" if message.version == HttpVersion10 else b"1.1"
        head = AnswerHead(message.code, message.raw_headers, message.reason, version)
        if message.code == 101:
            tunnel.open_tunnel(flow, answer, head)
            return
        if head.status == 431:
            _offer_way_out(flow)
        action = decide(
            flow.route, head, flow.method == "HEAD", self._unauthorized.statuses, flow.counts
        )
        if not answer.is_whole or _takes_long(flow, head, action, answer.payload.total_bytes):
            flow.spawn(relay.receive, answer, head, action)
            return
        body = answer.take_body()
        flow.upstream = None
        answer.release()
        self.conclude(flow, head, action, body)

    def conclude(
        self,
        flow: Flow,
        head: AnswerHead,
        action: Action,
        body: bytes,
        document: Document | InvalidJSON = UNREAD,
    ) -> None:
        """Answers with a body that is here to its end, decoded where it is to be wrapped.

        `document` is what the body was found to be.
        """
        came = len(body)
        if document is UNREAD and (action is WRAP or action is INSPECT):
            try:
                document = parse_at_once(body)
            except InvalidJSON as error:
                document = InvalidJSON(*error.args)  # without the frames that it holds
            except NeedsWalk:
                flow.spawn(relay.walk, head, action, body)
                return
        if action is WRAP:
            action, body = self._wrap(flow, head, body, document)
        elif action is INSPECT:
            action = self._inspect(head.status, document)
        elif action is RELAY and not body and is_empty_success(flow, head):
            action = WRAP_EMPTY
        if action is UNAUTHORIZED:
            logout.unauthorized(flow)
            return
        if action is WRAP_EMPTY:
            body = wrap_empty(head.status)
        elif action is WRAP_ERROR:
            is_text = media_type(head.fact(b"content-type")) == b"text/plain"
            body = wrap_text(head.status, head.reason, body if is_text else None)
        if action is not RELAY and (came > COMPRESSED_FROM or b"content-encoding" in head.facts):
            self._compress(flow, head, action, body)
        else:
            self.deliver(flow, head, action, body)

    def _compress(self, flow: Flow, head: AnswerHead, action: Action, body: bytes) -> None:
        """Answers with an envelope that is worth compressing, if its client accepts that."""
        coding = coding_for(flow, head)
        if coding and len(body) > AT_ONCE:
            flow.spawn(relay.compress, head, action, body)
        else:
            self.deliver(flow, head, action, gzipped(body) if coding else body, coding)

    def deliver(
        self,
        flow: Flow,
        head: AnswerHead,
        action: Action,
        body: bytes,
        coding: bytes | None = None,
    ) -> None:
        """Answers with a body as it leaves, in `coding` (`web.compression.coding_for`)."""
        flow.decision = action
        if action is RELAY and head.forbids_content:
            body = b""
        if action is RELAY and (flow.is_head or head.status in (204, 304)):
            self._answer_bodiless(flow, head)
        else:
            lines = self.render_head(flow, head, wrapped=action is not RELAY, coding=coding)
            self.respond(flow, lines, body, status=head.status)

    def _answer_bodiless(self, flow: Flow, head: AnswerHead) -> None:
        """Answers HEAD, or without content, with what is said of the body that GET would bring."""
        wrapped = flow.route.envelope is not None and stands_for_envelope(head, flow.request.facts)
        lines = self.render_head(flow, head, wrapped=wrapped)
        length = head.facts.get(b"content-length", b"")
        if flow.is_head and length.isdigit() and not (wrapped or head.forbids_content):
            lines += b"Content-Length: %b\r\n" % length
        self.respond(flow, lines, b"", status=head.status, bodiless=True)

    def _wrap(
        self, flow: Flow, head: AnswerHead, body: bytes, document: Document | InvalidJSON
    ) -> tuple[Action, bytes]:
        """The envelope of a JSON body, or what else becomes of it."""
        rule, status = flow.route.envelope, head.status
        assert rule is not None
        if not body:
            return (WRAP_EMPTY if status < 400 else WRAP_ERROR), b""
        if isinstance(document, InvalidJSON):
            if status < 400:
                raise UpstreamProtocolError(f"JSON type, but not valid JSON: {document}")
            return WRAP_ERROR, b""
        if flow.counts and self._unauthorized.is_told_by(document, status):
            return UNAUTHORIZED, b""
        return WRAP, wrap(
            rule, document, status, head.reason, problem=status >= 400 and is_problem(head)
        )

    def _inspect(self, status: int, document: Document | InvalidJSON) -> Action:
        """Whether a body that is not wrapped says that the session is over."""
        if isinstance(document, InvalidJSON):
            return RELAY  # as the upstream sent it
        return UNAUTHORIZED if self._unauthorized.is_told_by(document, status) else RELAY

    def render_head(
        self, flow: Flow, head: AnswerHead, *, wrapped: bool, coding: bytes | None = None
    ) -> bytes:
        """The client's answer head without framing."""
        if flow.on_head is not None:
            flow.settle()
        if flow.counts and flow.presented.is_raw and head.status < 300:
            self._accepted(flow, head)
        sets_cookies = head.cookies or flow.sweeps or flow.presented.sets
        cookies, no_store = self._cookies(flow, head) if sets_cookies else ((), False)
        return clean_response(
            head,
            flow.route,
            wrapped=wrapped,
            private=flow.live is not None and flow.route.inject,
            cookies=cookies,
            no_store=no_store,
            request_id=flow.request_id,
            date=self.runtime.clock.date(flow.began),
            cors=b"" if flow.route.inject and not self._by_origin else self._cors(flow, head),
            by_origin=self._by_origin,
            coding=coding,
        )

    def _accepted(self, flow: Flow, head: AnswerHead) -> None:
        """An upstream has accepted a plain credential, unless anybody would get that answer.

        A shared cache may keep an answer to a request with Authorization only if it says so, which
        then says nothing about the credential (RFC 9111 3.5).
        """
        evidence, fingerprint = self.runtime.revocations.evidence, flow.presented.fingerprint
        if fingerprint is None or fingerprint in evidence.accepted:
            return
        if not is_for_everybody(head.fact(b"cache-control")):
            evidence.accept(fingerprint)

    def _cors(self, flow: Flow, head: AnswerHead) -> bytes | None:
        """The CORS lines of an answer; None leaves the upstream's own policy as it is."""
        lines = b""
        if self._by_origin:
            exposed = head.fact(b"access-control-expose-headers")
            lines = self.runtime.policy.cors.lines(flow.facts, exposed)
        return lines if lines or flow.route.owns_cors else None

    def _cookies(self, flow: Flow, head: AnswerHead) -> tuple[list[bytes], bool]:
        """The Set-Cookie values that may pass, and whether one of them is a session's."""
        judge, route = self.runtime.set_cookies, flow.route
        if route.strip_cookies and route.session != "none":
            passed = [one for one in head.cookies if not judge.is_session_cookie(one)]
        else:
            now = time()
            passed = judge.admit(head.cookies, flow.presented, flow.began, now)
        self.runtime.metrics.cookies_dropped += len(head.cookies) - len(passed)
        if flow.presented.sessions and flow.by_cookie and passed:
            ended = self._signed_out(flow, passed)
            if ended:
                logout.signed_out(flow, ended)
        set_here = [one for one in passed if judge.is_session_cookie(one)]
        for cookie in set_here:
            self.runtime.seen.learn(cookie, flow.began)
        is_session = bool(set_here)
        if flow.sweeps:
            room = room_beside(head.size)
            more: Sequence[bytes] = logout.sweep_lines(flow, room, passed)
        else:
            # What the upstream sets itself was made of the renewed session, or is another one.
            more = () if is_session else flow.renewed_cookies
        return [*passed, *more], is_session or bool(more)

    def _signed_out(self, flow: Flow, cookies: Sequence[bytes]) -> list[OpenedSession]:
        """The sessions that the frontend's own answer ends."""
        domains, paths = self.runtime.policy.sweep.places(self.planner.scope(flow))
        return self.runtime.set_cookies.ended_by(
            cookies, flow.presented, flow.began, domains=domains, paths=paths
        )

    # -- the end --------------------------------------------------------------------------------

    def respond(
        self, flow: Flow, head: bytes, body: bytes, *, status: int, bodiless: bool = False
    ) -> None:
        """Answers in one piece and ends the flow."""
        flow.status = status
        flow.bytes_out = len(body)
        if not flow.over:
            self._let_go(flow)
        flow.answer(head, body, bodiless=bodiless)

    def ended(self, flow: Flow) -> None:
        """Observes the request, once; behind its answer, which so neither waits nor fails."""
        if not flow.over:
            self._let_go(flow)
        if not flow.observed:
            flow.observed = True
            self.runtime.metrics.observe(flow, time() - flow.began)

    def _let_go(self, flow: Flow) -> None:
        """Nothing counts or works for the request any more."""
        flow.over = True
        if flow.kind:
            self.in_flight[flow.kind] -= 1
        if flow.on_end is not None:
            flow.on_end()
        if flow.tasks or flow.upstream is not None:
            flow.stop()

    async def guard(
        self, flow: Flow, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
    ) -> None:
        """Runs a part of the flow; whatever it raises becomes an answer, or breaks one."""
        try:
            await work(flow, *arguments)
        except ProxyError as error:
            flow.stop()
            rescue(flow, error)
        except ConnectionError:
            flow.cancel()  # the client is gone
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._defect(flow, error)

    def _defect(self, flow: Flow, error: Exception) -> None:
        """An error that nobody meant: logged with its traceback, answered without a word of it."""
        self.runtime.log.error(
            "defect", request_id=flow.request_id.decode("latin-1"), exc_info=error
        )
        flow.reason = "defect"
        flow.stop()
        rescue(flow, ProxyError(type(error).__name__, close=True))


def _takes_long(flow: Flow, head: AnswerHead, action: Action, size: int) -> bool:
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
    if flow.route.kind == "page" and flow.request.client is Client.DOCUMENT:
        raise HeadersTooLarge("the upstream answered 431")


def is_problem(head: AnswerHead) -> bool:
    """Whether the body is an RFC 9457 problem, whose detail or title stand in for a message."""
    return media_type(head.fact(b"content-type")) == b"application/problem+json"


def is_empty_success(flow: Flow, head: AnswerHead) -> bool:
    """Whether only the body's end told that a success has none (behaviour: envelope)."""
    return (
        flow.route.envelope is not None
        and not flow.is_head
        and head.status < 300
        and is_wrappable(head)
    )
