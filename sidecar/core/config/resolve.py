"""What a valid document means: the shorthand and the defaults that depend on other keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from sidecar.core.config.listen_section import listeners_at
from sidecar.core.config.model import (
    Config,
    ConfigDocument,
    Logout,
    SessionSection,
)
from sidecar.core.config.path_faults import path_on_this_site
from sidecar.core.config.remarks import remarks
from sidecar.core.config.renewal import LOGIN_PARAM
from sidecar.core.config.routes import Envelope, RouteSection, Upstream
from sidecar.core.config.sources import AuthjsSource, CookieSource, NextauthSource, SourceSection
from sidecar.core.config.values import Listen

SHORTHAND_UPSTREAM: Final = "api"
LOOPBACK: Final = Listen("127.0.0.1", 8080)
DEFAULT_COOKIE: Final = "access_token"


def resolve(document: ConfigDocument, environ: Mapping[str, str]) -> Config:
    """The document with every route, upstream and source spelled out."""
    keys = dict(document)
    keys.update(_shorthand(document))
    keys["routes"] = tuple(_with_defaults(route, document) for route in keys["routes"])
    if not document.session.sources:
        sources = _default_sources(document, environ)
        keys["session"] = SessionSection(sources=sources) if sources else SessionSection()
    keys["logout"] = _logout(document)
    if _serves_itself_alone(document):
        keys["listen"] = listeners_at(LOOPBACK)
    resolved = Config.model_construct(**keys)
    return resolved.model_copy(update={"warnings": tuple(remarks(resolved))})


def _serves_itself_alone(document: ConfigDocument) -> bool:
    """Whether nobody else may be served: a login that follows the Host of whoever asks."""
    is_unknown = document.oidc is not None and document.public_url is None
    return is_unknown and "listen" not in document.model_fields_set


def _shorthand(document: ConfigDocument) -> Mapping[str, Any]:
    if document.upstream is None:
        return {}
    return {
        "upstreams": MappingProxyType({SHORTHAND_UPSTREAM: Upstream(url=document.upstream)}),
        "routes": (
            RouteSection(path="/", kind="api", upstream=SHORTHAND_UPSTREAM, session="optional"),
        ),
    }


def _logout(document: ConfigDocument) -> Logout:
    """With a login of its own the sidecar leads there, and from there back, where nothing else is
    written.
    """
    logout, oidc = document.logout, document.oidc
    if oidc is None:
        return logout
    if "redirect_to" not in logout.model_fields_set:
        logout = logout.model_copy(update={"redirect_to": oidc.login})
    target = path_on_this_site(logout.redirect_to, document.public_url)
    if oidc.is_login(target) and logout.return_param is None:
        logout = logout.model_copy(update={"return_param": LOGIN_PARAM})
    return logout


def _with_defaults(route: RouteSection, document: ConfigDocument) -> RouteSection:
    """A route's envelope takes the keys of the common one that it does not name itself."""
    envelope = route.envelope
    if envelope is None:
        return route
    missing = Envelope.model_fields.keys() - envelope.model_fields_set
    common = {name: getattr(document.envelope, name) for name in missing}
    inherited: Envelope = envelope.model_copy(update=common)
    return route.model_copy(update={"envelope": inherited})


def _default_sources(
    document: ConfigDocument, environ: Mapping[str, str]
) -> tuple[SourceSection, ...]:
    """What stands where no sources are written: possibly none.

    A cookie that nobody can verify is taken for a session only in front of a single API, which
    checks each token itself.
    """
    found = tuple(_from_environment(environ))
    if document.upstream is None or document.oidc is not None:
        return found
    return (*found, CookieSource(type="cookie", cookie=DEFAULT_COOKIE))


def _from_environment(environ: Mapping[str, str]) -> Iterator[SourceSection]:
    """The libraries whose own variable for the secret is set."""
    if secret := environ.get("AUTH_SECRET"):
        yield AuthjsSource.model_validate({"type": "authjs", "secret": secret})
    if secret := environ.get("NEXTAUTH_SECRET"):
        yield NextauthSource.model_validate({"type": "nextauth", "secret": secret})
