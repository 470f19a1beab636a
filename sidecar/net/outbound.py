"""Requests that the sidecar makes by itself: to identity providers, refresh endpoints and hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from yarl import URL

from sidecar import __version__
from sidecar.core.errors import SidecarError

CONNECT: Final = 2.0  # seconds to connect, name and TLS included
MAX_BODY: Final = 256 * 1024  # bytes of an answer
TOO_LATE: Final = "it did not answer in time"


class Unreachable(SidecarError):
    """There is no usable answer. `sent`: the request may have arrived all the same.

    The text is for a log and holds nothing of the request.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What was answered, whatever it was. The repr holds no token."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


class Outbound:
    """Asks one server. Nothing is opened before it is used; belongs to one event loop.

    Redirects are not followed, cookies not kept, the environment's proxies not used. No two
    requests share a connection: one that the server closes just then would leave it open whether
    a token was used.
    """

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> OutboundAnswer:
        """One request and its whole answer within `limit` seconds. Raises `Unreachable`."""
        try:
            async with self._opened().request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=fields,
                allow_redirects=False,
                timeout=ClientTimeout(total=limit, connect=min(CONNECT, limit)),
            ) as answer:
                return OutboundAnswer(answer.status, answer.content_type, await _read(answer))
        except (ClientConnectorError, ConnectionTimeoutError, InvalidURL) as error:
            raise Unreachable(_explain(error), sent=False) from None
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(_explain(error), sent=True) from None

    async def close(self) -> None:
        """Ends what is under way."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(force_close=True),
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
    """The body. Raises `Unreachable` for one that is too long."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_BODY:
            raise Unreachable("its answer is too long", sent=True)
    return bytes(body)


def _explain(error: Exception) -> str:
    """What happened, without the text of the error: that may hold an URL with a secret in it."""
    if isinstance(error, TimeoutError):
        return TOO_LATE
    return f"it cannot be asked ({type(error).__name__})"
