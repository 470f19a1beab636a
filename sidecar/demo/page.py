"""The frontend of the demo: static files, the trace of what happened, the provider's switches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from aiohttp import web

from sidecar.demo.controls import BadOrder, Controls
from sidecar.demo.session_cookies import ALL_COOKIES
from sidecar.demo.trace import Trace

OWN_COOKIE: Final = "sidecar"  # of the sidecar's own login, and what its other cookies begin with
OTHER_COOKIE: Final = "demo_theme"  # belongs to no session, so the API gets it
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action {}; base-uri 'none'; frame-ancestors 'none'"
)
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


def security(*form_targets: str) -> dict[str, str]:
    """Header fields of pages; forms may lead to those origins besides, by redirects too."""
    return {
        "Content-Security-Policy": _POLICY.format(" ".join(("'self'", *form_targets))),
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }


def asset(name: str) -> bytes:
    """A file that comes with this package. Raises `OSError` where the installation lacks it."""
    return files(__package__).joinpath("static", name).read_bytes()


class Page:
    """Serves the page. What it says about cookies is what it was sent, by name."""

    def __init__(self, trace: Trace, controls: Controls, admin: str) -> None:
        """`admin`: the URL of the sidecar's admin listener, which the page links to."""
        self._trace = trace
        self._controls = controls
        self._security = security(controls.issuer)  # where the logout form ends up
        values = {"config": asset("sidecar.yaml").decode(), "issuer": controls.issuer}
        values["admin"] = admin
        self._files = {path: _filled(name, values) for path, name in _PATHS.items()}

    def application(self) -> web.Application:
        """The page as an aiohttp application."""
        application = web.Application()
        application.add_routes([web.get(path, self._file) for path in _PATHS])
        application.router.add_get("/demo/trace", self._show_trace)
        application.router.add_post("/demo/provider", self._tell_provider)
        return application

    async def _file(self, request: web.Request) -> web.Response:
        response = web.Response(
            body=self._files[request.path],
            content_type=_TYPES[_PATHS[request.path]],
            charset="utf-8",
            headers=self._security,
        )
        if request.path == "/":
            response.set_cookie(OTHER_COOKIE, "plain", path="/", samesite="Lax")
        return response

    async def _show_trace(self, request: web.Request) -> web.Response:
        names = list(request.cookies)
        body = {
            "session_cookies": [name for name in names if _is_of_a_session(name)],
            "other_cookies": [name for name in names if not _is_of_a_session(name)],
            "entries": self._trace.entries(),
            "provider": self._controls.state(),
        }
        return web.json_response(body, headers=self._security)

    async def _tell_provider(self, request: web.Request) -> web.Response:
        """JSON only: no page elsewhere can send that here without being asked first (CORS)."""
        if request.content_type != "application/json":
            return web.json_response({"message": "send application/json"}, status=415)
        try:
            order = json.loads(await request.text())
            if not isinstance(order, dict):
                raise BadOrder("send an object")
            done = await self._controls.carry_out(order.get("action"), order.get("subject"))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=422)
        return web.json_response({"message": done}, headers=self._security)


def _is_of_a_session(name: str) -> bool:
    return name in ALL_COOKIES or name.startswith(OWN_COOKIE)


def _filled(name: str, values: Mapping[str, str]) -> bytes:
    """A file; in the page itself, `$config`, `$issuer` and `$admin` stand for their values."""
    content = asset(name)
    if name != "page.html":
        return content
    escaped = {key: escape(value) for key, value in values.items()}
    return Template(content.decode()).substitute(escaped).encode()
