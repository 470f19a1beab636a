"""Everything that depends on the configuration alone, finished: what runs, compiled."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from yarl import URL

from sidecar.core.bridge import BridgeRule
from sidecar.core.config import Config
from sidecar.core.config.contradictions import path_on_this_site
from sidecar.core.cookies import NameMatcher
from sidecar.core.cors import CorsRule
from sidecar.core.credential import Source
from sidecar.core.envelope import Document, EnvelopeRule
from sidecar.core.formats import FORMATS
from sidecar.core.logout import LogoutRule
from sidecar.core.protection import CsrfRule
from sidecar.core.routes import Route, RouteTable
from sidecar.core.tickets import Signer, derive_key


@dataclass(frozen=True, slots=True)
class UnauthorizedRule:
    """Which answers say that the credential is no longer good (contract 5)."""

    statuses: frozenset[int]
    messages: frozenset[str]
    matches: tuple[tuple[tuple[str, ...], Any], ...]

    def is_told_by(self, document: Document) -> bool:
        """Whether a JSON body says so, whatever its status."""
        if document.members is None or not (self.matches or "message" in document.members):
            return False
        message = document.message
        if isinstance(message, str) and message in self.messages:
            return True
        return any(_is_equal(document.lookup(path), wanted) for path, wanted in self.matches)


def _is_equal(found: Any, wanted: Any) -> bool:
    return type(found) is type(wanted) and bool(found == wanted)  # true is not 1


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a logout expires: base names, and where they may have been set."""

    names: tuple[str, ...]
    domains: tuple[str, ...]
    paths: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class Policy:
    """The compiled configuration."""

    config: Config
    routes: RouteTable
    upstreams: Mapping[str, UpstreamAddress]
    sources: tuple[Source, ...]
    session_names: NameMatcher
    secrets: tuple[bytes, ...]
    signer: Signer
    csrf: CsrfRule
    cors: CorsRule
    bridge: BridgeRule
    logout: LogoutRule
    sweep: Sweep
    unauthorized: UnauthorizedRule
    public_origin: bytes | None
    trusts: TrustedPeers


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

    Raises `OSError` or `ssl.SSLError` where an upstream's TLS files cannot be used.
    """
    sources = compile_sources(config)
    secrets = _signing_secrets(config, entropy)
    base_names = (
        *config.logout.cookies,
        *(name for source in sources for name in source.base_names),
    )
    return Policy(
        config=config,
        routes=RouteTable(_compile_route(config, route) for route in config.routes),
        upstreams={
            name: _compile_upstream(config, name, upstream)
            for name, upstream in config.upstreams.items()
        },
        sources=sources,
        session_names=NameMatcher(base_names),
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
        logout=LogoutRule(
            config.logout.path, config.logout.redirect_to, config.logout.return_param
        ),
        sweep=Sweep(tuple(dict.fromkeys(base_names)), config.logout.domains, config.logout.paths),
        unauthorized=UnauthorizedRule(
            frozenset(config.unauthorized.status),
            frozenset(config.unauthorized.messages),
            tuple((tuple(rule.path), rule.equals) for rule in config.unauthorized.match),
        ),
        public_origin=config.public_url.encode() if config.public_url else None,
        trusts=TrustedPeers(config.trusted_proxies),
    )


def compile_sources(config: Config) -> tuple[Source, ...]:
    """The credential sources in their configured order, keys derived."""
    return tuple(_compile_source(source) for source in config.session.sources)


def _compile_source(source: Any) -> Source:
    options: dict[str, Any] = {}
    for name in ("token", "cookie", "expires_at", "refresh_token", "refresh_cookie"):
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
        strip=(route.strip or "").rstrip("/"),
        strip_segments=(route.strip or "").rstrip("/").count("/"),
        base=url.raw_path.rstrip("/"),
        host=host.encode() if host is not None else None,
        upstream_origin=str(url.origin()),
    )


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
        tls=_tls_context(upstream.tls) if url.scheme == "https" else None,
        connect=upstream.connect,
        head=upstream.head,
        idle=upstream.idle,
        pool_idle=upstream.pool.idle,
        pool_max=upstream.pool.max,
        header_limit=config.limits.header,
    )


def _tls_context(tls: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["http/1.1"])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context
