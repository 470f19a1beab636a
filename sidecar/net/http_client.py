"""Requests by aiohttp's client, which takes as long to import as all the rest that asks others.

`net.outbound` imports it when it is needed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import errorcode
from typing import Any, Final
from urllib.parse import urlsplit

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
    DummyCookieJar,
    InvalidURL,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
)
from yarl import URL

from sidecar import __version__
from sidecar.net.causes import of_connection, too_late
from sidecar.net.deadline import Within
from sidecar.net.members import LOCAL
from sidecar.net.outbound_answer import OutboundAnswer, Unreachable, address_of
from sidecar.net.pieces import pieces_of

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
        self._places: Final = asyncio.Semaphore(CONNECTIONS)

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        fields: Mapping[str, str] | None,
        body: bytes | None,
    ) -> OutboundAnswer:
        """One request and its whole response within `limit` seconds. Raises `Unreachable`.

        The time begins once there is a place for it, for which it waits as long at most.
        """
        proxy = self._proxy_of(url)
        address = address_of(url)
        if proxy is not None:  # which may be what fails
            address = f"{address} by {_shown(proxy)}"
        try:
            async with Within(limit):
                await self._places.acquire()
        except TimeoutError:
            why = f"{address}: all {CONNECTIONS} connections stayed busy for {limit:.2g} s"
            raise Unreachable(why, sent=False, is_ours=True) from None
        connecting = Within(min(CONNECT, limit))
        try:
            async with (
                Within(limit),
                connecting,
                self._opened().request(
                    method,
                    URL(url, encoded=True),
                    data=body,
                    headers=fields,
                    allow_redirects=False,
                    proxy=proxy,
                    timeout=ClientTimeout(),
                    trace_request_ctx=connecting,
                ) as answer,
            ):
                got = await _read(answer)
                return OutboundAnswer(answer.status, answer.content_type, got, address)
        except (ClientConnectorError, InvalidURL) as error:
            why = f"{address}: {_explain(error)}"
            is_ours = isinstance(error, OSError) and error.errno in LOCAL
            raise Unreachable(why, sent=False, is_ours=is_ours) from None
        except TimeoutError:
            late = too_late(limit)
            if not connecting.is_lifted:
                late = f"no connection, {too_late(min(CONNECT, limit))}"
            raise Unreachable(f"{address}: {late}", sent=connecting.is_lifted) from None
        except (ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{address}: {_explain(error)}", sent=True) from None
        finally:
            self._places.release()

    async def close(self) -> None:
        """Ends running requests."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> ClientSession:
        if self._session is None:
            trace = TraceConfig()
            trace.on_connection_create_end.append(_connected)
            self._session = ClientSession(
                connector=TCPConnector(limit=0, force_close=True, ssl=self._tls or True),
                trace_configs=[trace],
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": f"session-sidecar/{__version__}",
                },
            )
        return self._session


def _shown(proxy: str) -> str:
    """A proxy as it may be logged. One that is malformed may hold its password anywhere."""
    with suppress(ValueError):
        parts = urlsplit(proxy)
        if parts.hostname and parts.port != 0 and parts.path + parts.query in ("", "/"):
            return f"the proxy {parts.netloc.rpartition('@')[2]}"
    return "a proxy of an odd URL"


async def _connected(_: ClientSession, request: Any, _params: object) -> None:
    """A connection is made, so its own limit is over: aiohttp tells the request's context."""
    request.trace_request_ctx.lift()


async def _read(answer: ClientResponse) -> bytes:
    """The body. Raises `ValueError` for one that is too long."""
    body = bytearray()
    async for piece in pieces_of(answer.content):
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


def _explain(error: Exception) -> str:
    """What happened, without the text of the error: that may hold an URL with a secret in it."""
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
