"""Configuration: YAML text and environment in, one frozen `Config` or every fault out."""

from sidecar.core.config.faults import Fault
from sidecar.core.config.listen_section import ListenerSection, PublicListener, Tls
from sidecar.core.config.load import load
from sidecar.core.config.log_section import Log
from sidecar.core.config.model import (
    BridgeSection,
    Config,
    Cors,
    Csrf,
    InFlight,
    LimitsSection,
    Logout,
    Match,
    SessionSection,
    Unauthorized,
)
from sidecar.core.config.routes import (
    Envelope,
    Kind,
    PoolSection,
    RouteSection,
    Upstream,
    UpstreamTls,
)
from sidecar.core.config.schema import schema
from sidecar.core.config.sources import (
    Auth0Source,
    AuthjsSource,
    BetterAuthSource,
    CookieSource,
    IronSessionSource,
    JwtSource,
    NextauthSource,
    SourceSection,
)
from sidecar.core.config.values import Listen

__all__ = [
    "Auth0Source",
    "AuthjsSource",
    "BetterAuthSource",
    "BridgeSection",
    "Config",
    "CookieSource",
    "Cors",
    "Csrf",
    "Envelope",
    "Fault",
    "InFlight",
    "IronSessionSource",
    "JwtSource",
    "Kind",
    "LimitsSection",
    "Listen",
    "ListenerSection",
    "Log",
    "Logout",
    "Match",
    "NextauthSource",
    "PoolSection",
    "PublicListener",
    "RouteSection",
    "SessionSection",
    "SourceSection",
    "Tls",
    "Unauthorized",
    "Upstream",
    "UpstreamTls",
    "load",
    "schema",
]
