"""Requests that the sidecar makes by itself: to identity providers, refresh endpoints and hooks."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from sidecar.tls import client_context

if TYPE_CHECKING:
    from sidecar.net.http_client import HttpClient
    from sidecar.net.outbound_answer import OutboundAnswer


@dataclass(frozen=True, slots=True)
class Way:
    """How servers are reached.

    `proxy` is the URL of an HTTP proxy; None: those that `proxies` name by scheme, but not for the
    hosts that `bypasses` says. `tls` is whom to trust; None: the system's authorities.
    """

    proxy: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    bypasses: Callable[[str], object] = bool
    tls: ssl.SSLContext | None = None

    def proxy_of(self, url: str) -> str | None:
        """The proxy to ask for an URL; None: the server itself is asked."""
        if self.proxy is not None:
            return self.proxy
        parts = urlsplit(url)
        proxy = self.proxies.get(parts.scheme)
        return None if proxy is None or self.bypasses(parts.netloc.rpartition("@")[2]) else proxy


DIRECT: Final = Way()
"""Without a proxy, by the system's authorities."""


def way_of(proxy: str | None, ca: str | None) -> Way:
    """By the configuration, else by HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment.

    The environment's `.netrc` counts for nothing. Raises `OSError` for a file that cannot be read.
    """
    tls = None if ca is None else client_context(ca, at="outbound")
    return Way(proxy, _proxies_of_environment(), proxy_bypass, tls)


def _proxies_of_environment() -> dict[str, str]:
    """The URL of a proxy for each scheme. `proxy:3128` is one of HTTP, as curl and Go take it."""
    found = getproxies_environment()
    return {scheme: one if "://" in one else f"http://{one}" for scheme, one in found.items()}


class Outbound:
    """Asks one server. Nothing is opened before it is used; belongs to one event loop."""

    def __init__(self, way: Way = DIRECT) -> None:
        self._way: Final = way
        self._client: HttpClient | None = None

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> OutboundAnswer:
        """One request and its whole response within `limit` seconds. Raises `Unreachable`."""
        return await self._opened().ask(method, url, limit, fields, body)

    async def close(self) -> None:
        """Ends running requests."""
        if self._client is not None:
            await self._client.close()

    def _opened(self) -> HttpClient:
        if self._client is None:
            from sidecar.net.http_client import HttpClient  # it is there (`late_imports`)

            self._client = HttpClient(self._way.tls, self._way.proxy_of)
        return self._client
