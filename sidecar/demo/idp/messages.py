"""Reading requests and making answers: what the handlers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from sidecar.demo.idp.idp_errors import OAuthError, PageError
from sidecar.demo.idp.parameters import UnreadableParameters, read_parameters

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; frame-src {}; base-uri 'none'; frame-ancestors 'none'"
)
_FORM: Final = "application/x-www-form-urlencoded"


async def page_parameters(request: web.Request) -> Mapping[str, str]:
    """The parameters of a browser's request: the query of a GET, the form of a POST."""
    try:
        if request.method == hdrs.METH_POST:
            return await _form(request)
        return read_parameters(request.rel_url.raw_query_string)
    except ValueError as error:
        raise PageError(f"The request cannot be used: {error}.") from error


async def client_form(request: web.Request) -> Mapping[str, str]:
    try:
        return await _form(request)
    except ValueError as error:
        raise OAuthError("invalid_request", str(error)) from error


async def _form(request: web.Request) -> Mapping[str, str]:
    if request.content_type != _FORM:
        raise UnreadableParameters(f"the body must be {_FORM}")
    try:
        text = (await request.read()).decode("ascii")
    except UnicodeDecodeError as error:
        raise UnreadableParameters("the body cannot be read") from error
    return read_parameters(text)


def redirect(uri: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: uri, **NO_STORE})


def page(text: str, status: int = 200, frames: Sequence[str] = ()) -> web.Response:
    """HTML. `form-action` is left open: browsers apply it to all redirects that follow a form."""
    origins = {"{0.scheme}://{0.netloc}".format(urlsplit(uri)) for uri in frames}
    headers = {
        "Content-Security-Policy": _POLICY.format(" ".join(sorted(origins)) or "'none'"),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        **NO_STORE,
    }
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def set_cookie(response: web.Response, name: str, value: str) -> None:
    response.set_cookie(name, value, path="/", httponly=True, samesite="Lax")


def challenge(status: int, error: str | None) -> web.Response:
    value = 'Bearer realm="rehearsal"' + (f', error="{error}"' if error else "")
    return web.Response(status=status, headers={hdrs.WWW_AUTHENTICATE: value, **NO_STORE})


def hang_up(request: web.Request) -> web.Response:
    """Ends the connection without an answer; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
