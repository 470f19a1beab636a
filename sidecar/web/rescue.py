"""The one place where errors become responses; once a head is out, they break the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core import max_forwards
from sidecar.core.client import Client
from sidecar.core.error_body import error_body, error_shape
from sidecar.core.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamError,
    forget_frames,
    loggable,
)
from sidecar.core.request import UNREAD
from sidecar.log import FAILED
from sidecar.web.page_offers import offer_of
from sidecar.web.responses import common_lines, error_lines, page, set_cookies

if TYPE_CHECKING:
    from sidecar.web.flow import Flow


def rescue(flow: Flow, error: ProxyError) -> None:
    """Answers `error`: an envelope, or a page on page routes; breaks a response that has begun."""
    forget_frames(error)
    flow.reason = flow.reason or error.code
    flow.code, flow.cause = error.code, loggable(error.detail)
    _count(flow, error)
    is_broken = flow.started
    flow.decision = "broken" if is_broken else flow.decision or "refused"
    flow.detail = loggable(error.detail)
    if error.status >= 500:
        _report(flow, error)
    if is_broken:
        flow.abort()
        flow.left()
        return
    if error.close:
        flow.connection.close_after()
    flow.respond(*render_error(flow, error), status=error.status)


def tell_broken_error(flow: Flow, error: UpstreamError) -> None:
    """Counts and logs that the body of an upstream's error broke off: its status is passed on, so
    that nobody else tells.
    """
    flow.reason = flow.reason or error.code
    flow.detail = flow.cause = loggable(error.detail)
    flow.runtime.metrics.upstreams[flow.route.upstream].errors[error.cause] += 1
    flow.runtime.log.warning(
        "error broke off",
        request_id=flow.request_id.decode("latin-1"),
        method=flow.request.method,
        path=flow.told_path,
        route=flow.route.path,
        upstream=flow.route.upstream,
        address=flow.upstream_address,
        status=flow.upstream_status,
        detail=flow.detail,
    )
    forget_frames(error)


def _count(flow: Flow, error: ProxyError) -> None:
    metrics = flow.runtime.metrics
    metrics.responses[error.code] += 1
    if isinstance(error, UpstreamError | UpstreamBusy):
        metrics.upstreams[flow.route.upstream].errors[error.cause] += 1


def _report(flow: Flow, error: ProxyError) -> None:
    """Logs why the sidecar fails a request, be there an access log or not."""
    if flow.reason == "defect":
        return  # logged with its traceback
    request, route = flow.request, flow.route
    address = None
    if isinstance(error, UpstreamError):
        address = flow.runtime.policy.upstreams[route.upstream].origin
        flow.upstream_address = flow.upstream_address or address.partition("://")[2]
    flow.runtime.log.error(
        FAILED,
        request_id=flow.request_id.decode("latin-1"),
        method=request.method if request is not UNREAD else None,
        path=flow.told_path,
        route=route.path,
        upstream=route.upstream if address is not None else None,
        address=address,
        status=error.status,
        decision=flow.decision,
        reason=flow.reason,
        detail=flow.detail or None,
    )


def tell_retry(flow: Flow, cause: str) -> None:
    """Logs, for those who look closely, that a request is sent again."""
    flow.runtime.log.debug(
        "sent again",
        request_id=flow.request_id.decode("latin-1"),
        path=flow.told_path,
        upstream=flow.route.upstream,
        address=flow.upstream_address,
        detail=loggable(cause),
    )


def render_error(flow: Flow, error: ProxyError) -> tuple[bytes, bytes]:
    """The head (without framing) and body that answer `error`."""
    lines = error_lines(flow, error) + set_cookies(flow.renewed_cookies)
    if wants_page(flow, error):
        type_line, body = page(flow, error.status, error.code, offer=offer_of(flow, error))
        return lines + type_line, body
    request_id = flow.request_id.decode("latin-1")
    shape = error_shape(flow.route, flow.request)
    type_line, body = error_body(shape, error.status, error.message, error.code, request_id)
    return lines + type_line, body


def answer_preflight(flow: Flow) -> None:
    """Responds to a browser's preflight (behaviour: browser protection)."""
    flow.decision = "preflight"
    lines = common_lines(flow, 204) + flow.runtime.policy.cors.preflight_lines(flow.facts)
    flow.respond(lines, b"", status=204, bodiless=True)


def answer_options(flow: Flow) -> None:
    """Responds to an OPTIONS that proxies must not pass on (RFC 9110 9.3.7)."""
    flow.decision = "options"
    lines = common_lines(flow, 204) + max_forwards.ALLOWED
    flow.respond(lines, b"", status=204, bodiless=True)


def wants_page(flow: Flow, error: ProxyError) -> bool:
    """Whether the sidecar's own response on this request is a page instead of an envelope.

    On page routes, unless they name another shape; and if a document's head is too large, since
    only its reader can help it.
    """
    if error.status == 431 and flow.request.client is Client.DOCUMENT:
        return True
    return flow.route.kind == "page" and flow.route.errors is None


def defect(flow: Flow, error: Exception) -> None:
    """Responds to a defect: the log has its traceback, the client gets no detail."""
    request_id = flow.request_id.decode("latin-1")
    flow.runtime.log.error("defect", request_id=request_id, exc_info=error)
    flow.reason = "defect"
    flow.cancel_work()
    rescue(flow, ProxyError(type(error).__name__, close=True))
