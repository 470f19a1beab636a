"""The frontend of the demo: static files, and the trace of what happened."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from aiohttp import web

from sidecar.demo.logins import ALL_COOKIES
from sidecar.demo.trace import Trace

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
OTHER_COOKIE: Final = "demo_theme"  # belongs to no session, so the API gets it
_TYPES: Final = {
    "page.html": "text/html",
    "login.html": "text/html",
    "app.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_PATHS: Final = {
    "/": "page.html",
    "/login": "login.html",
    "/app.js": "app.js",
    "/style.css": "style.css",
    "/icon.svg": "icon.svg",
}


def asset(name: str) -> bytes:
    """A file that comes with this package. Raises `OSError` where the installation lacks it."""
    return files(__package__).joinpath("static", name).read_bytes()


class Page:
    """Serves the page. What it says about cookies is what it was sent, by name."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        config = escape(asset("sidecar.yaml").decode())
        self._files = {path: _filled(name, config) for path, name in _PATHS.items()}

    def application(self) -> web.Application:
        """The page as an aiohttp application."""
        application = web.Application()
        application.add_routes([web.get(path, self._file) for path in _PATHS])
        application.router.add_get("/demo/trace", self._show_trace)
        return application

    async def _file(self, request: web.Request) -> web.Response:
        response = web.Response(
            body=self._files[request.path],
            content_type=_TYPES[_PATHS[request.path]],
            charset="utf-8",
            headers=SECURITY,
        )
        if request.path == "/":
            response.set_cookie(OTHER_COOKIE, "plain", path="/", samesite="Lax")
        return response

    async def _show_trace(self, request: web.Request) -> web.Response:
        names = list(request.cookies)
        body = {
            "session_cookies": [name for name in names if name in ALL_COOKIES],
            "other_cookies": [name for name in names if name not in ALL_COOKIES],
            "entries": self._trace.entries(),
        }
        return web.json_response(body, headers=SECURITY)


def _filled(name: str, config: str) -> bytes:
    """A file; in the page itself, `$config` stands for the configuration."""
    content = asset(name)
    if name != "page.html":
        return content
    return Template(content.decode()).substitute(config=config).encode()
