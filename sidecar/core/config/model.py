"""The configuration as values: every key, its type, its default and what it means.

`ConfigDocument` is what users write; `Config` is what `load` returns, with the shorthand expanded,
the defaults filled in and the warnings. All values are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from sidecar.core.config.fields import (
    CookieName,
    CookiePath,
    Count,
    Domain,
    Duration,
    EndpointUrl,
    ErrorStatus,
    FilePath,
    HeadSize,
    JsonScalar,
    ListenAddress,
    MemberPath,
    Origin,
    PathText,
    QueryName,
    RateText,
    Redirect,
    SampleRate,
    Section,
    Share,
    SigningSecrets,
    Size,
    Token,
    TrustedProxy,
    UpstreamName,
    UpstreamUrl,
    Wait,
    Workers,
    freeze,
    parsed,
    setting,
)
from sidecar.core.config.listen_section import (
    Listeners,
    PublicListener,
    Tls,
    listeners_at,
    resolved,
)
from sidecar.core.config.log_section import Log
from sidecar.core.config.renewal import Hook, Oidc, OutboundSection, Refresh, StoreSection
from sidecar.core.config.routes import Envelope, RouteSection, Upstream
from sidecar.core.config.sources import SourceSection
from sidecar.core.config.units import parse_duration, parse_head_size, parse_size, parse_wait
from sidecar.core.config.values import parse_listen

LISTEN: Final = "0.0.0.0:8080"


class SessionSection(Section):
    """Where credentials come from."""

    sources: Annotated[tuple[SourceSection, ...], Field(min_length=1)] = setting(
        (),
        "Session cookies, tried in order. Default: authjs if AUTH_SECRET is set, nextauth if "
        "NEXTAUTH_SECRET is set; then, with `upstream` and without `oidc`, the cookie "
        "access_token.",
    )


class Match(Section):
    """A member of an upstream's JSON answer that makes it count as a 401."""

    path: MemberPath = Field(
        description="Where the member stands; numbers index arrays, and `*` is any index. If the "
        "body is an array, each element is looked into as a body too."
    )
    equals: JsonScalar = Field(description="The value that it must have.")


class BrakeSection(Section):
    """When an upstream that rejects most sessions of a route is no longer believed."""

    sessions: Count = setting(20, "How many users it must have rejected.")
    share: Share = setting(0.5, "And what share of the users whose sessions it judged.")
    window: Duration = parsed(parse_duration, "30s", "Within what time.")


class Unauthorized(Section):
    """Which answers say that the credential is no longer good."""

    status: tuple[ErrorStatus, ...] = setting((401,), "Statuses that count.", written=[401])
    messages: tuple[str, ...] = setting(
        ("UnAuthentication",),
        "Values of the JSON member `message` that count; below status 400 only in an object that "
        "says nothing else.",
        written=["UnAuthentication"],
    )
    match: tuple[Match, ...] = setting((), "More such rules: {path, equals}.", written=[])
    brake: BrakeSection | None = setting(
        BrakeSection(),
        "Keeps a storm of 401 from logging everybody out: past these numbers no session ends. "
        "null is without.",
        written={},
    )


class BridgeSection(Section):
    """How a page learns that its session ended while it was being rendered."""

    hold: Wait = parsed(
        parse_wait,
        "0s",
        "How long router data is held while a server-side call of its session is under way; "
        "0s never holds it.",
    )


class Logout(Section):
    """How a session ends, and where the browser goes then."""

    path: PathText = setting("/api/logout", "The path that ends the session.")
    redirect_to: Redirect = setting("/login", "Local path, or URL of an allowed origin, after it.")
    allowed_origins: tuple[Origin, ...] = setting(
        (), "Origins that redirect_to may lead to besides this one.", written=[]
    )
    cookies: tuple[CookieName, ...] = setting(
        ("authjs.session-token", "next-auth.session-token", "access_token"),
        "Cookies to expire, by base name; chunks and prefixed names are included.",
        written=["authjs.session-token", "next-auth.session-token", "access_token"],
    )
    domains: tuple[Domain, ...] = setting(
        (), "Parent domains whose cookies of these names are expired as well.", written=[]
    )
    paths: tuple[CookiePath, ...] = setting(
        ("/",), "Paths that the cookies may have been set on.", written=["/"]
    )
    return_param: QueryName | None = setting(
        None, "Query parameter that carries the page's path to the login after a 401."
    )
    hooks: tuple[Hook, ...] = setting((), "Requests that tell others of it.", written=[])


class Csrf(Section):
    """Protection against requests that other sites cause."""

    enabled: bool = setting(True, "Whether unsafe methods need a same-origin or listed Origin.")
    header: Token | None = setting(None, "A request header demanded besides, such as X-CSRF.")


class Cors(Section):
    """Which other origins may call with credentials."""

    origins: tuple[Origin, ...] = setting((), "Origins allowed; never a wildcard.", written=[])


class InFlight(Section):
    """How many requests may be under way at once; more get 503."""

    api: Count = setting(1000, "Budget of routes of kind api.")
    page: Count = setting(500, "Budget of routes of kind page.")
    stream: Count = setting(
        5000, "Budget of event streams, WebSockets, and whatever slow clients make last."
    )


class PerClient(Section):
    """What one client address may do (an IPv6 client is its /64); null is without a limit.

    Behind `trusted_proxies` it is the address that they vouch for.
    """

    login: RateText | None = setting(
        None, "Logins begun with oidc, and as many answers of the provider, such as 30/m."
    )
    logout: RateText | None = setting(None, "Requests to the logout paths, such as 60/m.")
    refresh: RateText | None = setting(
        None, "Exchanges of refresh tokens that its requests cause, such as 120/m."
    )
    connections: Count | None = setting(None, "Connections open at once, such as 500.")

    @property
    def is_on(self) -> bool:
        """Whether anything is limited."""
        return self != PerClient()


class LimitsSection(Section):
    """What one client may use."""

    header: HeadSize = parsed(parse_head_size, "64KiB", "Largest request head; at most 1GiB.")
    body: Size = parsed(parse_size, "1GiB", "Largest request body.")
    in_flight: InFlight = setting(InFlight(), "Requests under way at once.", written={})
    client_head: Duration = parsed(parse_duration, "10s", "Time limit for a request's head.")
    client_idle: Duration = parsed(
        parse_duration, "75s", "How long an idle client connection is kept."
    )
    client_rate: Size = parsed(
        parse_size, "500B", "Bytes a second that a request body must reach over any 30 s, else 408."
    )
    connections: Count = setting(
        10_000, "Open client connections; above it the oldest idle ones are closed."
    )
    per_client: PerClient = setting(
        PerClient(), "What one client address may do, for each worker by itself.", written={}
    )


class Drain(Section):
    """How it ends after SIGTERM."""

    wait: Wait = parsed(
        parse_wait,
        "5s",
        "How long it still serves while readiness says no; 0s for none. SIGINT (Ctrl-C) skips it.",
    )
    timeout: Duration = parsed(
        parse_duration, "25s", "When, after the signal, what is still under way is cut."
    )


class Tracing(Section):
    """Traces by OpenTelemetry, for which the extra `otel` must be installed."""

    endpoint: EndpointUrl | None = setting(
        None, "OTLP receiver by HTTP, such as http://collector:4318; null traces nothing."
    )
    sample: SampleRate = setting(
        1.0, "Share of the traces that are recorded, 0 to 1; a trusted proxy's own decision holds."
    )
    service: str = setting("session-sidecar", "The service.name; OTEL_SERVICE_NAME stands above.")


class ConfigDocument(Section):
    """Every key that a configuration file may hold."""

    listen: Listeners = setting(
        listeners_at(parse_listen(LISTEN)),
        "Where to serve: host:port, :port (IPv4 and IPv6), [v6]:port or unix:/path; or a list.",
        written=LISTEN,
    )
    tls: Tls | None = setting(
        None,
        "Certificate of every listener that names none itself, but for Unix sockets; null serves "
        "plain HTTP.",
    )
    admin: ListenAddress | None = parsed(
        parse_listen, "127.0.0.1:9090", "Address of health and metrics; null turns them off."
    )
    public_url: Origin | None = setting(
        None, "The origin browsers see; null derives it from the request behind trusted proxies."
    )
    trusted_proxies: tuple[TrustedProxy, ...] = setting(
        (), "CIDRs whose X-Forwarded-* are believed; `unix` for peers on a Unix socket.", written=[]
    )
    workers: Workers = setting(1, "How many processes serve; auto is one for each processor.")
    watch: bool = setting(
        True, "Whether a changed file (this one, secrets, certificates) reloads, as SIGHUP does."
    )
    core_dumps: bool = setting(
        False,
        "Whether the process may leave core files, and its user may trace it. Both show secrets.",
    )
    secret: SigningSecrets = setting(
        (),
        "Signs tickets and seals own cookies: at least 32 bytes, or a list (the first seals, all "
        "open). Default: derived from a source's secret, else random at each start.",
    )
    upstream: UpstreamUrl | None = setting(
        None, "Shorthand: one route / of kind api with session: optional to this URL."
    )
    upstreams: Annotated[Mapping[UpstreamName, Upstream], AfterValidator(freeze)] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="The servers behind the sidecar, by name.",
    )
    routes: Annotated[tuple[RouteSection, ...], Field(min_length=1)] = setting(
        (), "Which requests go where."
    )
    session: SessionSection = setting(SessionSection(), "Where credentials come from.", written={})
    unauthorized: Unauthorized = setting(
        Unauthorized(), "Which answers say that the credential is no longer good.", written={}
    )
    bridge: BridgeSection = setting(
        BridgeSection(), "How a page learns that its session has ended.", written={}
    )
    logout: Logout = setting(Logout(), "How a session ends.", written={})
    refresh: Refresh | None = setting(None, "How tokens are renewed.")
    oidc: Oidc | None = setting(None, "The sidecar's own login.")
    pages: FilePath | None = setting(
        None,
        "A directory of pages that stand in for the sidecar's own, such as error.html, logout.html "
        "and 404.html.",
    )
    outbound: OutboundSection = setting(
        OutboundSection(), "How provider, refresh endpoint and hooks are reached.", written={}
    )
    store: StoreSection = setting(StoreSection(), "What workers and replicas share.", written={})
    drain: Drain = setting(Drain(), "How it ends after SIGTERM.", written={})
    csrf: Csrf = setting(Csrf(), "Protection against cross-site requests.", written={})
    cors: Cors = setting(Cors(), "Which other origins may call.", written={})
    envelope: Envelope = setting(
        Envelope(), "What the envelope of each route is by default.", written={}
    )
    limits: LimitsSection = setting(LimitsSection(), "What one client may use.", written={})
    log: Log = setting(Log(), "What is logged, and where to.", written={})
    tracing: Tracing = setting(Tracing(), "Traces by OpenTelemetry.", written={})


class Config(ConfigDocument):
    """A configuration without faults. `upstreams` and `routes` are complete, whatever was written.

    `upstream` is the shorthand as written and of no further use; `warnings` are remarks for people.
    """

    warnings: tuple[str, ...] = ()

    @property
    def listeners(self) -> tuple[PublicListener, ...]:
        """What `listen` and `tls` amount to."""
        return resolved(self.listen, self.tls)
