"""How the provider says no: to a client, through a browser, or to a person."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.errors import SidecarError


class OAuthError(SidecarError):
    """An error answer to a client in JSON (RFC 6749 section 5.2). Names no token or secret."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


class PageError(SidecarError):
    """What only a person can be told, since there is no place that may be redirected to."""


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where an authorization answer goes; `uri` is registered."""

    uri: str
    state: str | None


class AuthorizationError(SidecarError):
    """An error answer to the client by way of the browser (RFC 6749 section 4.1.2.1)."""

    def __init__(self, to: ReturnAddress, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.to = to
        self.error = error
        self.description = description
