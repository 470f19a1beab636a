"""The provider over HTTP. Handlers read a request, ask the decisions, and send what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from sidecar.demo.idp import grants, pages
from sidecar.demo.idp.authorize import error_uri
from sidecar.demo.idp.browser import Browser
from sidecar.demo.idp.control import Control
from sidecar.demo.idp.courier import Courier
from sidecar.demo.idp.demo_provider import DemoProvider, LogoutNotice
from sidecar.demo.idp.idp_errors import AuthorizationError, OAuthError, PageError
from sidecar.demo.idp.messages import NO_STORE, challenge, client_form, hang_up, page, redirect
from sidecar.demo.idp.metadata import discovery
from sidecar.demo.idp.options import OPENID, Endpoint, RegisteredClient
from sidecar.demo.idp.tokens import personal_claims

_PATHS: Final[Mapping[str, Endpoint]] = {
    "/.well-known/openid-configuration": "discovery",
    "/.well-known/oauth-authorization-server": "discovery",
    "/jwks": "jwks",
    "/authorize": "authorization",
    "/sign-in": "authorization",
    "/token": "token",
    "/userinfo": "userinfo",
    "/revoke": "revocation",
    "/introspect": "introspection",
    "/end_session": "end_session",
    "/end_session/confirm": "end_session",
}
"""Which endpoint a path belongs to, where an outage can be of it."""

_Act: TypeAlias = Callable[[RegisteredClient, Mapping[str, str]], web.Response]


class Site:
    """One provider as an aiohttp application."""

    def __init__(self, provider: DemoProvider) -> None:
        self._provider = provider
        self._courier = Courier()
        self._browser = Browser(provider, self._courier)
        self._control = Control(provider, self._courier)

    def application(self) -> web.Application:
        """The application; it can be served once."""
        application = web.Application(middlewares=[self._guard, self._fail, self._explain])
        application.cleanup_ctx.append(self._courier.serve)
        application.add_routes(
            [
                web.get("/", self._browser.index),
                web.get("/style.css", self._style),
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/.well-known/oauth-authorization-server", self._discovery),
                web.get("/jwks", self._jwks),
                web.get("/authorize", self._browser.authorize, allow_head=False),
                web.post("/authorize", self._browser.authorize),
                web.post("/sign-in", self._browser.sign_in),
                web.post("/token", self._token),
                web.get("/userinfo", self._userinfo),
                web.post("/userinfo", self._userinfo),
                web.post("/revoke", self._revoke),
                web.post("/introspect", self._introspect),
                web.get("/end_session", self._browser.end_session, allow_head=False),
                web.post("/end_session", self._browser.end_session),
                web.post("/end_session/confirm", self._browser.confirm_logout),
                web.get("/_rehearsal", self._control.show),
                web.post("/_rehearsal", self._control.accept),
            ]
        )
        return application

    async def deliver(self, notices: Sequence[LogoutNotice]) -> None:
        """Sends logout tokens and counts what became of them."""
        await self._courier.deliver(notices, self._provider.stats)

    # -- around every handler -----------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers to its own name only, so that no page elsewhere reaches it by DNS rebinding."""
        port = urlsplit(self._provider.issuer).port
        if request.host not in {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}:
            return web.Response(status=421, text="This host is not served here.")
        return await handler(request)

    @web.middleware
    async def _fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The outage, where one is on."""
        options = self._provider.options
        if options.outage == "none" or _PATHS.get(request.path) not in options.outage_of:
            return await handler(request)
        self._provider.stats.outage_answers += 1
        if options.outage == "close":
            return hang_up(request)
        if options.outage == "error":
            return web.Response(status=500, text="Internal Server Error")
        if options.outage == "html":
            return page(pages.failure("We are busy with maintenance. Please come back later."))
        headers = {"Retry-After": str(options.retry_after)}
        return web.Response(status=503, text="Service Unavailable", headers=headers)

    @web.middleware
    async def _explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns errors into their answers."""
        try:
            return await handler(request)
        except PageError as error:
            return page(pages.failure(str(error)), status=400)
        except AuthorizationError as error:
            return redirect(error_uri(self._provider, error))
        except OAuthError as error:
            body = {"error": error.error, "error_description": error.description}
            headers = dict(NO_STORE)
            if error.status == 401:
                headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="rehearsal"'
            return web.json_response(body, status=error.status, headers=headers)

    # -- metadata -----------------------------------------------------------------------------

    async def _style(self, _: web.Request) -> web.Response:
        return web.Response(text=pages.STYLE, content_type="text/css")

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(discovery(self._provider))

    async def _jwks(self, _: web.Request) -> web.Response:
        keys = self._provider.keys.published(self._provider.now())
        return web.json_response(keys, headers={"Cache-Control": "no-cache"})

    # -- what clients ask for -----------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        form = await client_form(request)
        if form.get("grant_type") != "refresh_token":
            return self._direct(request, form, self._exchange)
        try:
            response = self._direct(request, form, self._exchange)
        finally:
            # Carried out first, so that a client which gives up meanwhile has lost the answer.
            await asyncio.sleep(self._provider.options.refresh_delay)
        if self._provider.use_up("lost_refreshes"):
            self._provider.stats.lost_answers += 1
            return hang_up(request)
        return response

    async def _revoke(self, request: web.Request) -> web.Response:
        return self._direct(request, await client_form(request), self._revoked)

    async def _introspect(self, request: web.Request) -> web.Response:
        return self._direct(request, await client_form(request), self._introspected)

    def _direct(self, request: web.Request, form: Mapping[str, str], act: _Act) -> web.Response:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        return act(grants.authenticate(self._provider, authorization, form), form)

    def _exchange(self, client: RegisteredClient, form: Mapping[str, str]) -> web.Response:
        return web.json_response(grants.exchange(self._provider, client, form), headers=NO_STORE)

    def _revoked(self, client: RegisteredClient, form: Mapping[str, str]) -> web.Response:
        grants.revoke(self._provider, client, form)
        return web.Response(headers=NO_STORE)

    def _introspected(self, client: RegisteredClient, form: Mapping[str, str]) -> web.Response:
        return web.json_response(grants.introspect(self._provider, client, form), headers=NO_STORE)

    async def _userinfo(self, request: web.Request) -> web.Response:
        """OpenID Connect Core section 5.3, with the challenges of RFC 6750 section 3."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return challenge(401, None)
        checked = self._provider.verify(token)
        if not checked.is_live or checked.subject is None:
            return challenge(401, "invalid_token")
        if OPENID not in checked.scope:
            return challenge(403, "insufficient_scope")
        claims = {"sub": checked.subject, **personal_claims(checked.subject, checked.scope)}
        return web.json_response(claims, headers=NO_STORE)
