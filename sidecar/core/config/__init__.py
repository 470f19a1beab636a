"""Configuration: YAML text and environment in, one frozen `Config` or every fault out."""

from sidecar.core.config.faults import Fault
from sidecar.core.config.load import load
from sidecar.core.config.model import (
    Bridge,
    Config,
    Cors,
    Csrf,
    InFlight,
    Limits,
    Log,
    Logout,
    Match,
    Session,
    Tls,
    Unauthorized,
)
from sidecar.core.config.routes import Envelope, Kind, Pool, Route, Upstream, UpstreamTls
from sidecar.core.config.schema import schema
from sidecar.core.config.sources import (
    Auth0Source,
    AuthjsSource,
    BetterAuthSource,
    CookieSource,
    IronSessionSource,
    NextauthSource,
    Source,
)
from sidecar.core.config.values import Listen

__all__ = [
    "Auth0Source",
    "AuthjsSource",
    "BetterAuthSource",
    "Bridge",
    "Config",
    "CookieSource",
    "Cors",
    "Csrf",
    "Envelope",
    "Fault",
    "InFlight",
    "IronSessionSource",
    "Kind",
    "Limits",
    "Listen",
    "Log",
    "Logout",
    "Match",
    "NextauthSource",
    "Pool",
    "Route",
    "Session",
    "Source",
    "Tls",
    "Unauthorized",
    "Upstream",
    "UpstreamTls",
    "load",
    "schema",
]
