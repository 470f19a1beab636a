"""Where upstreams are, and how they are checked, compiled."""

from __future__ import annotations

import ssl

from sidecar import __version__
from sidecar.core.config import Config
from sidecar.core.config.routes import Upstream, UpstreamTls
from sidecar.core.upstream_url import ServerUrl, split_upstream_url
from sidecar.policy import HealthCheck, UpstreamAddress, UpstreamServer
from sidecar.tls import client_context


def compile_upstream(config: Config, name: str, upstream: Upstream) -> UpstreamAddress:
    """Raises `UnusableFile` if one of its TLS files cannot be used."""
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
