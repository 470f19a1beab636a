"""Requests by aiohttp's client, which takes as long to import as all the rest that asks others.

`net.outbound` imports it when it is needed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from errno import errorcode
from typing import Final

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
from sidecar.net.causes import of_connection, too_late
from sidecar.net.outbound_answer import OutboundAnswer, Unreachable, address_of

CONNECT: Final = 2.0  # seconds to connect, name and TLS included
MAX_BODY: Final = 256 * 1024  # bytes of a response
CONNECTIONS: Final = 500  # at a time: one server that hangs for many leaves room for others


class HttpClient:
    """Asks servers, by the proxy that `proxy_of` names for an URL.

    Nothing is opened before it is used. Redirects are not followed, cookies not kept. No two
    requests share a connection: one that the server closes just then would leave it open whether a
    token was used.
    """

    def __init__(self, tls: ssl.SSLContext | None, proxy_of: Callable[[str], str | None]) -> None:
        self._tls: Final = tls
        self._proxy_of: Final = proxy_of
        self._session: ClientSession | None = None

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        fields: Mapping[str, str] | None,
        body: bytes | None,
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
                proxy=self._proxy_of(url),
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
                connector=TCPConnector(limit=CONNECTIONS, force_close=True, ssl=self._tls or True),
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": f"session-sidecar/{__version__}",
                },
            )
        return self._session


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
