"""What the end_session endpoint decides (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.demo.idp.demo_provider import DemoProvider
from sidecar.demo.idp.idp_errors import PageError
from sidecar.demo.idp.options import RegisteredClient
from sidecar.demo.idp.parameters import with_parameters
from sidecar.demo.idp.records import UserSession
from sidecar.demo.idp.tokens import ID_TOKEN, Claims


@dataclass(frozen=True, slots=True)
class LogoutPlan:
    """What a logout request comes to: the session to end, if any is left, and where to go then."""

    must_confirm: bool
    session: UserSession | None
    redirect: str | None


def plan_logout(
    provider: DemoProvider, parameters: Mapping[str, str], presented: UserSession | None
) -> LogoutPlan:
    """Decides a logout request of a browser that presents that session, or none.

    A person is asked unless the client proves by its id_token (expired or not) that it means the
    session which the browser presents, or none is presented (section 2). Raises `PageError`.
    """
    hint = _hint(provider, parameters)
    client = _client(provider, parameters, hint)
    redirect = _redirect(client, parameters)
    if hint is None:
        return LogoutPlan(presented is not None, presented, redirect)
    meant = provider.state.session_of(str(hint["sid"]), provider.now())
    if presented is not None and presented is not meant:
        return LogoutPlan(must_confirm=True, session=presented, redirect=redirect)
    return LogoutPlan(must_confirm=False, session=meant, redirect=redirect)


def _hint(provider: DemoProvider, parameters: Mapping[str, str]) -> Claims | None:
    text = parameters.get("id_token_hint")
    if text is None:
        return None
    claims = provider.keys.read(text, ID_TOKEN)
    if claims is None:
        raise PageError("The id_token_hint was not issued here.")
    return claims


def _client(
    provider: DemoProvider, parameters: Mapping[str, str], hint: Claims | None
) -> RegisteredClient | None:
    named = parameters.get("client_id")
    if hint is not None and named not in (None, hint["aud"]):
        raise PageError("The id_token_hint was issued to another client.")
    client_id = hint["aud"] if hint is not None else named
    client = provider.clients.get(client_id) if client_id is not None else None
    if client_id is not None and client is None:
        raise PageError("The client is not registered here.")
    return client


def _redirect(client: RegisteredClient | None, parameters: Mapping[str, str]) -> str | None:
    uri = parameters.get("post_logout_redirect_uri")
    if uri is None:
        return None
    if client is None or uri not in client.post_logout_redirect_uris:
        raise PageError("The post_logout_redirect_uri is not registered for a known client.")
    return with_parameters(uri, {"state": parameters.get("state")})
