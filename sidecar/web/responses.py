"""The sidecar's own responses: redirects, pages and JSON, each with the same fields."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Final

from sidecar.core.forwarding import status_line

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {message}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:10vh auto;max-width:36rem;padding:0 1rem}}
code{{color:#555}}</style></head>
<body><h1>{message}</h1><p>{status} <code>{code}</code></p>
<p>Request <code>{request_id}</code></p>{more}</body></html>
"""

HTML_TYPE: Final = (
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    b"frame-ancestors 'none'\r\n"
)


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


def set_cookies(lines: Iterable[bytes]) -> bytes:
    """Returns the fields that set these cookies."""
    return b"".join(b"Set-Cookie: %b\r\n" % line for line in lines)


def redirect_head(flow: Flow, location: str) -> bytes:
    """Returns the head of a 303, which every method follows with GET (RFC 9110 15.4.4)."""
    return b"%bLocation: %b\r\n" % (common_lines(flow, 303), location.encode())


def redirect(flow: Flow, location: str, cookies: Iterable[bytes] = ()) -> None:
    """Responds 303, and sets cookies."""
    flow.respond(redirect_head(flow, location) + set_cookies(cookies), b"", status=303)


def page(status: int, message: str, code: str, request_id: str, more: str = "") -> bytes:
    """A small plain page with the same facts as the envelope; `more` is trusted HTML."""
    return _PAGE.format(
        status=status,
        message=escape(message),
        code=escape(code),
        request_id=escape(request_id),
        more=more,
    ).encode()
