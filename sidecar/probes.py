"""Asks once what the configuration leads to: upstreams, the provider, and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from yarl import URL

from sidecar.assembly.open_provider import open_provider
from sidecar.compilation.compile_policy import compile_policy
from sidecar.core.errors import StoreUnavailable
from sidecar.net.causes import of_connection
from sidecar.net.outbound import way_of
from sidecar.net.provider import ProviderUnavailable
from sidecar.net.store import open_store

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.policy import Policy, UpstreamAddress, UpstreamServer

SECONDS: Final = 5.0  # for each

Opened: TypeAlias = "Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]"
"""A connection that is being opened."""


class Probe(NamedTuple):
    """What was asked, and why there was no good answer; None: there was."""

    what: str
    address: str
    trouble: str | None


def probe(config: Config) -> list[Probe]:
    """All of it, at once."""
    return asyncio.run(_probe(config))


async def _probe(config: Config) -> list[Probe]:
    policy = compile_policy(config, bytes(32))
    asked: list[Awaitable[Probe]] = [
        _upstream(one, server) for one in policy.upstreams.values() for server in one.servers
    ]
    asked += _endpoints(config)
    if config.oidc is not None or (config.refresh is not None and config.refresh.issuer):
        asked.append(_provider(config))
    if config.store.url.is_shared:
        asked.append(_store(policy))
    return list(await asyncio.gather(*asked))


async def _upstream(one: UpstreamAddress, server: UpstreamServer) -> Probe:
    opened: Opened
    if server.path is not None:
        opened = asyncio.open_unix_connection(server.path)
    else:
        opened = asyncio.open_connection(server.host, server.port, ssl=one.tls)
    trouble = await _connects(opened, min(one.connect, SECONDS))
    return Probe(f"upstream {one.name}", one.url_of(server), trouble)


def _endpoints(config: Config) -> list[Awaitable[Probe]]:
    """Endpoints without metadata: one of their own for renewals, and those of hooks."""
    refresh, urls = config.refresh, []
    if refresh is not None and refresh.request is not None:
        urls.append(("refresh endpoint", refresh.request.url))
    if refresh is not None and refresh.token_endpoint is not None:
        urls.append(("token endpoint", refresh.token_endpoint))
    urls += [(f"hook {at}", hook.url) for at, hook in enumerate(config.logout.hooks)]
    if config.outbound.proxy is not None:
        urls = [("outbound proxy", config.outbound.proxy)]
    return [_endpoint(what, URL(url), config.outbound.ca) for what, url in urls]


async def _endpoint(what: str, url: URL, ca: str | None) -> Probe:
    tls = way_of(None, ca).tls or True if url.scheme == "https" else None
    assert url.host is not None
    assert url.port is not None
    opened = asyncio.open_connection(url.host, url.port, ssl=tls)
    return Probe(what, str(url.origin()), await _connects(opened, SECONDS))


async def _connects(opened: Opened, seconds: float) -> str | None:
    """Why no connection is opened; None if one is, and closed again."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await opened
    except TimeoutError:
        return f"no connection within {seconds:g} s"
    except OSError as error:
        return of_connection(error)
    writer.close()
    return None


async def _provider(config: Config) -> Probe:
    """Its metadata and its keys."""
    told: list[str] = []
    way = way_of(config.outbound.proxy, config.outbound.ca)
    provider = open_provider(config, told.append, way)
    assert provider is not None
    trouble = None
    try:
        await provider.metadata()
        if config.oidc is not None:
            await provider.keys()
    except ProviderUnavailable as error:
        trouble = error.detail
    finally:
        await provider.close()
    return Probe("provider", provider.settings.issuer or "", trouble)


async def _store(policy: Policy) -> Probe:
    url, trouble = policy.config.store.url, None
    store = open_store(url, policy.secrets, lambda _: None, limit=SECONDS)
    try:
        await store.ping()
    except StoreUnavailable as error:
        trouble = error.detail or "it does not answer"
    finally:
        await store.close()
    where = ",".join(f"{host}:{port}" for host, port in url.hosts)
    return Probe("store", f"{url.kind}:{where or url.path}", trouble)
