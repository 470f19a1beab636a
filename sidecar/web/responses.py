"""The sidecar's own responses: redirects, pages and JSON, each with the same fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sidecar.core.errors import MethodNotAllowed
from sidecar.core.forwarding import status_line
from sidecar.web.page_offers import NOTHING, Offer

if TYPE_CHECKING:
    from sidecar.core.errors import ProxyError
    from sidecar.web.flow import Flow


def common_lines(flow: Flow, status: int) -> bytes:
    """Status line and the fields that every response of the sidecar's own carries."""
    runtime = flow.runtime
    cors = runtime.policy.cors
    by_origin = b"Vary: Origin\r\n" + cors.lines(flow.facts) if cors.is_on else b""
    return (
        b"%bDate: %b\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        b"%bX-Request-Id: %b\r\n"
        % (status_line(status), runtime.clock.date(runtime.clock.now()), by_origin, flow.request_id)
    )


def error_lines(flow: Flow, error: ProxyError) -> bytes:
    """The same of a response that is an error, with what its status demands besides."""
    lines = common_lines(flow, error.status)
    if error.challenge:
        lines += b"WWW-Authenticate: %b\r\n" % error.challenge
    if error.retry_after:
        lines += b"Retry-After: %d\r\n" % error.retry_after
    if isinstance(error, MethodNotAllowed):
        lines += b"Allow: %b\r\n" % ", ".join(error.allowed).encode()
    return lines


def set_cookies(lines: Iterable[bytes]) -> bytes:
    """Returns the fields that set these cookies."""
    return b"".join(b"Set-Cookie: %b\r\n" % line for line in lines)


def redirect_head(flow: Flow, location: str) -> bytes:
    """Returns the head of a 303, which every method follows with GET (RFC 9110 15.4.4)."""
    return b"%bLocation: %b\r\n" % (common_lines(flow, 303), location.encode())


def redirect(flow: Flow, location: str, cookies: Iterable[bytes] = ()) -> None:
    """Responds 303, and sets cookies."""
    flow.respond(redirect_head(flow, location) + set_cookies(cookies), b"", status=303)


def page(
    flow: Flow, status: int, code: str, *, group: str | None = None, offer: Offer = NOTHING
) -> tuple[bytes, bytes]:
    """Returns the Content-Type and policy lines, and the body, of a page for people."""
    return flow.runtime.policy.pages.page(
        code,
        status,
        flow.request_id.decode("latin-1"),
        group=group,
        details=offer.details,
        actions=offer.actions,
    )
