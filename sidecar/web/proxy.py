"""The pipeline: one straight way for a request, from its head to its answer.

    match → peek at the session → prepare → round trip → decide → relay | wrap | unauthorized

A small request whose upstream has an idle connection and answers in one piece never leaves the
callbacks; whatever must wait goes on as a task (`relay`), along the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.core.actions import Action, decide, is_wrappable
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
from sidecar.core.request import IDEMPOTENT_METHODS, Request
from sidecar.web import logout, relay, tunnel
from sidecar.web.flow import Flow
from sidecar.web.rescue import rescue

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from sidecar.core.routes import Route
    from sidecar.net.upstream import Answer
    from sidecar.runtime import Runtime
    from sidecar.web.connection import Exchange

MEMORY_BODY: Final = 65536  # bytes of a request body that is sent in one piece, and can be repeated
EVENT_STREAM: Final = b"text/event-stream"


class Proxy:
    """Serves exchanges (`web.connection.Handler`) by the runtime's policy."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        limits = runtime.policy.config.limits
        self._body_limit: Final = limits.body
        self._budgets: Final = {
            "api": limits.in_flight.api,
            "page": limits.in_flight.page,
            "stream": limits.in_flight.stream,
        }
        self.in_flight: dict[str, int] = dict.fromkeys(self._budgets, 0)

    # -- the request half -----------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        """Serves a request."""
        flow = Flow(self, exchange)
        exchange.state = flow
        try:
            self._begin(flow)
        except ProxyError as error:
            rescue(flow, error)
        except Exception as error:
            self._defect(flow, error)

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answers a request that could not be read."""
        flow = Flow(self, exchange)
        flow.request_id, _ = self.runtime.ids.fresh()
        exchange.state = flow
        rescue(flow, error)

    def _begin(self, flow: Flow) -> None:
        runtime, policy = self.runtime, self.runtime.policy
        flow.request_id, traceparent = runtime.ids.fresh()
        message = flow.exchange.message
        assert message is not None
        request = flow.request = Request(
            message.method, message.path, message.raw_headers, http11=flow.exchange.http11
        )
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
        cookie, authorization = credential
        peer = flow.exchange.connection.peer
        head = prepare_request(
            request,
            route,
            peer,
            cookie=cookie,
            authorization=authorization,
            request_id=flow.request_id,
            traceparent=traceparent,
        )
        self._send(flow, request, head)

    def _admit(self, flow: Flow, request: Request, route: Route) -> None:
        """Counts the request against its budget. Raises `Overloaded`."""
        is_stream = request.is_websocket or EVENT_STREAM in request.fact(b"accept")
        kind = "stream" if is_stream else route.kind
        if self.in_flight[kind] >= self._budgets[kind]:
            raise Overloaded(f"budget of {kind} requests is used up")
        self.in_flight[kind] += 1
        flow.kind = kind

    def _credential(self, flow: Flow, request: Request, route: Route) -> tuple[bytes, bytes] | None:
        """The Cookie value and the Authorization line for the upstream (contract 4).

        None where the route requires a session and there is none. Raises `CsrfRejected`.
        """
        sessions = self.runtime.sessions
        presented = flow.presented = sessions.present(request.cookie, flow.began)
        live = flow.live = sessions.live_fingerprint(presented, flow.began)
        own = request.facts.get(b"authorization")
        own_line = b"" if own is None else b"Authorization: %b\r\n" % own
        if route.session == "none":
            return (presented.others if route.strip_cookies else request.cookie), own_line
        cookie = presented.others if route.strip_cookies or live is None else request.cookie
        if live is not None:
            flow.counts = route.inject and route.on_unauthorized != "pass"
            if route.inject:
                policy = self.runtime.policy
                policy.csrf.check(request, self.public_origin(flow))
                return cookie, presented.authorization
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
        peer = flow.exchange.connection.peer
        return b"%b://%b" % (peer.public_scheme(flow.request), peer.public_host(flow.request))

    def _send(self, flow: Flow, request: Request, head: list[bytes]) -> None:
        payload = flow.exchange.payload
        if request.facts.get(b"expect"):
            _check_expectation(request.facts[b"expect"])
        if request.is_websocket:
            head.append(tunnel.HANDSHAKE)
        body = self._body(flow, request, payload, head)
        flow.head = b"".join((*head, b"\r\n", body))
        pool = self.runtime.pools[flow.route.upstream]
        connection = None if flow.streaming_body else pool.take()
        if connection is None:
            flow.spawn(relay.send(flow))
            return
        flow.connection = connection
        connection.send(flow.head, flow, expects_body=request.method != "HEAD")

    def _body(
        self, flow: Flow, request: Request, payload: StreamReader, head: list[bytes]
    ) -> bytes:
        """Writes the framing of the request body, and returns it where it is here and small."""
        length = request.facts.get(b"content-length")
        if payload is EMPTY_PAYLOAD:
            if length is not None:
                head.append(b"Content-Length: 0\r\n")
            return b""
        if length is not None and int(length) > self._body_limit:
            raise BodyTooLarge(f"Content-Length is above {self._body_limit}", close=True)
        if payload.is_eof() and payload.total_bytes <= MEMORY_BODY:
            body = payload.read_nowait(-1)
            head.append(b"Content-Length: %d\r\n" % len(body))
            return body
        flow.streaming_body = True
        head.append(
            b"Transfer-Encoding: chunked\r\n"
            if length is None
            else b"Content-Length: %b\r\n" % length
        )
        return b""

    def failed(self, flow: Flow, error: ProxyError, *, untouched: bool) -> None:
        """The upstream gave no head: repeated once where nothing can have happened twice."""
        repeatable = flow.request.method in IDEMPOTENT_METHODS and not flow.streaming_body
        if untouched and repeatable and not flow.retried:
            flow.retried = True
            self.runtime.metrics.retries += 1
            flow.spawn(relay.send(flow, fresh=True))
            return
        rescue(flow, error)

    # -- the response half ----------------------------------------------------------------------

    def answered(self, flow: Flow, answer: Answer) -> None:
        """The upstream's head is here: decides, and goes on at once where the body is here too."""
        try:
            self._answered(flow, answer)
        except ProxyError as error:
            answer.connection.abort()
            rescue(flow, error)
        except Exception as error:
            answer.connection.abort()
            self._defect(flow, error)

    def _answered(self, flow: Flow, answer: Answer) -> None:
        message, route, request = answer.message, flow.route, flow.request
        flow.upstream_status = message.code
        head = AnswerHead(message.code, message.raw_headers)
        if message.code == 101:
            tunnel.open_tunnel(flow, answer, head)
            return
        action = decide(
            route,
            head,
            is_head_request=request.method == "HEAD",
            unauthorized=self.runtime.policy.unauthorized.statuses,
            counts=flow.counts,
        )
        encoded = b"content-encoding" in head.facts
        if not answer.is_whole or (encoded and action is not Action.RELAY):
            flow.spawn(relay.receive(flow, answer, head, action))
            return
        body = answer.body()
        flow.connection = None
        answer.release()
        self.conclude(flow, message.reason, head, action, body)

    def conclude(
        self, flow: Flow, reason: str, head: AnswerHead, action: Action, body: bytes
    ) -> None:
        """Answers with a body that is here to its end, decoded where it is to be wrapped."""
        route = flow.route
        if action is Action.WRAP and not body:
            action = Action.WRAP_EMPTY if head.status < 400 else Action.WRAP_ERROR
        if action is Action.WRAP:
            assert route.envelope is not None
            try:
                document = parse(body)
            except InvalidJSON as error:
                if head.status < 400:
                    raise UpstreamProtocolError("JSON type, but not valid JSON") from error
                action = Action.WRAP_ERROR
                body = b""
            else:
                if flow.counts and self.runtime.policy.unauthorized.is_told_by(document):
                    action = Action.UNAUTHORIZED
                else:
                    problem = media_type(head.fact(b"content-type")) == b"application/problem+json"
                    body = wrap(route.envelope, document, head.status, reason, problem=problem)
        if action is Action.UNAUTHORIZED:
            logout.unauthorized(flow)
            return
        if action is Action.WRAP_EMPTY:
            body = wrap_empty(head.status)
        elif action is Action.WRAP_ERROR:
            is_text = media_type(head.fact(b"content-type")) == b"text/plain"
            body = wrap_text(head.status, reason, body if is_text else None)
        self._deliver(flow, reason, head, action, body)

    def _deliver(
        self, flow: Flow, reason: str, head: AnswerHead, action: Action, body: bytes
    ) -> None:
        wrapped = action is not Action.RELAY
        lines = self.render_head(flow, head, reason, wrapped=wrapped)
        flow.decision = action.value
        if not wrapped and (flow.exchange.is_head or head.status in (204, 304)):
            lines += bodiless_length(flow, head)
            self.respond(flow, lines, b"", status=head.status, bodiless=True)
        else:
            self.respond(flow, lines, body, status=head.status)

    def render_head(self, flow: Flow, head: AnswerHead, reason: str, *, wrapped: bool) -> bytes:
        """The client's answer head without framing."""
        cookies, no_store = self._cookies(flow, head)
        clock = self.runtime.clock
        return clean_response(
            head,
            flow.route,
            reason=reason,
            wrapped=wrapped,
            private=flow.live is not None and flow.route.inject,
            cookies=cookies,
            no_store=no_store,
            request_id=flow.request_id,
            date=clock.date(flow.began),
        )

    def _cookies(self, flow: Flow, head: AnswerHead) -> tuple[list[bytes], bool]:
        """The Set-Cookie values that may pass, and whether one of them is a session's."""
        if not head.cookies:
            return head.cookies, False
        sessions, route, presented = self.runtime.sessions, flow.route, flow.presented
        if route.strip_cookies and route.session != "none":
            passed = [one for one in head.cookies if not sessions.is_session_cookie(one)]
        else:
            now = self.runtime.clock.now()
            passed = sessions.admit(head.cookies, presented, flow.began, now)
        self.runtime.metrics.cookies_dropped += len(head.cookies) - len(passed)
        return passed, any(sessions.is_session_cookie(one) for one in passed)

    # -- the end --------------------------------------------------------------------------------

    def respond(
        self, flow: Flow, head: bytes, body: bytes, *, status: int, bodiless: bool = False
    ) -> None:
        """Answers in one piece and ends the flow."""
        flow.status = status
        flow.bytes_out = len(body)
        flow.exchange.respond(head, body, bodiless=bodiless)
        self.ended(flow)

    def ended(self, flow: Flow) -> None:
        """Observes the request, once."""
        if flow.over:
            return
        flow.over = True
        if flow.kind:
            self.in_flight[flow.kind] -= 1
        if flow.on_end is not None:
            flow.on_end()
        if flow.tasks or flow.connection is not None:
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


def bodiless_length(flow: Flow, head: AnswerHead) -> bytes:
    """The Content-Length of an answer to HEAD: the upstream's, unless GET would be wrapped."""
    length = head.facts.get(b"content-length")
    would_wrap = flow.route.envelope is not None and is_wrappable(head)
    if length is None or not flow.exchange.is_head or not length.isdigit():
        return b""
    if would_wrap and (head.status >= 400 or is_json_type(head.fact(b"content-type"))):
        return b""
    return b"Content-Length: %b\r\n" % length


def _check_expectation(value: bytes) -> None:
    if value.strip().lower() != b"100-continue":
        raise ExpectationFailed(close=True)
