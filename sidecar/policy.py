"""Everything that depends on the configuration alone, finished: what runs, compiled."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

import msgspec
from joserfc.jwk import KeySet
from yarl import URL

from sidecar import __version__
from sidecar.core.access import EMAIL, AccessRule, ClaimPath, RouteGate, needed_for
from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.brake import BrakeRule
from sidecar.core.bridge_rule import BridgeRule
from sidecar.core.config import Config
from sidecar.core.config.allow import AllowRule
from sidecar.core.config.contradictions import path_on_this_site
from sidecar.core.config.digest import digest
from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL
from sidecar.core.config.routes import (
    Ejection,
    Envelope,
    FieldNames,
    RouteSection,
    Upstream,
    UpstreamTls,
)
from sidecar.core.config.sources import (
    Auth0Source,
    AuthjsSource,
    BetterAuthSource,
    CookieSource,
    IronSessionSource,
    JwtSource,
    NextauthSource,
    SourceSection,
    source_name,
)
from sidecar.core.config.values import Statuses
from sidecar.core.cookies import (
    LIBRARY_COOKIES,
    PREFIXES,
    CookieJar,
    NameMatcher,
    parent_domains,
    unprefixed,
)
from sidecar.core.cors import CorsRule
from sidecar.core.credential import Source
from sidecar.core.csrf import CsrfRule
from sidecar.core.envelope import Document, EnvelopeRule, FailureRule, holds
from sidecar.core.formats import FORMATS
from sidecar.core.formats.iron import iron_source
from sidecar.core.formats.login_session import (
    Lifetimes,
    LoginCookieSource,
    LoginStoreSource,
    login_cookie_source,
    login_store_source,
)
from sidecar.core.formats.raw import raw_source
from sidecar.core.formats.sealed import SealedSource
from sidecar.core.formats.signed_jwt import HeldKeys, KeyRing, RemoteKeys, SignedOpener, jwt_source
from sidecar.core.identity import IdentityField
from sidecar.core.jws import InvalidToken, key_of_pem
from sidecar.core.keys import derive_key
from sidecar.core.login_loop import TraceCookie, trace_name
from sidecar.core.logout_rule import LogoutRule
from sidecar.core.observed_route import passing
from sidecar.core.oidc.attempt import AttemptCookies, attempt_stem
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.core.oidc.session_index import SessionIndex
from sidecar.core.onward import OnwardTickets
from sidecar.core.own_pages import OwnPages
from sidecar.core.path_mask import PathMask
from sidecar.core.record import replace
from sidecar.core.request import FieldRule
from sidecar.core.route_table import UNROUTED, Route, RouteTable
from sidecar.core.sweep import USUAL_PREFIXES, Sweep, Swept
from sidecar.core.target import prefix_key
from sidecar.core.tickets import ClaimStamp, Signer
from sidecar.core.upstream_url import UNIX, ServerUrl, split_upstream_url
from sidecar.core.view import SourceSet
from sidecar.page_files import read_pages
from sidecar.tls import UnusableFile, client_context


class UnauthorizedRule(msgspec.Struct, frozen=True):
    """Which answers say that the credential is no longer good (behaviour: 401)."""

    statuses: frozenset[int]
    messages: frozenset[str]
    matches: tuple[tuple[tuple[str, ...], Any], ...]
    brake: BrakeRule | None = None

    def is_told_by(self, document: Document, status: int, *, is_whole: bool = True) -> bool:
        """Whether a JSON body says so, as far as it has come if it is not whole.

        A message counts below status 400 only if the object says nothing else: it may be a stored
        text. Matches count at any status, and in each element of an array too.
        """
        members = document.members
        if members is not None and "message" in members and self._is_named(document):
            if status >= 400:
                return True
            if is_whole and _says_nothing_else(document):
                return True
        return bool(self.matches) and any(holds(document, *match) for match in self.matches)

    def _is_named(self, document: Document) -> bool:
        message = document.message
        return isinstance(message, str) and message in self.messages


# Members that come along with a message, and are no content.
_ABOUT_A_MESSAGE: Final = frozenset(
    (
        *("message", "code", "status", "success", "isError"),
        *("error", "errors", "timestamp", "path", "data", "errorData"),
    )
)


def _says_nothing_else(document: Document) -> bool:
    members = document.members or {}
    return members.keys() <= _ABOUT_A_MESSAGE and all(
        document.lookup((name,)) is None for name in ("data", "errorData") if name in members
    )


class LoginPolicy(msgspec.Struct, frozen=True):
    """The sidecar's own login (behaviour: own login). `base` begins the paths of its endpoints.

    `asks_userinfo`: UserInfo is asked for what the id_token lacks.
    """

    base: str
    client: OidcClient
    source: LoginCookieSource | LoginStoreSource
    attempts: AttemptCookies
    onward: OnwardTickets
    trace: TraceCookie
    index: SessionIndex
    asks_userinfo: bool

    @property
    def is_stored(self) -> bool:
        """Whether sessions are kept in the store, and not in their cookies."""
        return isinstance(self.source, LoginStoreSource)


class Endpoint(msgspec.Struct, frozen=True):
    """A path that the sidecar answers itself: by what, and what it is called where counted."""

    name: str
    route: Route


class UpstreamServer(NamedTuple):
    """One server of an upstream, or an address that its name stands for.

    `path` is that of a Unix socket; then `host` is empty and `port` is 0.
    """

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class HealthCheck(msgspec.Struct, frozen=True):
    """How the servers of an upstream are checked. Durations in seconds.

    `request` is sent as it is; `statuses` are those of a server that is well.
    """

    request: bytes
    interval: float
    timeout: float
    statuses: Statuses


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where the servers of an upstream listen and how long they may take. Durations in seconds."""

    name: str
    servers: tuple[UpstreamServer, ...]
    tls: ssl.SSLContext | None
    connect: float
    retry: float
    head: float
    idle: float
    pool_idle: float
    pool_max: int
    pool_max_age: float
    header_limit: int
    ejection: Ejection | None
    check: HealthCheck | None = None

    @property
    def origin(self) -> str:
        """Its address as it is logged, or all of them."""
        return ", ".join(map(self.url_of, self.servers))

    def url_of(self, server: UpstreamServer) -> str:
        """One server's address as it is logged."""
        if server.path is not None:
            return str(server)
        return f"{'http' if self.tls is None else 'https'}://{server}"


@dataclass(frozen=True, slots=True)
class Policy:
    """The compiled configuration.

    `source_names` are what logs and metrics call the sources.
    `session_names` are the cookies of sessions, `hidden_names` those that no API is shown;
    `endpoints` is by the path that routes match; `mask` makes of paths what logs may show.
    """

    config: Config
    routes: RouteTable
    upstreams: Mapping[str, UpstreamAddress]
    sources: tuple[Source, ...]
    source_names: tuple[str, ...]
    session_names: NameMatcher
    hidden_names: NameMatcher
    secrets: tuple[bytes, ...] = field(repr=False)
    signer: Signer
    csrf: CsrfRule
    cors: CorsRule
    bridge: BridgeRule
    logout: LogoutRule
    login: LoginPolicy | None
    endpoints: Mapping[str, Endpoint]
    sweep: Sweep
    clearable: tuple[str, ...]  # domains on which the way out of too many cookies expires them
    unauthorized: UnauthorizedRule
    public_origin: bytes | None
    trusts: TrustedPeers
    pages: OwnPages
    mask: PathMask

    @property
    def public_authority(self) -> tuple[bytes, bytes] | None:
        """Scheme and host of the public origin, where that is configured."""
        if self.public_origin is None:
            return None
        scheme, _, host = self.public_origin.partition(b"://")
        return scheme, host

    @property
    def certificates(self) -> tuple[str, ...]:
        """The files of the certificates that it presents itself, to clients and to upstreams."""
        listeners = (one.tls.cert for one in self.config.listeners if one.tls is not None)
        clients = (one.tls.cert for one in self.config.upstreams.values())
        return tuple(dict.fromkeys((*listeners, *(one for one in clients if one is not None))))

    @property
    def client_authorities(self) -> tuple[str, ...]:
        """The files of the authorities whose clients listeners let in."""
        files = (one.tls.client_ca for one in self.config.listeners if one.tls is not None)
        return tuple(dict.fromkeys(one for one in files if one is not None))

    def routes_of(self, upstream: str) -> tuple[str, ...]:
        """The paths of an upstream's routes."""
        return tuple(one.path for one in self.config.routes if one.upstream == upstream)

    def presents_session(self, cookie: bytes) -> bool:
        """Whether a Cookie header holds a cookie by a session's name, whatever is in it."""
        return bool(CookieJar.parse(cookie.decode("latin-1")).named(self.session_names))

    @property
    def remote_keys(self) -> tuple[RemoteKeys, ...]:
        """The sets of public keys that have to be fetched."""
        openers = [one.opener for one in self.sources if isinstance(one, SealedSource)]
        rings = [one.ring for one in openers if isinstance(one, SignedOpener)]
        return tuple(one for one in rings if isinstance(one, RemoteKeys))


class TrustedPeers:
    """Which peers' X-Forwarded-* are believed."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, trusted: Sequence[str]) -> None:
        self._unix: Final = "unix" in trusted
        self._networks: Final = tuple(
            ip_network(item, strict=False) for item in trusted if item != "unix"
        )

    def includes(self, address: str) -> bool:
        """Whether the peer at `address` (empty: a Unix socket) is trusted."""
        if not address:
            return self._unix
        if not self._networks:
            return False
        peer = ip_address(address.split("%", 1)[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self._networks)


def compile_policy(config: Config, entropy: bytes) -> Policy:
    """Compiles a configuration; `entropy` (32 bytes) signs tickets where no secret can be had.

    Raises `UnusableFile` if a TLS file of an upstream, or a page, cannot be used.
    """
    secrets = _signing_secrets(config, entropy)
    login = _compile_login(config, secrets)
    sources = _compile_sources(config, login, secrets)
    session_names, hidden_names = _compile_names(config, sources)
    endpoints = _compile_endpoints(config)
    return Policy(
        config=config,
        routes=RouteTable((_compile_route(config, route) for route in config.routes), endpoints),
        upstreams={
            name: _compile_upstream(config, name, upstream)
            for name, upstream in config.upstreams.items()
        },
        sources=sources,
        source_names=_source_names(config),
        session_names=session_names,
        hidden_names=hidden_names,
        secrets=secrets,
        signer=Signer(secrets),
        csrf=_compile_csrf(config),
        cors=CorsRule(config.cors.origins),
        bridge=BridgeRule(
            path_on_this_site(config.logout.redirect_to, config.public_url), config.bridge.hold
        ),
        logout=_compile_logout(config),
        login=login,
        endpoints=endpoints,
        sweep=_compile_sweep(config, login, sources),
        clearable=_clearable(config),
        unauthorized=_compile_unauthorized(config),
        public_origin=config.public_url.encode() if config.public_url else None,
        trusts=TrustedPeers(config.trusted_proxies),
        pages=read_pages(config.pages),
        mask=PathMask(config.log.mask),
    )


def _base_names(config: Config, sources: Sequence[Source]) -> tuple[str, ...]:
    """The session cookies' names, without prefixes and suffixes."""
    return (
        *config.logout.cookies,
        *(name for source in sources for name in source.base_names),
    )


def _compile_names(config: Config, sources: Sequence[Source]) -> tuple[NameMatcher, NameMatcher]:
    """The cookies of sessions, and those that no API is shown: those of attempts to log in too."""
    names = _base_names(config, sources)
    stems = tuple(stem for source in sources for stem in source.stems)
    sessions = NameMatcher(names, stems)
    if config.oidc is None:
        return sessions, sessions
    cookie = config.oidc.cookie
    return sessions, NameMatcher((*names, trace_name(cookie)), (*stems, attempt_stem(cookie)))


def _compile_csrf(config: Config) -> CsrfRule:
    return CsrfRule(
        enabled=config.csrf.enabled,
        header=(config.csrf.header or "").lower().encode(),
        origins=frozenset(origin.encode() for origin in config.cors.origins),
    )


def _compile_unauthorized(config: Config) -> UnauthorizedRule:
    written = config.unauthorized
    brake = written.brake
    return UnauthorizedRule(
        frozenset(written.status),
        frozenset(written.messages),
        tuple((tuple(rule.path), rule.equals) for rule in written.match),
        None if brake is None else BrakeRule(brake.sessions, brake.share, brake.window),
    )


def _compile_sweep(config: Config, login: LoginPolicy | None, sources: Sequence[Source]) -> Sweep:
    """What a logout expires; the names that libraries take on https are the likely ones."""
    keys: dict[str, CookieKeys] = {}
    written = sources if login is None else sources[1:]
    for source, section in zip(written, config.session.sources, strict=True):
        keys |= dict.fromkeys(source.base_names, _cookie_keys(section))
    likely = dict.fromkeys(LIBRARY_COOKIES.values(), ("__Secure-", "", "__Host-"))
    if login is not None:
        likely |= dict.fromkeys(login.source.base_names, PREFIXES)
    swept = (
        Swept(base, keys.get(base, NO_KEYS), likely.get(base, USUAL_PREFIXES))
        for base in unprefixed(_base_names(config, sources))
    )
    return Sweep(tuple(swept), config.logout.domains, config.logout.paths)


def _cookie_keys(source: SourceSection) -> CookieKeys:
    """What the configuration says of the cookies that are set or expired for a source."""
    return CookieKeys(
        source.domain, source.path, source.same_site, source.http_only, source.partitioned
    )


def _clearable(config: Config) -> tuple[str, ...]:
    """Never what a request says its host is: only what the configuration names."""
    host = URL(config.public_url).host if config.public_url else None
    parents = parent_domains(host) if host else ()
    return tuple(dict.fromkeys((*config.logout.domains, *parents)))


def compile_sources(config: Config) -> tuple[Source, ...]:
    """The credential sources in their order, that of `oidc` in front, keys derived.

    Login sessions open if a secret is configured, since no other one is known here.
    """
    secrets = _signing_secrets(config, bytes(32))
    return _compile_sources(config, _compile_login(config, secrets), secrets)


def _compile_sources(
    config: Config, login: LoginPolicy | None, secrets: Sequence[bytes]
) -> tuple[Source, ...]:
    stamp = ClaimStamp(secrets)
    shows = needed_for(_claims_of_routes(config))
    written = tuple(
        _showing(_compile_source(source, stamp), shows) for source in config.session.sources
    )
    return written if login is None else (login.source, *written)


def _showing(source: Source, shows: tuple[ClaimPath, ...]) -> Source:
    """The source with the claims that routes ask for."""
    return replace(source, shows=shows) if isinstance(source, SealedSource) else source


def _claims_of_routes(config: Config) -> Iterator[ClaimPath]:
    """The claims that some route needs, and those that tell a user who is not let in."""
    for route in config.routes:
        yield from route.headers.set_.values()
        if route.allow:
            yield from (*(rule.claim for rule in route.allow), EMAIL, ("name",))


def _compile_rules(written: Sequence[AllowRule]) -> tuple[AccessRule, ...]:
    return tuple(
        AccessRule(one.claim, frozenset(one.any), frozenset(one.all), frozenset(one.domain))
        for one in written
    )


def _compile_login(config: Config, secrets: Sequence[bytes]) -> LoginPolicy | None:
    oidc = config.oidc
    if oidc is None:
        return None
    lifetimes = Lifetimes(oidc.idle, oidc.absolute)
    keep = oidc.keep or ("store" if config.store.url.is_shared else "cookie")
    source: LoginCookieSource | LoginStoreSource
    if keep == "store":
        source = login_store_source(cookie=oidc.cookie, lifetimes=lifetimes)
    else:
        longest = config.limits.header // 2
        source = login_cookie_source(
            cookie=oidc.cookie, secrets=secrets, lifetimes=lifetimes, longest=longest
        )
    return LoginPolicy(
        base=oidc.base,
        client=OidcClient(
            oidc.issuer,
            oidc.client_id,
            oidc.scopes,
            oidc.parameters,
            oidc.clock_tolerance,
            needed_for((*(rule.claim for rule in oidc.allow), *_claims_of_routes(config))),
            _compile_rules(oidc.allow),
        ),
        source=source,
        attempts=AttemptCookies(oidc.cookie, secrets, oidc.attempt),
        onward=OnwardTickets(secrets),
        trace=TraceCookie(oidc.cookie, secrets),
        index=SessionIndex(oidc.issuer, secrets),
        asks_userinfo=oidc.userinfo == "auto",
    )


def _compile_logout(config: Config) -> LogoutRule:
    written, oidc = config.logout, config.oidc
    leads_to_own_login = oidc is not None and oidc.is_login(written.redirect_to)
    return LogoutRule(
        written.path,
        written.redirect_to,
        written.return_param,
        home="/" if leads_to_own_login else None,
    )


def _compile_endpoints(config: Config) -> Mapping[str, Endpoint]:
    """What the sidecar answers itself, before any route: with a trailing slash, and without."""
    found = {prefix_key(config.logout.path): Endpoint("logout", UNROUTED)}
    oidc = config.oidc
    if oidc is not None:
        for name in (*ENDPOINTS, *((FRONTCHANNEL,) if oidc.frontchannel else ())):
            path = f"{oidc.base}/{name}"
            found.setdefault(path, Endpoint(name, replace(UNROUTED, path=path)))
    return found | {f"{path}/": endpoint for path, endpoint in found.items()}


def _compile_source(source: SourceSection, stamp: ClaimStamp) -> Source:
    keys = _cookie_keys(source)
    match source:
        case CookieSource():
            return raw_source(cookie=source.cookie, refresh_cookie=source.refresh_cookie, keys=keys)
        case IronSessionSource():
            return iron_source(
                passwords={key: one.get_secret_value() for key, one in source.password.items()},
                cookie=source.cookie,
                token=source.token,
                expires_at=source.expires_at,
                keys=keys,
                iterations=source.iterations,
            )
        case JwtSource():
            return jwt_source(
                cookie=source.cookie,
                secrets=_secrets_of(source),
                ring=_key_ring(source),
                token=source.token,
                expires_at=source.expires_at,
                keys=keys,
            )
        case AuthjsSource() | NextauthSource() | Auth0Source() | BetterAuthSource():
            return FORMATS[source.type](
                secrets=_secrets_of(source),
                cookie=source.cookie,
                token=source.token,
                expires_at=source.expires_at,
                refresh_token=source.refresh_token,
                keys=keys,
                stamp=stamp,
            )


def _key_ring(source: JwtSource) -> KeyRing | None:
    """The public keys of a source that has no secret. Raises `UnusableFile` for an unfit key."""
    if source.jwks is not None:
        return RemoteKeys(source.jwks)
    if source.key is None:
        return None
    try:
        return HeldKeys(KeySet([key_of_pem(source.key)]))
    except InvalidToken as error:
        raise UnusableFile(
            "session.sources", f"type: jwt, cookie: {source.cookie}", str(error)
        ) from None


def _secrets_of(source: SourceSection) -> tuple[str, ...]:
    """What its sessions are sealed with; the first one seals."""
    match source:
        case CookieSource():
            return ()
        case IronSessionSource():
            return tuple(one.get_secret_value() for one in source.password.values())
        case JwtSource() | AuthjsSource() | NextauthSource() | Auth0Source() | BetterAuthSource():
            return tuple(one.get_secret_value() for one in source.secret)


def config_hash(config: Config) -> str:
    """A short hash of what holds, which tells nothing of secrets: equal for equal configurations.

    Replicas with the same secret and configuration have the same one.
    """
    return digest(config, _signing_secrets(config, b"")[0])


def _signing_secrets(config: Config, entropy: bytes) -> tuple[bytes, ...]:
    """The configured secrets, else one derived from a source's, else this process's own."""
    if config.secret:
        return tuple(secret.get_secret_value().encode() for secret in config.secret)
    for source in config.session.sources:
        secrets = _secrets_of(source)
        if secrets:
            return tuple(derive_key(one.encode(), "derived secret") for one in secrets)
    return (entropy,)


def _compile_route(config: Config, route: RouteSection) -> Route:
    upstream = config.upstreams[route.upstream]
    urls = [split_upstream_url(one) for one in upstream.servers]
    url = urls[0]
    origin = url.authority if route.kind == "api" else None
    host = route.host or upstream.host or origin
    compiled = Route(
        path=route.path,
        kind=route.kind,
        upstream=route.upstream,
        session=route.session,
        inject=route.inject and route.session != "none",
        strip_cookies=route.cookies == "strip",
        envelope=None if route.envelope is None else _compile_envelope(route.envelope),
        on_unauthorized=route.on_unauthorized,
        authorization=route.authorization,
        sources=_compile_source_set(config, route.sources),
        strip=(route.strip or "").rstrip("/"),
        strip_segments=(route.strip or "").rstrip("/").count("/"),
        base=url.base,
        fields=_compile_fields(route.headers, _set_names(config)),
        host=host.encode() if host is not None else None,
        upstream_origins=tuple(one.origin for one in urls),
        errors=route.errors,
        gates=_compile_gates(config, route),
        identity=tuple(
            IdentityField(name.encode(), claim) for name, claim in route.headers.set_.items()
        ),
    )
    return passing(compiled) if route.observe else compiled


def _compile_gates(config: Config, route: RouteSection) -> tuple[RouteGate, ...]:
    if not route.allow:
        return ()
    sources = _compile_source_set(config, route.sources)
    return (RouteGate(_compile_rules(route.allow), sources, route.path),)


def _set_names(config: Config) -> frozenset[str]:
    """The fields that some route sets: no client's own reaches any upstream, by whatever route."""
    return frozenset(name.lower() for route in config.routes for name in route.headers.set_)


def _compile_fields(written: FieldNames, set_here: frozenset[str]) -> FieldRule | None:
    passed = frozenset(name.encode() for name in written.pass_)
    dropped = frozenset(name.encode() for name in (*written.drop, *set_here)) - passed
    return FieldRule(dropped, passed) if dropped or passed else None


def _source_names(config: Config) -> tuple[str, ...]:
    """What the sources are called, that of `oidc` in front."""
    written = [source_name(one.type, one.name, one.cookie) for one in config.session.sources]
    login = [] if config.oidc is None else [source_name("oidc", cookie=config.oidc.cookie)]
    return tuple(name or "" for name in (*login, *written))


def _compile_source_set(config: Config, names: Sequence[str] | None) -> SourceSet | None:
    """The places of the named sources; several sources may share a name."""
    if names is None:
        return None
    return frozenset(at for at, name in enumerate(_source_names(config)) if name in names)


def _compile_envelope(written: Envelope) -> EnvelopeRule:
    usual = EnvelopeRule()
    return EnvelopeRule(
        keep=written.keep,
        data=written.data or usual.data,
        message=written.message or usual.message,
        error_data=written.error_data or usual.error_data,
        buffer=written.buffer,
        compress=written.compress == "auto",
        failure=tuple(
            FailureRule(rule.path, rule.values, is_excluding=rule.is_excluding)
            for rule in written.failure
        ),
    )


def _compile_upstream(config: Config, name: str, upstream: Upstream) -> UpstreamAddress:
    urls = [split_upstream_url(url) for url in upstream.servers]
    return UpstreamAddress(
        name=name,
        servers=tuple(UpstreamServer(url.host, url.port, url.path) for url in urls),
        tls=_tls_context(name, upstream.tls) if urls[0].scheme == "https" else None,
        connect=upstream.connect,
        retry=upstream.retry,
        head=upstream.head,
        idle=upstream.idle,
        pool_idle=upstream.pool.idle,
        pool_max=upstream.pool.max,
        pool_max_age=upstream.pool.max_age,
        header_limit=config.limits.header,
        ejection=upstream.ejection,
        check=_compile_check(upstream, urls[0]),
    )


def _compile_check(upstream: Upstream, url: ServerUrl) -> HealthCheck | None:
    written = upstream.check
    if written is None:
        return None
    head = (
        f"GET {url.base}{written.path} HTTP/1.1\r\nHost: {upstream.host or url.authority}\r\n"
        f"User-Agent: session-sidecar/{__version__}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    return HealthCheck(head.encode(), written.interval, written.timeout, written.status)


def _tls_context(name: str, tls: UpstreamTls) -> ssl.SSLContext:
    return client_context(tls.ca, tls.cert, tls.key, f"upstreams.{name}.tls")
