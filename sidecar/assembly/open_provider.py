"""The identity provider, and how tokens are renewed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sidecar.core.client_assertion import read_private_key
from sidecar.core.discovery import OPTIONAL, REQUIRED
from sidecar.core.record import replace
from sidecar.core.token_response import AnswerPaths
from sidecar.net.outbound import Outbound, Way
from sidecar.net.provider import Provider, ProviderSettings
from sidecar.sessions.refresh_grants import HttpGrant, OAuth2Grant, RefreshEndpoint
from sidecar.tls import client_context, show_certificate

if TYPE_CHECKING:
    from ssl import SSLContext

    from sidecar.core.config import Config
    from sidecar.core.config.renewal import ClientAuth, Oidc, Refresh
    from sidecar.core.oidc.relying_party import OidcClient
    from sidecar.sessions.refresh_grants import RefreshGrant


def open_provider(config: Config, report: Callable[[str], None], way: Way) -> Provider | None:
    """The identity provider that tokens come from, if there is one. Raises `UnusableFile`."""
    refresh = config.refresh
    if config.oidc is None and (refresh is None or refresh.type != "oauth2"):
        return None
    first = partial(_first, config)
    secret, key, auth = first("client_secret"), first("key"), _auth(config)
    settings = ProviderSettings(
        client_id=first("client_id"),
        issuer=first("issuer"),
        metadata_url=first("metadata_url"),
        client_secret=None if secret is None else secret.get_secret_value(),
        auth=auth,
        key=read_private_key(key.get_secret_value()) if auth == "private_key_jwt" else None,
        **{name: first(name) for name in (*REQUIRED, *OPTIONAL)},
    )
    context = client_certificate(config)
    return Provider(settings, report, way if context is None else replace(way, tls=context))


def client_certificate(config: Config) -> SSLContext | None:
    """What shows the provider the client's certificate; None unless `auth` is tls.

    Raises `UnusableFile`.
    """
    if _auth(config) != "tls":
        return None
    context = client_context(config.outbound.ca, at="outbound")
    named = next(name for name, one in _clients(config).items() if one.cert is not None)
    show_certificate(
        context, _first(config, "cert"), _first(config, "key").get_secret_value(), named
    )
    return context


def _clients(config: Config) -> Mapping[str, Refresh | Oidc]:
    """The sections that say how the provider knows this client, by their keys."""
    given = {"refresh": config.refresh, "oidc": config.oidc}
    return {name: one for name, one in given.items() if one is not None}


def _first(config: Config, name: str) -> Any:
    """The value of a key of these sections: of the first that has one."""
    values = (getattr(one, name, None) for one in _clients(config).values())
    return next((one for one in values if one is not None), None)


def _auth(config: Config) -> ClientAuth:
    return next((one.auth for one in _clients(config).values() if one.auth != "auto"), "auto")


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
