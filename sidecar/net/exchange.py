"""The two ways to exchange a refresh token: OAuth 2, and a JSON endpoint of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from sidecar.core.refresh import (
    AnswerPaths,
    Renewal,
    fill,
    read_http,
    read_oauth2,
    refresh_form,
)
from sidecar.core.tokens import TokenSet
from sidecar.net.outbound import Outbound, OutboundAnswer
from sidecar.net.provider import Provider
from sidecar.net.refresh import EXCHANGE

Now = Callable[[], float]


class OAuth2Exchange:
    """At the provider's token endpoint (RFC 6749 6)."""

    def __init__(self, provider: Provider, scope: str | None, now: Now) -> None:
        self._provider: Final = provider
        self._scope: Final = scope
        self._now: Final = now

    async def __call__(self, tokens: TokenSet) -> Renewal:
        """Raises `ProviderUnavailable`."""
        answer = await self._provider.token(refresh_form(tokens, self._scope), EXCHANGE)
        return _addressed(answer, read_oauth2(answer, tokens, self._now()))


@dataclass(frozen=True, slots=True)
class RefreshEndpoint:
    """A refresh endpoint of one's own: the request's template, and where the answer has what."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    paths: AnswerPaths


class HttpExchange:
    """At a JSON endpoint."""

    def __init__(self, endpoint: RefreshEndpoint, outbound: Outbound, now: Now) -> None:
        self._endpoint: Final = endpoint
        self._outbound: Final = outbound
        self._now: Final = now

    async def __call__(self, tokens: TokenSet) -> Renewal:
        """Raises `ProviderUnavailable`."""
        endpoint = self._endpoint
        headers = {name: fill(value, tokens) for name, value in endpoint.headers.items()}
        body = None
        if endpoint.body is not None:
            body = msgspec.json.encode(fill(endpoint.body, tokens))
            headers.setdefault("Content-Type", "application/json")
        answer = await self._outbound.ask(endpoint.method, endpoint.url, EXCHANGE, headers, body)
        return _addressed(answer, read_http(answer, endpoint.paths, tokens, self._now()))


def _addressed(answer: OutboundAnswer, renewal: Renewal) -> Renewal:
    """The renewal, whose cause names who has answered."""
    return replace(renewal, why=f"{answer.address}: {renewal.why}") if renewal.why else renewal
