"""The two ways to exchange a refresh token: OAuth 2 (RFC 6749 6), and any JSON endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from sidecar.core.jws import InvalidToken
from sidecar.core.oidc.id_token import ID_TOKEN, check_refreshed, may_be_of_same_user
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.core.record import replace
from sidecar.core.token_response import (
    AnswerPaths,
    Outcome,
    Renewal,
    fill,
    read_http,
    read_oauth2,
    refresh_form,
)
from sidecar.core.token_set import TokenSet
from sidecar.net.outbound import Outbound
from sidecar.net.outbound_answer import OutboundAnswer
from sidecar.net.provider import Provider, ProviderUnavailable

ANSWER: Final = 8.0  # seconds after which a response is given up
BETWEEN_REPORTS: Final = 60.0  # seconds between two lines about id_tokens that cannot be verified

Now = Callable[[], float]


class RefreshGrant(Protocol):
    """How a refresh token is exchanged."""

    async def __call__(self, tokens: TokenSet) -> Renewal:
        """Returns what the provider says to a refresh token. Raises `ProviderUnavailable`."""
        ...


class OAuth2Grant:
    """At the provider's token endpoint (RFC 6749 6)."""

    def __init__(
        self, provider: Provider, scope: str | None, now: Now, client: OidcClient | None = None
    ) -> None:
        """`client` is the one of the sidecar's own login, whose id_tokens are checked."""
        self._provider: Final = provider
        self._scope: Final = scope
        self._now: Final = now
        self._client: Final = client
        self._reported_at = -BETWEEN_REPORTS

    async def __call__(self, tokens: TokenSet) -> Renewal:
        """Raises `ProviderUnavailable`."""
        answer = await self._provider.token(refresh_form(tokens, self._scope), ANSWER)
        renewal = read_oauth2(answer, tokens, self._now())
        if renewal.tokens is not None and self._client is not None and tokens.id_token is not None:
            renewal = await self._checked(renewal, renewal.tokens, tokens.id_token, self._client)
        return _addressed(answer, renewal)

    async def _checked(
        self, renewal: Renewal, new: TokenSet, old: str, client: OidcClient
    ) -> Renewal:
        """The renewal if its id_token is of the same user (Core 12.2); else the session is over.

        If it cannot be verified, it proves nothing: the new tokens came from the token endpoint
        itself, and the old id_token stays.
        """
        if new.id_token is None or new.id_token == old:
            return renewal
        try:
            verified = await self._provider.verify(new.id_token, ID_TOKEN)
        except (ProviderUnavailable, InvalidToken) as error:
            if not may_be_of_same_user(new.id_token, old):
                return _refused("it is of another user")
            self._report_unverified(str(error))
            return replace(renewal, tokens=replace(new, id_token=old))
        try:
            check_refreshed(verified, client, old)
        except InvalidToken as error:
            return _refused(str(error))
        return renewal

    def _report_unverified(self, why: str) -> None:
        """Reports once a minute: after a change of keys it may concern every session."""
        now = self._now()
        if now - self._reported_at >= BETWEEN_REPORTS:
            self._reported_at = now
            self._provider.report(
                f"a refreshed id_token was not verified, the old one stays: {why}"
            )


def _refused(why: str) -> Renewal:
    why = f"the id_token of the answer is not believed: {why}"
    return Renewal(Outcome.REFUSED, why=why)


@dataclass(frozen=True, slots=True)
class RefreshEndpoint:
    """A refresh endpoint of one's own: the request's template, and the paths in the response."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    paths: AnswerPaths


class HttpGrant:
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
        answer = await self._outbound.ask(endpoint.method, endpoint.url, ANSWER, headers, body)
        return _addressed(answer, read_http(answer, endpoint.paths, tokens, self._now()))


def _addressed(answer: OutboundAnswer, renewal: Renewal) -> Renewal:
    """The renewal, whose cause names who has answered."""
    return replace(renewal, why=f"{answer.address}: {renewal.why}") if renewal.why else renewal
