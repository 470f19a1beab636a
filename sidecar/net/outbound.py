"""Requests that the sidecar makes by itself: to identity providers, refresh endpoints and hooks."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from errno import errorcode
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    InvalidURL,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from sidecar import __version__
from sidecar.core.errors import SidecarError
from sidecar.net.causes import of_connection
from sidecar.tls import client_context

CONNECT: Final = 2.0  # seconds to connect, name and TLS included
MAX_BODY: Final = 256 * 1024  # bytes of a response
CONNECTIONS: Final = 500  # at a time: one server that hangs for many leaves room for others


class Unreachable(SidecarError):
    """There is no usable response. `sent`: the request may have arrived all the same.

    The text is for a log and holds nothing of the request.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


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
    return Way(proxy, getproxies_environment(), proxy_bypass, tls)


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What was answered, whatever it was, and from which address. The repr holds no token."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    address: str = ""


class Outbound:
    """Asks one server. Nothing is opened before it is used; belongs to one event loop.

    Redirects are not followed, cookies not kept. No two requests share a connection: one that the
    server closes just then would leave it open whether a token was used.
    """

    def __init__(self, way: Way = DIRECT) -> None:
        self._way: Final = way
        self._session: ClientSession | None = None

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> OutboundAnswer:
        """One request and its whole response within `limit` seconds. Raises `Unreachable`."""
        address = address_of(url)
        try:
            async with self._opened().request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=fields,
                allow_redirects=False,
                proxy=self._way.proxy_of(url),
                timeout=ClientTimeout(total=limit, connect=min(CONNECT, limit)),
            ) as answer:
                got = await _read(answer)
                return OutboundAnswer(answer.status, answer.content_type, got, address)
        except (ClientConnectorError, ConnectionTimeoutError, InvalidURL) as error:
            raise Unreachable(f"{address}: {_explain(error, limit)}", sent=False) from None
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{address}: {_explain(error, limit)}", sent=True) from None

    async def close(self) -> None:
        """Ends running requests."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(
                    limit=CONNECTIONS, force_close=True, ssl=self._way.tls or True
                ),
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": f"session-sidecar/{__version__}",
                },
            )
        return self._session


def too_late(limit: float) -> str:
    """How it is logged that nothing has come within `limit` seconds."""
    return f"timed out after {limit:.2g} s"


def address_of(url: str) -> str:
    """An URL as it may be logged: without user, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _read(answer: ClientResponse) -> bytes:
    """The body. Raises `ValueError` for one that is too long."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_BODY:
            raise _TooLong
    return bytes(body)


class _TooLong(ValueError):
    """A response is longer than `MAX_BODY`."""


_CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (_TooLong, f"the answer is too long, more than {MAX_BODY} bytes"),
    (ServerDisconnectedError, "the connection was closed without an answer"),
    (ClientPayloadError, "the connection was closed within the answer"),
    (ClientResponseError, "the answer is not HTTP"),
    (InvalidURL, "the URL is invalid"),
)
"""What happened, by the first that fits. Never the text of an error: that may hold a secret."""


def _explain(error: Exception, limit: float) -> str:
    """What happened, without the text of the error: that may hold an URL with a secret in it."""
    if isinstance(error, ConnectionTimeoutError):
        return f"no connection, {too_late(min(CONNECT, limit))}"
    if isinstance(error, TimeoutError):
        return too_late(limit)
    if isinstance(error, ClientConnectorCertificateError):
        return of_connection(error.certificate_error)
    if isinstance(error, ClientConnectorDNSError | ClientConnectorSSLError):
        return of_connection(error.os_error)
    for kind, cause in _CAUSES:
        if isinstance(error, kind):
            return cause
    if isinstance(error, OSError) and error.errno in errorcode:
        return of_connection(error)
    return f"it cannot be asked ({type(error).__name__})"
