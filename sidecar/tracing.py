"""Traces by OpenTelemetry: a span for each request, its upstream, and what it had to wait for.

    client ──traceparent──► span of the request (SERVER)
                              ├─ upstream NAME (CLIENT) ──traceparent──► upstream
                              ├─ token renewal (CLIENT)
                              └─ store OPERATION (CLIENT)

No span holds a query, a cookie, a token or a field value of a client but its User-Agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from sidecar import __version__
from sidecar.access_log import LONGEST_FIELD, Served
from sidecar.core.request import UNREAD
from sidecar.core.trace_context import TraceParent, parse_traceparent
from sidecar.strays import told

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TRACES_PATH: Final = "/v1/traces"
CLOSE_SECONDS: Final = 3.0
REPORT_SECONDS: Final = 60.0  # between two lines of the log about an endpoint in trouble
LONGEST_ATTRIBUTE: Final = 1024  # characters: spans wait in memory while no receiver takes them
_NANO: Final = 1e9
_VERSIONS: Final = {True: "1.1", False: "1.0"}


class Traced(Served, Protocol):
    """A request on its way, as far as its trace is concerned."""

    trace: RequestTrace | None
    trace_id: str
    began: float

    @property
    def told_path(self) -> str | None: ...


class RequestTrace:
    """The spans of one request (`sidecar.spans.HasSpans`); `upstream`: of the latest attempt."""

    __slots__ = ("_tracer", "request", "upstream")

    def __init__(self, tracer: Any, request: Span) -> None:
        self._tracer: Final = tracer
        self.request: Final = request
        self.upstream: Span | None = None

    def begin_upstream(self, name: str) -> Span:
        """A span for an attempt; the one before has ended."""
        self.end_upstream()
        self.upstream = self.start(f"upstream {name}")
        return self.upstream

    def end_upstream(self, at: int | None = None) -> None:
        """The attempt under way is over, now or `at` that time (Unix nanoseconds)."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.end(at)

    def start(self, name: str) -> Span:
        """A span below that of the request."""
        context = set_span_in_context(self.request)
        span: Span = self._tracer.start_span(name, context, kind=SpanKind.CLIENT)
        return span

    @contextmanager
    def child(self, name: str) -> Iterator[None]:
        """A span of what is done within it. What it raises is noted by its type alone."""
        span = self.start(name)
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()


class Tracer:
    """Begins and ends the spans of requests, and exports them from a thread of its own."""

    def __init__(self, exporter: SpanExporter, *, share: float, service: str) -> None:
        """`share`: how many of the traces that begin here are recorded, 0 to 1."""
        detected = OTELResourceDetector().detect()  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
        own = Resource({SERVICE_NAME: service, SERVICE_VERSION: __version__})
        ratio = TraceIdRatioBased(share)
        self._bound: Final = ratio.get_bound_for_rate(share)
        self._provider: Final = TracerProvider(
            sampler=ParentBased(root=ratio),
            resource=own.merge(detected),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=LONGEST_ATTRIBUTE),
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Final = self._provider.get_tracer("sidecar", __version__)

    def begin(self, flow: Traced) -> RequestTrace:
        """The trace of a request, made once."""
        if flow.trace is None:
            request = flow.request
            given = (
                parse_traceparent(request.fact(b"traceparent")) if request is not UNREAD else None
            )
            context = None if given is None else set_span_in_context(self._parent(flow, given))
            name = "HTTP" if request is UNREAD else request.method
            began = int(flow.began * _NANO)
            span = self._tracer.start_span(name, context, kind=SpanKind.SERVER, start_time=began)
            flow.trace = RequestTrace(self._tracer, span)
            flow.trace_id = f"{span.get_span_context().trace_id:032x}"
        return flow.trace

    def _parent(self, flow: Traced, given: TraceParent) -> NonRecordingSpan:
        """The span of the client that a request is part of.

        Only a trusted proxy says whether it is recorded. Of other clients the trace id decides, or
        a stranger could have everything recorded.
        """
        is_recorded = given.is_sampled
        if not flow.connection.peer.trusted:
            is_recorded = given.trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        return NonRecordingSpan(
            SpanContext(
                given.trace_id,
                given.parent_id,
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED if is_recorded else TraceFlags.DEFAULT),
                trace_state=TraceState(),
            )
        )

    def sending(self, flow: Traced) -> bytes:
        """Begins the span of an attempt at the upstream. Returns the traceparent line for it."""
        context = self.begin(flow).begin_upstream(flow.route.upstream).get_span_context()
        return b"traceparent: 00-%032x-%016x-%02x\r\n" % (
            context.trace_id,
            context.span_id,
            context.trace_flags,
        )

    def responded(self, flow: Traced, at: int | None = None) -> None:
        """Ends the span of the attempt at the upstream, if there is one, as `end_upstream` does."""
        trace = flow.trace
        if trace is None or trace.upstream is None:
            return
        if trace.upstream.is_recording():
            trace.upstream.set_attributes(_of_upstream(flow))
            if flow.upstream_status >= 500 or not flow.upstream_status:
                trace.upstream.set_status(Status(StatusCode.ERROR))
        trace.end_upstream(at)

    def end(self, flow: Traced, seconds: float) -> None:
        """Ends what there is of a request's trace."""
        until = int((flow.began + max(seconds, 0.0)) * _NANO)
        self.responded(flow, until)
        span = self.begin(flow).request
        if span.is_recording():
            if flow.request is not UNREAD:
                span.update_name(f"{flow.request.method} {flow.route.path}")
            span.set_attributes(_of_request(flow))
            if flow.status >= 500:
                why = (flow.detail or flow.reason)[:LONGEST_ATTRIBUTE]
                span.set_status(Status(StatusCode.ERROR, why or None))
        span.end(until)

    async def close(self) -> None:
        """Exports what is left, for at most `CLOSE_SECONDS`.

        In a thread that the end of the process does not wait for: a receiver may hang.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

        Thread(target=shut_down, name="tracing", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await done.wait()


def _of_request(flow: Traced) -> dict[str, Any]:
    """What the span of a request says, by OpenTelemetry's semantic conventions for HTTP."""
    request, peer = flow.request, flow.connection.peer
    found: dict[str, Any] = {
        "http.response.status_code": flow.status,
        "http.route": flow.route.path,
        "network.peer.address": peer.address,
        "sidecar.request_id": flow.request_id.decode("latin-1"),
        "sidecar.decision": flow.decision,
    }
    optional = {
        "sidecar.reason": flow.reason,
        "sidecar.session": flow.presented.fingerprint,
        "sidecar.source": flow.presented.reading.source,
        "sidecar.retries": flow.retries,
    }
    if request is not UNREAD:
        agent = request.fact(b"user-agent")[:LONGEST_FIELD].decode("latin-1")
        found |= {
            "http.request.method": request.method,
            "url.path": flow.told_path,
            "network.protocol.version": _VERSIONS[request.http11],
        }
        optional |= {"client.address": peer.client(request), "user_agent.original": agent}
    if flow.status >= 500:
        optional["error.type"] = str(flow.status)
    return found | {name: value for name, value in optional.items() if value}


def _of_upstream(flow: Traced) -> dict[str, Any]:
    host, _, port = flow.upstream_address.rpartition(":")
    found: dict[str, Any] = {
        "http.request.method": flow.request.method,
        "server.address": host or flow.upstream_address,
        "sidecar.upstream": flow.route.upstream,
    }
    if port.isdecimal():
        found["server.port"] = int(port)
    if flow.upstream_status:
        found["http.response.status_code"] = flow.upstream_status
    return found


# -- the exporter --------------------------------------------------------------------------------


def open_tracer(
    endpoint: str, *, share: float, service: str, report: Callable[[str], None]
) -> Tracer:
    """A tracer that exports to an OTLP receiver by HTTP, and reports its trouble now and then."""
    loop = asyncio.get_running_loop()

    def report_here(detail: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, detail)

    _Reports.attach(report_here)
    address = endpoint.rstrip("/")
    has_path = address.partition("://")[2].partition("/")[2]
    exporter = OTLPSpanExporter(address if has_path else address + TRACES_PATH)
    return Tracer(exporter, share=share, service=service)


class _Reports(logging.Handler):
    """Takes the lines that OpenTelemetry's own logger would write to standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.report: Callable[[str], None] = lambda _: None
        self._silent_until = 0.0

    @classmethod
    def attach(cls, report: Callable[[str], None]) -> None:
        """Has the trouble of every exporter of this process reported so from now on."""
        logger = logging.getLogger("opentelemetry")
        mine = next((one for one in logger.handlers if isinstance(one, cls)), None)
        if mine is None:
            mine = cls()
            logger.addHandler(mine)
            logger.propagate = False
        mine.report, mine._silent_until = report, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Reports once a minute: a receiver that is away fails every few seconds."""
        if record.created >= self._silent_until:
            self._silent_until = record.created + REPORT_SECONDS
            self.report(told(record) or record.name)


def report_to(log: FilteringBoundLogger) -> Callable[[str], None]:
    """What `open_tracer` reports, as lines of the log."""
    return lambda detail: log.warning("tracing", detail=detail)
