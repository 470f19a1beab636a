"""The identity provider, and how tokens are renewed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecar.core.client_assertion import read_private_key
from sidecar.core.config.renewal import ClientAuth
from sidecar.core.discovery import OPTIONAL, REQUIRED
from sidecar.core.record import replace
from sidecar.core.token_response import AnswerPaths
from sidecar.net.outbound import Outbound, Way
from sidecar.net.provider import Provider, ProviderSettings
from sidecar.sessions.refresh_grants import HttpGrant, OAuth2Grant, RefreshEndpoint
from sidecar.tls import client_context, show_certificate

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.core.oidc.relying_party import OidcClient
    from sidecar.sessions.refresh_grants import RefreshGrant


def open_provider(config: Config, report: Callable[[str], None], way: Way) -> Provider | None:
    """The identity provider that tokens come from, if there is one."""
    refresh, oidc = config.refresh, config.oidc
    if oidc is None and (refresh is None or refresh.type != "oauth2"):
        return None
    given = [section for section in (refresh, oidc) if section is not None]

    def first(name: str) -> Any:
        return next((v for one in given if (v := getattr(one, name, None)) is not None), None)

    secret, key = first("client_secret"), first("key")
    auth: ClientAuth = next((one.auth for one in given if one.auth != "auto"), "auto")
    text = "" if key is None else key.get_secret_value()
    settings = ProviderSettings(
        client_id=first("client_id"),
        issuer=first("issuer"),
        metadata_url=first("metadata_url"),
        client_secret=None if secret is None else secret.get_secret_value(),
        auth=auth,
        key=read_private_key(text) if auth == "private_key_jwt" else None,
        **{name: first(name) for name in (*REQUIRED, *OPTIONAL)},
    )
    if auth == "tls":
        ca = config.outbound.ca
        context = client_context(ca, at="outbound")
        show_certificate(context, first("cert"), text, "oidc" if refresh is None else "refresh")
        way = replace(way, tls=context)
    return Provider(settings, report, way)


def refresh_grant(
    config: Config,
    provider: Provider | None,
    client: OidcClient | None,
    outbound: Outbound,
    now: Callable[[], float],
) -> RefreshGrant | None:
    """How tokens are renewed, if they are."""
    refresh = config.refresh
    if refresh is not None and refresh.type == "http":
        assert refresh.request is not None
        request, response = refresh.request, refresh.response
        paths = AnswerPaths(response.access_token, response.refresh_token, response.expires_in)
        endpoint = RefreshEndpoint(
            request.method, request.url, request.headers, request.body, paths
        )
        return HttpGrant(endpoint, outbound, now)
    if provider is None:
        return None
    scope = refresh.scope if refresh is not None else None
    return OAuth2Grant(provider, scope, now, client)
