"""What a browser is led through: signing in, consent, signing out."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Final

from aiohttp import web

from sidecar.demo.idp import pages
from sidecar.demo.idp.authorize import issue_code, next_step, read_request
from sidecar.demo.idp.courier import Courier
from sidecar.demo.idp.demo_provider import DemoProvider
from sidecar.demo.idp.idp_errors import AuthorizationError, PageError
from sidecar.demo.idp.logout import plan_logout
from sidecar.demo.idp.messages import page, page_parameters, redirect, set_cookie
from sidecar.demo.idp.records import AuthorizationRequest, Interaction, LogoutRequest, UserSession
from sidecar.demo.idp.state import INTERACTION_SECONDS

BROWSER_COOKIE: Final = "rehearsal_idp_browser"
SESSION_COOKIE: Final = "rehearsal_idp_session"


class Browser:
    """Handlers of the pages.

    One cookie is what forms are bound to, the other one is the single sign-on session.
    """

    def __init__(self, provider: DemoProvider, courier: Courier) -> None:
        self._provider = provider
        self._courier = courier

    async def index(self, request: web.Request) -> web.Response:
        """What stands at `/`."""
        session = self._session(request)
        subject = None if session is None else session.subject
        return page(pages.index(self._provider.issuer, subject))

    # -- signing in ---------------------------------------------------------------------------

    async def authorize(self, request: web.Request) -> web.Response:
        """OpenID Connect Core section 3.1.2: a code at once, or a page that asks."""
        provider = self._provider
        asked = read_request(provider, await page_parameters(request))
        session = self._session(request)
        step = next_step(asked, session, provider.now())
        if step != "issue" and provider.options.sign_in_as is not None:
            session = await self._signed_in(session, provider.options.sign_in_as)
            step = "issue"
        if step == "issue":
            assert session is not None
            return self._with_code(asked, session)
        browser, name = self._ask(request, asked)
        if step == "consent":
            assert session is not None
            text = pages.consent(name, asked.client_id, asked.scope, session.subject)
        else:
            text = pages.sign_in(name, asked.client_id, asked.scope, provider.options.users)
        response = page(text)
        set_cookie(response, BROWSER_COOKIE, browser)
        return response

    async def sign_in(self, request: web.Request) -> web.Response:
        """Takes the answer to that page."""
        provider = self._provider
        form = await page_parameters(request)
        asked = self._answered(request, form)
        if not isinstance(asked, AuthorizationRequest):
            raise PageError("This form belongs to something else.")
        if "deny" in form:
            raise AuthorizationError(asked.to, "access_denied", "the user has refused")
        user, session = form.get("user"), self._session(request)
        if user not in provider.options.users:
            raise PageError("There is no such user.")
        is_signed_in = session is not None and session.subject == user
        if not is_signed_in or next_step(asked, session, provider.now()) == "login":
            session = await self._signed_in(session, user)
        assert session is not None
        return self._with_code(asked, session)

    async def _signed_in(self, old: UserSession | None, user: str) -> UserSession:
        """A new session; another user's that the browser had is ended."""
        provider = self._provider
        if old is not None and old.subject != user:
            await self._courier.deliver(provider.end(old), provider.stats)
        provider.stats.logins += 1
        lifetime = provider.options.session_lifetime
        return provider.state.sign_in(old, user, provider.now(), lifetime)

    def _with_code(self, asked: AuthorizationRequest, session: UserSession) -> web.Response:
        response = redirect(issue_code(self._provider, asked, session))
        set_cookie(response, SESSION_COOKIE, session.cookie)
        return response

    # -- signing out --------------------------------------------------------------------------

    async def end_session(self, request: web.Request) -> web.Response:
        """RP-Initiated Logout section 2: ends the session, or asks whether to."""
        parameters = await page_parameters(request)
        presented = self._session(request)
        plan = plan_logout(self._provider, parameters, presented)
        if not plan.must_confirm:
            return await self._logged_out(plan.session, plan.redirect)
        assert plan.session is not None
        browser, name = self._ask(request, LogoutRequest(plan.redirect))
        response = page(pages.confirm_logout(name, plan.session.subject))
        set_cookie(response, BROWSER_COOKIE, browser)
        return response

    async def confirm_logout(self, request: web.Request) -> web.Response:
        """Takes the answer to that question."""
        asked = self._answered(request, await page_parameters(request))
        if not isinstance(asked, LogoutRequest):
            raise PageError("This form belongs to something else.")
        return await self._logged_out(self._session(request), asked.redirect)

    async def _logged_out(self, session: UserSession | None, target: str | None) -> web.Response:
        provider = self._provider
        frames = [] if session is None else provider.frames(session)
        if session is not None:
            await self._courier.deliver(provider.end(session), provider.stats)
        if target is not None and not frames:
            response = redirect(target)
        else:
            text = pages.signed_out(frames, provider.issuer, target)
            response = page(text, frames=[uri for uri, _ in frames])
        response.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Lax")
        return response

    # -- what a browser presents --------------------------------------------------------------

    def _session(self, request: web.Request) -> UserSession | None:
        return self._provider.state.session(
            request.cookies.get(SESSION_COOKIE), self._provider.now()
        )

    def _ask(
        self, request: web.Request, about: AuthorizationRequest | LogoutRequest
    ) -> tuple[str, str]:
        """Opens an interaction. Returns the browser's secret and the interaction's name."""
        browser = request.cookies.get(BROWSER_COOKIE) or token_urlsafe(32)
        name = token_urlsafe(16)
        expires = self._provider.now() + INTERACTION_SECONDS
        self._provider.state.interactions[name] = Interaction(browser, about, expires)
        return browser, name

    def _answered(
        self, request: web.Request, form: Mapping[str, str]
    ) -> AuthorizationRequest | LogoutRequest:
        """What a form answers; each can be sent once, by the browser that it was shown to."""
        found = self._provider.state.interactions.get(form.get("interaction", ""))
        is_own = found is not None and found.browser == request.cookies.get(BROWSER_COOKIE)
        if found is None or not is_own or self._provider.now() >= found.expires:
            raise PageError("This form is no longer good. Go back to the application.")
        del self._provider.state.interactions[form["interaction"]]
        return found.about
