"""What is allowed but worth a word: `Config.warnings`, printed by `sidecar check` and at start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from sidecar.core.attributes import NONE
from sidecar.core.config.fields import MIN_SECRET_BYTES
from sidecar.core.config.listen_section import addresses
from sidecar.core.config.model import Config
from sidecar.core.config.path_faults import path_on_this_site
from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL
from sidecar.core.config.sources import CookieSource, IronSessionSource, SourceSection
from sidecar.core.config.unverified_remarks import unverified_remarks
from sidecar.core.path_table import PathTable
from sidecar.core.target import prefix_key
from sidecar.core.upstream_url import split_upstream_url

_PATTERN: Final = re.compile(r"/([^/]*\*[^/]*|:[^/]+)")
"""A segment with a `*`, such as `*` and `.*`, or of a parameter's name, such as `:id`."""
_PLACEHOLDERS: Final = ("{refresh_token}", "{access_token}")


def remarks(config: Config) -> Iterator[str]:
    """Sentences for people, each beginning with its key; none holds a value of a secret."""
    yield from _secret(config)
    yield from _short_secrets(config)
    yield from _sources(config)
    yield from _domains(config)
    yield from unverified_remarks(config)
    yield from _observed(config)
    yield from _proxies(config)
    yield from _unreached(config)
    yield from _patterns(config)
    yield from _hosts(config)
    yield from _logout(config)
    yield from _own_login(config)
    yield from _renewal(config)
    if config.core_dumps:
        yield "core_dumps: true, so a core file holds every secret and token of the process"


def _secret(config: Config) -> Iterator[str]:
    if not config.secret and not any(_secrets(source) for source in config.session.sources):
        yield (
            "secret: missing, so each start makes a random one; logout tickets"
            + (" and sessions of oidc" if config.oidc is not None else "")
            + " end at a restart, and other replicas do not accept them"
        )


def _short_secrets(config: Config) -> Iterator[str]:
    for index, source in enumerate(config.session.sources):
        short = [
            s for s in _secrets(source) if len(s.get_secret_value().encode()) < MIN_SECRET_BYTES
        ]
        if short:
            name = "password" if isinstance(source, IronSessionSource) else "secret"
            yield (
                f"session.sources[{index}].{name}: should have at least {MIN_SECRET_BYTES} bytes; "
                "an attacker who guesses it can forge sessions"
            )


def _secrets(source: SourceSection) -> tuple[SecretStr, ...]:
    if isinstance(source, CookieSource):
        return ()
    if isinstance(source, IronSessionSource):
        return tuple(source.password.values())
    return source.secret


def _sources(config: Config) -> Iterator[str]:
    sources = config.session.sources
    if not sources and config.oidc is None:
        for index, route in enumerate(config.routes):
            if route.session != "none":
                yield (
                    "session.sources: empty, and there is no oidc, so no request to "
                    f"routes[{index}] ever has a session"
                )
    is_plain = (config.public_url or "").startswith("http:")
    for index, source in enumerate(sources):
        if is_plain and (source.same_site == NONE or source.partitioned):
            key = "partitioned" if source.partitioned else "same_site"
            yield (
                f"session.sources[{index}].{key}: needs https for browsers to "
                "accept the cookie, and public_url is plain http"
            )


def _domains(config: Config) -> Iterator[str]:
    """Cookies' domains that take in no page of this site (RFC 6265 5.1.3, 5.3)."""
    host = urlsplit(config.public_url or "").hostname
    if host is None:
        return
    given = {
        f"session.sources[{index}].domain": source.domain
        for index, source in enumerate(config.session.sources)
    }
    given |= {f"logout.domains[{at}]": one for at, one in enumerate(config.logout.domains)}
    for key, domain in given.items():
        if domain is not None and not f".{host}".endswith(f".{domain}"):
            yield (
                f"{key}: must be the host of public_url or a parent domain of it, or browsers "
                "refuse the cookie"
            )


def _observed(config: Config) -> Iterator[str]:
    """What is only observed is not protected here."""
    for index, route in enumerate(config.routes):
        if route.observe:
            reached = (
                ", and anybody reaches it without a session" if route.session == "required" else ""
            )
            yield (
                f"routes[{index}].observe: requests to {route.path} pass without the rules for "
                f"sessions, cookies, Authorization and CSRF{reached}"
            )


def _proxies(config: Config) -> Iterator[str]:
    for index, proxy in enumerate(config.trusted_proxies):
        if proxy != "unix" and ip_network(proxy).prefixlen == 0:
            yield f"trusted_proxies[{index}]: trusts every client as if it were a proxy"
    is_behind_one = (config.public_url or "").startswith("https:") and all(
        one.tls is None for one in config.listeners
    )
    if is_behind_one and not config.trusted_proxies and config.limits.per_client.is_on:
        yield (
            "limits.per_client: a proxy stands in front (public_url is https, and there is no "
            "tls), and trusted_proxies is empty, so all its clients count as one"
        )


def _unreached(config: Config) -> Iterator[str]:
    """Routes whose own path is an endpoint, in any spelling that a server may read so."""
    for whose, endpoints in _endpoints(config).items():
        taken = frozenset(map(prefix_key, endpoints))
        table = _table(config, endpoints)
        for index, route in enumerate(config.routes):
            if prefix_key(route.path) in taken or table.find(route.path) is None:
                yield f"routes[{index}].path: never reached; the sidecar answers {whose}"


def _patterns(config: Config) -> Iterator[str]:
    """Paths of routes that are written as patterns of other programs, and stand for themselves."""
    for index, route in enumerate(config.routes):
        found = _PATTERN.search(route.path)
        if found is not None:
            yield (
                f"routes[{index}].path: is no pattern, so it matches nothing but this very "
                f"{found[1]!r}; use {route.path[: found.start()]}/, which matches all below it"
            )


def _hosts(config: Config) -> Iterator[str]:
    """Upstreams whose https servers have several names, and are all sent the first one's Host."""
    sends_own = {one.upstream for one in config.routes if one.kind == "api" and one.host is None}
    for name in sorted(sends_own):
        upstream = config.upstreams[name]
        urls = [split_upstream_url(one) for one in upstream.servers]
        names = {one.host for one in urls if one.scheme == "https"}
        if upstream.host is None and len(names) > 1:
            yield (
                f"upstreams.{name}.urls: have several names, and each server is sent "
                f"{urls[0].authority} as Host; set host if that is not what they serve"
            )


def _logout(config: Config) -> Iterator[str]:
    target = path_on_this_site(config.logout.redirect_to, config.public_url)
    if target is None or (config.oidc is not None and config.oidc.is_login(target)):
        return
    if _table(config, ()).find(target) is None:
        yield f"logout.redirect_to: no route serves {target}, so a logout ends in 404"


def _table(config: Config, endpoints: Iterable[str]) -> PathTable:
    return PathTable({one.path: one.session == "required" for one in config.routes}, endpoints)


def _endpoints(config: Config) -> Mapping[str, Sequence[str]]:
    """What the sidecar answers before any route, by what a remark says of it."""
    oidc = config.oidc
    own = () if oidc is None else (*ENDPOINTS, *((FRONTCHANNEL,) if oidc.frontchannel else ()))
    return {
        "logout.path itself": (config.logout.path,),
        "endpoints of oidc": tuple(f"{oidc.base}/{name}" for name in own) if oidc else (),
    }


def _renewal(config: Config) -> Iterator[str]:
    """A refresh token that is named and not renewed, or not sent."""
    refresh = config.refresh
    if refresh is not None and refresh.type == "http" and refresh.request is not None:
        request = refresh.request
        if not any(map(_holds_a_token, (request.body, request.headers))):
            yield "refresh.request.json: does not send {refresh_token}, so nothing can be renewed"
    if config.oidc is not None:
        return
    named = [
        f"session.sources[{index}].{name}"
        for index, source in enumerate(config.session.sources)
        for name in ("refresh_token", "refresh_cookie")
        if getattr(source, name, None) is not None
    ]
    if refresh is None:
        yield from (f"{key}: renews nothing, since there is no refresh" for key in named)
    elif not named and refresh.revocation_endpoint is None:
        yield (
            "refresh: renews nothing, since no source gives a refresh token; add refresh_token (or "
            "refresh_cookie to a plain cookie) to a source of session.sources"
        )


def _holds_a_token(template: object) -> bool:
    if isinstance(template, str):
        return any(one in template for one in _PLACEHOLDERS)
    if isinstance(template, Mapping):
        return any(map(_holds_a_token, template.values()))
    return isinstance(template, tuple) and any(map(_holds_a_token, template))


def _own_login(config: Config) -> Iterator[str]:
    oidc = config.oidc
    if oidc is None:
        return
    if config.public_url is None:
        yield (
            "public_url: missing, so oidc sends logins back to the Host that a request names, "
            f"and the sidecar serves only this machine, on {addresses(config.listen)}"
        )
    if oidc.keep == "store" and not config.store.url.is_shared:
        yield "oidc.keep: keeps sessions in memory, so a restart logs everybody out"
