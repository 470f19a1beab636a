"""Everything that depends on the configuration alone, finished: what runs, compiled."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

from yarl import URL

from sidecar.core.bridge import BridgeRule
from sidecar.core.config import Config
from sidecar.core.config.contradictions import path_on_this_site
from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL
from sidecar.core.config.sources import source_name
from sidecar.core.cookies import CookieJar, NameMatcher, parent_domains
from sidecar.core.cors import CorsRule
from sidecar.core.credential import Source
from sidecar.core.envelope import Document, EnvelopeRule
from sidecar.core.formats import FORMATS
from sidecar.core.formats.own import (
    Lifetimes,
    OwnCookieSource,
    OwnStoreSource,
    own_cookie_source,
    own_store_source,
)
from sidecar.core.login_loop import TraceCookie, trace_name
from sidecar.core.logout import LogoutRule
from sidecar.core.oidc import AttemptCookies, Client, SessionIndex, attempt_stem
from sidecar.core.protection import CsrfRule
from sidecar.core.request import FieldRule
from sidecar.core.routes import UNROUTED, Route, RouteTable
from sidecar.core.target import prefix_key
from sidecar.core.tickets import ClaimStamp, Signer, derive_key
from sidecar.core.view import SourceSet
from sidecar.tls import client_context


@dataclass(frozen=True, slots=True)
class UnauthorizedRule:
    """Which answers say that the credential is no longer good (contract 5)."""

    statuses: frozenset[int]
    messages: frozenset[str]
    matches: tuple[tuple[tuple[str, ...], Any], ...]

    def is_told_by(self, document: Document, status: int) -> bool:
        """Whether a JSON body says so.

        A message counts below status 400 only if the object says nothing else: it may be a stored
        text. Matches count at any status.
        """
        members = document.members
        if members is None or not (self.matches or "message" in members):
            return False
        message = document.message
        is_named = isinstance(message, str) and message in self.messages
        if is_named and (status >= 400 or _says_nothing_else(document)):
            return True
        return any(_is_equal(document.lookup(path), wanted) for path, wanted in self.matches)


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


def _is_equal(found: Any, wanted: Any) -> bool:
    return type(found) is type(wanted) and bool(found == wanted)  # true is not 1


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a logout expires: base names, and where they may have been set."""

    names: tuple[str, ...]
    domains: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """The sidecar's own login (contract 8). `base` is what its endpoints' paths begin with.

    `asks_userinfo`: UserInfo is asked for what the id_token lacks.
    """

    base: str
    client: Client
    source: OwnCookieSource | OwnStoreSource
    attempts: AttemptCookies
    trace: TraceCookie
    index: SessionIndex
    asks_userinfo: bool

    @property
    def is_stored(self) -> bool:
        """Whether sessions are kept in the store, and not in their cookies."""
        return isinstance(self.source, OwnStoreSource)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path that the sidecar answers itself: by what, and what it is called where counted."""

    name: str
    route: Route


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where an upstream listens and how long it may take. Durations in seconds."""

    name: str
    host: str
    port: int
    tls: ssl.SSLContext | None
    connect: float
    head: float
    idle: float
    pool_idle: float
    pool_max: int
    header_limit: int

    @property
    def origin(self) -> str:
        """Its address as it is logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Policy:
    """The compiled configuration.

    `session_names` are the cookies of sessions, `hidden_names` those that no API is shown;
    `endpoints` is by the path that routes match.
    """

    config: Config
    routes: RouteTable
    upstreams: Mapping[str, UpstreamAddress]
    sources: tuple[Source, ...]
    session_names: NameMatcher
    hidden_names: NameMatcher
    secrets: tuple[bytes, ...] = field(repr=False)
    signer: Signer
    csrf: CsrfRule
    cors: CorsRule
    bridge: BridgeRule
    logout: LogoutRule
    own: OwnLogin | None
    endpoints: Mapping[str, Endpoint]
    sweep: Sweep
    clearable: tuple[str, ...]  # domains on which the way out of too many cookies expires them
    unauthorized: UnauthorizedRule
    public_origin: bytes | None
    trusts: TrustedPeers

    @property
    def public_authority(self) -> tuple[bytes, bytes] | None:
        """Scheme and host of the public origin, where that is configured."""
        if self.public_origin is None:
            return None
        scheme, _, host = self.public_origin.partition(b"://")
        return scheme, host

    def presents_session(self, cookie: bytes) -> bool:
        """Whether a Cookie header holds a cookie by a session's name, whatever is in it."""
        return bool(CookieJar.parse(cookie.decode("latin-1")).named(self.session_names))


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

    Raises `UnusableFile` where an upstream's TLS files cannot be used.
    """
    secrets = _signing_secrets(config, entropy)
    own = _compile_own(config, secrets)
    sources = _compile_sources(config, own, secrets)
    base_names = (
        *config.logout.cookies,
        *(name for source in sources for name in source.base_names),
    )
    stems = tuple(stem for source in sources for stem in source.stems)
    endpoints = _compile_endpoints(config)
    return Policy(
        config=config,
        routes=RouteTable((_compile_route(config, route) for route in config.routes), endpoints),
        upstreams={
            name: _compile_upstream(config, name, upstream)
            for name, upstream in config.upstreams.items()
        },
        sources=sources,
        session_names=NameMatcher(base_names, stems),
        hidden_names=NameMatcher(
            base_names if config.oidc is None else (*base_names, trace_name(config.oidc.cookie)),
            stems if config.oidc is None else (*stems, attempt_stem(config.oidc.cookie)),
        ),
        secrets=secrets,
        signer=Signer(secrets),
        csrf=CsrfRule(
            enabled=config.csrf.enabled,
            header=(config.csrf.header or "").lower().encode(),
            origins=frozenset(origin.encode() for origin in config.cors.origins),
        ),
        cors=CorsRule(config.cors.origins),
        bridge=BridgeRule(
            path_on_this_site(config.logout.redirect_to, config.public_url), config.bridge.hold
        ),
        logout=_compile_logout(config),
        own=own,
        endpoints=endpoints,
        sweep=Sweep(tuple(dict.fromkeys(base_names)), config.logout.domains, config.logout.paths),
        clearable=_clearable(config),
        unauthorized=UnauthorizedRule(
            frozenset(config.unauthorized.status),
            frozenset(config.unauthorized.messages),
            tuple((tuple(rule.path), rule.equals) for rule in config.unauthorized.match),
        ),
        public_origin=config.public_url.encode() if config.public_url else None,
        trusts=TrustedPeers(config.trusted_proxies),
    )


def _clearable(config: Config) -> tuple[str, ...]:
    """Never what a request says its host is: only what the configuration names."""
    host = URL(config.public_url).host if config.public_url else None
    parents = parent_domains(host) if host else ()
    return tuple(dict.fromkeys((*config.logout.domains, *parents)))


def compile_sources(config: Config) -> tuple[Source, ...]:
    """The credential sources in their order, the own login's in front, keys derived.

    Own sessions open where a secret is configured, since no other one is known here.
    """
    secrets = _signing_secrets(config, bytes(32))
    return _compile_sources(config, _compile_own(config, secrets), secrets)


def _compile_sources(
    config: Config, own: OwnLogin | None, secrets: Sequence[bytes]
) -> tuple[Source, ...]:
    stamp = ClaimStamp(secrets)
    written = tuple(_compile_source(source, stamp) for source in config.session.sources)
    return written if own is None else (own.source, *written)


def _compile_own(config: Config, secrets: Sequence[bytes]) -> OwnLogin | None:
    oidc = config.oidc
    if oidc is None:
        return None
    lifetimes = Lifetimes(oidc.idle, oidc.absolute)
    keep = oidc.keep or ("store" if config.store.url.is_shared else "cookie")
    source: OwnCookieSource | OwnStoreSource
    if keep == "store":
        source = own_store_source(cookie=oidc.cookie, lifetimes=lifetimes)
    else:
        source = own_cookie_source(cookie=oidc.cookie, secrets=secrets, lifetimes=lifetimes)
    return OwnLogin(
        base=oidc.base,
        client=Client(
            oidc.issuer, oidc.client_id, oidc.scopes, oidc.parameters, oidc.clock_tolerance
        ),
        source=source,
        attempts=AttemptCookies(oidc.cookie, secrets),
        trace=TraceCookie(oidc.cookie, secrets),
        index=SessionIndex(oidc.issuer, secrets),
        asks_userinfo=oidc.userinfo == "auto",
    )


def _compile_logout(config: Config) -> LogoutRule:
    written, oidc = config.logout, config.oidc
    leads_to_own_login = oidc is not None and written.redirect_to == oidc.login
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


def _compile_source(source: Any, stamp: ClaimStamp) -> Source:
    options: dict[str, Any] = {}
    if hasattr(source, "refresh_token"):
        options["stamp"] = stamp
    for name in ("token", "cookie", "expires_at", "refresh_token", "refresh_cookie", "domain"):
        value = getattr(source, name, None)
        if value is not None:
            options[name] = value
    secrets = getattr(source, "secret", None)
    if secrets is not None:
        options["secrets"] = tuple(secret.get_secret_value() for secret in secrets)
    passwords = getattr(source, "password", None)
    if passwords is not None:
        options["passwords"] = {key: item.get_secret_value() for key, item in passwords.items()}
    return FORMATS[source.type](**options)


def _signing_secrets(config: Config, entropy: bytes) -> tuple[bytes, ...]:
    """The configured secrets, else one derived from a source's, else this process's own."""
    if config.secret:
        return tuple(secret.get_secret_value().encode() for secret in config.secret)
    for source in config.session.sources:
        secrets = [*(getattr(source, "secret", None) or ())]
        secrets += (getattr(source, "password", None) or {}).values()
        if secrets:
            values = [secret.get_secret_value().encode() for secret in secrets]
            return tuple(derive_key(value, "derived secret") for value in values)
    return (entropy,)


def _compile_route(config: Config, route: Any) -> Route:
    upstream = config.upstreams[route.upstream]
    url = URL(upstream.url)
    own = url.host_port_subcomponent if route.kind == "api" else None
    host = route.host or upstream.host or own
    return Route(
        path=route.path,
        kind=route.kind,
        upstream=route.upstream,
        session=route.session,
        inject=route.inject and route.session != "none",
        strip_cookies=route.cookies == "strip",
        envelope=_compile_envelope(route),
        on_unauthorized=route.on_unauthorized,
        authorization=route.authorization,
        sources=_compile_source_set(config, route.sources),
        strip=(route.strip or "").rstrip("/"),
        strip_segments=(route.strip or "").rstrip("/").count("/"),
        base=url.raw_path.rstrip("/"),
        fields=_compile_fields(route.headers),
        host=host.encode() if host is not None else None,
        upstream_origin=str(url.origin()),
    )


def _compile_fields(written: Any) -> FieldRule | None:
    if not written.drop and not written.pass_:
        return None
    dropped, passed = (
        frozenset(name.encode() for name in names) for names in (written.drop, written.pass_)
    )
    return FieldRule(dropped, passed)


def _compile_source_set(config: Config, names: Sequence[str] | None) -> SourceSet | None:
    """The places of the named sources; several sources may share a name."""
    if names is None:
        return None
    written = [source_name(one.type, one.name, one.cookie) for one in config.session.sources]
    own = [] if config.oidc is None else [source_name("oidc", cookie=config.oidc.cookie)]
    return frozenset(at for at, name in enumerate([*own, *written]) if name in names)


def _compile_envelope(route: Any) -> EnvelopeRule | None:
    written = route.envelope
    if not written:
        return None
    paths = {
        name: tuple(path)
        for name in ("data", "message", "error_data")
        if (path := getattr(written, name)) is not None
    }
    return EnvelopeRule(keep=tuple(written.keep), buffer=written.buffer, **paths)


def _compile_upstream(config: Config, name: str, upstream: Any) -> UpstreamAddress:
    url = URL(upstream.url)
    assert url.raw_host is not None
    assert url.port is not None
    return UpstreamAddress(
        name=name,
        host=url.raw_host,
        port=url.port,
        tls=_tls_context(name, upstream.tls) if url.scheme == "https" else None,
        connect=upstream.connect,
        head=upstream.head,
        idle=upstream.idle,
        pool_idle=upstream.pool.idle,
        pool_max=upstream.pool.max,
        header_limit=config.limits.header,
    )


def _tls_context(name: str, tls: Any) -> ssl.SSLContext:
    return client_context(tls.ca, tls.cert, tls.key, f"upstreams.{name}.tls")
