"""A configuration, compiled whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yarl import URL

from sidecar.compilation.compile_login import compile_login
from sidecar.compilation.compile_routes import compile_route
from sidecar.compilation.compile_sources import (
    cookie_keys,
    signing_secrets,
    source_names,
    sources_of,
)
from sidecar.compilation.compile_upstreams import compile_upstream
from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.brake import BrakeRule
from sidecar.core.bridge_rule import BridgeRule
from sidecar.core.config import Config
from sidecar.core.config.digest import digest
from sidecar.core.config.path_faults import path_on_this_site
from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL
from sidecar.core.cookies import LIBRARY_COOKIES, PREFIXES, NameMatcher, parent_domains, unprefixed
from sidecar.core.cors import CorsRule
from sidecar.core.credential import Source
from sidecar.core.csrf import CsrfRule
from sidecar.core.login_loop import trace_name
from sidecar.core.logout_rule import LogoutRule
from sidecar.core.oidc.attempt import attempt_stem
from sidecar.core.path_mask import PathMask
from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED, RouteTable
from sidecar.core.sweep import USUAL_PREFIXES, Sweep, Swept
from sidecar.core.target import prefix_key
from sidecar.core.tickets import Signer
from sidecar.page_files import read_pages
from sidecar.policy import Endpoint, LoginPolicy, Policy, TrustedPeers, UnauthorizedRule


def compile_policy(config: Config, entropy: bytes) -> Policy:
    """Compiles a configuration; `entropy` (32 bytes) signs tickets where no secret can be had.

    Raises `UnusableFile` if a TLS file of an upstream, or a page, cannot be used.
    """
    secrets = signing_secrets(config, entropy)
    login = compile_login(config, secrets)
    sources = sources_of(config, login, secrets)
    session_names, hidden_names = _compile_names(config, sources)
    endpoints = _compile_endpoints(config)
    return Policy(
        config=config,
        routes=RouteTable((compile_route(config, route) for route in config.routes), endpoints),
        upstreams={
            name: compile_upstream(config, name, upstream)
            for name, upstream in config.upstreams.items()
        },
        sources=sources,
        source_names=source_names(config),
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


def config_hash(config: Config) -> str:
    """A short hash of what holds, which tells nothing of secrets: equal for equal configurations.

    Replicas with the same secret and configuration have the same one.
    """
    return digest(config, signing_secrets(config, b"")[0])


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
        keys |= dict.fromkeys(source.base_names, cookie_keys(section))
    likely = dict.fromkeys(LIBRARY_COOKIES.values(), ("__Secure-", "", "__Host-"))
    if login is not None:
        likely |= dict.fromkeys(login.source.base_names, PREFIXES)
    swept = (
        Swept(base, keys.get(base, NO_KEYS), likely.get(base, USUAL_PREFIXES))
        for base in unprefixed(_base_names(config, sources))
    )
    return Sweep(tuple(swept), config.logout.domains, config.logout.paths)


def _clearable(config: Config) -> tuple[str, ...]:
    """Never what a request says its host is: only what the configuration names."""
    host = URL(config.public_url).host if config.public_url else None
    parents = parent_domains(host) if host else ()
    return tuple(dict.fromkeys((*config.logout.domains, *parents)))


def _compile_logout(config: Config) -> LogoutRule:
    written, oidc = config.logout, config.oidc
    target = path_on_this_site(written.redirect_to, config.public_url)
    leads_to_own_login = oidc is not None and oidc.is_login(target)
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
