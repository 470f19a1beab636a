"""A made-up API behind the sidecar: bearer tokens that one request can expire, plain JSON, no CORS.

It takes its own tokens and the identity provider's. Cookies are nothing to it, but for its login,
which sets them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from itertools import count
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from sidecar.demo.idp import Introspection
from sidecar.demo.idp.tokens import display_name
from sidecar.demo.page import security
from sidecar.demo.session_cookies import ALL_COOKIES, KINDS, SessionCookies
from sidecar.demo.trace import Seen, Trace

UNKNOWN_USER: Final = "nobody"
MAX_NAME: Final = 40  # characters
LARGE_ITEMS: Final = 30_000
_ITEMS_AT_ONCE: Final = 1000
_EVENT_SECONDS: Final = 1.0
_HASH_PREFIX: Final = 12  # hex digits
_PROBLEM: Final = "application/problem+json"
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
_FIRST_ORDERS: Final = (
    {"id": 9007199254740993, "item": "tea", "price": 12.50},
    {"id": 9007199254740995, "item": "biscuits", "price": 3.20},
)

_REPORT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Report for {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css"></head>
<body><main><h1>Report for {name}</h1>
<p>The API drew this page; the sidecar passed it on as it is, since it is no JSON.</p>
<p>{orders} orders. Once the token has expired, the same link leads to the login.</p>
<p><a href="/">Back to the demo</a></p></main></body></html>
"""


class Api:
    """Tokens and orders in memory; `verify` is what the provider says of a token."""

    def __init__(
        self, logins: SessionCookies, trace: Trace, verify: Callable[[str], Introspection]
    ) -> None:
        self._logins = logins
        self._trace = trace
        self._verify = verify
        self._names: dict[str, str] = {}  # by valid token of its own
        self._refused: set[str] = set()  # tokens of the provider
        self._orders: list[dict[str, object]] = list(_FIRST_ORDERS)

    def application(self) -> web.Application:
        """The API as an aiohttp application."""
        application = web.Application(middlewares=[self._authenticate])
        application.on_response_prepare.append(self._note)
        application.add_routes(
            [
                web.post("/login", self._login),
                web.get("/me", self._me),
                web.get("/orders", self._list_orders),
                web.post("/orders", self._add_order),
                web.get("/problem", self._problem),
                web.get("/failure", self._failure),
                web.get("/large", self._large),
                web.get("/events", self._events),
                web.get("/echo", self._echo),
                web.get("/report", self._report),
                web.post("/expire", self._expire),
            ]
        )
        return application

    # -- who asks -----------------------------------------------------------------------------

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/login":
            token = _bearer(request)
            known = None if token is None else self._whose(token)
            if known is None:
                body = {"message": "The token is not valid, or no longer"}
                return web.json_response(body, status=401, headers=_CHALLENGE)
            request["name"], request["expires_at"] = known
        return await handler(request)

    def _whose(self, token: str) -> tuple[str, int | None] | None:
        """The name of whoever a valid token is for, and when it expires if it does."""
        name = self._names.get(token)
        if name is not None:
            return name, None
        checked = None if token in self._refused else self._verify(token)
        if checked is None or checked.subject is None:
            return None
        return display_name(checked.subject), checked.expires

    async def _note(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tells the trace, just before the answer's head is sent."""
        token = _bearer(request)
        body = response.body if isinstance(response, web.Response) else None
        seen = Seen(
            headers=list(request.headers),
            cookies=list(request.cookies),
            token_sha256=None if token is None else _hash_prefix(token),
            status=response.status,
            content_type=response.headers.get(hdrs.CONTENT_TYPE, ""),
            set_cookies=[name for name, morsel in response.cookies.items() if morsel.value],
            body=body.decode() if isinstance(body, bytes) else None,
            expires_at=request.get("expires_at"),
        )
        self._trace.api_answered(request.headers.get("X-Request-Id", ""), seen)

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, kind = str(form.get("name", "")).strip(), str(form.get("session", KINDS[0]))
        if not 0 < len(name) <= MAX_NAME or kind not in KINDS:
            detail = f"name: 1 to {MAX_NAME} characters; session: {', '.join(KINDS)}"
            return _problem(422, "Unusable login", detail)
        if name == UNKNOWN_USER:
            return web.json_response({"message": f"There is no {name}"}, status=401)
        token = secrets.token_urlsafe(32)
        self._names[token] = name
        cookies = self._logins.cookies(kind, name, token)
        response = _welcome(request, name, list(cookies))
        _set_session(response, cookies)
        return response

    async def _expire(self, request: web.Request) -> web.Response:
        token = _bearer(request) or ""
        if self._names.pop(token, None) is None:
            self._refused.add(token)
        return web.json_response(
            {"message": "This token has expired: here it is a 401 from now on"}
        )

    # -- what it answers ----------------------------------------------------------------------

    async def _me(self, request: web.Request) -> web.Response:
        token = _bearer(request) or ""
        saw = {
            "headers": list(request.headers),
            "cookies": list(request.cookies),
            "token_sha256": _hash_prefix(token),
        }
        name = request["name"]
        return web.json_response({"message": f"Hello, {name}", "data": {"name": name, "saw": saw}})

    async def _list_orders(self, _: web.Request) -> web.Response:
        return web.json_response(self._orders)

    async def _add_order(self, request: web.Request) -> web.Response:
        form = await request.post()
        item = str(form.get("item", "")).strip()[:MAX_NAME]
        if not item:
            return _problem(422, "Unusable order", "item: say what you want")
        order = {"id": int(str(self._orders[-1]["id"])) + 2, "item": item, "price": 1.00}
        self._orders.append(order)
        return web.json_response({"message": "Ordered", "data": order}, status=201)

    async def _problem(self, _: web.Request) -> web.Response:
        return _problem(409, "Not in stock", "You asked for 12 and there are 5", in_stock=5)

    async def _failure(self, _: web.Request) -> web.Response:
        return web.Response(status=500, text="the database is having a rest")

    async def _report(self, request: web.Request) -> web.Response:
        text = _REPORT.format(name=escape(request["name"]), orders=len(self._orders))
        return web.Response(text=text, content_type="text/html", headers=security())

    # -- what it streams ----------------------------------------------------------------------

    async def _large(self, request: web.Request) -> web.StreamResponse:
        """Several MiB of JSON, made as it is sent."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):  # a client may leave before the end
            await response.write(b'{"message": "A long list", "data": [')
            for start in range(0, LARGE_ITEMS, _ITEMS_AT_ONCE):
                items = _items(range(start, start + _ITEMS_AT_ONCE))
                await response.write(items if start == 0 else b", " + items)
            await response.write(b"]}")
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """A count, once a second, for as long as somebody listens."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError):  # the sidecar hangs up when the session or the client goes
            for number in count(1):
                event = json.dumps({"number": number, "for": request["name"]})
                await response.write(f"id: {number}\ndata: {event}\n\n".encode())
                await asyncio.sleep(_EVENT_SECONDS)
        return response

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is web.WSMsgType.TEXT:
                await socket.send_str(f"{request['name']} said: {message.data}")
        return socket


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token if scheme == "Bearer" and token else None


def _hash_prefix(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:_HASH_PREFIX]


def _items(numbers: range) -> bytes:
    return b", ".join(
        b'{"number": %d, "text": "%b"}' % (number, b"all work and no play " * 4)
        for number in numbers
    )


def _problem(status: int, title: str, detail: str, **more: Any) -> web.Response:
    """An error as RFC 9457 writes it."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return web.json_response(body, status=status, content_type=_PROBLEM)


def _welcome(request: web.Request, name: str, cookies: list[str]) -> web.Response:
    """JSON for scripts; a form that a browser has sent goes on to the page."""
    if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
        origin = "{X-Forwarded-Proto}://{X-Forwarded-Host}".format_map(request.headers)
        return web.Response(status=303, headers={"Location": f"{origin}/"})
    body = {"message": f"Welcome, {name}", "data": {"name": name, "cookies": cookies}}
    return web.json_response(body)


def _set_session(response: web.Response, cookies: Mapping[str, str]) -> None:
    for name in ALL_COOKIES:
        if name in cookies:
            response.set_cookie(name, cookies[name], path="/", httponly=True, samesite="Lax")
        else:
            response.del_cookie(name, path="/", httponly=True, samesite="Lax")
