"""The pipeline: one straight way for a request, from its head to its answer.

    match → peek at the session → prepare → round trip → decide → relay | wrap | unauthorized

A small request whose upstream has an idle connection and answers in one piece never leaves the
callbacks; whatever must wait goes on as a task (`relay`), along the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.core.actions import (
    RELAY,
    UNAUTHORIZED,
    WRAP,
    WRAP_EMPTY,
    WRAP_ERROR,
    Action,
    decide,
    is_wrappable,
)
from sidecar.core.envelope import (
    InvalidJSON,
    is_json_type,
    parse,
    wrap,
    wrap_empty,
    wrap_text,
)
from sidecar.core.errors import (
    BodyTooLarge,
    ExpectationFailed,
    NoRoute,
    Overloaded,
    ProxyError,
    UpstreamProtocolError,
)
from sidecar.core.forwarding import AnswerHead, clean_response, prepare_request, request_id
from sidecar.core.headers import media_type
from sidecar.core.request import IDEMPOTENT_METHODS, SAFE_METHODS, Fields, Request
from sidecar.web import logout, relay, tunnel
from sidecar.web.flow import Flow
from sidecar.web.rescue import rescue

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from sidecar.core.routes import Route
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.runtime import Runtime
    from sidecar.web.connection import ClientConnection, Exchange

MEMORY_BODY: Final = 65536  # bytes of a request body that is sent in one piece, and can be repeated


class Proxy:
    """Serves exchanges (`web.connection.Handler`) by the runtime's policy."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        limits = runtime.policy.config.limits
        self._body_limit: Final = limits.body
        self._unauthorized: Final = runtime.policy.unauthorized
        self._budgets: Final = {
            "api": limits.in_flight.api,
            "page": limits.in_flight.page,
            "stream": limits.in_flight.stream,
        }
        self.in_flight: dict[str, int] = dict.fromkeys(self._budgets, 0)

    # -- the request half -----------------------------------------------------------------------

    def exchange(
        self, connection: ClientConnection, message: RawRequestMessage | None, payload: StreamReader
    ) -> Flow:
        """The flow of a new request."""
        return Flow(self, connection, message, payload, self.runtime.clock.now())

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
        """Answers a request that could not be read."""
        flow = cast("Flow", exchange)
        flow.request_id, _ = self.runtime.ids.fresh()
        rescue(flow, error)

    def _begin(self, flow: Flow) -> None:
        policy = self.runtime.policy
        flow.request_id, traceparent = self.runtime.ids.fresh()
        request = flow.request = self._read(flow)
        if b"x-request-id" in request.facts:
            flow.request_id = request_id(request, flow.request_id)
        if request.route_path == policy.logout.path:
            logout.handle(flow)
            return
        route = policy.routes.match(request.route_path)
        if route is None:
            raise NoRoute
        flow.route = route
        self._admit(flow, request, route)
        credential = self._credential(flow, request, route)
        if credential is None:
            logout.unauthorized(flow)
            return
        head = prepare_request(
            request,
            route,
            flow.connection.peer,
            cookie=credential[0],
            authorization=credential[1],
            request_id=flow.request_id,
            traceparent=traceparent,
        )
        self._send(flow, request, head)

    def _read(self, flow: Flow) -> Request:
        """The request's head; a header section that the connection repeats is not read again."""
        message, connection = flow.message, flow.connection
        assert message is not None
        fields = connection.fields
        if fields is None or fields.raw != message.raw_headers:
            fields = connection.fields = Fields(message.raw_headers)
        return Request(message.method, message.path, fields, http11=flow.http11)

    def _admit(self, flow: Flow, request: Request, route: Route) -> None:
        """Counts the request against its budget. Raises `Overloaded`."""
        kind = "stream" if request.fields.is_stream else route.kind
        if self.in_flight[kind] >= self._budgets[kind]:
            raise Overloaded(f"budget of {kind} requests is used up")
        self.in_flight[kind] += 1
        flow.kind = kind

    def _credential(self, flow: Flow, request: Request, route: Route) -> tuple[bytes, bytes] | None:
        """The Cookie value and the Authorization line for the upstream (contract 4).

        None where the route requires a session and there is none. Raises `CsrfRejected`.
        """
        sessions, facts = self.runtime.sessions, request.facts
        cookie = facts.get(b"cookie", b"")
        presented = flow.presented = sessions.present(cookie, flow.began)
        live = flow.live = sessions.live_fingerprint(presented, flow.began)
        if live is None or route.strip_cookies:
            cookie = presented.others
        if live is not None and route.inject:
            flow.counts = route.on_unauthorized != "pass"
            if request.method not in SAFE_METHODS or request.is_websocket:
                self.runtime.policy.csrf.check(request, self.public_origin(flow))
            return cookie, presented.authorization
        own = facts.get(b"authorization")
        own_line = b"" if own is None else b"Authorization: %b\r\n" % own
        if route.session == "none":
            return (
                presented.others if route.strip_cookies else facts.get(b"cookie", b"")
            ), own_line
        if live is not None:
            return cookie, own_line
        keeps_own = own is not None and route.pass_authorization and not presented.reading.names
        if route.session == "required" and not keeps_own:
            return None
        return cookie, own_line if keeps_own or not route.inject else b""

    def public_origin(self, flow: Flow) -> bytes:
        """scheme://host as the browser sees it."""
        configured = self.runtime.policy.public_origin
        if configured is not None:
            return configured
        peer = flow.connection.peer
        return b"%b://%b" % (peer.public_scheme(flow.request), peer.public_host(flow.request))

    def _send(self, flow: Flow, request: Request, head: bytes) -> None:
        facts = request.facts
        if b"expect" in facts:
            _check_expectation(facts[b"expect"])
        if request.fields.is_websocket:
            head += tunnel.HANDSHAKE if request.is_websocket else b""
        if flow.payload is EMPTY_PAYLOAD:
            last = b"Content-Length: 0\r\n\r\n" if b"content-length" in facts else b"\r\n"
        else:
            last = self._body(flow, facts.get(b"content-length"))
        flow.head = head + last
        pool = self.runtime.pools[flow.route.upstream]
        upstream = None if flow.streaming_body else pool.take()
        if upstream is None:
            flow.spawn(relay.send(flow))
            return
        flow.upstream = upstream
        upstream.send(flow.head, flow, expects_body=request.method != "HEAD")

    def _body(self, flow: Flow, length: bytes | None) -> bytes:
        """The framing of the request body, and the body itself where it is here and small."""
        payload = flow.payload
        if length is not None and int(length) > self._body_limit:
            raise BodyTooLarge(f"Content-Length is above {self._body_limit}", close=True)
        if payload.is_eof() and payload.total_bytes <= MEMORY_BODY:
            body = payload.read_nowait(-1)
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
            flow.spawn(relay.send(flow, fresh=True))
            return
        rescue(flow, error)

    # -- the response half ----------------------------------------------------------------------

    def on_answer(self, flow: Flow, answer: UpstreamConnection) -> None:
        """The upstream's head is here: decides, and goes on at once where the body is here too."""
        try:
            self._decide(flow, answer)
        except ProxyError as error:
            answer.abort()
            rescue(flow, error)
        except Exception as error:
            answer.abort()
            self._defect(flow, error)

    def _decide(self, flow: Flow, answer: UpstreamConnection) -> None:
        message = answer.message
        flow.upstream_status = message.code
        head = AnswerHead(message.code, message.raw_headers)
        if message.code == 101:
            tunnel.open_tunnel(flow, answer, head)
            return
        action = decide(
            flow.route,
            head,
            is_head_request=flow.request.method == "HEAD",
            unauthorized=self._unauthorized.statuses,
            counts=flow.counts,
        )
        if not answer.payload.is_eof() or (
            b"content-encoding" in head.facts and action is not RELAY
        ):
            flow.spawn(relay.receive(flow, answer, head, action))
            return
        body = answer.body()
        flow.upstream = None
        answer.release()
        self.conclude(flow, message.reason, head, action, body)

    def conclude(
        self, flow: Flow, reason: str, head: AnswerHead, action: Action, body: bytes
    ) -> None:
        """Answers with a body that is here to its end, decoded where it is to be wrapped."""
        if action is WRAP:
            action, body = self._wrap(flow, reason, head, body)
        if action is UNAUTHORIZED:
            logout.unauthorized(flow)
            return
        if action is WRAP_EMPTY:
            body = wrap_empty(head.status)
        elif action is WRAP_ERROR:
            is_text = media_type(head.fact(b"content-type")) == b"text/plain"
            body = wrap_text(head.status, reason, body if is_text else None)
        flow.decision = action
        lines = self.render_head(flow, head, reason, wrapped=action is not RELAY)
        if action is RELAY and (flow.is_head or head.status in (204, 304)):
            lines += bodiless_length(flow, head)
            self.respond(flow, lines, b"", status=head.status, bodiless=True)
        else:
            self.respond(flow, lines, body, status=head.status)

    def _wrap(self, flow: Flow, reason: str, head: AnswerHead, body: bytes) -> tuple[Action, bytes]:
        """The envelope of a JSON body, or what else becomes of it."""
        rule, status = flow.route.envelope, head.status
        assert rule is not None
        if not body:
            return (WRAP_EMPTY if status < 400 else WRAP_ERROR), b""
        try:
            document = parse(body)
        except InvalidJSON:
            if status < 400:
                raise UpstreamProtocolError("JSON type, but not valid JSON") from None
            return WRAP_ERROR, b""
        if flow.counts and self._unauthorized.is_told_by(document):
            return UNAUTHORIZED, b""
        return WRAP, wrap(rule, document, status, reason, problem=is_problem(head))

    def render_head(self, flow: Flow, head: AnswerHead, reason: str, *, wrapped: bool) -> bytes:
        """The client's answer head without framing."""
        cookies, no_store = self._cookies(flow, head) if head.cookies else ((), False)
        return clean_response(
            head,
            flow.route,
            reason=reason,
            wrapped=wrapped,
            private=flow.live is not None and flow.route.inject,
            cookies=cookies,
            no_store=no_store,
            request_id=flow.request_id,
            date=self.runtime.clock.date(flow.began),
        )

    def _cookies(self, flow: Flow, head: AnswerHead) -> tuple[list[bytes], bool]:
        """The Set-Cookie values that may pass, and whether one of them is a session's."""
        sessions, route = self.runtime.sessions, flow.route
        if route.strip_cookies and route.session != "none":
            passed = [one for one in head.cookies if not sessions.is_session_cookie(one)]
        else:
            now = self.runtime.clock.now()
            passed = sessions.admit(head.cookies, flow.presented, flow.began, now)
        self.runtime.metrics.cookies_dropped += len(head.cookies) - len(passed)
        return passed, any(sessions.is_session_cookie(one) for one in passed)

    # -- the end --------------------------------------------------------------------------------

    def respond(
        self, flow: Flow, head: bytes, body: bytes, *, status: int, bodiless: bool = False
    ) -> None:
        """Answers in one piece and ends the flow."""
        flow.status = status
        flow.bytes_out = len(body)
        self.ended(flow)
        flow.answer(head, body, bodiless=bodiless)

    def ended(self, flow: Flow) -> None:
        """Observes the request, once."""
        if flow.over:
            return
        flow.over = True
        if flow.kind:
            self.in_flight[flow.kind] -= 1
        if flow.on_end is not None:
            flow.on_end()
        if flow.tasks or flow.upstream is not None:
            flow.stop()
        runtime = self.runtime
        runtime.metrics.observe(flow, runtime.clock.now() - flow.began)

    async def guard(self, flow: Flow, work: Coroutine[Any, Any, None]) -> None:
        """Runs a part of the flow; whatever it raises becomes an answer, or breaks one."""
        try:
            await work
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


def is_problem(head: AnswerHead) -> bool:
    """Whether the body is an RFC 9457 problem, whose detail or title stand in for a message."""
    return media_type(head.fact(b"content-type")) == b"application/problem+json"


def bodiless_length(flow: Flow, head: AnswerHead) -> bytes:
    """The Content-Length of an answer to HEAD: the upstream's, unless GET would be wrapped."""
    length = head.facts.get(b"content-length")
    would_wrap = flow.route.envelope is not None and is_wrappable(head)
    if length is None or not flow.is_head or not length.isdigit():
        return b""
    if would_wrap and (head.status >= 400 or is_json_type(head.fact(b"content-type"))):
        return b""
    return b"Content-Length: %b\r\n" % length


def _check_expectation(value: bytes) -> None:
    if value.strip().lower() != b"100-continue":
        raise ExpectationFailed(close=True)
